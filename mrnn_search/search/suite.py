"""The recipe of a study over several benchmarks (`benchmarks`): one recipe for each, the same but for the benchmark.

Each is a study of its own, NAME.BENCHMARK, with its own ledger. Their searches draw from the same seeds: samplers that do not learn
(random, sobol, grid) propose the same candidates on every benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._registry import InputError
from ..benchmarks import find_benchmark
from .files import Place, display, read_yaml, resolve, shown
from .overrides import merged
from .recipe import Recipe, load_recipe

ALLOWED = "a list of at least two benchmarks' names, each once"


@dataclass(frozen=True)
class SuiteRecipe:
    """One search on several benchmarks.

    Attributes:
        name: of the whole.
        members: a recipe for each benchmark, named after both.
    """

    name: str
    members: tuple[Recipe, ...]

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(member.benchmark for member in self.members)


def member_name(suite: str, benchmark: str) -> str:
    """The name of a suite's study on one benchmark: ``three.ucr-ECG5000``."""
    return f"{suite}.{re.sub('[^A-Za-z0-9._-]', '-', benchmark)}"


def load_recipes(name_or_path: str, overrides: Mapping[str, Any]) -> Recipe | SuiteRecipe:
    """The recipe in a file, whether it has ``benchmark`` or ``benchmarks``.

    Raises:
        InputError: as `load_recipe`; or what is wrong with the list.
    """
    path = resolve("trials", name_or_path)
    data = merged({"name": path.stem, **read_yaml(path)}, {k: v for k, v in overrides.items() if k in ("name", "benchmarks", "benchmark")})
    if "benchmarks" not in data:
        return load_recipe(name_or_path, overrides)
    names = _checked(data, Place(display(path)))
    rest = {key: value for key, value in overrides.items() if key not in ("name", "benchmarks")}
    return SuiteRecipe(str(data["name"]), tuple(_member(path, str(data["name"]), name, rest) for name in names))


def _checked(data: Mapping[str, Any], place: Place) -> list[str]:
    """The benchmarks' names.

    Raises:
        InputError: the list is not one.
    """
    names, at = data["benchmarks"], place.at("benchmarks")
    for key in ("benchmark", "data"):
        if data.get(key) is not None:
            why = "give one of them" if key == "benchmark" else "each benchmark finds its own: see mrnn-search benchmarks"
            raise place.at(key).error(f"is there beside benchmarks; {why}")
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise at.error(f"found {shown(names)}, allowed: {ALLOWED}")
    for i, name in enumerate(names):
        try:
            find_benchmark(name)
        except InputError as error:
            raise InputError(error.message, str(at.at(i))) from None
    if len({member_name("", name) for name in names}) < len(names):
        raise at.error(f"found {shown(names)}, allowed: {ALLOWED}")
    return names


def _member(path: Path, suite: str, benchmark: str, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe of one benchmark: the file's, with the list replaced."""
    return load_recipe(str(path), {**overrides, "name": member_name(suite, benchmark), "benchmark": benchmark}, leave_out=("benchmarks",))
