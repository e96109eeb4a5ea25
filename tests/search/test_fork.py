"""A fork begins with what counts of the old study, and trains none of it again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrnn_search as ms
from mrnn_search._registry import InputError
from mrnn_search.search.executors import executors
from mrnn_search.search.fork import Forked
from mrnn_search.search.ledger import CONFIRMATION, SEARCH, Ledger, TrialView
from mrnn_search.search.packs import Pack

from ..inprocess import InProcess, fake
from .test_driver import SETTINGS, Killed, curve, essence

LAST: list[InProcess] = []  # the executors that were made, in order
PACKS = [math.inf]  # that a head may train before it is killed


def before(pack: Pack) -> None:
    PACKS[0] -= 1
    if PACKS[0] < 0:
        raise Killed


@executors.register("fake, of forks")
def _(devices: Any) -> InProcess:
    LAST.append(InProcess(train=fake, before=before))
    return LAST[-1]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    yield
    PACKS[0] = math.inf
    LAST.clear()


def run(packs: float = math.inf, fork: str | None = None, **changes: Any) -> tuple[Ledger, list[Forked]]:
    PACKS[0] = packs
    told: list[Forked] = []
    changes = {**SETTINGS, **changes}
    return ms.search("quickstart", executor="fake, of forks", fork=fork, on_fork=told.append, overrides=changes)._ledger, told


def trained() -> set[str]:
    return {key for executor in LAST for key, _, _ in executor.trained}


def own(ledger: Ledger, group: str = SEARCH) -> list[TrialView]:
    return [t for t in ledger.trials(group) if t.duplicate_of is None]


def test_everything_comes_along_and_only_the_rest_is_trained() -> None:
    old, _ = run()
    LAST.clear()
    new, (told,) = run(fork="more", budget={"trials": 14}, search={"cohort": 4, "sampler": "random"})
    assert (told.trials, told.taken, told.runs, told.taken_runs) == (10 + 3 + 3, 10 + 3 + 3, 12, 12)
    assert "from quickstart: 16 of 16 trials, 12 of 12 confirmation runs came along" in str(told)
    old_now, new_now = essence(old), essence(new)
    for group in old.groups():
        assert new_now[group][: len(old_now[group])] == old_now[group]
    assert len(own(new)) == 14 and len(own(new, "lstm")) == 3 and new.complete
    come = {f"{group}/{t.number}" for group in old.groups() for t in old.trials(group)}
    assert trained() and not trained() & come
    origins = [t.user_attrs.get("forked_from") for t in new.frozen(SEARCH)]
    assert origins[: len(old_now[SEARCH])] == [{"study": "quickstart", "number": n} for n in range(len(old_now[SEARCH]))]
    weights = ms.load_study("more").folder / "checkpoints"
    assert {path.name.split("-epoch")[0] for path in weights.iterdir()} >= {f"confirmation-{n}" for n in range(12)}
    assert essence(run()[0]) == old_now  # the old study is as it was


def test_the_same_command_goes_on_and_another_one_is_refused() -> None:
    run()
    more: dict[str, Any] = {"budget": {"trials": 12}}
    with pytest.raises(Killed):
        run(1, fork="more", **more)
    ledger, told = run(fork="more", **more)
    assert told == [] and ledger.complete
    with pytest.raises(InputError, match="begun from quickstart; give --fork another name"):
        run(fork="more", **more, name="another")
    run(name="another")
    with pytest.raises(InputError, match="there already, and was not begun from another"):
        run(fork="another")


@pytest.mark.parametrize("at", [0, 7, 20])
def test_a_copy_that_is_cut_short_goes_on(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    more: dict[str, Any] = {"budget": {"trials": 12}}
    whole, _ = run(fork="whole", **more)
    adopt, count = Ledger.adopt, [0]

    def killed(self: Ledger, *arguments: Any) -> None:
        count[0] += 1
        if count[0] > at:
            raise Killed
        adopt(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "adopt", killed)
        with pytest.raises(Killed):
            run(fork="cut", **more)
    PACKS[0] = math.inf
    again = ms.search("quickstart", name="cut", executor="fake, of forks", overrides={**SETTINGS, **more})._ledger  # without --fork too
    assert essence(again) == essence(whole)


def test_rungs_are_made_anew_from_the_epochs() -> None:
    """As if they had been the recipe's from the start: by the values that training would have given."""
    old, _ = run()
    new, (told,) = run(fork="rungs", rungs={"epochs": [2, 3], "keep": 0.5})
    come = [t for t, f in zip(new.trials(SEARCH), new.frozen(SEARCH), strict=True) if "forked_from" in f.user_attrs]
    assert {t.candidate_id for t in come} == {t.candidate_id for t in own(old) if t.epochs >= 2 or t.state == "FAIL"} | {
        t.candidate_id for t in old.trials(SEARCH) if t.duplicate_of is not None
    }
    assert 0 < told.taken < told.trials and "have no epochs that count here" in str(told)
    assert {(t.epochs, t.state) for t in come} <= {(0, "FAIL"), (2, "PRUNED"), (3, "COMPLETE")}
    twins = {t.candidate_id: t for t in own(old)}
    for trial in come:
        rows = [row for rung in twins[trial.candidate_id].rungs for row in rung.rows]
        for rung in trial.rungs:
            best = max((row for row in rows if row[0] <= rung.stop_epoch), key=lambda row: row[3])
            assert (rung.value, rung.best_epoch) == (best[3], best[0])
        assert [row for rung in trial.rungs for row in rung.rows] == rows[: trial.epochs]
    assert new.complete


def test_what_still_trained_goes_on_from_its_checkpoint() -> None:
    with pytest.raises(Killed):
        run(4)
    old = ms.load_study("quickstart")._ledger
    moving = [t for t in own(old) if t.running and t.rungs]
    assert moving
    LAST.clear()
    new, _ = run(fork="more", budget={"trials": 11})
    starts = {key: start for executor in LAST for key, start, _ in reversed(executor.trained)}
    for trial in moving:
        now = next(t for t in own(new) if t.candidate_id == trial.candidate_id)
        assert curve(now)[: len(trial.rungs)] == curve(trial)
        assert starts.get(now.key, trial.epochs) == trial.epochs
    assert new.complete and not any(t.running for group in new.groups() for t in new.trials(group))


def test_what_is_not_in_the_new_space_stays_behind() -> None:
    old, _ = run()
    space = ms.search("quickstart", executor="fake, of forks", overrides=SETTINGS).recipe["space"]
    bases = space["parameters"]["base"]["choices"]
    kept = [base for base in bases if base != "gru"]
    parameters = {**space["parameters"], "base": {"choices": kept}}
    new, (told,) = run(fork="fewer", space={"parameters": parameters, "name": space["name"], "description": ""})
    come = [t for t, f in zip(new.trials(SEARCH), new.frozen(SEARCH), strict=True) if "forked_from" in f.user_attrs]
    assert {t.candidate_id for t in come} == {t.candidate_id for t in own(old) if t.candidate.spec.base in kept}
    assert {t.candidate.spec.base for t in own(new)} <= set(kept) and told.taken < told.trials
    assert {t.candidate_id for t in new.trials(CONFIRMATION) if t.role == "finalist"} <= {t.candidate_id for t in own(new)}


@pytest.mark.parametrize(("change", "message"), [({"seed": 5}, "seed: 0 -> 5"), ({"name": "nostudy"}, 'unknown study "nostudy"')])
def test_a_fork_that_nothing_would_come_along_with(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    run()
    with pytest.raises(InputError, match=message):
        run(fork="other", **change)
    assert not (tmp_path / "other").exists()
