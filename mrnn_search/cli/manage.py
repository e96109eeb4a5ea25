"""Verbs that manage studies: list, stop, remove."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .._registry import InputError
from .exits import say
from .tables import JsonOption, show, write_json

if TYPE_CHECKING:
    from ..results.studies import Overview

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name.")]
StorageOption = Annotated[str | None, typer.Option("--storage", metavar="URL", help="Where its ledger is, if not in its folder.")]


def studies(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one in full.")] = None,
    as_json: JsonOption = False,
    storage: Annotated[str | None, typer.Option("--storage", metavar="URL", help="Those of this database.")] = None,
) -> None:
    """Studies in the runs folder ($MRNN_SEARCH_RUNS, or ./runs), their state and progress; or those of a database."""
    from ..results.studies import overviews, where_shown
    from ..results.suite import Suite, load_study

    if name is not None:
        study = load_study(name, storage=storage)
        facts = {"name": study.name, "folder": str(study.folder), "state": study.state, "test_readings": len(study.test_readings())}
        if isinstance(study, Suite):
            show({**facts, "studies": {benchmark: member.name for benchmark, member in study.studies.items()}}, as_json)
        else:
            show({**facts, "recipe": study.recipe, **study.meta}, as_json)
        return
    found = overviews(storage)
    if as_json:
        write_json([asdict(one) for one in found])
    elif not found:
        say(f"no study in {where_shown(storage)}")
    else:
        _print([_line(one) for one in found])


def _line(one: Overview) -> list[str]:
    progress = "" if one.tried is None else f"{one.tried}/{one.budget} tried, {one.confirmed} confirmed"
    best = "" if one.value is None else f"best {one.value:.4g} {one.best}"
    return [one.name, one.state, progress, one.benchmark or "", best, one.active or "", one.note]


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True) if width).rstrip())


def stop(
    study: StudyArgument,
    now: Annotated[bool, typer.Option("--now", help="At once: what trains now is not waited for.")] = False,
    storage: StorageOption = None,
) -> None:
    """Ask the process that runs a study on this machine to stop, as Ctrl-C does, and wait until it has."""
    from ..results.studies import stop as ask
    from ..search.claims import Holder

    def asked(holder: Holder) -> None:
        waiting = "" if now else "; what trains is finished first (--now: not), Ctrl-C ends the waiting alone"
        say(f"asked process {holder.pid} to stop{waiting}")

    holder = ask(study, now=now, storage=storage, on_asked=asked)
    say(f"study {study} is stopped. To go on: {holder.command}")


def rm(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    storage: StorageOption = None,
) -> None:
    """Remove a study for good: its ledger, checkpoints, report. Asks first; refuses while it is run."""
    from ..results.studies import removable, remove

    what = removable(study, storage)
    things = [f"the folder {what['folder']}"] if what["folder"] is not None else []
    things += [f"{len(what['groups'])} groups in the database"] if what["groups"] else []
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(f"would remove {' and '.join(things)}; give --yes", study)
        if not typer.confirm(f"Remove {' and '.join(things)}?", err=True):
            say("nothing was removed")
            return
    remove(study, storage)
    say(f"removed {' and '.join(things)}")
