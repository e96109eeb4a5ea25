"""`search`: a recipe becomes a study, or a study goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from .. import __version__
from .._registry import InputError, StudyError
from ..benchmarks import Benchmark, load_benchmark
from ..cells.spec import CellSpec
from ..search.checkpoints import Checkpoints
from ..search.claims import Holder, one_writer, one_writer_of
from ..search.controls import is_found
from ..search.driver import Driver, Progress, Tallies
from ..search.executors import Executor, Kept, Resources, executors
from ..search.fork import Forked, check_comparable
from ..search.fork import fork as fork_trials
from ..search.ledger import SEARCH, Ledger
from ..search.overrides import diff
from ..search.recipe import Recipe, load_recipe
from ..search.storage import LEDGER, check_home, open_storage, reason, refuse_links, remember, shown
from ..search.suite import SuiteRecipe, load_recipes
from ..search.warm import best_trials, prior_trials
from .study import Study, load_study, quiet, runs_folder
from .suite import FILE as SUITE
from .suite import Suite, remember_suite
from .wholeness import whole


def search(
    recipe: str | Path,
    *,
    name: str | None = None,
    storage: str | None = None,
    executor: str = "local",
    devices: str | None = None,
    workers: int | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    ray_address: str | None = None,
    retries: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    command: str | None = None,
    fork: str | None = None,
    on_fork: Callable[[Forked], None] = lambda forked: None,
    overrides: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Study | Suite:
    """Run the study of ``recipe``, or go on with it where it was left; the same as ``mrnn-search run``.

    Args:
        recipe: a recipe's name or file.
        name: of the study; without it the recipe's.
        storage: URL of a database for the ledger; without it a journal file in the study's folder.
        executor: "local" or "ray".
        devices: one worker for each, e.g. "cuda:0,cuda:1"; without it one for each processor.
        workers: how many; without it what the recipe's ``resources`` say, or one for each device, on a cluster as many as fit.
        cpus_per_worker, gpus_per_worker: what each is given; without them what the recipe's ``resources`` say.
        ray_address: "host:port" of a Ray cluster that executor "ray" joins, or "auto"; without it ``$RAY_ADDRESS``, or a local one.
        retries: workers that a pack may lose before its lanes fail; without it what the recipe's ``resources`` say, 2.
        on_progress: called with a `Progress` after every change.
        command: how the caller would run it again; goes into the report.
        fork: name of a new study, which begins with what still counts of the trials of the recipe's own study: see
            `mrnn_search.search.fork`.
        on_fork: called with what came along.
        overrides: what to change in the recipe, as nested data.
        **parts: the same by part, e.g. ``budget={"trials": 64}``.

    Returns:
        the study; of a recipe with ``benchmarks`` a `Suite` of them.

    Raises:
        InputError: the recipe is wrong, differs from that of the existing study, or the study is being run elsewhere.
        StudyError: the disk is full, or the database went away; what finished is in the ledger, the same call goes on.
        Interrupted: Ctrl-C; likewise.
    """
    changes = {**(overrides or {}), **parts, **({} if name is None else {"name": name})}
    parsed = load_recipes(str(recipe), changes)
    wanted = {"workers": workers, "cpus": cpus_per_worker, "gpus": gpus_per_worker, "retries": retries}
    first = parsed.members[0] if isinstance(parsed, SuiteRecipe) else parsed
    told = {**first.resources.model_dump(), **{key: value for key, value in wanted.items() if value is not None}}
    address = ray_address or (os.environ.get("RAY_ADDRESS") if executor == "ray" else None)
    make, resources = executors[executor], Resources(devices=devices, ray_address=address, **told)
    if address is None:
        resources.here()  # a wrong device is an error before there is a study
    now = _session(command or f"mrnn_search.search({str(recipe)!r}, …)")
    sitting = _Sitting(storage, now, lambda: make(resources), on_progress, on_fork)
    if isinstance(parsed, SuiteRecipe):
        if fork is not None:
            raise InputError("a study over several benchmarks cannot be begun from another", "--fork")
        return _run_suite(parsed, sitting)
    origin = None if fork is None else parsed.name
    if fork is not None:
        parsed = load_recipe(str(recipe), {**changes, "name": fork})
    return _sit(parsed, sitting, Driver.run, origin)[0]


@dataclass(frozen=True)
class _Sitting:
    """How a study, or one after the other the studies of a suite, are run; see `search`."""

    storage: str | None
    now: Mapping[str, Any]
    executor: Callable[[], Executor]
    on_progress: Callable[[Progress], None]
    on_fork: Callable[[Forked], None]


T = TypeVar("T")


def _sit(
    parsed: Recipe, sitting: _Sitting, work: Callable[[Driver], T], origin: str | None = None, *, always: bool = False
) -> tuple[Study, T | None]:
    """Do ``work`` on the study of ``parsed``, begun from ``origin`` or not; unless ``always``, only if it is not complete."""
    storage, now = sitting.storage, sitting.now
    folder = runs_folder() / parsed.name
    refuse_links(folder)
    if (folder / SUITE).exists():
        raise InputError("is there already, with several benchmarks; give another --name", f'study "{parsed.name}"')
    check_home(folder, storage)
    benchmark = load_benchmark(parsed.benchmark, Path(parsed.data) if parsed.data else None)
    parsed = parsed.matched(_facts(benchmark))
    database = open_storage(folder, storage) if storage is not None else None
    quiet()
    if origin is not None and not (folder / LEDGER).exists() and not (database and Ledger.exists(database, parsed.name)):
        check_comparable(load_study(origin, storage=storage).ledger, parsed, benchmark.fingerprint)  # before anything is made
    done: T | None = None
    with (
        _explained(folder, storage),
        one_writer(folder, now["command"]) as holder,
        one_writer_of(storage, parsed.name, database, lambda: _told(database, parsed.name)),
    ):
        if storage is not None:
            remember(folder, storage)
        ledger = _open_or_create(database or open_storage(folder, None), parsed, benchmark, now)
        if database is not None:
            ledger.set_holder(holder.to_dict())
        _fork(ledger, origin, folder, storage, parsed, benchmark, sitting.on_fork)
        if always or not ledger.complete:
            checkpoints = Checkpoints(folder / "checkpoints")
            with Driver(parsed, ledger, checkpoints, sitting.executor, sitting.on_progress) as driver:
                done = work(driver)
    return Study(ledger, folder), done


def _run_suite(recipe: SuiteRecipe, sitting: _Sitting) -> Suite:
    """Screen on every benchmark; then confirm on each of them what was found on any."""
    for member in recipe.members:  # what is wrong with any of them is an error before anything is trained
        member.matched(_facts(load_benchmark(member.benchmark)))
    folder = remember_suite(recipe)
    kept, tally = Kept(sitting.executor), Tallies(recipe.members, sitting.on_progress)
    found: dict[str, CellSpec] = {}
    try:
        for member in recipe.members:
            shared = replace(sitting, executor=kept, on_progress=tally.of(member))
            for role, candidate in _sit(member, shared, Driver.screen, always=True)[1] or ():
                if is_found(role):
                    found.setdefault(candidate.spec.cell_id, candidate.spec)
        studies = {}
        for member in recipe.members:
            shared = replace(sitting, executor=kept, on_progress=tally.of(member))
            studies[member.benchmark] = _sit(member, shared, lambda driver: driver.run(list(found.values())))[0]
    finally:
        kept.end()
    return Suite(recipe.name, studies, folder)


FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EFBIG: "a file has the largest size allowed here"}
GO_ON = "everything that finished before is saved, the same command goes on"


@contextlib.contextmanager
def _explained(folder: Path, url: str | None) -> Iterator[None]:
    """What can happen to a disk and a database, in one line.

    Raises:
        StudyError: it did.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StudyError(f"the database failed ({reason(error, url)}); {GO_ON}", shown(url) if url else str(folder)) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StudyError(f"{FULL[error.errno]}; make room: {GO_ON}", str(folder)) from error


def _told(storage: BaseStorage | None, name: str) -> Holder | None:
    """Who runs study ``name``, as that process wrote it into the ledger."""
    return Holder.of(Ledger(storage, name).holder) if storage is not None and Ledger.exists(storage, name) else None


def _open_or_create(storage: BaseStorage, recipe: Recipe, benchmark: Benchmark, now: Mapping[str, Any]) -> Ledger:
    """The ledger to go on with; a new one if there is none.

    Raises:
        InputError: the study is another recipe's, or its data has changed.
    """
    name, wanted = recipe.name, recipe.to_dict()
    if not Ledger.exists(storage, name):
        meta = {**_meta(benchmark, now), "prior": _handed_on(storage, recipe, benchmark)}
        return Ledger.create(storage, name, wanted, meta, benchmark.direction)
    ledger = whole(Ledger(storage, name))
    known, meta = Recipe.from_dict(ledger.recipe).to_dict(), ledger.meta  # with today's defaults for what it did not have yet
    raised = wanted["budget"]["trials"] > known["budget"]["trials"]
    changes = diff(_described(known, wanted, raised), wanted)
    if changes:
        text = "\n  ".join(changes)
        way_out = "begin a new one: --name NAME from nothing, --fork NAME with what still counts of this one's trials"
        raise InputError(f"this study was begun with another recipe:\n  {text}\n{way_out}", f'study "{name}"')
    before, here = meta["benchmark"]["fingerprint"], benchmark.fingerprint
    if before != here:
        raise InputError(f"its data was {before[:12]}…, the data here is {here[:12]}…: values would not compare", f'study "{name}"')
    if raised:
        ledger.set_recipe(wanted)
    if not ledger.complete and meta["sessions"][-1] != dict(now):
        ledger.set_meta({**meta, "sessions": [*meta["sessions"], dict(now)]})
    return ledger


def _handed_on(storage: BaseStorage, recipe: Recipe, benchmark: Benchmark) -> list[dict[str, Any]]:
    """The best trials of the studies that the recipe starts from, which are in the same database or in the runs folder.

    Raises:
        InputError: there is no such study, or its values do not compare.
    """
    out: list[dict[str, Any]] = []
    for name in recipe.search.start.studies:
        other = Ledger(storage, name) if Ledger.exists(storage, name) else load_study(name).ledger
        facts, epochs = other.meta["benchmark"], other.recipe["rungs"]["epochs"][-1]
        if facts["fingerprint"] != benchmark.fingerprint or facts["name"] != benchmark.name:
            raise InputError(f'study "{name}" has other data ({facts["name"]}): its values do not compare', "search.start.studies")
        if epochs != recipe.rungs.epochs[-1]:
            raise InputError(f'study "{name}" trained {epochs} epochs, this one {recipe.rungs.epochs[-1]}', "search.start.studies")
        handed_on = best_trials(other.frozen(SEARCH), benchmark.direction)
        if not prior_trials(handed_on, recipe.space):
            raise InputError(f'none of the {len(handed_on)} best trials of study "{name}" is in the space', "search.start.studies")
        out += handed_on
    return out


def _described(known: Mapping[str, Any], wanted: Mapping[str, Any], raised: bool) -> dict[str, Any]:
    """The ledger's recipe with what may change taken from the new one: a larger budget, and descriptions."""
    out = {**known, "description": wanted["description"]}
    out["space"] = {**known["space"], "description": wanted["space"]["description"]}
    return {**out, "budget": wanted["budget"]} if raised else out


def _session(command: str) -> dict[str, Any]:
    """One sitting at a study: what ran it, where, and what to type to run it again."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "versions": {"mrnn_search": __version__, "python": platform.python_version(), **_versions("torch", "optuna", "numpy", "ray")},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def _fork(
    ledger: Ledger,
    origin: str | None,
    folder: Path,
    storage: str | None,
    recipe: Recipe,
    benchmark: Benchmark,
    on_fork: Callable[[Forked], None],
) -> None:
    """Begin with the trials of study ``origin``, or go on with that.

    Raises:
        InputError: the study was not begun from that one, or nothing of that one would count here.
    """
    known = ledger.fork.get("of")
    if origin is None and known is None:
        return
    if known is None and ledger.trials(SEARCH) or origin not in (None, known or origin):
        what = f"begun from {known}" if known else "there already, and was not begun from another"
        raise InputError(f"is {what}; give --fork another name", f'study "{recipe.name}"')
    if ledger.fork.get("done"):
        return
    source = load_study(str(origin or known), storage=storage)
    check_comparable(source.ledger, recipe, benchmark.fingerprint)
    ledger.set_fork(source.name, done=False)
    there = Checkpoints(source.folder / "checkpoints")
    on_fork(fork_trials(source.ledger, there, ledger, Checkpoints(folder / "checkpoints"), recipe))
    ledger.set_fork(source.name, done=True)


FACTS = (
    *("name", "description", "metric", "direction", "input_size", "output_size", "vocabulary"),
    *("licence", "source", "citation", "fingerprint", "sizes"),
)


def _facts(benchmark: Benchmark) -> dict[str, Any]:
    return {fact: getattr(benchmark, fact) for fact in FACTS}


def _meta(benchmark: Benchmark, now: Mapping[str, Any]) -> dict[str, Any]:
    return {"benchmark": _facts(benchmark), "sessions": [dict(now)]}


def _versions(*packages: str) -> Mapping[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
