"""No pickle but Ray's and its own children's; no password anywhere; files as the user's umask says."""

from __future__ import annotations

import ast
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

import mrnn_search
import mrnn_search as ms
from mrnn_search._registry import StudyError
from mrnn_search.cli.app import app
from mrnn_search.results import launch
from mrnn_search.search.ledger import Ledger

from ..postgresql import Server

ROOT = Path(mrnn_search.__file__).parent
SMALL = {"budget": {"trials": 4}, "search": {"cohort": 4}, "baselines": {"cells": ["lstm"], "trials": 2}}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# The two sides of a pipe between a head and the workers that it started itself, and Ray's own transport
MAY_PICKLE = {"search/worker.py", "search/ray_tune.py"}
# Calls that run what they read; `compile` and `exec` are of nobody's input where they are
RUNS_WHAT_IT_READS = {"torch.load", "np.load", "numpy.load", "pd.read_pickle", "yaml.load", "eval"}


def _called(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and "allow_pickle=False" not in map(ast.unparse, node.keywords):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py")))
def test_nothing_is_unpickled(path: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    names = {
        alias.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert path in MAY_PICKLE or not names & PICKLES
    assert not set(_called(source)) & RUNS_WHAT_IT_READS


def test_the_check_can_fail() -> None:
    for call in ("torch.load(f)", "np.load(f)", "np.load(f, allow_pickle=True)"):
        assert set(_called(f"x = {call}")) & RUNS_WHAT_IT_READS
    assert not set(_called("x = np.load(f, allow_pickle=False)"))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_files_have_the_users_umask(mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    with umask(mask):
        study = ms.search("smoke", executor="fake", storage=f"sqlite:///{tmp_path}/a.db", name="s", overrides=SMALL)
        study.report()
        ms.search("smoke", executor="fake", overrides=SMALL)
    made = list(tmp_path.rglob("*"))
    assert {"report.html", "ledger.log", "driver.lock", "a.db", "checkpoints"} <= {path.name for path in made}
    for path in made:
        usual = 0o777 if path.is_dir() else 0o644 if path.name == "a.db" else 0o666  # SQLite gives no group more than to read
        expected = usual & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == expected, (path, oct(path.stat().st_mode))


def test_a_password_is_in_no_log_ledger_file_report_or_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """From a whole study to a server that dies in the middle of one, with every logger at its loudest."""
    server = Server()
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(launch, "quiet", lambda: optuna.logging.set_verbosity(optuna.logging.DEBUG))
    optuna.logging.enable_propagation()
    caplog.set_level(logging.DEBUG)
    said = []
    try:
        words = ["run", "smoke", "--storage", server.url, "--name", "s", "--executor", "in-process"]
        words += ["--set", "budget.trials=4", "--set", "baselines.cells=[lstm]", "--set", "baselines.trials=2"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        said.append(done.output)
        for verb in (["leaderboard", "s"], ["studies", "s"], ["studies"], ["trials", "s", "--json"], ["report", "s"], ["rm", "s"]):
            said.append(CliRunner().invoke(app, [*verb, "--storage", server.url]).output)
        ledger: Ledger = ms.load_study("s", storage=server.url)._ledger
        said.append(repr([study.user_attrs for study in optuna.get_all_study_summaries(ledger.storage)]))
        said.append(repr([ledger.trials(group) for group in ledger.groups()]))

        def die(now: object) -> None:
            server.kill()

        with pytest.raises(StudyError) as caught:
            ms.search("smoke", executor="fake", storage=server.url, name="t", overrides=SMALL, on_progress=die)
        said += [str(caught.value), repr(caught.value)]
        done = CliRunner().invoke(app, [*words[:5], "t", *words[6:]])
        assert done.exit_code == 2 and "cannot open" in done.stderr
        said.append(done.output)
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with_server = server.password
        if server._process.poll() is not None:
            server.start()
        server.stop()
    said += [caplog.text, *capfd.readouterr()]
    said += [path.read_text(errors="replace") for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any("me:***@127.0.0.1" in text for text in said)
    assert [text for text in said if with_server in text] == []
