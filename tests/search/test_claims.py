"""One head a study: who is refused is told by whom, and a claim ends with its holder, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from sqlalchemy import create_engine, text

from mrnn_search._registry import InputError, StudyError
from mrnn_search.search import claims
from mrnn_search.search.claims import HOLDER, Holder, born, held, holder_of, one_writer, one_writer_of
from mrnn_search.search.storage import open_storage

IN_FOLDER = """
import sys, time
from pathlib import Path
from mrnn_search.search.claims import one_writer
with one_writer(Path(sys.argv[1]), "mrnn-search run smoke"):
    print("in", flush=True)
    time.sleep(99)
"""
# The server closes a silent connection after 1.5 s here: not after a minute
IN_DATABASE = """
import sys, time, optuna
from pathlib import Path
from mrnn_search.search import claims
from mrnn_search.search.storage import open_storage
claims.SILENCE_S, claims.BEAT_S = 1.5, 0.3
url, name = sys.argv[1:]
storage = open_storage(Path(), url)
with claims.one_writer_of(url, name, storage):
    print("in", flush=True)
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    for line in sys.stdin:
        study.set_user_attr("written", line.strip())
        print("wrote", flush=True)
"""


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that holds something by now."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as made:
        try:
            assert made.stdout is not None and made.stdout.readline() == "in\n", made.communicate()[1]
            yield made
        finally:
            made.kill()


def until_free(url: str, name: str, limit: float) -> None:
    deadline = time.monotonic() + limit
    while True:
        try:
            with one_writer_of(url, name):
                return
        except InputError:
            assert time.monotonic() < deadline, "a dead holder's claim does not expire"
            time.sleep(0.1)


def test_the_second_is_told_who_holds_a_folder_and_since_when(tmp_path: Path) -> None:
    assert not held(tmp_path) and holder_of(tmp_path) is None and list(tmp_path.iterdir()) == []
    with process(IN_FOLDER, tmp_path) as first:
        assert held(tmp_path)
        who = holder_of(tmp_path)
        assert who is not None and who.pid == first.pid and who.is_here
        told = rf"is being run by process {first.pid} of {who.user} on {who.host} since {who.since[:4]}.*\(mrnn-search run smoke\)"
        with pytest.raises(InputError, match=told), one_writer(tmp_path):
            pass
        first.kill()
        first.wait()
        assert (tmp_path / HOLDER).exists()  # nobody was left to remove it
        assert not held(tmp_path) and holder_of(tmp_path) is None and not who.is_here
    with one_writer(tmp_path):
        assert held(tmp_path)
    assert not held(tmp_path) and not (tmp_path / HOLDER).exists()


def test_a_holder_is_no_other_process_with_its_number(tmp_path: Path) -> None:
    me = Holder.here("x")
    assert me.is_here and me == Holder.of(me.to_dict())
    assert not Holder(me.host, me.pid, "1", me.user, me.since, me.command).is_here
    assert not Holder("elsewhere", me.pid, me.born, me.user, me.since, me.command).is_here
    assert born(2**22 + 1) == "" and not Holder(me.host, 2**22 + 1, "", me.user, me.since, me.command).is_here
    with one_writer(tmp_path):
        for damaged in ("", "[", "{}", "[1]", '{"pid": "x"}'):
            (tmp_path / HOLDER).write_text(damaged)
            assert holder_of(tmp_path) is None
            with pytest.raises(InputError, match="is being run by another process"), one_writer(tmp_path):
                pass


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_heads_in_two_folders_cannot_share_a_study(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else str(request.getfixturevalue("postgresql"))
    name = tmp_path.name
    me = Holder.here("mrnn-search run x")
    with process(IN_DATABASE, url, name) as first:
        with pytest.raises(InputError, match="is being run by process .*mrnn-search run x"), one_writer_of(url, name, told=lambda: me):
            pass
        with one_writer_of(url, f"{name}-another"):
            pass
        first.kill()
        first.wait()
        until_free(url, name, 10)


def test_a_holder_that_is_stopped_loses_its_claim_and_writes_nothing_more(postgresql: str, tmp_path: Path) -> None:
    """As one whose network is cut: its kernel answers for it, so only its silence tells."""
    name = tmp_path.name
    with process(IN_DATABASE, postgresql, name) as first:
        assert first.stdin is not None and first.stdout is not None and first.stderr is not None
        first.stdin.write("before\n")
        first.stdin.flush()
        assert first.stdout.readline() == "wrote\n"
        os.kill(first.pid, signal.SIGSTOP)
        until_free(postgresql, name, 30)
        first.stdin.write("after\n")
        first.stdin.flush()
        os.kill(first.pid, signal.SIGCONT)
        out, err = first.communicate(timeout=30)
        assert out == "" and "StudyError" in err and "another process may have taken it" in err
    assert optuna.load_study(storage=open_storage(tmp_path, postgresql), study_name=name).user_attrs == {"written": "before"}


def test_a_claim_outlives_the_silence_that_ends_it_as_long_as_its_holder_lives(postgresql: str, tmp_path: Path) -> None:
    with process(IN_DATABASE, postgresql, tmp_path.name):
        time.sleep(3)  # twice the silence that ends it
        with pytest.raises(InputError), one_writer_of(postgresql, tmp_path.name):
            pass


def test_a_claim_whose_connection_ends_is_noticed(postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.1)
    storage = open_storage(tmp_path, postgresql)
    engine = create_engine(postgresql)
    with one_writer_of(postgresql, tmp_path.name, storage):
        optuna.create_study(storage=storage, study_name=tmp_path.name)
        with engine.connect() as admin:
            ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :name"
            assert admin.execute(text(ends), {"name": f"mrnn-search {tmp_path.name}%"}).scalars().all() == [True]
        deadline = time.monotonic() + 10
        with pytest.raises(StudyError, match="may have taken it") as caught:
            while time.monotonic() < deadline:
                optuna.load_study(storage=storage, study_name=tmp_path.name)
                time.sleep(0.05)
    engine.dispose()
    assert ":***@127.0.0.1" in str(caught.value) and "\n" not in str(caught.value)
    optuna.load_study(storage=storage, study_name=tmp_path.name)  # no longer guarded: a reader needs no claim
