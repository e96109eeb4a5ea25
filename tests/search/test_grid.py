"""A grid: every candidate of a finite space, once."""

from __future__ import annotations

import pytest

from mrnn_search._registry import InputError
from mrnn_search.search.recipe import Recipe, Search, load_recipe
from mrnn_search.search.sampler import Proposer
from mrnn_search.search.samplers.grid import grid_of
from mrnn_search.search.space import Space, load_space

from .test_sampler import FINITE


def ids(proposer: Proposer, n: int) -> list[str]:
    return [proposer.propose(FINITE, seed).candidate.candidate_id for seed in range(n)]


def test_every_candidate_once() -> None:
    count = FINITE.count().candidates
    assert count == 2 * (1 + 4 * 2) * 3
    found = ids(Proposer(Search(sampler="grid"), "maximize", []), count)
    assert len(set(found)) == count
    drawn = {c.candidate_id for c in FINITE.draw(3000, 0)}
    assert drawn == set(found)


def test_the_order_is_the_studys() -> None:
    first, second, other = (ids(Proposer(Search(sampler="grid"), "maximize", [], seed=seed), 54) for seed in (1, 1, 2))
    assert first == second and first != other and set(first) == set(other)


def test_cells_that_are_one_count_once() -> None:
    """mu = 0 is no momentum, and then there is nothing to learn of it."""
    parameters = {"base": "rnn", "rule": {"choices": ["plain", "ema"]}, "ema.mu": {"choices": [0.0, 0.5]}, "lr": {"choices": [1e-3, 1e-2]}}
    space = Space.from_dict({"parameters": parameters})
    assert len(grid_of(space, 0)) == 4 == space.count().candidates


def test_a_start_does_not_cost_a_point() -> None:
    start = [{"base": "gru", "rule": "plain"}]
    asked = Proposer(Search(sampler="grid"), "maximize", [], start=start)
    assert len(set(ids(asked, 55))) == 54


def test_a_range_is_named() -> None:
    with pytest.raises(InputError, match=r"a grid needs a finite space, and heavy_ball.mu \(and \d+ more\) is a range"):
        grid_of(load_space("optimizer_cells"), 0)
    recipe = load_recipe("smoke").to_dict()
    with pytest.raises(InputError, match=r"^a.yaml: search.sampler: a grid needs a finite space, and heavy_ball.mu"):
        Recipe.from_dict({**recipe, "search": {"sampler": "grid"}}, "a.yaml")
    assert Recipe.from_dict({**recipe, "space": FINITE.to_dict(), "search": {"sampler": "grid"}}).search.sampler == "grid"


def test_too_many() -> None:
    steps = {"low": 1e-4, "high": 1.0, "step": 1e-4}
    space = Space.from_dict({"name": "vast", "parameters": {"base": "rnn", "lr": steps, "hidden_size": {"low": 1, "high": 64}}})
    with pytest.raises(InputError, match='a grid over space "vast" has more than 50000 combinations'):
        grid_of(space, 0)
