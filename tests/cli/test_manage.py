"""Verbs that manage studies: the list and its states, stopping, removing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from typer.testing import CliRunner, Result

import mrnn_search as ms
from mrnn_search.cli.app import app
from mrnn_search.results import studies
from mrnn_search.search.claims import HOLDER, LOCK, Holder, held, holder_of, one_writer
from mrnn_search.search.executors import executors
from mrnn_search.search.interrupt import Interrupted
from mrnn_search.search.ledger import Ledger
from mrnn_search.search.storage import LEDGER, POINTER, open_storage

from ..inprocess import InProcess, fake

SMALL: dict[str, Any] = {"budget": {"trials": 6}, "search": {"cohort": 3}, "baselines": {"cells": ["lstm"], "trials": 2}}
PAUSE_S = 0.5  # between the packs of a slow head


@executors.register("fake, slow")
def _(devices: Any) -> InProcess:
    return InProcess(train=fake, before=lambda pack: time.sleep(PAUSE_S))


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRNN_SEARCH_RUNS", str(tmp_path_factory.mktemp("finished")))
        return ms.search("smoke", executor="fake", overrides=SMALL).folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path) -> Path:
    """A runs folder with one finished study, "smoke"."""
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs" / "smoke")
    return tmp_path / "runs"


@contextmanager
def head(runs: Path, name: str) -> Iterator[int]:
    """A process that runs a study, slowly; its exit code is 130 if it was stopped."""
    child = os.fork()
    if not child:
        code = 1
        try:  # never back into the test
            ms.search("smoke", name=name, executor="fake, slow", overrides=SMALL, command=f"mrnn-search run {name}")
            code = 0
        except Interrupted:
            code = 130
        finally:
            os._exit(code)
    try:
        ledger = runs / name / LEDGER
        while not ledger.exists() or ledger.read_bytes().count(b"rung/") < 1:
            assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE
            time.sleep(0.02)
        yield child
    finally:
        if psutil.pid_exists(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_the_list_has_every_study_and_its_state(runs: Path) -> None:
    shutil.copytree(runs / "smoke", runs / "damaged")
    (runs / "damaged" / LEDGER).write_text("hello\n" + (runs / "smoke" / LEDGER).read_text())
    (runs / "damaged" / LEDGER).chmod(0o600)
    shutil.copytree(runs / "smoke", runs / "half")
    lines = (runs / "smoke" / LEDGER).read_text().replace('"study_name":"smoke', '"study_name":"half').splitlines(keepends=True)
    (runs / "half" / LEDGER).write_text("".join(lines[: len(lines) // 3]))
    (runs / "begun").mkdir()
    (runs / "begun" / LOCK).touch()
    (runs / "elsewhere").mkdir()
    (runs / "elsewhere" / POINTER).write_text("postgresql://me:***@host/db\n")
    (runs / "link").symlink_to(runs / "smoke")
    (runs / "no study").mkdir()
    (runs / "other").mkdir()
    best = ms.load_study("smoke").trials().query("group == 'search' and state == 'COMPLETE'")["value"].max()
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    with one_writer(runs / "half", "mrnn-search run half"):
        rows = {row["name"]: row for row in json.loads(call("studies", "--json").stdout)}
        text = call("studies").stdout
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "begun": "unfinished",
        "damaged": "damaged",
        "elsewhere": "in a database",
        "half": "running",
        "link": "damaged",
        "smoke": "complete",
    }
    smoke, half = rows["smoke"], rows["half"]
    assert (smoke["tried"], smoke["budget"], smoke["confirmed"], smoke["benchmark"]) == (6, 6, 4, "digits-rows")
    assert smoke["value"] == best and smoke["best"] and smoke["active"].endswith("+00:00")
    assert 0 < half["tried"] < 6 and f"process {os.getpid()} " in half["note"] and "since 20" in half["note"]
    assert "postgresql://me:***@host/db" in rows["elsewhere"]["note"] and "symbolic link" in rows["link"]["note"]
    assert [line.split()[0] for line in text.splitlines()] == sorted(rows)
    assert "6/6 tried, 4 confirmed" in text and "mrnn-search run half" in text
    after = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name not in (LOCK, HOLDER)} == {
        path: data for path, data in before.items() if path.name not in (LOCK, HOLDER)
    }


def test_a_long_journal_is_not_read_for_the_list(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "LARGE", 1000)
    (row,) = json.loads(call("studies", "--json").stdout)
    assert row["state"] == "complete" and row["tried"] is None and "mrnn-search studies smoke" in row["note"]
    lines = (runs / "smoke" / LEDGER).read_text().splitlines(keepends=True)
    (runs / "smoke" / LEDGER).write_text("".join(lines[:-1]))
    (row,) = json.loads(call("studies", "--json").stdout)
    assert row["state"] == "unknown"


def test_no_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "nothing"))
    done = call("studies")
    assert done.exit_code == 0 and done.stdout == "" and "no study in" in done.stderr
    assert json.loads(call("studies", "--json").stdout) == [] and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("options", [[], ["--now"]])
def test_stop_is_ctrl_c_from_elsewhere(runs: Path, options: list[str]) -> None:
    with head(runs, "slow") as child:
        if options:
            os.kill(child, signal.SIGSTOP)  # one that sleeps is woken
        done = call("stop", "slow", *options)
        assert done.exit_code == 0, done.output
        assert done.stderr.splitlines()[-1] == "study slow is stopped. To go on: mrnn-search run slow"
        assert not held(runs / "slow") and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert ms.load_study("slow").state == "unfinished"
    again = call("stop", "slow")
    assert again.exit_code == 2 and "is not being run" in again.stderr
    assert ms.search("smoke", name="slow", executor="fake", overrides=SMALL).state == "complete"


def test_stop_signals_nobody_but_the_holder(runs: Path) -> None:
    """Whatever driver.json says: a number that another process has now, another machine, nothing."""
    folder = runs / "smoke"
    with subprocess.Popen(["sleep", "60"]) as innocent, one_writer(folder, "x"):
        me = holder_of(folder)
        assert me is not None
        for wrong, message in (
            ({"pid": innocent.pid}, "is gone"),
            ({"pid": 2**22 + 1}, "is gone"),
            ({"pid": innocent.pid, "host": "elsewhere"}, "stop it there"),
            ({"born": "0"}, "is gone"),
        ):
            (folder / HOLDER).write_text(json.dumps({**me.to_dict(), **wrong}))
            for options in ([], ["--now"]):
                done = call("stop", "smoke", *options)
                assert done.exit_code == 2 and message in done.stderr, done.output
        (folder / HOLDER).write_text("{}")
        assert "does not say by whom" in call("stop", "smoke").stderr
        assert innocent.poll() is None
        innocent.kill()


def test_rm_asks_first_and_refuses_what_runs(runs: Path) -> None:
    done = call("rm", "smoke")
    assert done.exit_code == 2 and "give --yes" in done.stderr and (runs / "smoke" / LEDGER).exists()
    with one_writer(runs / "smoke", "mrnn-search run smoke"):
        done = call("rm", "smoke", "--yes")
        assert done.exit_code == 2 and f"is being run by process {os.getpid()}" in done.stderr
    assert (runs / "smoke" / LEDGER).exists()
    (runs / "keep").mkdir()
    (runs / "keep" / LEDGER).touch()
    assert call("rm", "smok", "--yes").exit_code == 2
    assert call("rm", "smoke", "--yes").exit_code == 0
    assert sorted(path.name for path in runs.iterdir()) == ["keep"]
    assert call("rm", "smoke", "--yes").exit_code == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_lists_its_studies_and_loses_one_of_them(kind: str, runs: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{runs}/a.db" if kind == "sqlite" else str(request.getfixturevalue("postgresql"))
    one, two = f"{runs.parent.name}-1", f"{runs.parent.name}-2"
    for name in (one, two):
        ms.search("smoke", name=name, storage=url, executor="fake", overrides=SMALL)
    optuna.create_study(storage=url, study_name=f"{one}-theirs")
    Ledger.create(open_storage(runs, url), f"{one}-broken", {"space": {}}, {}, "maximize")
    rows = {row["name"]: row for row in json.loads(call("studies", "--storage", url, "--json").stdout)}
    assert rows.pop(f"{one}-broken")["state"] == "damaged"
    assert {rows[name]["state"] for name in (one, two)} == {"complete"} and rows[one]["tried"] == 6 and f"{one}-theirs" not in rows
    assert call("rm", f"{one}-theirs", "--storage", url, "--yes").exit_code == 2
    here = call("rm", one, "--yes")
    assert here.exit_code == 2 and "give it with --storage" in here.stderr and "hunter" not in here.stderr
    assert call("rm", one, "--storage", url, "--yes").exit_code == 0
    left = optuna.study.get_all_study_names(url)
    assert not [name for name in left if name == one or name.startswith(f"{one}/")]
    assert {two, f"{two}/lstm", f"{two}/confirmation", f"{one}-theirs"} <= set(left)
    assert not (runs / one).exists() and (runs / two).exists()
    holder = Holder.of(ms.load_study(two, storage=url)._ledger.holder)
    assert holder is not None and holder.host == platform.node() and holder.pid == os.getpid()
