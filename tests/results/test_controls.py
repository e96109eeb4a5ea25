"""A gain that is input scale is called that, a gain that is memory is not."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from mrnn_search.cells.controls import steady_gain
from mrnn_search.cells.spec import CellSpec
from mrnn_search.results.controls import EXPLAINS, NO_GAIN, SURVIVES, controls_frame, controls_verdicts, ratio_of_means
from mrnn_search.results.leaderboard import leaderboard_frame
from mrnn_search.results.paired_tests import holm
from mrnn_search.search.checkpoints import Checkpoints
from mrnn_search.search.controls import is_control
from mrnn_search.search.driver import Driver
from mrnn_search.search.executors import Executor
from mrnn_search.search.journal import JournalFile
from mrnn_search.search.ledger import CONFIRMATION, SEARCH, Ledger
from mrnn_search.search.packs import LaneResult, Pack, PackResult
from mrnn_search.search.recipe import Recipe, load_recipe
from mrnn_search.search.storage import open_storage

from ..inprocess import InProcess, fake
from ..search.test_driver import Killed, essence

SPACE: dict[str, Any] = {
    "parameters": {
        "base": "lstm",
        "rule": "heavy_ball",
        "heavy_ball.mu": {"low": 0.1, "high": 0.9},
        "heavy_ball.epsilon": {"low": 0.3, "high": 2.0, "log": True},
        "lr": {"low": 0.001, "high": 0.01, "log": True},
    }
}
SETTINGS: dict[str, Any] = {
    "budget": {"trials": 12},
    "search": {"cohort": 6, "sampler": "random"},
    "rungs": {"epochs": [1, 2], "keep": 0.5},
    "baselines": {"cells": ["lstm", "gru"], "trials": 6},
    "confirmation": {"top": 2, "seeds": 5, "epochs": 2},
    "controls": True,
}


def recipe_of(**more: Any) -> Recipe:
    data = load_recipe("quickstart", {**SETTINGS, **more}).to_dict()
    return Recipe.from_dict({**data, "space": SPACE})


def by_gain(spec: CellSpec) -> float:
    """Only the steady gain matters: best at 2.5."""
    return math.exp(-(math.log(steady_gain(spec) / 2.5) ** 2))


def by_memory(spec: CellSpec) -> float:
    """Only the memory matters: the longer the better, at any gain."""
    return float(spec.coefficients.get("mu", 0.0))


def by_both(spec: CellSpec) -> float:
    return (by_gain(spec) + by_memory(spec)) / 2


def by_nothing(spec: CellSpec) -> float:
    return 0.0


def pretend(merit: Callable[[CellSpec], float], sign: float = 1.0) -> Callable[[Pack], PackResult]:
    """Training whose values are known: 0.7, up to 0.1 for the cell's merit, and noise of the seed and the candidate."""

    def train(pack: Pack) -> PackResult:
        lanes = []
        for lane, result in zip(pack.lanes, fake(pack).lanes, strict=True):
            noise = random.Random(f"{lane.candidate.candidate_id} {lane.seed}").gauss(0, 0.002)
            shared = random.Random(lane.seed).gauss(0, 0.005)
            level = sign * (0.7 + 0.1 * merit(lane.candidate.spec) + noise + shared)
            outcome, test = result.outcome, level - 0.01 * sign if pack.read_test else None
            rows = tuple(dataclasses.replace(row, value=level) for row in outcome.rows)
            lanes.append(LaneResult(lane.key, dataclasses.replace(outcome, rows=rows, value=level, test_value=test), 0.1))
        return PackResult(pack.pack_id, tuple(lanes), "host:1", "cpu", "f" * 64 if pack.read_test else None)

    return train


def run(folder: Path, executor: Executor, recipe: Recipe | None = None, direction: Any = "maximize") -> Ledger:
    recipe = recipe or recipe_of()
    storage = open_storage(folder, None)
    ledger = Ledger(storage, "s") if Ledger.exists(storage, "s") else Ledger.create(storage, "s", recipe.to_dict(), {}, direction)
    with Driver(recipe, ledger, Checkpoints(folder / "checkpoints"), lambda: executor) as driver:
        driver.run()
    return ledger


def findings(ledger: Ledger) -> dict[str, set[str]]:
    table = controls_frame(ledger)
    return {kind: set(rows["finding"]) for kind, rows in table.groupby("control")}


@pytest.fixture(scope="module")
def gain_study(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return run(tmp_path_factory.mktemp("gain"), InProcess(train=pretend(by_gain)))


def test_a_planted_input_scale_gain_is_called_that(gain_study: Ledger) -> None:
    found = findings(gain_study)
    assert found["plain"] == {SURVIVES} and found["input_gain"] == {EXPLAINS} and found["ema"] == {SURVIVES}
    verdicts = controls_verdicts(controls_frame(gain_study))
    assert len(verdicts) == 2 and all(": the gain is input scale; input_gain does as well" in text for text in verdicts)


def test_where_lower_is_better_too(tmp_path: Path) -> None:
    found = findings(run(tmp_path, InProcess(train=pretend(by_gain, sign=-1.0)), direction="minimize"))
    assert found["plain"] == {SURVIVES} and found["input_gain"] == {EXPLAINS}


def test_memory_is_not_called_input_scale(tmp_path: Path) -> None:
    ledger = run(tmp_path, InProcess(train=pretend(by_memory)))
    found = findings(ledger)
    assert found["input_gain"] == {SURVIVES} == found["bias_matched"] and found["ema"] == {EXPLAINS}
    assert all(": the gain is memory at gain 1;" in text for text in controls_verdicts(controls_frame(ledger)))


def test_a_gain_that_needs_both_survives_every_control(tmp_path: Path) -> None:
    ledger = run(tmp_path, InProcess(train=pretend(by_both)))
    assert set().union(*findings(ledger).values()) == {SURVIVES}
    table = controls_frame(ledger)
    assert (table.loc[table["control"] == "plain", "share"] == 1).all()
    others = table[table["control"] != "plain"]
    assert ((others["share_low"] > 0) & (others["share_low"] < others["share"]) & (others["share"] < others["share_high"])).all()
    assert all("the gain survives every control" in text for text in controls_verdicts(table))


def test_no_gain_is_nothing_to_explain(tmp_path: Path) -> None:
    table = controls_frame(run(tmp_path, InProcess(train=pretend(by_nothing))))
    assert set(table["finding"]) == {NO_GAIN} and table["share"].isna().all()
    assert all(": no gain to explain (gain " in text for text in controls_verdicts(table))


def test_controls_have_the_baselines_trials_and_the_candidates_seeds(gain_study: Ledger) -> None:
    groups = [group for group in gain_study.groups() if is_control(group)]
    assert {group.split("-")[1] for group in groups} == {"input_gain", "ema", "bias_matched"}  # plain is the baseline lstm
    for group in groups:
        trials = [t for t in gain_study.trials(group) if t.duplicate_of is None]
        assert len(trials) == 6 and len({t.candidate.lr for t in trials}) == 6
        gains = {t.candidate.spec.coefficients.get("epsilon") for t in trials}
        assert len(gains) == (6 if "input_gain" in group else 1)
        assert len({t.cell_id for t in trials}) == len(gains)
    runs = gain_study.trials(CONFIRMATION)
    assert len({tuple(t.seed for t in runs if t.candidate_id == c) for c in {t.candidate_id for t in runs}}) == 1
    assert {t.role for t in runs} == {"finalist", "lstm", "gru", *groups}
    finalists = {t.candidate.spec for t in runs if t.role == "finalist"}
    starts = {gain_study.trials(g)[0].candidate.spec.coefficients["epsilon"] for g in groups if "input_gain" in g}
    assert starts == {steady_gain(spec) for spec in finalists}  # the finalist's own gain is tried first


def test_killed_anywhere_the_controls_are_those_of_the_unbroken_study(
    gain_study: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luck, countdown, deaths = random.Random(1), [0], 0
    write: Callable[..., Any] = JournalFile.append_logs

    def mortal(*args: Any, **kwargs: Any) -> Any:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Killed
        return write(*args, **kwargs)

    monkeypatch.setattr(JournalFile, "append_logs", mortal)
    while True:
        countdown[0] = luck.randint(10, 60)
        try:
            ledger = run(tmp_path, InProcess(train=pretend(by_gain), order=lambda n: luck.randrange(n)))
            break
        except Killed:
            deaths += 1
    assert deaths > 2 and essence(ledger) == essence(gain_study)
    assert controls_frame(ledger).equals(controls_frame(gain_study))


def test_a_larger_budget_finds_its_controls_again(tmp_path: Path) -> None:
    small = run(tmp_path, InProcess(train=pretend(by_gain)))
    before = {group: len(small.trials(group)) for group in small.groups() if is_control(group)}
    large = run(tmp_path, InProcess(train=pretend(by_gain)), recipe_of(budget={"trials": 30}))
    assert all(len(large.trials(group)) == count for group, count in before.items())
    assert len([t for t in large.trials(SEARCH) if t.duplicate_of is None]) == 30
    table = controls_frame(large)
    assert set(table["finding"]) <= {SURVIVES, EXPLAINS} and table["candidate_id"].nunique() >= 2


def test_the_grid_tries_a_few_gains(tmp_path: Path) -> None:
    few: dict[str, Any] = {"choices": [0.3, 0.6, 1.0]}
    space = {"parameters": {**SPACE["parameters"], "heavy_ball.mu": few | {"choices": [0.3, 0.6]}, "heavy_ball.epsilon": few, "lr": 0.002}}
    data = {**recipe_of().to_dict(), "space": space, "search": {"sampler": "grid"}}
    ledger = run(tmp_path, InProcess(train=pretend(by_gain)), Recipe.from_dict(data))
    group = next(g for g in ledger.groups() if "input_gain" in g)
    gains = [t.candidate.spec.coefficients["epsilon"] for t in ledger.trials(group) if t.duplicate_of is None]
    assert 4 <= len(set(gains)) <= 6 and 1.0 in gains


def test_without_the_flag_there_are_none(tmp_path: Path) -> None:
    ledger = run(tmp_path, InProcess(train=pretend(by_gain)), recipe_of(controls=False))
    assert ledger.groups() == ["search", "confirmation", "gru", "lstm"] and controls_frame(ledger).empty


values = st.lists(st.tuples(st.floats(-1, 1), st.floats(0.5, 2)), min_size=3, max_size=8)


@given(values)
def test_fieller_is_the_set_of_ratios_that_students_test_does_not_reject(pairs: list[tuple[float, float]]) -> None:
    """Beside the naive way: the test itself, at and around the ends."""
    x, y = ({i: pair[k] for i, pair in enumerate(pairs)} for k in (0, 1))
    ratio = ratio_of_means(x, y)
    a, b = np.array(list(x.values())), np.array(list(y.values()))
    assume(min(np.ptp(a), np.ptp(b)) > 1e-6)  # else SciPy's test has nothing to divide by
    if scipy_stats.ttest_1samp(b, 0).pvalue > 0.0501:
        assert math.isnan(ratio.low)
    if math.isnan(ratio.low) or ratio.high - ratio.low < 1e-6:
        return
    assert ratio.low <= ratio.value <= ratio.high and ratio.value == pytest.approx(a.mean() / b.mean(), abs=1e-12)
    width = ratio.high - ratio.low
    for end, out in ((ratio.low, -1), (ratio.high, 1)):
        inside, outside = (scipy_stats.ttest_1samp(a - (end + s * out * 1e-3 * width) * b, 0).pvalue for s in (-1, 1))
        assert inside > 0.05 > outside


def test_a_ratio_of_too_little_is_none() -> None:
    for x, y in (({}, {}), ({1: 0.1}, {1: 0.2}), ({1: math.nan, 2: 0.1}, {1: 0.2, 2: 0.2})):
        assert math.isnan(ratio_of_means(x, y).value)
    assert ratio_of_means({1: 0.1, 2: 0.1}, {1: 0.2, 2: 0.2}).value == 0.5


def test_controls_are_not_among_the_cells_that_p_values_are_corrected_for(gain_study: Ledger) -> None:
    board = leaderboard_frame(gain_study).set_index("role")
    control = board.index.map(is_control)
    assert control.any() and board.loc[control, "p_value"].isna().all() and board.loc[control, "diff_mean"].notna().any()
    tests: dict[str, list[float]] = {}
    for trial in sorted(gain_study.trials(CONFIRMATION), key=lambda t: t.seed):
        tests.setdefault(trial.candidate_id, []).append(trial.rungs[-1].test_value or math.nan)
    others = board[~control].drop("lstm")
    lstm = tests[board.loc["lstm", "candidate_id"]]
    raw = np.array([scipy_stats.ttest_rel(tests[key], lstm).pvalue for key in others["candidate_id"]])
    assert others["p_value"].tolist() == pytest.approx(holm(raw).tolist())
