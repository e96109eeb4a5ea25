"""`analysis/04_planted_truth.py` in a short form: cells of known quality, through the functions that rank real ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "analysis" / "04_planted_truth.py"
STUDIES = 2000


@pytest.fixture(scope="module")
def planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_truth_analysis", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted_truth_analysis"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(planted: ModuleType) -> dict[str, dict[str, dict[str, float]]]:
    return {world.name: planted.simulate(world, STUDIES, seed=1) for world in planted.WORLDS}


WORLDS = ["no cell differs", "cells differ", "one is better"]


@pytest.mark.parametrize("world", WORLDS)
def test_intervals_cover(found: dict[str, dict[str, dict[str, float]]], world: str) -> None:
    """95 +- 1 %; the simulation's own standard error is 0.5 %."""
    coverage = found[world]["coverage"]
    for what in ("validation mean, studentised bootstrap", "test mean, studentised bootstrap", "difference, Student"):
        assert coverage[what] == pytest.approx(0.95, abs=0.01 + 0.005), what


@pytest.mark.parametrize("world", WORLDS)
def test_one_in_twenty_claims_are_wrong_at_most(found: dict[str, dict[str, dict[str, float]]], world: str) -> None:
    said = found[world]["verdicts"]
    wrong = [
        "... and one of them does not",
        "... and does not",
        "... and is not the best",
        "the best confirmed cell is told apart from the winner",
    ]
    assert all(said[what] <= 0.05 for what in wrong), {what: said[what] for what in wrong}


def test_the_docs_have_the_numbers(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """The tables of docs/evaluation.md, of more studies; 3 % (of a share, or of two standard deviations) is what these few may be off."""
    page = (SCRIPT.parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for part, unit in (("coverage", " %"), ("verdicts", " %"), ("biases", "")):
        for name in found[WORLDS[0]][part]:
            (row,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
            told = [float(cell.strip().removesuffix(unit)) / (100 if unit else 2) for cell in row.split("|")[2:-1]]
            assert told == pytest.approx([found[world][part][name] / (1 if unit else 2) for world in WORLDS], abs=0.03), name


def test_there_is_power(found: dict[str, dict[str, dict[str, float]]]) -> None:
    assert found["one is better"]["verdicts"]["the winner is said to beat the baseline"] > 0.25
    assert found["cells differ"]["verdicts"]["a cell is said to beat the baseline"] > 0.45


@pytest.mark.parametrize("world", WORLDS)
def test_reported_test_figures_are_not_optimistic(found: dict[str, dict[str, dict[str, float]]], world: str) -> None:
    """In standard deviations of one run: five of them have a mean with 0.45, 2,000 studies one with 0.01."""
    bias = found[world]["biases"]
    assert abs(bias["test mean of every confirmed cell"]) < 0.02
    assert -0.08 < bias["test figure of the selection (cross-fitted)"] < 0.03
    assert bias["validation mean of the winner"] > 0.4 and bias["old way"] > 1.4


def test_the_old_way_is_wrong_nearly_always_where_nothing_differs(found: dict[str, dict[str, dict[str, float]]]) -> None:
    assert found["no cell differs"]["verdicts"]["old way: ... and does not"] > 0.9


def test_the_truth_is_what_many_runs_say(planted: ModuleType) -> None:
    """The expected scores that all is measured by, from studies of one cell."""
    expected = planted.expectations(seed=2)
    scores = planted.at_best_epoch(*planted.draw(np.random.default_rng(3), 50_000, 2, 2))
    assert [float(s.mean()) for s in scores] == pytest.approx(expected, abs=0.015)
    assert expected[0] > expected[1] + 0.2  # choosing the epoch flatters validation
