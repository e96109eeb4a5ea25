"""The report: complete and unfinished studies, hostile text, no network, atomic."""

import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from mrnn_search.results.report import CURVES, LEADERBOARD, TRIALS, ReportData, render, write_report

HOSTILE = "<script>alert(1)</script><a href='https://example.org'>x</a></script>&amp;{{ 7 * 7 }}"
CELLS = [("heavy_ball(mu=0.6,epsilon=0.6)-lstm", "lstm", "heavy_ball"), ("adam(mu=0.6,epsilon=0.6,beta=0.99)-gru", "gru", "adam")]
CELLS += [("lstm", "lstm", "plain"), ("gru", "gru", "plain"), ("nesterov(epsilon=0.6,restart=7)-lstm", "lstm", "nesterov")]


def leaderboard():
    rows = []
    for n, (name, base, rule) in enumerate(CELLS):
        val, test = 0.95 - 0.004 * n, 0.943 - 0.0045 * n
        difference = test - 0.934
        rows.append(
            dict(rank=n + 1, cell_id=f"{n}" * 64, name=name, base=base, rule=rule, params=24_970 + 16 * n, hidden_size=64, lr=0.003)
            | dict(val_mean=val, val_low=val - 0.005, val_high=val + 0.005, test_mean=test, test_low=test - 0.006, test_high=test + 0.006)
            | dict(seeds=5, is_baseline=rule == "plain", candidate_id=f"c{n}", diff_mean=difference)
            | dict(diff_low=difference - 0.0055, diff_high=difference + 0.0055, p_value=0.004 if abs(difference) > 0.0055 else 0.4)
            | dict(evidence="confirmed", tied_with_best=n < 2, prob_best=[0.7, 0.3, 0, 0, 0][n], epochs_to_threshold=5 + n, curve_mean=0.9)
        )
    return pd.DataFrame(rows)


def trials():
    rng = np.random.default_rng(7)
    rows = []
    for n in range(60):
        name, base, rule = CELLS[n % len(CELLS)]
        state = ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE", "FAIL"][n % 6]
        failed = state == "FAIL"
        value = np.nan if failed else (0.94 if state == "COMPLETE" else 0.8) + rng.normal(0, 0.015)
        error = "loss is not finite at step 311" if failed else None
        rows.append(
            dict(number=n, group="search" if n < 50 else "lstm", state=state, name=name, cell_id=f"{n:064d}", base=base, rule=rule)
            | dict(hidden_size=64, lr=0.003, value=value, rung=n % 3, epochs=4 * (n % 3 + 1), seconds=11.5, params=rng.integers(9e3, 6e4))
            | dict(error=error, mu=0.6 if rule in ("heavy_ball", "adam") else np.nan, epsilon=np.nan)
        )
    return pd.DataFrame(rows)


def curves():
    rng = np.random.default_rng(8)
    rows = []
    for n, (name, _, _) in enumerate(CELLS):
        for seed in range(5):
            for epoch in range(1, 21):
                shared = dict(
                    group="confirmation", trial=n, cell_id=f"{n}" * 64, name=name, seed=seed, rung=2, epoch=epoch, step=55 * epoch
                )
                value = 0.95 - 0.004 * n - 0.6 * np.exp(-epoch / (3 + n / 2)) + rng.normal(0, 0.005)
                rows += [shared | dict(metric="accuracy", value=value), shared | dict(metric="train_loss", value=1 - value)]
    return pd.DataFrame(rows)


@pytest.fixture
def full():
    return ReportData(
        name="quickstart",
        state="finished",
        recipe={"benchmark": {"name": "digits-rows"}, "budget": {"trials": 60, "rungs": [4, 8, 12]}, "controls": True},
        meta={
            "created": "2025-01-01T12:00:00Z",
            "device": "cpu",
            "versions": {"mrnn-search": "0.1.0", "torch": "2.13.0"},
            "fingerprint": "9f" * 32,
            "command": "mrnn-search run trials/quickstart.yaml",
            "test_size": 750,
        },
        verdict=f"{CELLS[0][0]} beats the tuned lstm on test accuracy by 0.0090 (95 % interval 0.0035 to 0.0145 over 5 paired seeds).",
        leaderboard=leaderboard(),
        trials=trials(),
        curves=curves(),
        metric="accuracy",
        direction="maximize",
        selected_test=0.9417,
    )


class Page(HTMLParser):
    """Tags, scripts and visible text of a page, as a browser would split it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.styles, self.words, self._in = [], [], [], [], ""
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        {"script": self.scripts, "style": self.styles}.get(self._in, self.words).append(data)


def figures(page):
    return {name for script in page.scripts for name in re.findall(r'"(figure-[a-z]+)",', script)}


def test_full(full):
    page = Page(render(full))
    assert figures(page) == {f"figure-{name}" for name in ("forest", "curves", "screening", "grid", "size")}
    for text in (full.verdict, "750 test examples", full.meta["command"], full.meta["fingerprint"], "versions.torch", "2.13.0"):
        assert text in page.text
    assert "rungs: - 4 - 8 - 12" in page.text
    assert "loss is not finite at step 311" in page.text
    assert "0.9430 (0.9370 to 0.9490)" in page.text
    assert page.text.count("baseline 2") == page.text.count("baseline 3") == 1  # the two plain cells, before their identities
    assert "not finished" not in page.text
    assert page.text.index(full.verdict) < page.text.index("Leaderboard")


@pytest.mark.parametrize(("direction", "outcome"), [("maximize", "better"), ("minimize", "worse")])
def test_an_interval_above_zero_is_better_only_if_higher_is(full, direction, outcome):
    page = Page(render(replace(full, leaderboard=full.leaderboard.head(1), direction=direction)))
    assert f"(0.0035 to 0.0145) {outcome}" in page.text


def test_the_script_is_there_once_and_unbroken(full):
    page = Page(render(full))
    assert sum(get_plotlyjs() in script for script in page.scripts) == 1
    assert len(page.scripts) == 1 + 5


@pytest.mark.parametrize("columns", [True, False])
def test_empty_frames(full, columns):
    board, tried, curved = (pd.DataFrame(columns=list(names) if columns else []) for names in (LEADERBOARD, TRIALS, CURVES))
    data = replace(full, state="running", verdict="", recipe={}, meta={}, leaderboard=board, trials=tried, curves=curved)
    page = Page(render(data))
    for text in ("not finished (state: running)", "No cell is confirmed yet", "There is no verdict yet.", "Nothing was tested yet."):
        assert text in page.text
    assert page.scripts == []


def test_unfinished(full):
    tried = full.trials.assign(state=["RUNNING", "WAITING"] + ["COMPLETE"] * 58)
    page = Page(render(replace(full, state="interrupted", trials=tried, leaderboard=pd.DataFrame())))
    assert "2 candidates are still running or waiting" in page.text
    assert "not finished (state: interrupted)" in page.text
    assert figures(page) == {f"figure-{name}" for name in ("curves", "screening", "grid", "size")}


@pytest.mark.parametrize("missing", [np.nan, None])
def test_values_that_are_not_there(full, missing):
    board = full.leaderboard.astype(object)
    board.loc[0, ["val_low", "val_high", "test_low", "test_high", "diff_mean", "diff_low", "diff_high", "is_baseline", "lr"]] = missing
    board.loc[1, ["test_mean", "test_low", "test_high", "name", "rank", "cell_id"]] = missing
    tried = full.trials.astype(object)
    tried.loc[0:5, ["rule", "base", "name", "params", "hidden_size", "epochs", "error", "group"]] = missing
    text = Page(render(replace(full, leaderboard=board, trials=tried))).text
    assert not re.search(r"\b(nan|None|NaT)\b|<NA>", text, re.IGNORECASE)


def test_only_missing_values(full):
    frames = {"leaderboard": LEADERBOARD, "trials": TRIALS, "curves": CURVES}
    page = Page(render(replace(full, **{name: pd.DataFrame({c: [None, None] for c in columns}) for name, columns in frames.items()})))
    assert page.scripts == []


def test_what_is_tied_and_what_is_screening_is_marked(full):
    page = Page(render(full)).text
    assert page.count(" tied ") == 2 and "has a test accuracy of 0.9417" in page and "screening" not in page.split("Test results")[0]
    few = full.leaderboard.assign(evidence="screening", tied_with_best=False)
    page = Page(render(replace(full, leaderboard=few, selected_test=math.nan))).text.split("Test results")[0]
    assert page.count("screening") == len(few) and "has a test accuracy of" not in page


def test_hostile_text_stays_text(full):
    board, tried, curved = full.leaderboard, full.trials, full.curves
    for frame in (board, tried, curved):
        frame["name"] = HOSTILE
    tried["error"], tried["base"], tried["rule"], tried["group"] = HOSTILE, HOSTILE, HOSTILE, HOSTILE
    board["cell_id"] = curved["cell_id"] = HOSTILE
    changes = dict(name=HOSTILE, state=HOSTILE, verdict=HOSTILE, metric=HOSTILE, recipe={HOSTILE: HOSTILE})
    curved.loc[curved["metric"] == "accuracy", "metric"] = HOSTILE
    meta = {HOSTILE: HOSTILE, "command": HOSTILE, "versions": {HOSTILE: [HOSTILE]}}
    page = Page(render(replace(full, meta=meta, leaderboard=board, trials=tried, curves=curved, **changes)))
    assert len(page.scripts) == 1 + 5
    assert "a" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) > 10
    plots = "".join(script for script in page.scripts if get_plotlyjs() not in script)
    assert "lt;script" in plots  # as an entity: plotly itself would make a link of <a href=...>
    assert not re.search(r"<script|<a |\\u003cscript|\\u003ca ", plots)


def test_nothing_is_requested(full):
    page = Page(render(full))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img", "video", "audio", "source")
        assert not {"src", "srcset", "href", "data", "action"} & attributes.keys()
    assert not re.search(r"@import|url\(", "".join(page.styles))
    plots = "".join(script for script in page.scripts if get_plotlyjs() not in script)
    assert not re.search(r"https?://", plots.replace("https://plot.ly", ""))  # the link of a button that is off
    policies = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'") and "http" not in policies[0]


def test_long_lists_of_failures_are_cut(full):
    tried = pd.concat([full.trials] * 30)
    assert "And 100 more" in Page(render(replace(full, trials=tried))).text


def test_written_in_one_step(full, tmp_path, monkeypatch):
    path = tmp_path / "runs" / "report.html"
    assert write_report(path, full) == path
    first = path.read_bytes()
    write_report(path, full)
    assert path.read_bytes() == first  # the same data, the same bytes
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, replace(full, name="other"))
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_given_frames_are_left_alone(full):
    before = [frame.copy() for frame in (full.leaderboard, full.trials, full.curves)]
    render(full)
    for old, new in zip(before, (full.leaderboard, full.trials, full.curves), strict=True):
        pd.testing.assert_frame_equal(old, new)
