"""``doctor``: what is installed, what is found, what works on this machine."""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from .exits import FAILED
from .tables import write_json

PACKAGES = ("torch", "optuna", "ray", "pandas", "pyarrow", "numpy", "scipy", "safetensors")
OPTIONAL = ("ray",)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: ``state`` is "ok", "no" (something optional is absent) or "broken"."""

    what: str
    state: str
    detail: str


def doctor(
    storage: Annotated[str | None, typer.Option("--storage", help="Also try to reach this storage.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Versions, devices, data found, storage reachable, Ray able to start. Exit code 1 if something is broken."""
    findings = [Finding("mrnn-search", "ok", f"{__version__}, {Path(__file__).parents[1]}")]
    findings.append(Finding("python", "ok", f"{platform.python_version()}, {sys.executable}, {platform.platform()}"))
    findings += [_package(name) for name in PACKAGES]
    findings += [_try("processors", _processors), _try("fused cpu kernels", _kernels), _try("accelerator", _accelerator)]
    findings += _data()
    findings.append(_try("runs folder", _runs_folder))
    if storage is not None:
        findings.append(_try("storage", lambda: _storage(storage)))
    if find_spec("ray") is not None:
        findings.append(_try("ray starts", _ray))
    if as_json:
        write_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.state:<6}  {finding.what:<24}  {finding.detail}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(FAILED)


def _try(what: str, look: Callable[[], tuple[str, str]]) -> Finding:
    """The finding of one look; whatever it raises is the finding: that is what a doctor is for."""
    try:
        return Finding(what, *look())
    except Exception as error:
        return Finding(what, "broken", f"{type(error).__name__}: {error}".splitlines()[0])


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        state = "no" if name in OPTIONAL else "broken"
        return Finding(name, state, f"not installed; pip install 'mrnn-search[{name}]'" if name in OPTIONAL else "not installed")


def _processors() -> tuple[str, str]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "ok", f"{usable} usable, torch uses {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _kernels() -> tuple[str, str]:
    from ..engine.native.build import Native, native

    found = native()
    if isinstance(found, Native):
        return "ok", f"{found.isa}, {'with' if found.openmp else 'without'} threads"
    return "no", f"{found}; cells train on torch's kernels or step by step"


def _accelerator() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        return "ok", ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "no", "none found; cells train on the processors"


def _data() -> list[Finding]:
    """One finding a benchmark: is its data there? Data of the user's own may be absent."""
    from ..benchmarks import benchmarks
    from ..benchmarks.data import MissingDataError

    def look(name: str) -> tuple[str, str]:
        try:
            return "ok", benchmarks[name].locate(None)
        except MissingDataError as error:
            return "no", str(error)

    return [_try(f"data: {name}", functools.partial(look, name)) for name in benchmarks]


def _runs_folder() -> tuple[str, str]:
    from ..results.study import runs_folder

    folder = runs_folder().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK):
        return "broken", f"{folder}: cannot write to {there}"
    return "ok", str(folder)


def _storage(url: str) -> tuple[str, str]:
    from sqlalchemy import create_engine, make_url

    address = make_url(url)
    engine = create_engine(address)
    with engine.connect():
        return "ok", f"{address.render_as_string(hide_password=True)}"


def _ray() -> tuple[str, str]:
    from ..search.ray_tune import probe

    return "ok", probe()
