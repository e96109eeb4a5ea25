"""What a leaderboard is called, and what is said beside a verdict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import mrnn_search as ms
from mrnn_search.results.controls import CONTROLS
from mrnn_search.results.protocol import label, sizes, unequal_budget
from mrnn_search.results.readings import READINGS
from mrnn_search.results.suite import COLUMNS
from mrnn_search.search.suite import SuiteRecipe, load_recipes


def recipe(trials: Any = "equal", cells: tuple[str, ...] = ("lstm",), seeds: int = 5) -> dict[str, Any]:
    return {"budget": {"trials": 48}, "confirmation": {"seeds": seeds}, "baselines": {"cells": list(cells), "trials": trials}}


@pytest.mark.parametrize("trials", ["equal", 48, 60])
def test_a_result(trials: Any) -> None:
    assert label(recipe(trials)) == "result" and unequal_budget(recipe(trials)) == ""


def test_anything_less_is_screening_and_says_why() -> None:
    assert label(recipe(8)) == "screening (unequal budget: each baseline was tuned with 8 trials, the search had 48)"
    assert label(recipe(seeds=3)) == "screening (3 seeds, of 5 that a result needs)"
    assert label(recipe(cells=(), trials=8)) == "screening (no baseline)"
    assert label(recipe(8, seeds=2)).count(";") == 1


def test_sizes_are_told_where_they_differ() -> None:
    assert sizes(70_000, 69_000) == "" and sizes(70_000, 12_000) == "70,000 and 12,000 parameters"


def test_a_study_says_it(fake_study: ms.Study) -> None:
    """The quickstart's baselines have 8 trials, its search 48."""
    assert fake_study.label == "screening (unequal budget: each baseline was tuned with 8 trials, the search had 48)"
    assert fake_study.verdict().endswith(" Unequal budget: each baseline was tuned with 8 trials, the search had 48.")
    assert "parameters" not in fake_study.verdict()  # the pretended ones are all equal


def test_the_report_says_it_too_and_shows_the_controls(fake_study: ms.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = fake_study.report(tmp_path / "a.html").read_text()
    assert "This is a screening (unequal budget" in page and "<h2>Controls</h2>" not in page
    assert f"{len(fake_study.test_readings())}, one for each confirmed cell and seed" in page
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    changes: dict[str, Any] = {"budget": {"trials": 8}, "baselines": {"trials": "equal"}, "confirmation": {"top": 1}, "controls": True}
    study = ms.search("quickstart", executor="fake", **changes)
    assert study.label == "result" and "Unequal" not in study.verdict()
    table, page = study.controls(), study.report().read_text()
    assert not table.empty and page.count("<h2>Controls</h2>") == 1
    assert all(f"<td>{finding}</td>" in page for finding in table["finding"])


def test_every_column_is_documented_with_its_type() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    told: dict[str, set[str]] = {}
    for names, types in re.findall(r"^\| (`[^|]+`) \| ([a-z0-9\[\], ]+) \|", text, flags=re.M):
        columns = re.findall(r"`([^`]+)`", names)
        of = types.strip().split(", ")
        for column, dtype in zip(columns, of if len(of) > 1 else of * len(columns), strict=True):
            told.setdefault(column, set()).add(dtype)
    for columns in (READINGS, CONTROLS, COLUMNS):
        assert {name: dtype for name, dtype in columns.items() if dtype not in told.get(name, ())} == {}


def test_the_shipped_recipe_over_three_benchmarks() -> None:
    suite = load_recipes("three", {})
    assert isinstance(suite, SuiteRecipe) and suite.benchmarks == ("digits-rows", "japanese-vowels", "ucr:ECG5000")
    assert label(suite.members[0].to_dict()) == "result" and suite.members[0].search.sampler == "random"
