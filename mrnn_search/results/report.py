"""One self-contained HTML file about a study: tables in, a page that needs no network out.

Frames may be empty or partly filled, and lack columns: a study that is not finished has a report too, which says so.
"""

from __future__ import annotations

import html
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from ruamel.yaml import YAML

from .paired_tests import ALPHA

FINISHED = frozenset({"finished", "complete", "completed", "done"})  # any other state is reported as unfinished
CONFIRMATION = "confirmation"  # the group of the finalists' curves
SHORT_ID = 12  # hex digits of an identity that people see
SHOWN_CURVES = 8  # more cells than this in one plot cannot be told apart; baselines come on top
SHOWN_FAILURES = 200
LABEL, HOVERED = 44, 200  # characters of a cell's name beside a plot and under the pointer
COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#06b6d4", "#eab308", "#ec4899", "#84cc16", "#78716c")  # both schemes
EMBEDDED: dict[str, Any] = dict(config={"displayModeBar": False, "responsive": True}, full_html=False, include_plotlyjs=False)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "star", "cross")

LEADERBOARD = (
    *("rank", "cell_id", "name", "base", "rule", "params", "hidden_size", "lr", "val_mean", "val_low", "val_high", "test_mean"),
    *("test_low", "test_high", "seeds", "is_baseline", "diff_mean", "diff_low", "diff_high", "candidate_id"),
    *("evidence", "tied_with_best", "prob_best", "p_value", "epochs_to_threshold", "seconds_to_threshold", "curve_mean"),
)
TRIALS = (
    *("number", "group", "state", "name", "cell_id", "base", "rule", "hidden_size", "lr", "value", "rung", "epochs", "seconds"),
    *("params", "error"),
)
CURVES = ("group", "trial", "cell_id", "name", "seed", "rung", "epoch", "step", "metric", "value")
TEXT = {
    "cell_id",
    "candidate_id",
    "name",
    "base",
    "rule",
    "group",
    "state",
    "error",
    "metric",
    "is_baseline",
    "tied_with_best",
    "evidence",
}  # all others are numbers


@dataclass(frozen=True)
class ReportData:
    """What a report shows.

    Args:
        name: the study's.
        state: "finished", or what else it is (shown as it stands).
        recipe: plain values, printed as YAML.
        meta: versions, device, data fingerprint and so on, printed as a table. Two keys have a place of their own:
            ``command``, which makes the study again, and ``test_size``, the number of test examples.
        verdict: one sentence, see `stats.verdict`. label: "result", or "screening" and why, see `protocol.label`.
        controls, control_verdicts: see `controls.controls_frame` and `controls.controls_verdicts`.
        leaderboard: one row per confirmed cell, with the columns of `LEADERBOARD`; ``diff_*`` is the paired difference
            (cell minus the tuned lstm).
        trials: one row per candidate, with the columns of `TRIALS`; others are ignored.
        curves: long form, with the columns of `CURVES`; those of group `CONFIRMATION` are drawn.
        metric: what the benchmark measures ("accuracy").
        direction: "maximize" or "minimize".
        selected_test: the test metric that the choice on validation leads to, `Study.selected_test`; NaN: it is not known.
    """

    name: str
    state: str
    recipe: Mapping[str, Any]
    meta: Mapping[str, Any]
    verdict: str
    leaderboard: pd.DataFrame
    trials: pd.DataFrame
    curves: pd.DataFrame
    metric: str
    direction: str
    selected_test: float = math.nan
    label: str = ""
    controls: pd.DataFrame = field(default_factory=pd.DataFrame)
    control_verdicts: Sequence[str] = ()


def write_report(path: Path, data: ReportData) -> Path:
    """Write the report; a reader sees the old file or the new one, never a part. The same data gives the same bytes.

    Args:
        path: the HTML file; its folder is made if need be.

    Returns:
        ``path``.

    Raises:
        OSError: the file cannot be written; an older report is then left as it was.
    """
    return _write(path, render(data))


def write_page(path: Path, template: str, **facts: Any) -> Path:
    """Write another page, of a template of this package, as `write_report` does.

    Raises:
        OSError: the file cannot be written; an older page is then left as it was.
    """
    return _write(path, _template(template).render(**facts))


def _write(path: Path, page: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # not tempfile: its files are for their owner only
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def render(data: ReportData) -> str:
    """The page as text."""
    board = _filled(data.leaderboard, LEADERBOARD).sort_values("rank", kind="stable")
    trials, curves = _filled(data.trials, TRIALS), _filled(data.curves, CURVES)
    for mark in ("is_baseline", "tied_with_best"):
        board[mark] = board[mark].eq(True).fillna(False).astype(bool)
    figures = dict(forest=_forest(board, data), curves=_learning_curves(curves, board, data), screening=_screening(trials, data))
    figures |= dict(grid=_base_by_rule(trials, data), size=_size(trials, board, data))
    failed = trials[trials["state"] == "FAIL"]
    return _template().render(
        data=data,
        better="higher" if data.direction == "maximize" else "lower",
        unfinished=data.state.lower() not in FINISHED,
        waiting=int(trials["state"].isin(["RUNNING", "WAITING"]).sum()),
        counts={str(state).lower(): int(n) for state, n in trials["state"].value_counts().sort_index().items()},
        board=[{**row, "outcome": _outcome(row, data.direction)} for row in board.to_dict("records")],
        controls=data.controls.to_dict("records"),
        failed=failed.head(SHOWN_FAILURES).to_dict("records"),
        unlisted=max(0, len(failed) - SHOWN_FAILURES),
        figures={name: Markup(to_html(figure, div_id=f"figure-{name}", **EMBEDDED)) for name, figure in figures.items() if figure},
        plotlyjs=Markup(get_plotlyjs()),
        recipe=_yaml(data.recipe),
        meta=[(key, value) for key, value in _flat(data.meta) if key not in ("command", "test_size")],
        short=SHORT_ID,
    )


def _template(name: str = "report.html.j2") -> Template:
    loader = PackageLoader("mrnn_search", "results")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"score": _score, "plain": _plain}
    return environment.get_template(name)


def _filled(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """A copy with just these columns, absent ones NaN, numbers as floats."""
    frame = frame.reindex(columns=list(columns)).reset_index(drop=True)
    numeric = [column for column in columns if column not in TEXT]
    frame[numeric] = frame[numeric].apply(pd.to_numeric, errors="coerce").astype("float64")
    return frame


def _outcome(row: Mapping[Any, Any], direction: str) -> str:
    """ "better", "worse" or "not clear": what the difference to the tuned lstm, as one of all that were tested, allows one to say."""
    low, high = row["diff_low"], row["diff_high"]
    if math.isnan(low) or math.isnan(high):
        return ""
    if low <= 0 <= high or not row["p_value"] < ALPHA:
        return "not clear"
    return "better" if (low > 0) == (direction == "maximize") else "worse"


def _forest(board: pd.DataFrame, data: ReportData) -> go.Figure | None:
    shown = board.dropna(subset=["test_mean"]).reset_index(drop=True)
    if shown.empty:
        return None
    figure = go.Figure()
    for baseline, colour in ((False, COLOURS[0]), (True, COLOURS[1])):
        rows = shown[shown["is_baseline"] == baseline]
        error = dict(type="data", array=rows["test_high"] - rows["test_mean"], arrayminus=rows["test_mean"] - rows["test_low"], thickness=2)
        marker = dict(color=colour, size=10, symbol=["circle-open" if math.isnan(low) else "circle" for low in rows["test_low"]])
        texts = [_hover(row, _interval(row["test_mean"], row["test_low"], row["test_high"])) for row in rows.to_dict("records")]
        _points(figure, rows["test_mean"], rows.index, texts, "baseline" if baseline else "candidate", error_x=error, marker=marker)
    for best in shown.loc[shown["is_baseline"], "test_mean"].head(1):
        figure.add_vline(x=best, line=dict(color=COLOURS[1], dash="dot", width=1))
    figure.update_yaxes(tickvals=list(shown.index), ticktext=[_label(name) for name in shown["name"]], ticklabelstandoff=6)
    figure.update_yaxes(range=[len(shown) - 0.5, -0.5], showgrid=False)
    return _laid_out(figure, f"test {data.metric}", None, height=130 + 30 * len(shown))


def _learning_curves(curves: pd.DataFrame, board: pd.DataFrame, data: ReportData) -> go.Figure | None:
    """Mean over the seeds of each cell; the band is their range (Student's at 2 or 3 seeds would hide the curves)."""
    rows = curves[(curves["group"] == CONFIRMATION) & (curves["metric"] == data.metric)].dropna(subset=["cell_id", "epoch", "value"])
    baselines = list(board.loc[board["is_baseline"], "cell_id"])
    ranked = [cell for cell in board["cell_id"] if cell not in baselines][:SHOWN_CURVES] + baselines
    known = list(rows["cell_id"].unique())
    cells = [cell for cell in dict.fromkeys(ranked) if cell in known] or known[:SHOWN_CURVES]
    figure = go.Figure()
    for n, cell in enumerate(cells):
        own = rows[rows["cell_id"] == cell]
        at = own.groupby("epoch")["value"].agg(["mean", "min", "max"])
        colour, name = COLOURS[n % len(COLOURS)], _label(own["name"].iloc[0])
        edge = dict(legendgroup=str(n), mode="lines", line=dict(width=0), showlegend=False, hoverinfo="skip")
        line = dict(color=colour, width=2, dash="dot" if cell in baselines else "solid")
        figure.add_scatter(x=at.index, y=at["min"], **edge)
        figure.add_scatter(x=at.index, y=at["max"], fill="tonexty", fillcolor=f"{colour}26", **edge)
        figure.add_scatter(x=at.index, y=at["mean"], name=name, legendgroup=str(n), mode="lines", line=line)
    return _laid_out(figure, "epoch", f"validation {data.metric}", below=True) if cells else None


def _screening(trials: pd.DataFrame, data: ReportData) -> go.Figure | None:
    shown = trials.dropna(subset=["number", "value"]).fillna({"rule": "–", "base": "–"})
    rules, bases = sorted(shown["rule"].unique()), sorted(shown["base"].unique())
    figure = go.Figure()
    for (rule, base), rows in shown.groupby(["rule", "base"]):
        symbol = SYMBOLS[bases.index(base) % len(SYMBOLS)]
        symbols = [symbol if state == "COMPLETE" else f"{symbol}-open" for state in rows["state"]]
        colour = COLOURS[rules.index(rule) % len(COLOURS)]
        marker = dict(color=colour, size=8, line=dict(width=1.5, color=colour), symbol=symbols)
        texts = [_hover(row, f"{_score(row['value'])}, {row['state']}, {_plain(row['epochs'])} epochs") for row in rows.to_dict("records")]
        group = dict(legendgroup=_escaped(rule), legendgrouptitle_text=_escaped(rule))
        _points(figure, rows["number"], rows["value"], texts, _escaped(base), marker=marker, **group)
    return None if shown.empty else _laid_out(figure, "trial", f"validation {data.metric}", height=480)


def _base_by_rule(trials: pd.DataFrame, data: ReportData) -> go.Figure | None:
    done = trials[trials["state"] == "COMPLETE"].dropna(subset=["value", "base", "rule"])
    if done.empty:
        return None
    grouped = done.groupby(["base", "rule"])["value"]
    best = (grouped.max() if data.direction == "maximize" else grouped.min()).unstack()
    rows = zip(best.to_numpy(), grouped.count().unstack().reindex_like(best).to_numpy(), strict=True)
    texts = [["" if math.isnan(n) else f"{_score(v)}<br>of {n:.0f}" for v, n in zip(*row, strict=True)] for row in rows]
    look = dict(colorscale="Viridis", reversescale=data.direction == "minimize", xgap=3, ygap=3, colorbar=dict(outlinewidth=0))
    hover = dict(text=texts, texttemplate="%{text}", hovertemplate="%{y}, %{x}: %{text}<extra></extra>", hoverongaps=False)
    figure = go.Figure(go.Heatmap(z=best, x=list(map(_escaped, best.columns)), y=list(map(_escaped, best.index)), **look, **hover))
    figure.update_xaxes(showgrid=False, type="category").update_yaxes(showgrid=False, type="category")
    return _laid_out(figure, "rule", "base", height=160 + 60 * len(best))


def _size(trials: pd.DataFrame, board: pd.DataFrame, data: ReportData) -> go.Figure | None:
    screened = trials[trials["state"] == "COMPLETE"].rename(columns={"value": "val_mean"})
    baseline = board["is_baseline"]
    series = {"screened": (screened, "#9ca3af"), "candidate": (board[~baseline], COLOURS[0]), "baseline": (board[baseline], COLOURS[1])}
    figure = go.Figure()
    for name, (rows, colour) in series.items():
        rows = rows.dropna(subset=["params", "val_mean"])
        marker = dict(color=colour, size=6) if name == "screened" else dict(color=colour, size=11, symbol="diamond")
        texts = [_hover(row, f"{_plain(row['params'])} parameters, {_score(row['val_mean'])}") for row in rows.to_dict("records")]
        _points(figure, rows["params"], rows["val_mean"], texts, name, marker=marker)
    return _laid_out(figure, "parameters", f"validation {data.metric}") if any(len(trace.x) for trace in figure.data) else None


def _points(figure: go.Figure, x: pd.Series, y: pd.Series | pd.Index, texts: list[str], name: str, **more: Any) -> None:
    figure.add_scatter(x=x, y=y, mode="markers", text=texts, hovertemplate="%{text}<extra></extra>", name=name, **more)


def _hover(row: Mapping[Any, Any], scores: str) -> str:
    """What shows under the pointer: the cell, its scores, its training."""
    where = f"{_plain(row['group'])} trial {_plain(row['number'])}, " if "number" in row else ""
    training = f"{where}hidden {_plain(row['hidden_size'])}, lr {_plain(row['lr'])}"
    return "<br>".join([_label(row["name"], HOVERED), _escaped(scores), _escaped(training)])


def _laid_out(figure: go.Figure, x: str, y: str | None, height: int = 420, below: bool = False) -> go.Figure:
    """Transparent and in one grey, so that the page's style sheet decides the colours of both schemes."""
    legend = dict(orientation="h", yanchor="top", y=-0.18) if below else dict(groupclick="toggleitem")
    look = dict(template=None, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hoverlabel=dict(align="left"), showlegend=True)
    font = dict(family="system-ui, sans-serif", size=13, color="#808080")
    figure.update_layout(height=height, font=font, legend=legend, margin=dict(l=10, r=10, t=20, b=10), **look)
    shared = dict(automargin=True, zeroline=False, gridcolor="#808080", linecolor="#808080")
    figure.update_xaxes(title=dict(text=_escaped(x), standoff=8), **shared)
    figure.update_yaxes(title=None if y is None else dict(text=_escaped(y), standoff=8), **shared)
    return figure


def _escaped(value: object) -> str:
    """Text for plotly, which reads a few HTML tags, links among them."""
    return html.escape(_plain(value), quote=False)


def _label(name: object, length: int = LABEL) -> str:
    text = _plain(name)
    return _escaped(text if len(text) <= length else f"{text[: length - 1]}…")


def _plain(value: Any) -> str:
    """A value for people: a dash for none, counts with separators."""
    if value is None or value is pd.NA or value != value:  # NaN is the value that differs from itself
        return "–"
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() else f"{value:.4g}"
    return str(value)


def _score(value: float) -> str:
    size = 0.0 if abs(value) < 1e-12 else abs(value)  # what rounding leaves of a difference that is zero
    return f"{value:z.4f}" if size == 0 or 1e-3 <= round(size, 9) < 1e4 else _plain(float(value))


def _interval(mean: float, low: float, high: float) -> str:
    return _score(mean) if math.isnan(low) or math.isnan(high) else f"{_score(mean)} ({_score(low)} to {_score(high)})"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as lines: ``versions.torch``."""
    for key, value in values.items():
        if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            value = {str(n): item for n, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else _plain(value)


def _yaml(values: Mapping[str, Any]) -> str:
    yaml, out = YAML(), io.StringIO()
    yaml.dump(json.loads(json.dumps(dict(values), default=str)), out)
    return out.getvalue()
