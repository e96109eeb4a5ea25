"""The ledger's account of the test split: as many readings as confirmed (cell, seed) pairs, whatever happened on the way."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mrnn_search as ms
from mrnn_search.cells import Candidate, preset
from mrnn_search.results.readings import readings_frame
from mrnn_search.search.journal import JournalFile
from mrnn_search.search.ledger import CONFIRMATION, SEARCH, Ledger, Reading, Rung
from mrnn_search.search.packs import Pack
from mrnn_search.search.storage import open_storage

from ..inprocess import InProcess, fake
from ..search.test_driver import Killed, run

READING = Reading("2026-11-29T03:00:00.000+00:00", "7", "s" * 64)
RUNG = Rung(1, ((1, 10, 0.5, 0.6, 1.5),), 0.6, 1, 1.5, 99, "loop", "host:1", "cpu", test_value=0.5, reading=READING)


def confirmed(ledger: Ledger) -> list[tuple[str, int]]:
    return sorted((t.candidate_id, t.seed) for t in ledger.trials(CONFIRMATION) if t.state == "COMPLETE")


def test_one_for_each_confirmed_cell_and_seed(fake_study: ms.Study) -> None:
    table = fake_study.test_readings()
    assert sorted(zip(table["candidate_id"], table["seed"], strict=True)) == confirmed(fake_study.ledger)
    assert len(table) == fake_study.leaderboard()["seeds"].sum() > 0
    assert set(table["split"]) == {"f" * 64} and table["read"].notna().all() and set(table["forked_from"]) == {""}
    trials = fake_study.ledger.trials(CONFIRMATION)
    assert all(t.started <= read <= t.finished for t, read in zip(trials, table["read"], strict=True) if t.started and t.finished)


def test_kills_change_nothing_in_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head dies at random writes, and twice at the one that brings the first readings: workers read more often than is
    recorded, and the account is exact."""
    luck, countdown, reads, deaths, lost = random.Random(0), [0], [0], 0, [0]
    write: Callable[..., Any] = JournalFile.append_logs

    def mortal(*args: Any, **kwargs: Any) -> Any:
        countdown[0] -= 1
        if countdown[0] == 0 or (reads[0] and lost[0] < 2):
            lost[0] += reads[0] > 0
            raise Killed
        return write(*args, **kwargs)

    def count(pack: Pack) -> None:
        reads[0] += len(pack.lanes) * pack.read_test

    monkeypatch.setattr(JournalFile, "append_logs", mortal)
    while True:
        countdown[0] = luck.randint(2, 12)
        try:
            ledger = run(tmp_path, InProcess(train=fake, before=count))
            break
        except Killed:
            deaths += 1
    table = readings_frame(ledger)
    assert deaths > 3 and reads[0] > len(table) == len(confirmed(ledger)) == 12
    assert sorted(zip(table["candidate_id"], table["seed"], strict=True)) == confirmed(ledger)


def new(folder: Path) -> Ledger:
    return Ledger.create(open_storage(folder, None), "s", {}, {}, "maximize")


def test_the_ledger_takes_no_other_reading(tmp_path: Path) -> None:
    ledger, candidate = new(tmp_path), Candidate(preset("gru"))
    screened, run_ = ledger.add(SEARCH, candidate, 1), ledger.add(CONFIRMATION, candidate, 2, role="finalist")
    for trial, rung in (
        (screened, RUNG),
        (run_, dataclasses.replace(RUNG, reading=None)),
        (run_, dataclasses.replace(RUNG, test_value=None)),
        (dataclasses.replace(run_, rungs=(RUNG,)), dataclasses.replace(RUNG, stop_epoch=2)),
    ):
        with pytest.raises(ValueError, match="test"):
            ledger.record(trial, rung)
    assert readings_frame(ledger).empty
    ledger.finish(ledger.record(run_, RUNG))
    table = readings_frame(Ledger(open_storage(tmp_path, None), "s"))
    assert table[["run", "seed", "pack", "worker", "split"]].to_numpy().tolist() == [[0, 2, "7", "host:1", "s" * 64]]
    assert ledger.trials(CONFIRMATION)[0].rungs == (RUNG,)


def test_a_ledger_from_before_readings_were_recorded(tmp_path: Path) -> None:
    """Its test values count, when the run ended is when they were read."""
    ledger = new(tmp_path)
    trial = ledger.add(CONFIRMATION, Candidate(preset("gru")), 2, role="gru")
    old = {name: value for name, value in dataclasses.asdict(RUNG).items() if name != "reading"}
    ledger.storage.set_trial_user_attr(ledger._id(trial), "rung/0", old)
    ledger.finish(ledger.trials(CONFIRMATION)[0])
    table = readings_frame(ledger)
    assert table[["pack", "split"]].to_numpy().tolist() == [["", ""]]
    assert table["read"][0] == ledger.trials(CONFIRMATION)[0].finished
