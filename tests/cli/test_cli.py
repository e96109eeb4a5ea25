"""The verbs: what they print, where, and with which exit code."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import mrnn_search as ms
from mrnn_search.benchmarks.sources import SOURCES, Remote, Source
from mrnn_search.cli.app import app

from ..real_data import real
from ..search.broken import BROKEN, Broken, write


def call(*words: str) -> Result:
    """One command, in this process; the width of a wide terminal, so that nothing is folded."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def in_the_runs_of_the_fake_study(fake_study: ms.Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(fake_study.folder.parent))
    monkeypatch.chdir(tmp_path)


def test_help_lists_every_verb() -> None:
    text = call("--help").stdout
    verbs = "run check leaderboard controls trials curves readings compare report export dashboard "
    verbs += "spaces benchmarks cells rules studies doctor data bench stop rm"
    for verb in verbs.split():
        assert f" {verb} " in text
        assert call(verb, "--help").exit_code == 0
    assert call("--version").stdout == f"mrnn-search {ms.__version__}\n"


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_a_broken_file_ends_in_one_message(case: Broken, tmp_path: Path) -> None:
    """Exit code 2, one message that names the file, the place and what was allowed; no traceback, nothing written."""
    path = write(case, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    verbs = ["check", "run"] if case.kind == "recipe" else ["check"]
    for verb in verbs:
        done = call(verb, str(path))
        assert done.exit_code == 2, done.output
        assert done.stdout == "" and "Traceback" not in done.output and done.stderr.startswith("error: ")
        for word in case.words:
            assert word in done.stderr, done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "quickstat"], 'did you mean "quickstart"'),
        (["run", "quickstart", "--set", "budget.trails=3"], 'did you mean "trials"'),
        (["run", "quickstart", "--set", "budget"], 'there is no "="'),
        (["run", "quickstart", "--executor", "rey"], 'did you mean "ray"'),
        (["run", "quickstart", "--devices", "cuda:99"], 'no device "cuda:99"'),
        (["run", "quickstart", "--name", "../x"], "../x"),
        (["run", "quickstart", "--storage", "postgresql://me:hunter2@127.0.0.1:1/x", "--name", "other"], "me:***@127.0.0.1:1"),
        (["leaderboard", "nostudy"], 'unknown study "nostudy"'),
        (["leaderboard", "quickstart", "--where", "bas == 'lstm'"], 'did you mean "base"'),
        (["leaderboard", "quickstart", "--where", "base == "], "cannot read"),
        (["leaderboard", "quickstart", "--where", "1"], "neither true nor false"),
        (["leaderboard", "quickstart", "--where", "[1, 2]"], "cannot read"),
        (["leaderboard", "../quickstart"], "allowed: a study's folder"),
        (["leaderboard", "quickstart", "--storage", "sqlite:///typo.db"], "no file typo.db"),
        (["trials", "quickstart", "-o", "/proc/x", "--format", "csv"], "/proc/x"),
        (["leaderboard", "quickstart", "--json", "--format", "csv"], "--json and --format csv"),
        (["trials", "quickstart", "-o", "no/such/folder/x.csv"], "no folder"),
        (["compare", "quickstart", "1", "nocell"], 'unknown confirmed cell "nocell"'),
        (["export", "quickstart", "out", "--rank", "1", "--cell", "ab"], "--rank and --cell"),
        (["export", "quickstart", "out"], "weights"),
        (["cells", "momentun_lstm"], 'did you mean "momentum_lstm"'),
        (["rules", "heavyball"], 'did you mean "heavy_ball"'),
        (["benchmarks", "digit-rows"], 'did you mean "digits-rows"'),
        (["benchmarks", "copying:x"], "allowed: copying:T with a whole number"),
        (["benchmarks", "digits-rows:3"], "benchmark digits-rows has no parameter"),
        (["run", "smoke", "--set", "benchmark=addding:10"], 'did you mean "adding"'),
        (["run", "smoke", "--set", "benchmark=adding:1", "--name", "other"], '--set benchmark: found "adding:1", allowed: adding:T'),
        (["run", "smoke", "--set", "benchmark=smnist", "--name", "other"], "there is no folder data/mnist or"),
        (["data", "get", "mnsit"], 'did you mean "mnist"'),
        (["data", "get", "adding"], "benchmark adding has no data to fetch"),
        (["spaces", "optimiser_cells"], 'did you mean "optimizer_cells"'),
        (["studies", "nostudy"], 'unknown study "nostudy"'),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_message(words: list[str], message: str) -> None:
    done = call(*words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr and "Traceback" not in done.output and "hunter2" not in done.output
    assert done.stdout == "" and list(Path().iterdir()) == []


@pytest.mark.parametrize("verb", ["leaderboard", "trials", "curves"])
def test_one_table_in_every_format(verb: str, fake_study: ms.Study) -> None:
    frame = getattr(fake_study, verb)()
    as_json = json.loads(call(verb, "quickstart", "--json").stdout)
    assert len(as_json) == len(frame) and list(as_json[0]) == list(frame.columns)
    assert call(verb, "quickstart", "--format", "json").stdout == call(verb, "quickstart", "--json").stdout
    csv = pd.read_csv(io.StringIO(call(verb, "quickstart", "--format", "csv").stdout))
    assert list(csv.columns) == list(frame.columns) and len(csv) == len(frame)
    parquet = CliRunner().invoke(app, [verb, "quickstart", "--format", "parquet"]).stdout_bytes
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(parquet)), frame)
    assert call(verb, "quickstart", "-o", "t.csv", "--format", "csv").stdout == ""
    assert len(pd.read_csv("t.csv")) == len(frame)
    assert len(call(verb, "quickstart", "--top", "3").stdout.splitlines()) == 2 + 3


def test_where_filters(fake_study: ms.Study) -> None:
    rows = json.loads(call("trials", "quickstart", "--json", "--where", "base == 'lstm' and lr < 0.01").stdout)
    assert rows and all(row["base"] == "lstm" and row["lr"] < 0.01 for row in rows)


@pytest.mark.parametrize("where", ["@pd.eval('1')", "__import__('os').system('touch pwned')", "name.__class__"])
def test_where_runs_no_code(where: str) -> None:
    done = call("trials", "quickstart", "--where", where)
    assert done.exit_code == 2 and not Path("pwned").exists()


def test_compare_and_report(fake_study: ms.Study) -> None:
    text = call("compare", "quickstart", "1", "lstm").stdout
    assert "the tuned lstm" in text and "95 % interval" in text
    assert "paired t-test" in text and "(5 pairs: 0.062 or more)" in text and len(text.splitlines()) == 3 + 1 + 8 + 1 + 6
    found = json.loads(call("compare", "quickstart", "1", "lstm", "--json").stdout)
    assert found["difference"]["n"] == 5 and found["difference"] == found["test"]["difference"] and len(found["seeds"]) == 5
    assert {"permutation_p", "wilcoxon_p", "smallest_p", "prob_a_better", "bootstrap_low"} <= found["validation"].keys()
    assert call("report", "quickstart").stdout.strip() == str(fake_study.folder / "report.html")


@pytest.mark.parametrize("verb", ["spaces", "benchmarks", "cells", "rules", "studies"])
def test_lists_have_a_line_each_and_json(verb: str) -> None:
    rows = json.loads(call(verb, "--json").stdout)
    lines = call(verb).stdout.splitlines()
    first = [re.split("[ [:]", line)[0] for line in lines if line.strip()]
    assert rows and all(row["name"] in first for row in rows)
    assert len(lines) == len(rows) or verb in ("cells", "rules", "benchmarks")  # which are tables
    for row in rows:
        shown = call(verb, row["name"])
        assert shown.exit_code == 0 and len(shown.stdout.splitlines()) > 3
        assert json.loads(call(verb, row["name"], "--json").stdout)


def test_benchmarks_say_what_is_there_and_how_to_get_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    rows = {row["name"]: row for row in json.loads(call("benchmarks", "--json").stdout)}
    assert rows["digits-rows"]["found"] and rows["digits-rows"]["sizes"] == "3,500 / 750 / 750" and rows["copying"]["found"]
    assert not rows["smnist"]["found"] and "`mrnn-search data get mnist` fetches it" in rows["smnist"]["data"]
    text = call("benchmarks").stdout
    assert "ucr:NAME" in text and "copying[:T]" in text
    assert "psmnist, psmnist-196, smnist, smnist-196: data of mnist: there is no folder" in text
    assert "missing: data of mnist" in call("benchmarks", "smnist").stdout
    full = json.loads(call("benchmarks", "adding:10", "--json").stdout)
    assert full["name"] == "adding:10" and full["shape"] == [10, 2] and full["to hold against"] == {"always 1": 1 / 6}
    beef = json.loads(call("benchmarks", "ucr:Beef", "--data", str(real("ucr")), "--json").stdout)
    assert beef["output_size"] == 5 and beef["sizes"]["test"] == 30 and len(beef["fingerprint"]) == 64
    assert "51 sets in" in call("benchmarks", "ucr", "--data", str(real("ucr"))).stdout


def test_data_get_ends_well_or_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").write_bytes(b"0123456789")
    sha = hashlib.sha256(b"0123456789").hexdigest()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    remote = Remote("digits", sha, ("http://127.0.0.1:9/digits",))  # port 9: nobody answers
    monkeypatch.setitem(SOURCES, "hand", Source("ten digits", ("write them yourself",), (remote,)))
    done = call("data", "get", "hand", "--to", str(tmp_path))
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path) and "hand: 1 file" in done.stderr
    (tmp_path / "digits").unlink()
    done = call("data", "get", "hand", "--to", str(tmp_path))
    assert done.exit_code == 1 and done.stdout == "" and "Traceback" not in done.output
    assert done.stderr.startswith("failed: ten digits: cannot fetch digits (127.0.0.1:9: no connection)")


def test_cells_and_rules_in_full() -> None:
    shown = call("cells", "momentum_lstm", "mu=0.9").stdout
    assert "heavy_ball(epsilon=0.6, mu=0.9)-lstm" in shown and "v_t = mu v_{t-1} + epsilon u_t" in shown
    assert "bias_matched" in shown and "80,896 in a layer of 128 units on 28 inputs" in shown
    assert r"v_t = \mu \, v_{t-1} + \epsilon \, u_t" in call("cells", "momentum_lstm", "--latex").stdout
    facts = json.loads(call("cells", "dtriv", "rebase=100", "--hidden-size", "10", "--input-size", "3", "--json").stdout)
    assert facts["options"]["rebase"] == "100" and facts["parameters"] == 10 * 3 + 10 * 9 // 2 + 10
    facts = json.loads(call("rules", "m(0.9) / sqrt(n(0.99) + 1e-8)", "--json").stdout)
    assert facts["states"] == 2 and facts["equations"][-1] == "d_t = m_t / sqrt(n_t + 1e-08)"
    assert json.loads(call("rules", "nesterov_released", "--json").stdout)["scopes"] == ["preactivation"]
    assert "acts on" in call("rules", "adam").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cells", "momentum_lstm", "mu"], "'mu' is no argument of momentum_lstm, allowed: ARG=VALUE"),
        (["cells", "momentum_lstm", "my=0.9"], 'did you mean "mu"?'),
        (["cells", "momentum_lstm", "mu=1.5"], "mu = 1.5, allowed 0 <= mu < 1"),
        (["cells", "momentum_lstm", "mu=high"], "mu = 'high', allowed 0 <= mu < 1"),
        (["cells", "lsmt"], 'did you mean "lstm"?'),
        (["rules", "adma"], 'did you mean "adam"?'),
        (["rules", "ema(u, 2)"], "decay 2 in ema, allowed 0 <= decay <= 1"),
        (["rules", "__import__('os')"], "character 12"),
    ],
)
def test_wrong_cells_and_rules(arguments: list[str], told: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2 and told in done.stderr and "Traceback" not in done.stderr


def test_check_counts_and_costs() -> None:
    facts = json.loads(call("check", "quickstart", "--json").stdout)
    assert facts["structures"] > 100 and "heavy_ball.mu" in facts["continuous"] and "epochs" in facts["cost"]
    assert "different ones" in call("check", "quickstart").stdout
    space = json.loads(call("check", "optimizer_cells", "--json").stdout)
    assert space["structures"] == facts["structures"] and "cost" not in space
    assert call("check", "quickstart", "--set", "budget.trials=7").stdout.count("7 candidates") == 1


def test_a_second_run_says_so_and_shows_the_leaderboard(fake_study: ms.Study) -> None:
    """Nothing to do: no worker is started, the table comes at once."""
    (fake_study.folder / "report.html").unlink(missing_ok=True)
    done = call("run", "quickstart")
    assert done.exit_code == 0 and "study quickstart is complete; nothing was left to do" in done.stderr
    assert "rank" in done.stdout and fake_study.verdict() in done.stdout
    assert "not exported" in done.stderr  # a pretended study has no weights; its results show all the same
    assert (fake_study.folder / "report.html").exists()
    assert json.loads(call("run", "quickstart", "--set", "name=quickstart", "--json").stdout)[0]["rank"] == 1


def test_doctor_finds_this_machine_in_order() -> None:
    findings = {f["what"]: f for f in json.loads(call("doctor", "--json", "--storage", "sqlite:///x.db").stdout)}
    assert findings["data: smnist"]["state"] in ("ok", "no") and findings["data: copying"]["detail"] == "generated"
    assert findings["data: digits-rows"]["state"] == "ok" and findings["storage"]["state"] == "ok"
    assert findings["ray starts"]["state"] == "ok", findings["ray starts"]
    broken = call("doctor", "--storage", "postgresql://me:hunter2@127.0.0.1:1/x")
    assert broken.exit_code == 1 and "broken" in broken.stdout and "hunter2" not in broken.output


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m mrnn_search curves quickstart --format csv | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("group,trial,") and done.stderr == ""
