"""Verbs that look at a study: everything they show is read from its ledger."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._registry import InputError
from .exits import say
from .tables import Format, FormatOption, JsonOption, OutputOption, TopOption, WhereOption, chosen, select, write, write_json

if TYPE_CHECKING:
    import pandas as pd

    from ..results.study import Study
    from ..results.suite import Suite

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")]
StorageOption = Annotated[str | None, typer.Option("--storage", metavar="URL", help="Where its ledger is, if not in its folder.")]

# What people see of the leaderboard and of the trials; every other format has every column.
LEADERBOARD = {
    "rank": "rank",
    "name": "cell",
    "hidden_size": "hidden",
    "params": "params",
    "lr": "lr",
    "val_mean": "validation",
    "val_low": "from",
    "val_high": "to",
    "tied_with_best": "tied",
    "test_mean": "test",
    "test_low": "from",
    "test_high": "to",
    "p_value": "p",
    "seeds": "seeds",
    "is_baseline": "baseline",
    "cell_id": "id",
}
TRIALS = {
    "number": "trial",
    "group": "group",
    "state": "state",
    "name": "cell",
    "hidden_size": "hidden",
    "lr": "lr",
    "value": "validation",
    "epochs": "epochs",
    "rung": "rung",
    "seconds": "seconds",
    "error": "error",
}
SUITE = {  # then the test means of each benchmark
    "rank": "rank",
    "name": "cell",
    "is_baseline": "baseline",
    "val_mean_rank": "mean rank: validation",
    "test_mean_rank": "test",
    "test_score": "score",
    "tied_with_best": "tied",
}
READINGS = {
    "run": "run",
    "role": "role",
    "name": "cell",
    "seed": "seed",
    "read": "read",
    "pack": "pack",
    "worker": "worker",
    "split": "split",
    "forked_from": "from",
}
CONTROLS = {
    "name": "cell",
    "control": "control",
    "gain_mean": "gain",
    "gain_low": "from",
    "gain_high": "to",
    "left_mean": "left",
    "left_low": "from",
    "left_high": "to",
    "share": "share",
    "share_low": "from",
    "share_high": "to",
    "seeds": "seeds",
    "finding": "finding",
}
SHORT_ID = 12  # hex digits of a cell's identity that people see; every verb takes them


def load(name: str, storage: str | None) -> Study | Suite:
    """The study, of one benchmark or several, or an `InputError` that says what there is."""
    from ..results.suite import load_study

    return load_study(name, storage=storage)


def load_one(name: str, storage: str | None, verb: str) -> Study:
    """The study, or an `InputError`: of a study of several benchmarks ``verb`` takes one."""
    from ..results.suite import only_one

    return only_one(load(name, storage), verb)


def _table(name: str, about: str, read: Callable[[Study | Suite], pd.DataFrame], columns: dict[str, str] | None) -> Callable[..., None]:
    """A verb that shows one of the study's tables; ``columns``: what people see of it."""

    def verb(
        study: StudyArgument,
        top: TopOption = None,
        where: WhereOption = None,
        format: FormatOption = Format.table,
        as_json: JsonOption = False,
        output: OutputOption = None,
        storage: StorageOption = None,
    ) -> None:
        format = chosen(format, as_json)
        opened = load(study, storage)
        frame = read(opened)
        if frame.empty and name == "leaderboard":
            say(f"no cell of {study} is confirmed yet; `mrnn-search trials {study}` shows what was screened")
        write(for_people(select(frame, where, top), format), format, output, shown_of(opened, name, columns))
        if name == "leaderboard" and not frame.empty:
            say(f"this is a {opened.label}")

    verb.__name__, verb.__doc__ = name, about
    return verb


leaderboard = _table("leaderboard", "The ranked table: one row per confirmed cell.", lambda study: study.leaderboard(), LEADERBOARD)
trials = _table("trials", "Every candidate that was screened.", lambda study: study.trials(), TRIALS)
ABOUT_READINGS = "Every recorded reading of the test split: one for each confirmed cell and seed."
readings = _table("readings", ABOUT_READINGS, lambda study: study.test_readings(), READINGS)
curves = _table("curves", "Every learning curve, one row per trial, epoch and metric.", lambda study: study.curves(), None)


def controls(
    study: StudyArgument,
    format: FormatOption = Format.table,
    as_json: JsonOption = False,
    output: OutputOption = None,
    storage: StorageOption = None,
) -> None:
    """What is left of each finalist's gain beside its controls (of a recipe with controls: true)."""
    from ..results.controls import controls_verdicts

    format = chosen(format, as_json)
    opened = load(study, storage)
    frame = opened.controls()
    if frame.empty:
        say(f"study {study} has no controls, or none confirmed yet; a recipe with controls: true has them")
    write(for_people(frame, format), format, output, shown_of(opened, "controls", CONTROLS))
    if format is Format.table and output is None:
        for line in controls_verdicts(frame):
            print(f"\n{line}")


def compare(
    study: StudyArgument,
    a: Annotated[str, typer.Argument(metavar="A", help="A rank, a cell's id (or its first digits) or name, or a baseline.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The cell to compare it with.")],
    as_json: JsonOption = False,
    storage: StorageOption = None,
) -> None:
    """Two confirmed cells side by side: scores by seed, their paired difference, its interval, and every test of it."""
    result = load_one(study, storage, "compare").compare(a, b)
    if as_json:
        write_json(result.to_dict())
    else:
        print(result)


def report(
    study: StudyArgument,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    storage: StorageOption = None,
) -> None:
    """One self-contained HTML file with plots; prints its path."""
    path = load(study, storage).report()
    print(path)
    if open_it and not webbrowser.open(Path(path).absolute().as_uri()):
        say("there is no browser to open it with")


def export(
    study: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="Which row of the leaderboard.  [default: 1]")] = None,
    cell: Annotated[str | None, typer.Option("--cell", metavar="ID", help="Which cell, by its id or its first digits.")] = None,
    storage: StorageOption = None,
) -> None:
    """A confirmed cell as a folder: code (cell.py, needs torch only), weights, its scores, a model card."""
    if rank is not None and cell is not None:
        raise InputError("--rank and --cell together; give one of them")
    opened = load_one(study, storage, "export")
    print(opened.export(out, cell=cell) if cell is not None else opened.export(out, rank=rank or 1))


def dashboard(
    study: StudyArgument,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
    storage: StorageOption = None,
) -> None:
    """optuna-dashboard on the study's storage, for this machine only, until Ctrl-C."""
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise InputError("optuna-dashboard is not installed; pip install 'mrnn-search[dashboard]'") from None
    opened = load_one(study, storage, "dashboard")
    say(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    run_server(opened.storage, host="127.0.0.1", port=port)


def shown_of(study: Study | Suite, table: str, columns: dict[str, str] | None) -> dict[str, str] | None:
    """What people see of a table of ``study``: of a study over several benchmarks the benchmark, too, and a leaderboard of its own."""
    from ..results.suite import Suite

    if columns is None or not isinstance(study, Suite):
        return columns
    if table != "leaderboard":
        return {"benchmark": "benchmark", **columns}
    return {**SUITE, **{f"{benchmark} test": benchmark for benchmark in study.studies}, "cell_id": "id"}


def for_people(frame: pd.DataFrame, format: Format) -> pd.DataFrame:
    """``frame`` with identities cut to `SHORT_ID` digits if people are to read it, else as it is."""
    if format is not Format.table:
        return frame
    ids = [column for column in ("cell_id", "candidate_id", "split") if column in frame.columns]
    return frame.assign(**{column: frame[column].astype(str).str[:SHORT_ID] for column in ids})
