"""The head: the same study whatever the order of results, the executor, and the moment of a kill."""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrnn_search.search.checkpoints import Checkpoints
from mrnn_search.search.driver import Driver, Progress, expected_epochs
from mrnn_search.search.executors import Executor
from mrnn_search.search.interrupt import Interrupted
from mrnn_search.search.journal import JournalFile
from mrnn_search.search.ledger import CONFIRMATION, SEARCH, Ledger, TrialView
from mrnn_search.search.packs import Pack, PackResult, failed_pack
from mrnn_search.search.recipe import Recipe, load_recipe
from mrnn_search.search.screening import STUCK
from mrnn_search.search.storage import open_storage

from ..inprocess import InProcess, fake

SETTINGS: dict[str, Any] = {
    "space": "optimizer_cells",
    "budget": {"trials": 10},
    "search": {"cohort": 4, "sampler": "tpe", "ahead": 1},
    "rungs": {"epochs": [1, 2, 4], "keep": 0.5},
    "baselines": {"cells": ["lstm", "gru"], "trials": 3},
    "confirmation": {"top": 2, "seeds": 3, "epochs": 5},
}


class Killed(BaseException):
    """The head dies here."""


def run(folder: Path, executor: Executor, recipe: Recipe | None = None, on_progress: Callable[[Progress], None] = lambda p: None) -> Ledger:
    recipe = recipe or load_recipe("quickstart", SETTINGS)
    storage = open_storage(folder, None)
    ledger = Ledger(storage, "s") if Ledger.exists(storage, "s") else Ledger.create(storage, "s", recipe.to_dict(), {}, "maximize")
    with Driver(recipe, ledger, Checkpoints(folder / "checkpoints"), lambda: executor, on_progress) as driver:
        driver.run()
    return ledger


def with_space(space: dict[str, Any], trials: int = 10) -> Recipe:
    return Recipe.from_dict({**load_recipe("quickstart", SETTINGS).to_dict(), "space": space, "budget": {"trials": trials}})


def essence(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Everything of a ledger that must not depend on luck: all but times and workers."""
    return {
        group: [(t.number, t.state, t.candidate_id, t.seed, t.cohort, t.error, t.role, curve(t)) for t in ledger.trials(group)]
        for group in ledger.groups()
    }


def curve(trial: TrialView) -> list[tuple[Any, ...]]:
    return [(r.stop_epoch, r.value, r.best_epoch, r.test_value, [row[:4] for row in r.rows]) for r in trial.rungs]


METHODS = [("halving", 1), ("halving", 2), ("hyperband", 2), ("asha", 2), ("asha", 3)]


def with_method(method: str, ahead: int, **more: Any) -> Recipe:
    changes = {"search": {**SETTINGS["search"], "ahead": ahead}, "rungs": {**SETTINGS["rungs"], "method": method}}
    return load_recipe("quickstart", {**SETTINGS, "budget": {"trials": 16}, **changes, **more})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return run(tmp_path_factory.mktemp("unbroken"), InProcess(train=fake))


@pytest.fixture(scope="module")
def by_method(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Ledger]:
    return {m: run(tmp_path_factory.mktemp("-".join(map(str, m))), InProcess(train=fake), with_method(*m)) for m in METHODS}


def test_a_whole_study(unbroken: Ledger) -> None:
    search = [t for t in unbroken.trials(SEARCH) if t.duplicate_of is None]
    assert len(search) == 10 and len({t.candidate_id for t in search}) == 10
    assert [t.cohort for t in search] == [0] * 4 + [1] * 4 + [2] * 2
    assert {t.state for t in search} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert all(t.error == "loss is nan at epoch 1, step 3" for t in search if t.state == "FAIL")
    for name in ("lstm", "gru"):
        tuned = unbroken.trials(name)
        assert {(t.candidate.spec.base, t.candidate.spec.rule) for t in tuned} == {(name, "plain")}
        assert len(tuned) == 3
    runs = unbroken.trials(CONFIRMATION)
    assert len(runs) == (2 + 2) * 3
    assert len({t.seed for t in runs}) == 3 and not {t.seed for t in runs} & {t.seed for t in search}
    assert unbroken.complete


def test_the_test_split_is_read_in_confirmation_alone_and_once(unbroken: Ledger) -> None:
    for group in unbroken.groups():
        for trial in unbroken.trials(group):
            readings = [r for r in trial.rungs if r.test_value is not None]
            assert len(readings) == (1 if group == CONFIRMATION and trial.state == "COMPLETE" else 0)
            assert not readings or readings[0] is trial.rungs[-1]


def test_halving_keeps_the_best_of_the_whole_study(unbroken: Ledger) -> None:
    """Each cohort's survivors are the best half of all that had reached the rung by then."""
    search = [t for t in unbroken.trials(SEARCH) if t.duplicate_of is None]
    for cohort in range(3):
        for rung in range(2):
            table = {t.number: t.rungs[rung].value for t in search if t.cohort <= cohort and len(t.rungs) > rung}
            best = sorted(table, key=lambda n: -table[n])[: math.ceil(len(table) / 2)]
            members = {t.number for t in search if t.cohort == cohort and len(t.rungs) > rung}
            went_on = {t.number for t in search if t.cohort == cohort and len(t.rungs) > rung + 1}
            assert went_on == members & set(best)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_results_does_not_matter(unbroken: Ledger, tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    shuffled = run(tmp_path, InProcess(train=fake, order=lambda n: luck.randrange(n), slots=1 + seed))
    assert essence(shuffled) == essence(unbroken)


@pytest.mark.parametrize("method", METHODS)
def test_by_any_method_the_order_of_results_does_not_matter(
    by_method: dict[tuple[str, int], Ledger], tmp_path: Path, method: tuple[str, int]
) -> None:
    luck = random.Random(1)
    shuffled = run(tmp_path, InProcess(train=fake, order=lambda n: luck.randrange(n), slots=5), with_method(*method))
    assert essence(shuffled) == essence(by_method[method])
    search = [t for t in shuffled.trials(SEARCH) if t.duplicate_of is None]
    assert len(search) == 16 and {t.state for t in search} >= {"COMPLETE", "PRUNED"}
    assert all([r.stop_epoch for r in t.rungs] == [1, 2, 4][: len(t.rungs)] for t in search)
    assert all((t.state == "COMPLETE") == (len(t.rungs) == 3) for t in search)


@pytest.mark.parametrize("method", METHODS)
def test_by_any_method_a_larger_budget_goes_on(by_method: dict[tuple[str, int], Ledger], tmp_path: Path, method: tuple[str, int]) -> None:
    small = essence(run(tmp_path, InProcess(train=fake), with_method(*method)))
    large = essence(run(tmp_path, InProcess(train=fake), with_method(*method, budget={"trials": 27})))
    assert large[SEARCH][: len(small[SEARCH])] == small[SEARCH], "what had ended stays as it was"
    assert len([t for t in large[SEARCH] if t[4] is not None and t[1] != "FAIL" or t[5]]) == 27
    assert "RUNNING" not in {t[1] for group in large.values() for t in group}


@pytest.mark.parametrize("method", METHODS)
def test_killed_anywhere_it_ends_as_the_unbroken_study(
    by_method: dict[tuple[str, int], Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: tuple[str, int]
) -> None:
    """Dies at a random write to the ledger or to a checkpoint, again and again, until it is through."""
    luck = random.Random(0)
    countdown = [0]
    deaths = 0

    def mortal(method: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            countdown[0] -= 1
            if countdown[0] == 0:
                raise Killed
            return method(*args, **kwargs)

        return write

    monkeypatch.setattr(JournalFile, "append_logs", mortal(JournalFile.append_logs))
    monkeypatch.setattr(Checkpoints, "save", mortal(Checkpoints.save))
    monkeypatch.setattr(Checkpoints, "drop", mortal(Checkpoints.drop))
    trained: list[tuple[str, int, int]] = []
    sizes: list[int] = []
    while True:
        countdown[0] = luck.randint(1, 40)
        executor = InProcess(train=fake, order=lambda n: luck.randrange(n), before=lambda pack: sizes.append(len(pack.lanes)))
        try:
            ledger = run(tmp_path, executor, with_method(*method))
            break
        except Killed:
            deaths += 1
        finally:
            trained += executor.trained
    assert deaths > 10
    assert essence(ledger) == essence(by_method[method])
    # What was on its way when the head died is trained again, and nothing else: at most the pack that was being written down.
    assert len(trained) - len(set(trained)) <= deaths * max(sizes)


def test_lost_checkpoints_cost_time_and_nothing_else(unbroken: Ledger, tmp_path: Path) -> None:
    def lose(pack: Pack) -> None:
        for path in (tmp_path / "checkpoints").glob("*"):
            path.unlink()

    assert essence(run(tmp_path, InProcess(train=fake, before=lose))) == essence(unbroken)


def test_damaged_checkpoints_too(unbroken: Ledger, tmp_path: Path) -> None:
    def damage(pack: Pack) -> None:
        for path in (tmp_path / "checkpoints").glob("*"):
            path.write_bytes(path.read_bytes()[:5])

    assert essence(run(tmp_path, InProcess(train=fake, before=damage))) == essence(unbroken)


def test_a_lane_that_kills_its_workers_fails_alone(unbroken: Ledger, tmp_path: Path) -> None:
    """Packs of many lanes: the one that holds the deadly lane comes back as lost; its neighbours train on."""
    deadly = next(t.key for t in unbroken.trials(SEARCH) if t.state == "COMPLETE")

    def train(pack: Pack) -> PackResult:
        return failed_pack(pack, "worker died 3 times") if deadly in {lane.key for lane in pack.lanes} else fake(pack)

    trials = run(tmp_path, InProcess(train=train, slots=1)).trials(SEARCH)  # a pack holds all that are alike
    assert [t.key for t in trials if t.error == "worker died 3 times"] == [deadly]


def test_a_lost_checkpoint_is_not_charged_to_the_lanes_time(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", {**SETTINGS, "limits": {"lane_seconds": 10}})
    limits: dict[tuple[int, int], set[float | None]] = {}

    def lose(pack: Pack) -> None:
        limits.setdefault((pack.start_epoch, pack.stop_epoch), set()).add(pack.timeout_s)
        for path in (tmp_path / "checkpoints").glob("*"):
            path.unlink()

    run(tmp_path, InProcess(train=fake, before=lose), recipe)
    assert limits[0, 1] == {10} and limits[0, 4] == {20}  # four epochs in the place of two


def test_ctrl_c_saves_what_is_training_and_the_next_run_goes_on(unbroken: Ledger, tmp_path: Path) -> None:
    packs = [0]

    def press(pack: Pack) -> None:
        packs[0] += 1
        if packs[0] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        run(tmp_path, InProcess(train=fake, before=press))
    assert signal.getsignal(signal.SIGINT) is before
    assert packs[0] == 6
    assert essence(run(tmp_path, InProcess(train=fake))) == essence(unbroken)


def test_a_complete_study_trains_nothing(tmp_path: Path) -> None:
    run(tmp_path, InProcess(train=fake))
    again = InProcess(train=fake)
    run(tmp_path, again)
    assert again.trained == []


def test_a_larger_budget_goes_on_where_the_smaller_ended(tmp_path: Path) -> None:
    small = essence(run(tmp_path, InProcess(train=fake)))
    recipe = load_recipe("quickstart", {**SETTINGS, "budget": {"trials": 15}})
    large = run(tmp_path, InProcess(train=fake), recipe)
    assert essence(large)[SEARCH][: len(small[SEARCH])] == small[SEARCH]
    search = [t for t in large.trials(SEARCH) if t.duplicate_of is None]
    assert len(search) == 15 and [t.cohort for t in search[10:]] == [3] * 4 + [4]
    assert essence(large)["lstm"] == small["lstm"]


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    two, sizes = {"choices": ["plain", "heavy_ball"]}, {"choices": [8, 9]}
    space = {"parameters": {"base": {"choices": ["rnn", "gru"]}, "rule": two, "hidden_size": sizes}}
    ledger = run(tmp_path, InProcess(train=fake), with_space(space, trials=50))
    assert len([t for t in ledger.trials(SEARCH) if t.duplicate_of is None]) == 8


def test_a_sampler_that_insists_on_what_it_knows_does_not_end_the_search(tmp_path: Path) -> None:
    """TPE on a small finite space proposes its best again and again."""
    space = {"parameters": {"base": "rnn", "rule": {"choices": ["plain", "heavy_ball"]}, "hidden_size": {"choices": list(range(4, 34))}}}
    ledger = run(tmp_path, InProcess(train=fake), with_space(space, trials=50))
    trials = ledger.trials(SEARCH)
    assert len([t for t in trials if t.duplicate_of is None]) == 50
    longest = max(len(run) for run in "".join("d" if t.duplicate_of is not None else " " for t in trials).split() or [""])
    assert longest >= STUCK, "it never insisted: the test shows nothing"


def test_nothing_that_works_leaves_nothing_to_confirm(tmp_path: Path) -> None:
    space = {"parameters": {"base": "rnn", "lr": {"low": 0.1, "high": 0.2}}}
    ledger = run(tmp_path, InProcess(train=fake), with_space(space))
    assert {t.state for group in ledger.groups() for t in ledger.trials(group)} == {"FAIL"}
    assert ledger.trials(CONFIRMATION) == [] and ledger.complete


def test_progress_counts_to_its_end(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(tmp_path, InProcess(train=fake), on_progress=seen.append)
    stages = [*dict.fromkeys(p.stage for p in seen)]
    assert stages[0] == "search" and stages[-1] == "confirmation"
    assert stages == [stage for stage in ("search", "lstm", "gru", "confirmation") if stage in stages]  # some end in another's shadow
    assert (seen[-1].done, seen[-1].total) == (12, 12)
    assert [p.epochs for p in seen] == sorted(p.epochs for p in seen)


def test_expected_epochs_counts_what_an_unbroken_study_trains() -> None:
    """Whole cohorts, no failures: 8 at 1 epoch, 4 for 1 more, 2 for 2 more; 2 baselines; 4 × 3 runs of 5."""
    recipe = load_recipe("quickstart", {**SETTINGS, "budget": {"trials": 8}, "baselines": {"trials": 4}})
    assert expected_epochs(recipe) == (8 + 4 + 2 * 2) + 2 * (4 + 2 + 1 * 2) + 4 * 3 * 5
