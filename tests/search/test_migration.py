"""A ledger that the first release wrote: today's code shows it, and goes on with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mrnn_search as ms
from mrnn_search.search.ledger import SCHEMA, JournalReader, Ledger
from mrnn_search.search.storage import LEDGER, open_storage

# mrnn-search run smoke --set budget.trials=6 --set search.sampler=tpe; workers and platform made anonymous
FIRST = Path(__file__).parent / "data" / "schema1.log"
SETTINGS = {"budget": {"trials": 6}, "search": {"sampler": "tpe"}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder with the first release's ledger in it."""
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    (tmp_path / "smoke").mkdir()
    shutil.copy(FIRST, tmp_path / "smoke" / LEDGER)
    return tmp_path / "smoke"


def test_it_reads_as_it_was_written(folder: Path) -> None:
    study = ms.load_study("smoke")
    table, trials, curves = study.leaderboard(), study.trials(), study.curves()
    assert (
        study.state == "complete"
        and study.recipe["budget"] == {"trials": 6}
        and study.meta["sessions"][0]["versions"]["mrnn_search"] == "0.1.0"
    )
    assert table["rank"].tolist() == [1, 2, 3] and set(table["role"]) == {"finalist", "lstm", "gru"}
    assert table["val_mean"].tolist() == pytest.approx(table["val_mean"].sort_values(ascending=False).tolist())
    assert trials.groupby("group").size().to_dict() == {"search": 6, "lstm": 2, "gru": 2}
    assert set(trials["state"]) == {"COMPLETE", "PRUNED"} and set(trials["worker"]) == {"host:1"}
    assert curves["metric"].value_counts().to_dict() == {"accuracy": len(curves) // 2, "train_loss": len(curves) // 2}
    assert "lstm" in study.verdict()


def test_both_ways_of_reading_agree(folder: Path) -> None:
    reader, ledger = JournalReader(folder / LEDGER), Ledger(open_storage(folder, None), "smoke")
    assert [reader.trials(g) for g in reader.groups()] == [ledger.trials(g) for g in ledger.groups()]
    assert SCHEMA == 1  # another schema: keep this file, and make one of the new schema beside it


def test_a_complete_one_is_left_as_it_is(folder: Path) -> None:
    before = ms.load_study("smoke").leaderboard()
    assert ms.search("smoke", executor="fake", **SETTINGS).leaderboard().equals(before)
    assert (folder / LEDGER).read_bytes() == FIRST.read_bytes()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_an_unfinished_one_is_gone_on_with(folder: Path, share: float) -> None:
    lines = FIRST.read_bytes().splitlines(keepends=True)
    (folder / LEDGER).write_bytes(b"".join(lines[: int(share * len(lines))]))
    before = {(t.group, t.number): t for g in ms.load_study("smoke")._ledger.groups() for t in ms.load_study("smoke")._ledger.trials(g)}
    study = ms.search("smoke", executor="fake", **SETTINGS)
    assert study.state == "complete" and len(study.leaderboard()) == 3
    after = {(t.group, t.number): t for g in study._ledger.groups() for t in study._ledger.trials(g)}
    assert "RUNNING" not in {t.state for t in after.values()}
    assert all(after[key] == trial for key, trial in before.items() if not trial.running)
