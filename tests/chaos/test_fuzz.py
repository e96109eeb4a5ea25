"""Whatever is in a recipe, a space, a ledger, a checkpoint or a command line: one message or a result, soon, and nothing is touched.

Seeded: a case that fails fails again, alone: ``case(kind, number)`` makes it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import SafetensorError
from typer.testing import CliRunner, Result

import mrnn_search as ms
from mrnn_search._registry import InputError, StudyError
from mrnn_search.benchmarks import load_benchmark
from mrnn_search.cells import Candidate, preset
from mrnn_search.cli.app import app
from mrnn_search.engine.checkpoint import unpack_state
from mrnn_search.engine.train import LaneStart, train_lanes
from mrnn_search.results.cache import FOLDER
from mrnn_search.search.files import resolve

from .fuzz import arguments, bytes_of, journal_of, snapshot, text_of
from .length import times

LIMIT_S = 5.0  # of computing: a loaded machine is no fault
OVERRIDES = {"budget": {"trials": 5}, "search": {"cohort": 3}, "baselines": {"cells": ["lstm"], "trials": 2}}
SETTINGS = "budget.trials=5", "search.cohort=3", "baselines.cells=[lstm]", "baselines.trials=2"
READERS = (
    ["leaderboard", "smoke"],
    ["trials", "smoke", "--json"],
    ["curves", "smoke", "--format", "csv"],
    ["studies"],
    ["studies", "smoke"],
    ["report", "smoke"],
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that a case may touch is below: its working folder, and the runs folder beside it."""
    for name in ("runs", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@contextmanager
def no_hang() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT_S:.0f} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def call(*words: str) -> Result:
    with no_hang():
        return CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)


def fault(*words: str) -> str | None:
    """What is wrong with how a command ends, if anything is."""
    try:
        done = call(*words)
    except BaseException as error:
        return f"{words}: {type(error).__name__}: {error}"
    expected = (0, 1, 2) if "no cell could be confirmed" in done.stderr else (0, 2)  # a ledger without its last records
    if done.exit_code not in expected or "Traceback" in done.output:
        return f"{words}: exit code {done.exit_code}: {done.output[-500:]}"
    if done.exit_code == 2 and not done.stderr.strip():
        return f"{words}: exit code 2 without a word"
    return None


def head() -> str | None:
    """What is wrong with how a head goes on with a study, if anything is."""
    try:
        with no_hang():
            ms.search("smoke", executor="fake", overrides=OVERRIDES)
    except (InputError, StudyError) as error:
        return None if str(error).strip() else "no message"
    except BaseException as error:
        return f"run: {type(error).__name__}: {error}"
    return None


def uncached(folder: Path) -> dict[str, bytes]:
    """`snapshot` without the tables that readers keep beside a ledger."""
    return {path: content for path, content in snapshot(folder).items() if f"/{FOLDER}/" not in f"/{path}"}


def check(kind: str, count: int, case: Callable[[random.Random], str | None]) -> None:
    found = [(number, wrong) for number in range(count) if (wrong := case(random.Random(f"{kind} {number}"))) is not None]
    assert not found, f"{len(found)} of {count} {kind}:\n" + "\n".join(f"{number}: {wrong}" for number, wrong in found[:10])


@pytest.mark.parametrize("kind", ["trials", "search_spaces"])
def test_files(kind: str, home: Path) -> None:
    texts = [resolve(kind, name).read_text() for name in (("smoke", "quickstart") if kind == "trials" else ("smoke", "optimizer_cells"))]
    path = home / "work" / "a.yaml"

    def case(luck: random.Random) -> str | None:
        path.write_bytes(text_of(luck.choice(texts), luck))
        return fault("check", "a.yaml")

    check(kind, times(80, 600), case)
    assert list(snapshot(home)) == ["work/a.yaml"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study whose training was pretended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRNN_SEARCH_RUNS", str(tmp_path_factory.mktemp("finished")))
        return ms.search("smoke", executor="fake", overrides=OVERRIDES).folder


def test_journals(home: Path, finished: Path) -> None:
    """Readers change nothing; the head goes on or refuses."""
    whole = (finished / "ledger.log").read_bytes()
    folder = home / "runs" / "smoke"

    def case(luck: random.Random) -> str | None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        data = journal_of(whole, luck)
        (folder / "ledger.log").write_bytes(data)
        reader = luck.choice(READERS)
        wrong = fault(*reader)
        after = {path: content for path, content in uncached(home).items() if reader[0] != "report" or not path.endswith("report.html")}
        if wrong is None and after != {"runs/smoke/ledger.log": data}:
            wrong = f"{reader} wrote: {list(snapshot(home))}"
        if wrong is None:
            wrong = head()
        if wrong is None and any(not path.startswith("runs/smoke/") for path in snapshot(home)):
            wrong = f"written elsewhere: {list(snapshot(home))}"
        return wrong

    check("journals", times(100, 700), case)


def test_checkpoints(home: Path, real_study: ms.Study) -> None:
    """A file that is not what the ledger says is named, or trained again; bytes that are no checkpoint are never taken for one."""
    shutil.copytree(real_study.folder, home / "runs" / "smoke")
    files = sorted((home / "runs" / "smoke" / "checkpoints").iterdir())
    whole = {path: path.read_bytes() for path in files}
    task, candidate = load_benchmark("digits-rows"), Candidate(preset("lstm"), hidden_size=4, batch_size=500)
    state = train_lanes(task, [LaneStart(candidate, 0)], 0, 0)[0].checkpoint
    assert state is not None

    def case(luck: random.Random) -> str | None:
        if luck.random() < 0.7:
            from mrnn_search.engine.lanes import Lanes

            lanes = Lanes([candidate], [0], task.input_size, task.output_size, task.loss)
            try:
                with no_hang():
                    unpack_state(bytes_of(state, luck), lanes.models[0], lanes.memory_of(0))
            except (SafetensorError, ValueError, KeyError, RuntimeError):
                pass
            except BaseException as error:
                return f"{type(error).__name__}: {error}"
            return None
        for path, data in whole.items():
            path.write_bytes(bytes_of(data, luck))
        before = snapshot(home)
        wrong = fault("export", "smoke", "out")
        if wrong is None and snapshot(home) != before and any(path.read_bytes() != data for path, data in whole.items()):
            shutil.rmtree("out", ignore_errors=True)
        return wrong

    check("checkpoints", times(60, 400), case)


def test_command_lines(home: Path, finished: Path) -> None:
    verbs = {
        "check": ["--set", "--json"],
        "leaderboard": ["--top", "--where", "--format", "--json", "-o", "--storage"],
        "trials": ["--top", "--where", "--format", "--json", "-o", "--storage"],
        "curves": ["--top", "--format"],
        "compare": ["--json"],
        "export": ["--rank", "--cell"],
        "studies": ["--json", "--storage"],
        "stop": ["--now"],
        "rm": ["--yes"],
        "run": ["--set", "--name", "--fork", "--storage", "--devices", "--json"],
        "spaces": ["--json"],
        "cells": ["--json", "--latex"],
        "rules": ["--json"],
        "benchmarks": ["--json"],
    }
    names = ["smoke", "smok", "../smoke", "runs/smoke", str(home / "runs" / "smoke"), "lstm", "1", "0", "a b", "", "é", "x" * 300]
    names += [".", "out"]
    shutil.copytree(finished, home / "outside")
    outside = snapshot(home / "outside")

    def case(luck: random.Random) -> str | None:
        for name in ("runs", "work"):
            shutil.rmtree(home / name)
            (home / name).mkdir()
        os.chdir(home / "work")
        shutil.copytree(finished, home / "runs" / "smoke")
        before = uncached(home / "runs")
        words = arguments(luck, names, verbs)
        if words[0] == "run":
            words += ["--executor", "fake", *(word for change in SETTINGS for word in ("--set", change))]
        wrong = fault(*words)
        if wrong is None and words[0] not in ("run", "rm") and uncached(home / "runs") != before:
            wrong = f"{words}: changed the runs folder"
        if wrong is None and (snapshot(home / "outside") != outside or {p.name for p in home.iterdir()} != {"runs", "work", "outside"}):
            wrong = f"{words}: wrote elsewhere"
        return wrong

    check("command lines", times(100, 600), case)


def test_a_study_with_a_name_that_leads_elsewhere(home: Path, finished: Path) -> None:
    """Refused by every verb, and nothing is made or lost."""
    shutil.copytree(finished, home / "outside")
    (home / "runs" / "link").symlink_to(home / "outside")
    before = snapshot(home / "outside")
    for name in ("..", ".", "a/../../nothing", "link", str(home / "runs" / "link"), str(home / "outside" / "..")):
        for words in (["leaderboard"], ["trials"], ["studies"], ["stop"], ["rm", "--yes"], ["report"], ["export"]):
            done = call(words[0], name, *words[1:], *(["out"] if words == ["export"] else []))
            assert done.exit_code == 2 and done.stdout == "", (words, name, done.output)
    for name in ("..", "../outside", "link"):
        for option in ("--name", "--fork"):
            assert call("run", "smoke", option, name, "--executor", "fake").exit_code == 2
    for name in ("../outside", str(home / "outside")):  # may be looked at, and no more
        assert call("rm", name, "--yes").exit_code == 2 == call("stop", name).exit_code
    assert snapshot(home / "outside") == before and sorted(p.name for p in home.rglob("*") if p.parent != home / "outside") == sorted(
        ["runs", "work", "outside", "link", *(p.name for p in (home / "outside" / "checkpoints").iterdir())]
    )
    with pytest.raises(InputError, match="symbolic link"):
        ms.load_study(home / "runs" / "link")
