"""``mrnn-search bench``: what it prints, where, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import mrnn_search as ms
from mrnn_search.bench.setting import SHAPES, Shape
from mrnn_search.cli.app import app


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", *words], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def a_tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", Shape(3, 2, 2, 4))


TINY = ("engine", "--shapes", "tiny", "--seconds", "0.01", "--processes", "0", "--lanes", "1,2")


def test_what_can_be_measured() -> None:
    assert " engine " in call("--help").stdout and " search " in call("--help").stdout
    assert "--explain" in call("engine", "--help").stdout


def test_tables_on_stdout_progress_on_stderr() -> None:
    done = call(*TINY, "--bases", "gru,orthogonal", "--rules", "adam")
    assert done.exit_code == 0, done.output
    assert "engine K=2" in done.stdout and "products only" in done.stdout and "[2/2] tiny orthogonal adam" in done.stderr
    assert "[2/2]" not in done.stdout and "Targets" not in done.stdout  # none is about this shape


def test_json_on_stdout_and_in_a_file(tmp_path: Path) -> None:
    done = call(*TINY, "--bases", "lstm", "--rules", "heavy_ball", "--loss", "sequence", "--json", "--out", str(tmp_path / "x.json"))
    data = json.loads(done.stdout)
    assert data == json.loads((tmp_path / "x.json").read_text())
    assert data["settings"]["loss"] == "sequence" and len(data["comparisons"]) == 1


def test_targets_are_told() -> None:
    """One comparison on a real shape: a verdict either way."""
    done = call(
        "engine", "--shapes", "E", "--bases", "orthogonal", "--rules", "plain", "--seconds", "0", "--processes", "0", "--lanes", "1"
    )
    assert ("reached" in done.stdout) != ("missed" in done.stdout) and ">= 4.05" in done.stdout


def test_explain_measures_nothing() -> None:
    done = call("engine", "--explain", "--all")
    assert "amsgrad" in done.stdout and done.stderr == ""
    rows = json.loads(call("engine", "--explain", "--all", "--json").stdout)
    assert len(rows) == len(SHAPES) * 4 * 16


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shapes", "A,tinny"], '--shapes: unknown shape "tinny"; allowed: A, B, C, D, E, tiny; did you mean "tiny"?'),
        (["--rules", "heavyball"], 'did you mean "heavy_ball"?'),
        (["--rules", "nesterov_released"], 'unknown rule "nesterov_released"'),  # reads r: not a rule on the drive
        (["--bases", "lsmt"], '--bases: unknown base "lsmt"'),
        (["--loss", "lst"], 'did you mean "last"?'),
        (["--lanes", "1,0"], "--lanes: '1,0', allowed: whole numbers >= 1"),
        (["--lanes", "x"], "--lanes: 'x'"),
        (["--device", "cuda:99"], 'no device "cuda:99"; found: cpu'),
        (["--out", "no/such/folder/x.json"], "--out: there is no folder no/such/folder"),
    ],
)
def test_wrong_input(words: list[str], told: str) -> None:
    done = call("engine", *words)
    assert done.exit_code == 2 and told in done.stderr and done.stdout == "" and "Traceback" not in done.output


def test_search_prints_tables_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    words = ("--sizes", "3", "--samplers", "random", "--storages", "journal", "--trials", "2", "--executors", "none", "--out", str(out))
    done = call("search", *words)
    assert done.exit_code == 0 and "Overhead" in done.stdout and "Packs" not in done.stdout, done.output
    data = json.loads(out.read_text())
    assert data["bench"] == "search" and [o["size"] for o in data["overhead"]] == [3] and data["packs"] == []


def test_search_tells_how_busy_a_study_was(real_study: ms.Study) -> None:
    done = call("search", "--study", str(real_study.folder), "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and told["utilisation"] == pytest.approx(told["training_s"] / told["held_s"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "0"], "--sizes"),
        (["--samplers", "tpee"], 'did you mean "tpe"'),
        (["--storages", "database"], "storage"),
        (["--executors", "rays"], 'did you mean "ray"'),
        (["--out", "/no/such/folder/b.json"], "there is no folder"),
        (["--study", "nosuch"], "nosuch"),
    ],
)
def test_search_refuses(words: list[str], message: str) -> None:
    done = call("search", *words)
    assert done.exit_code == 2 and message in done.output and "Traceback" not in done.output
