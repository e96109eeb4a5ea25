"""The verbs of ``mrnn-search``. Heavy modules (torch, optuna, pandas, ray) load inside a verb: ``--help`` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import catalogue, doctor, manage, run, study
from .bench import bench
from .data import data
from .exits import guarded

app = typer.Typer(
    name="mrnn-search",
    help="Search for recurrent cells derived from optimizers.",
    epilog="STUDY is a study's name or folder, or NAME with --storage URL. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SEARCH, LOOK, USE, KNOW = "Search", "Tables of a study", "Use a study", "What there is"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mrnn-search {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search for recurrent cells derived from optimizers."""


for group, verbs in {
    SEARCH: (run.run, run.check, manage.stop, manage.rm),
    LOOK: (study.leaderboard, study.controls, study.trials, study.curves, study.readings),
    USE: (study.compare, study.report, study.export, study.dashboard),
    KNOW: (catalogue.spaces, catalogue.benchmarks, catalogue.cells, catalogue.rules, manage.studies, doctor.doctor),
}.items():
    for verb in verbs:
        app.command(rich_help_panel=group)(guarded(verb))
app.add_typer(data, name="data", rich_help_panel=KNOW)
app.add_typer(bench, rich_help_panel=KNOW)
