"""Storages: what cannot be opened is named, passwords never are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from mrnn_search._registry import InputError
from mrnn_search.search.storage import LEDGER, check_home, one_writer, one_writer_of, open_storage, remember, shown


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


def test_one_writer(tmp_path: Path) -> None:
    code = "from pathlib import Path; from mrnn_search.search.storage import one_writer\n"
    code += f"with one_writer(Path({str(tmp_path)!r})): print('in')"
    with one_writer(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "InputError" in done.stderr and "being run by process" in done.stderr
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "in\n", done.stderr


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from mrnn_search.search.storage import one_writer\n"
        f"with one_writer(Path({str(tmp_path)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with one_writer(tmp_path):
        pass


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


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_heads_in_two_folders_cannot_share_a_study(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else str(request.getfixturevalue("postgresql"))
    code = "import sys; from mrnn_search.search.storage import one_writer_of\n"
    code += f"with one_writer_of({url!r}, sys.argv[1]): print('in')"

    def other(name: str) -> str:
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    with one_writer_of(url, "s"):
        assert "is being run by another process" in other("s")
        assert other("t") == "in\n"
    assert other("s") == "in\n"
