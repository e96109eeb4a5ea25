"""Tables that are kept: the same frames with and without, never stale, never in the way."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pandas as pd
import pytest

from mrnn_search._registry import InputError
from mrnn_search.bench.filling import confirm, fill, new_ledger
from mrnn_search.results.leaderboard import curves_frame, leaderboard_frame, trials_frame
from mrnn_search.results.study import Study, load_study
from mrnn_search.search.ledger import JournalReader, Ledger
from mrnn_search.search.space import load_space
from mrnn_search.search.storage import LEDGER, open_storage

SPACE = load_space("smoke")
TABLES = {"leaderboard": leaderboard_frame, "trials": trials_frame, "curves": curves_frame}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = new_ledger(open_storage(tmp_path, None), tmp_path.name, SPACE)
    fill(ledger, SPACE, 40)
    confirm(ledger)
    return ledger


def check(folder: Path, storage: str | None = None) -> Study:
    """Every table as it is made from the ledger, dtypes too."""
    study = load_study(folder, storage=storage)
    for name, make in TABLES.items():
        fresh = make(Ledger(open_storage(folder, storage, reading=True), folder.name))
        pd.testing.assert_frame_equal(getattr(study, name)(), fresh)
        assert list(getattr(study, name)().dtypes) == list(fresh.dtypes) and len(fresh)
    return study


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "cache").iterdir()}


def no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the journal itself may not be read."""
    monkeypatch.setattr(JournalReader, "__init__", lambda *args: pytest.fail("the journal was read"))


def test_kept_tables_are_the_same_and_spare_the_journal(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path)
    before = kept(tmp_path)
    assert set(before) == {"leaderboard.table", "trials.table", "curves.table"}
    check(tmp_path)
    assert kept(tmp_path) == before
    with monkeypatch.context() as patch:
        no_reader(patch)
        assert len(load_study(tmp_path).trials()) == 40


def test_a_ledger_that_grew_is_read_anew(ledger: Ledger, tmp_path: Path) -> None:
    old = check(tmp_path)
    fill(ledger, SPACE, 2, seed=10**6)
    assert len(old.trials()) == len(check(tmp_path).trials()) == 42


def test_an_edited_journal_is_read_anew(ledger: Ledger, tmp_path: Path) -> None:
    """Of the same length and time: its end tells."""
    check(tmp_path)
    path = tmp_path / LEDGER
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"host:1"', b'"host:2"'))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert set(check(tmp_path).trials()["worker"]) == {"host:2"}


def test_damaged_tables_are_made_again(ledger: Ledger, tmp_path: Path) -> None:
    check(tmp_path)
    whole, luck = kept(tmp_path), random.Random(0)
    for n in range(10):
        for name, data in whole.items():
            at = luck.randrange(len(data))
            data = [data[:at], data[:at] + bytes([data[at] ^ 1 << luck.randrange(8)]) + data[at + 1 :], b"", b"{}\n", data * 2][n % 5]
            (tmp_path / "cache" / name).write_bytes(data)
        check(tmp_path)
        assert kept(tmp_path) == whole


def test_who_may_not_write_reads_all_the_same(ledger: Ledger, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache").write_text("in the way")
    check(tmp_path)
    (tmp_path / "cache").unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        check(tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == [] and capfd.readouterr() == ("", "")


def test_files_have_the_users_umask(ledger: Ledger, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        check(tmp_path)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache", *(tmp_path / "cache").iterdir())]
    assert modes == [0o750] + [0o640] * 3


def test_a_database_keeps_tables_of_complete_studies_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = new_ledger(open_storage(tmp_path, url), tmp_path.name, SPACE)
    fill(ledger, SPACE, 3)
    load_study(tmp_path.name, storage=url)  # has no folder of its own
    study = Study(Ledger(open_storage(tmp_path, url), tmp_path.name), tmp_path)
    assert len(study.trials()) == 3 and not (tmp_path / "cache").exists()
    confirm(ledger)
    assert len(study.trials()) == 3 and (tmp_path / "cache").exists()
    ledger.set_recipe({**ledger.recipe, "budget": {"trials": 9}})
    fill(ledger, SPACE, 2, seed=10**6)
    assert len(study.trials()) == 5
    ledger.set_complete()
    assert len(study.trials()) == len(Study(Ledger(open_storage(tmp_path, url), tmp_path.name), tmp_path).trials()) == 5
