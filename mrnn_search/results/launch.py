"""`search`: a recipe becomes a study, or a study goes on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from .. import __version__
from .._registry import InputError
from ..benchmarks import Benchmark, load_benchmark
from ..search.checkpoints import Checkpoints
from ..search.driver import Driver, Progress
from ..search.executors import Resources, executors
from ..search.ledger import Ledger
from ..search.overrides import diff
from ..search.recipe import Recipe, load_recipe
from ..search.storage import check_home, one_writer, one_writer_of, open_storage, remember
from .study import Study, quiet, runs_folder


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
    on_progress: Callable[[Progress], None] = lambda progress: None,
    command: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Study:
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
        on_progress: called with a `Progress` after every change.
        command: how the caller would run it again; goes into the report.
        overrides: what to change in the recipe, as nested data.
        **parts: the same by part, e.g. ``budget={"trials": 64}``.

    Raises:
        InputError: the recipe is wrong, differs from that of the existing study, or the study is being run elsewhere.
        Interrupted: Ctrl-C; what finished is in the ledger, the same call goes on.
    """
    changes = {**(overrides or {}), **parts, **({} if name is None else {"name": name})}
    parsed = load_recipe(str(recipe), changes)
    wanted = {"workers": workers, "cpus": cpus_per_worker, "gpus": gpus_per_worker}
    told = {**parsed.resources.model_dump(), **{key: value for key, value in wanted.items() if value is not None}}
    address = ray_address or (os.environ.get("RAY_ADDRESS") if executor == "ray" else None)
    make, resources = executors[executor], Resources(devices=devices, ray_address=address, **told)
    if address is None:
        resources.here()  # a wrong device is an error before there is a study
    folder = runs_folder() / parsed.name
    check_home(folder, storage)
    benchmark = load_benchmark(parsed.benchmark, Path(parsed.data) if parsed.data else None)
    database = open_storage(folder, storage) if storage is not None else None
    quiet()
    now = _session(command or f"mrnn_search.search({str(recipe)!r}, …)")
    with one_writer(folder), one_writer_of(storage, parsed.name):
        if storage is not None:
            remember(folder, storage)
        ledger = _open_or_create(database or open_storage(folder, None), parsed, benchmark, now)
        if not ledger.complete:
            with Driver(parsed, ledger, Checkpoints(folder / "checkpoints"), lambda: make(resources), on_progress) as driver:
                driver.run()
    return Study(ledger, folder)


def _open_or_create(storage: BaseStorage, recipe: Recipe, benchmark: Benchmark, now: Mapping[str, Any]) -> Ledger:
    """The ledger to go on with; a new one if there is none.

    Raises:
        InputError: the study is another recipe's, or its data has changed.
    """
    name, wanted = recipe.name, recipe.to_dict()
    if not Ledger.exists(storage, name):
        return Ledger.create(storage, name, wanted, _meta(benchmark, now), benchmark.direction)
    ledger = Ledger(storage, name)
    known, meta = ledger.recipe, ledger.meta
    raised = wanted["budget"]["trials"] > known["budget"]["trials"]
    changes = diff(_described(known, wanted, raised), wanted)
    if changes:
        text = "\n  ".join(changes)
        message = f"this study was begun with another recipe:\n  {text}\ngive the new one a name of its own with --name"
        raise InputError(message, f'study "{name}"')
    before, here = meta["benchmark"]["fingerprint"], benchmark.fingerprint
    if before != here:
        raise InputError(f"its data was {before[:12]}…, the data here is {here[:12]}…: values would not compare", f'study "{name}"')
    if raised:
        ledger.set_recipe(wanted)
    if not ledger.complete:
        ledger.set_meta({**meta, "sessions": [*meta["sessions"], dict(now)]})
    return ledger


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


FACTS = ("name", "description", "metric", "direction", "input_size", "output_size", "licence", "source", "citation", "fingerprint", "sizes")


def _meta(benchmark: Benchmark, now: Mapping[str, Any]) -> dict[str, Any]:
    return {"benchmark": {fact: getattr(benchmark, fact) for fact in FACTS}, "sessions": [dict(now)]}


def _versions(*packages: str) -> Mapping[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
