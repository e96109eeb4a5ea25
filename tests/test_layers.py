"""An import may point down the list of layers, never up; and the heavy packages stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mrnn_search

ROOT = Path(mrnn_search.__file__).parent
LAYERS = ("_registry", "cells", "engine", "benchmarks", "search", "results", "bench", "cli")  # lowest first
FORBIDDEN = {  # layer -> what it may not import
    "_registry": {"torch", "numpy", "optuna", "ray", "pandas", "pyarrow"},
    "cells": {"optuna", "ray", "pandas", "pyarrow", "scipy"},
    "engine": {"optuna", "ray", "pandas", "pyarrow", "scipy"},
    "benchmarks": {"optuna", "ray"},
    "search": {"pandas"},
    "results": {"ray"},
    "bench": {"ray"},
    "cli": {"ray"},
}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def imported(path: Path, source: str) -> Iterator[str]:
    """Absolute names of everything that a module imports, inside functions and under TYPE_CHECKING too."""
    package = ("mrnn_search", *path.parts[:-1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def layer(path: Path) -> str | None:
    """The layer of a module; None for the package's own __init__ and __main__, which stand above all of them."""
    name = path.parts[0].removesuffix(".py")
    return None if name in ("__init__", "__main__") else name


def faults(path: Path, source: str) -> list[str]:
    """What a module imports that it must not."""
    own = layer(path)
    if own is None:
        return []
    wrong = []
    for name in imported(path, source):
        parts = name.split(".")
        if parts[0] == "mrnn_search":
            if len(parts) > 1 and parts[1] in LAYERS and LAYERS.index(parts[1]) > LAYERS.index(own):
                wrong.append(f"{path} ({own}) imports upwards: {name}")
        elif parts[0] in FORBIDDEN[own] or (parts[0] == "ray" and path != Path("search/ray_tune.py")):
            wrong.append(f"{path} ({own}) imports {name}")
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down(path: Path) -> None:
    assert layer(path) in (*LAYERS, None), f"{path} belongs to no layer"
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cells/spec.py", "from ..engine import train"),
        ("cells/rules/adam.py", "def f():\n    from ...search import space"),
        ("search/driver.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mrnn_search.results.study"),
        ("engine/train.py", "import optuna.trial"),
        ("search/driver.py", "import ray"),
        ("search/ledger.py", "import pandas as pd"),
        ("engine/planner.py", "from ..bench.setting import SHAPES"),
        ("results/stats.py", "from ..bench import rounds"),
        ("bench/engine.py", "from ..cli.tables import listing"),
    ],
)
def test_the_check_can_fail(path: str, source: str) -> None:
    assert len(faults(Path(path), source)) == 1


def test_only_one_module_imports_ray() -> None:
    def roots(path: Path) -> set[str]:
        return {name.split(".")[0] for name in imported(path, (ROOT / path).read_text(encoding="utf-8"))}

    having = [str(path) for path in MODULES if "ray" in roots(path)]
    assert having == ["search/ray_tune.py"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_cells_and_engine_work_without_optuna_ray_and_pandas() -> None:
    done = python(
        "import sys\n"
        "for name in ('optuna', 'ray', 'pandas', 'pyarrow'): sys.modules[name] = None\n"
        "import mrnn_search, mrnn_search.cells, mrnn_search.engine, torch\n"
        "layer = mrnn_search.Recurrent(mrnn_search.preset('momentum_lstm'), 3, 4)\n"
        "assert layer(torch.zeros(5, 2, 3))[0].shape == (5, 2, 4)\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["mrnn_search", "mrnn_search.cli", "mrnn_search.cli.app"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = python(f"import sys, {module}\nprint([n for n in ('torch', 'numpy', 'optuna', 'ray', 'pandas', 'plotly') if n in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_searching_loads_ray_only_when_it_is_chosen() -> None:
    done = python("import sys, mrnn_search.results.study, mrnn_search.search.driver\nassert 'ray' not in sys.modules")
    assert done.returncode == 0, done.stderr
