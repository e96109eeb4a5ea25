"""A warm start: the first candidates are named cells, and the rest is the sampler's."""

from __future__ import annotations

import pytest

from mrnn_search import preset
from mrnn_search._registry import InputError
from mrnn_search.search.recipe import Recipe, Search, load_recipe
from mrnn_search.search.sampler import Proposer
from mrnn_search.search.space import Space, load_space
from mrnn_search.search.warm import PAPERS_CELLS, start_points

SPACE = load_space("optimizer_cells")
CELLS = ["momentum_lstm", "adam_lstm", "gru", "exprnn"]


def test_the_first_candidates_are_the_cells() -> None:
    asked = Proposer(Search(sampler="tpe"), "maximize", [], start=start_points(SPACE, CELLS))
    first = [asked.propose(SPACE, seed).candidate for seed in range(6)]
    assert [c.spec.cell_id for c in first[:4]] == [preset(name).cell_id for name in CELLS]
    assert len({c.lr for c in first}) == 6 and all(2e-3 <= c.lr <= 2e-2 for c in first)


def test_a_resumed_start_is_the_unbroken_one() -> None:
    start = start_points(SPACE, CELLS)
    alive = Proposer(Search(), "maximize", [], start=start)
    for seed in range(2):
        alive.propose(SPACE, seed)
    fresh = Proposer(Search(), "maximize", alive._trials.chosen(None), start=start)
    for seed in range(2, 7):
        assert alive.propose(SPACE, seed).candidate == fresh.propose(SPACE, seed).candidate


@pytest.mark.parametrize("space", ["optimizer_cells", "optimizers_everywhere"])
def test_the_papers_cells(space: str) -> None:
    made = load_space(space)
    points = start_points(made, ["paper"])
    asked = Proposer(Search(), "maximize", [], start=points)
    found = {asked.propose(made, seed).candidate.spec.cell_id for seed in range(len(points))}
    assert len(found) == len(points) >= 4 and found <= {preset(name).cell_id for name in PAPERS_CELLS}
    assert len(start_points(made, ["momentum_lstm", "paper"])) == len(points)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("input_gain_lstm", 'cell "input_gain_lstm" is not in the space: it has heavy_ball.mu = 0.0, the space'),
        ("dtriv", 'cell "dtriv" is not in the space: it is .*rebase.*, the nearest there is '),
        ("nesterov_lstm_released", "it has rule = 'nesterov_released', the space"),
    ],
)
def test_a_cell_that_the_space_does_not_have(cell: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        start_points(SPACE, [cell])


def test_recipe() -> None:
    recipe = load_recipe("quickstart", {"search": {"start": {"cells": "paper"}}})
    assert recipe.search.start.cells == ("paper",) and Recipe.from_dict(recipe.to_dict()) == recipe
    assert load_recipe("quickstart").search.start.cells == ()
    for cells, message in (
        (["momentum_lst"], 'search.start.cells: unknown cell "momentum_lst".*did you mean "momentum_lstm"'),
        ("papers", "search.start.cells.*found 'papers', allowed: paper, or a list of names of cells, each once"),
        (["gru", "gru"], "search.start.cells.*allowed: paper, or a list"),
        (["dtriv"], 'search.start.cells.*cell "dtriv" is not in the space'),
    ):
        with pytest.raises(InputError, match=message):
            load_recipe("quickstart", {"search": {"start": {"cells": cells}}})


def test_none_of_the_papers() -> None:
    space = Space.from_dict({"parameters": {"base": "indrnn"}})
    with pytest.raises(InputError, match="none of the paper's cells is in the space"):
        start_points(space, ["paper"])
