"""Hidden sizes that give every candidate the same number of parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import InputError
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine.model import SequenceModel
from mrnn_search.search.checkpoints import Checkpoints
from mrnn_search.search.driver import Driver
from mrnn_search.search.ledger import CONFIRMATION, Ledger
from mrnn_search.search.matching import Matching, count_parameters
from mrnn_search.search.recipe import Recipe, load_recipe
from mrnn_search.search.storage import open_storage
from mrnn_search.search.warm import best_trials, prior_trials

from ..cells.strategies import specs
from ..inprocess import InProcess, fake
from .test_driver import SETTINGS

FACTS = {"input_size": 28, "output_size": 10, "vocabulary": None}
SPACE: dict[str, Any] = {
    "parameters": {
        "base": {"choices": ["rnn", "lstm", "gru", "orthogonal"]},
        "rule": {"choices": ["plain", "heavy_ball"]},
        "heavy_ball.mu": {"low": 0.1, "high": 0.9},
        "heavy_ball.mu.learned": {"choices": [False, "unit", "input"]},
        "lr": {"low": 0.001, "high": 0.01, "log": True},
    }
}


def recipe_of(target: int | None, space: Any = SPACE) -> Recipe:
    data = load_recipe("quickstart", SETTINGS).to_dict()
    return Recipe.from_dict({**data, "space": space, "match_parameters": target})


@given(specs(), st.integers(1, 3), st.integers(2, 9), st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=40)
def test_counted_as_the_model_that_is_trained(spec: CellSpec, layers: int, hidden: int, inputs: int, outputs: int) -> None:
    candidate = Candidate(spec, hidden_size=hidden, num_layers=layers)
    assert count_parameters(candidate, inputs, outputs) == SequenceModel(candidate, inputs, outputs).num_parameters()


def test_a_vocabulary_is_embedded() -> None:
    candidate = Candidate(preset("gru"))
    assert count_parameters(candidate, 16, 50, 50) == count_parameters(candidate, 16, 50) + 50 * 16


@given(specs(), st.integers(1, 2), st.integers(200, 1_500))
@settings(max_examples=40)
def test_no_other_hidden_size_is_nearer(spec: CellSpec, layers: int, target: int) -> None:
    """Beside the naive way: every hidden size is looked at."""
    matching, candidate = Matching(target, 3, 4), Candidate(spec, num_layers=layers)
    counts = {h: matching.count(dataclasses.replace(candidate, hidden_size=h)) for h in range(1, 160)}
    assert list(counts.values()) == sorted(set(counts.values()))  # rises
    best = min(counts, key=lambda h: (abs(counts[h] - target), h))
    assert matching(candidate).hidden_size == best
    assert matching.deviation(matching(candidate)) == counts[best] / target - 1


def test_within_two_per_cent_at_the_usual_sizes() -> None:
    for name in ("rnn", "lstm", "gru", "exprnn", "momentum_lstm", "adam_lstm"):
        matching = Matching.of(70_000, FACTS)
        assert abs(matching.deviation(matching(Candidate(preset(name))))) < 0.02, name


def test_an_impossible_number_is_an_error() -> None:
    with pytest.raises(InputError, match=r"match_parameters: .*lstm has 144 parameters with one hidden unit, 50 are asked for"):
        recipe_of(50).matched(FACTS)


@pytest.mark.parametrize("size", [32, {"choices": [32, 48]}])
def test_a_space_with_hidden_sizes_is_refused(size: Any) -> None:
    space = {"parameters": {**SPACE["parameters"], "hidden_size": size}}
    with pytest.raises(InputError, match="match_parameters: space .* has hidden_size.*leave it out"):
        recipe_of(70_000, space)
    assert recipe_of(None, space).matched(FACTS).space.matching is None


def test_a_study_has_one_size(tmp_path: Path) -> None:
    """Candidates, baselines and confirmed cells; the recipe stays what it was, and goes on."""
    recipe = recipe_of(20_000)
    ledger = Ledger.create(open_storage(tmp_path, None), "s", recipe.to_dict(), {"benchmark": FACTS}, "maximize")
    for _ in range(2):
        with Driver(recipe, ledger, Checkpoints(tmp_path / "checkpoints"), lambda: InProcess(train=fake)) as driver:
            driver.run()
    matching = Matching.of(20_000, FACTS)
    trials = [t for group in ledger.groups() for t in ledger.trials(group)]
    assert {group for group in ledger.groups()} == {"search", "lstm", "gru", CONFIRMATION} and len(trials) > 20
    assert len({t.candidate.hidden_size for t in trials}) > 2
    assert all(matching(t.candidate) == t.candidate and abs(matching.deviation(t.candidate)) < 0.02 for t in trials)
    assert Recipe.from_dict(ledger.recipe) == recipe and ledger.recipe["match_parameters"] == 20_000
    handed_on = best_trials(ledger.frozen("search"), "maximize")
    assert len(prior_trials(handed_on, recipe.matched(FACTS).space)) == len(handed_on) > 0
    assert prior_trials(handed_on, recipe.space) == []  # of other sizes: other candidates
