"""Storages: what cannot be opened is named, passwords never are."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import optuna
import pytest

from mrnn_search._registry import InputError
from mrnn_search.search.checkpoints import Checkpoints
from mrnn_search.search.storage import LEDGER, check_home, open_storage, refuse_links, remember, shown


def test_a_half_written_journal_is_refused_with_what_to_do(tmp_path: Path) -> None:
    optuna.create_study(storage=open_storage(tmp_path, None), study_name="a")
    path = tmp_path / LEDGER
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker')
    with pytest.raises(InputError, match=f"half-written record.*truncate -s {len(whole)} ") as caught:
        open_storage(tmp_path, None)
    subprocess.run(str(caught.value).split("To go on without it: ")[1], shell=True, check=True)
    assert optuna.study.get_all_study_names(open_storage(tmp_path, None)) == ["a"]


@pytest.mark.parametrize("line", [b"hello\n", b"{}\n", b"[1]\n", b'{"op_code": 99}\n'])
def test_a_damaged_journal_is_refused(tmp_path: Path, line: bytes) -> None:
    optuna.create_study(storage=open_storage(tmp_path, None), study_name="a")
    path = tmp_path / LEDGER
    path.write_bytes(line + path.read_bytes())
    with pytest.raises(InputError, match=f"{LEDGER}: damaged"):
        open_storage(tmp_path, None)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////no/such/folder/a.db", "cannot open sqlite:////no/such/folder/a.db"),
        ("not a url", "not a database URL"),
        ("nosuchdb://a/b", "no driver for nosuchdb"),
        ("postgresql://me:hunter2@127.0.0.1:1/none", "cannot open postgresql://me:***@127.0.0.1:1/none"),
        ("postgresql://127.0.0.1:1/none?user=me&password=hunter2", "cannot open postgresql://127.0.0.1:1/none?password=%2A%2A%2A&user=me"),
        ("postgresql://me@host:hunter2/db", "not a database URL"),
        ("postgresql://me:pa@hunter2@127.0.0.1/db", "not a database URL"),
    ],
)
def test_a_database_that_cannot_be_opened(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        open_storage(tmp_path, url)
    assert words in str(caught.value) and "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shown_url_has_no_password() -> None:
    assert shown("postgresql://me:hunter2@host/db") == "postgresql://me:***@host/db"


def test_one_folder_has_one_ledger(tmp_path: Path) -> None:
    url, here, there = "postgresql://me:hunter2@host/db", tmp_path / "a", tmp_path / "b"
    check_home(there, url)
    check_home(there, None)
    there.mkdir()
    remember(there, url)
    assert "hunter2" not in (there / "storage").read_text()
    check_home(there, url)
    with pytest.raises(InputError, match="give it with --storage"):
        check_home(there, None)
    with pytest.raises(InputError, match="not in sqlite"):
        check_home(there, "sqlite:///b.db")
    optuna.create_study(storage=open_storage(here, None), study_name="a")
    check_home(here, None)
    with pytest.raises(InputError, match="leave --storage out"):
        check_home(here, url)


def test_a_reader_makes_no_file_and_bears_a_record_that_is_being_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        open_storage(tmp_path, f"sqlite:///{tmp_path}/typo.db", reading=True)
    assert list(tmp_path.iterdir()) == []
    optuna.create_study(storage=open_storage(tmp_path, None), study_name="a")
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    assert optuna.study.get_all_study_names(open_storage(tmp_path, None, reading=True)) == ["a"]


def test_a_record_that_a_full_disk_cut_short_is_taken_back(tmp_path: Path) -> None:
    """The next one would be written behind its first half, and both would be lost."""
    study = optuna.create_study(storage=open_storage(tmp_path, None), study_name="a")
    path = tmp_path / LEDGER
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, before[1]))
    try:
        with pytest.raises(OSError):
            study.set_user_attr("b", "x" * 100)
        with pytest.raises(OSError):
            Checkpoints(tmp_path).save("search/0", 1, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir() if "epoch" in p.name] == []
    study.set_user_attr("b", "y")
    assert optuna.load_study(storage=open_storage(tmp_path, None), study_name="a").user_attrs == {"b": "y"}


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    refuse_links(tmp_path / "real")
    refuse_links(tmp_path / "not there")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="link: is a symbolic link"):
        refuse_links(tmp_path / "link")
    (tmp_path / "real" / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(InputError, match="checkpoints: is a symbolic link"):
        refuse_links(tmp_path / "real")
