"""The search space: which candidates a study may try, as frozen data. YAML in, `Candidate`s out."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .._registry import InputError
from ..cells import Candidate, CellSpec
from ..cells.rules.base import define, definition
from .counting import Count, count_space
from .files import Place, display, read_yaml, resolve, shown
from .matching import Matching
from .parameter import Constant, Parameter, Target, Trial, Value, active, candidate, common, gates_text
from .reading import check_parameters, check_together, domain_values, never, ordered, read_parameters

FIELDS = ("name", "description", "rules", "parameters")


@dataclass(frozen=True)
class Space:
    """What may be searched.

    Attributes:
        name: of the file, without its suffix.
        description: one line.
        parameters: as ordered in the file.
        matching: chooses each candidate's hidden size; None: the space does. A study's, no part of the space as data.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    matching: Matching | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_dict(cls, data: object, name: str = "inline", where: str | Place = "") -> Space:
        """A space from plain data, as in a YAML file; inverse of `to_dict`.

        Args:
            data: ``parameters``, and perhaps ``name``, ``description`` and ``rules``, which are registered.
            name: if ``data`` has none.
            where: file (and the place inside it) for messages.

        Raises:
            InputError: anything that is wrong: which place, what was found, what is allowed.
        """
        place = where if isinstance(where, Place) else Place(where)
        if not isinstance(data, Mapping):
            raise place.error(f"found {shown(data)}, allowed: a mapping with parameters")
        place.check_keys(data, FIELDS)
        for key in ("name", "description"):
            if not isinstance(data.get(key, ""), str):
                raise place.at(key).error(f"found {shown(data[key])}, allowed: text")
        _define_rules(data.get("rules", {}), place.at("rules"))
        place_in = place.at("parameters")
        if "parameters" not in data:
            raise place_in.error("is missing; a space needs at least base")
        parameters = read_parameters(data["parameters"], place_in)
        ordered(parameters, place_in)
        check_parameters(parameters, place_in)
        return cls(data.get("name", name), data.get("description", ""), parameters)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data. Rules that do not come with this package are in it: whoever reads it need not have registered them."""
        parameters = {parameter.name: parameter.to_dict() for parameter in self.parameters}
        out: dict[str, Any] = {"name": self.name, "description": self.description, "parameters": parameters}
        named = [str(rule) for p in self.parameters if p.name == "rule" for rule in domain_values(p.domain)]
        rules = {rule: told for rule in named if (told := definition(rule)) is not None}
        return {**out, "rules": rules} if rules else out

    @cached_property
    def visited(self) -> tuple[Parameter, ...]:
        """The parameters in the order in which they are suggested: conditions before dependants."""
        return ordered(self.parameters, Place(self.name))

    def suggest(self, trial: Trial) -> Candidate:
        """Ask ``trial`` for the value of every active parameter that is not constant.

        Args:
            trial: an Optuna trial, or anything with its ``suggest_…`` methods.
        """
        values: dict[str, Value] = {}
        for parameter in self.visited:
            if active(parameter, values):
                values[parameter.name] = parameter.domain.suggest(parameter.name, trial)
        return self.candidate(values)

    def candidate(self, values: Mapping[str, Value]) -> Candidate:
        """The candidate that the values of the active parameters describe."""
        made = candidate(values)
        return made if self.matching is None else self.matching(made)

    def matched(self, matching: Matching) -> Space:
        """A copy whose candidates get their hidden sizes from ``matching``.

        Raises:
            InputError: the space has hidden sizes of its own.
        """
        if any(p.name == "hidden_size" for p in self.parameters):
            raise InputError(f'space "{self.name}" has hidden_size, which follows from the number of parameters; leave it out')
        return replace(self, matching=matching)

    def draw(self, n: int, seed: int) -> list[Candidate]:
        """``n`` random candidates: each parameter uniform in its domain, or in the logarithm of it."""
        trial = RandomTrial(seed)
        return [self.suggest(trial) for _ in range(n)]

    def fixed(self, values: Mapping[str, Value] | None = None, **more: Value) -> Space:
        """A copy in which parameters are constant; those that can then never be active are left out.

        The values need not be among the space's own: a baseline may have a base and a rule that are not searched. What is
        fixed loses the conditions that were written out for it; those that its name implies remain.

        Args:
            values, more: parameter -> value; names with a dot only fit into ``values``.

        Raises:
            InputError: an unknown parameter or a value that it cannot have anywhere.
        """
        place = Place(f'space "{self.name}"', "parameters")
        constants: dict[str, Constant] = {}
        for name, value in {**(values or {}), **more}.items():
            target = Target.of(name, str(place.at(name)))
            try:
                constants[target.name] = Constant(target.check(value))
            except InputError as error:
                raise InputError(error.message, str(place.at(name))) from None
        parameters = [Parameter(p.name, constants.pop(p.name)) if p.name in constants else p for p in self.parameters]
        parameters += [Parameter(name, constant) for name, constant in constants.items()]
        can = {p.name: domain_values(p.domain) for p in parameters}
        parameters = [_renewed(p, can) for p in parameters]
        kept = [p for p in parameters if not never(p, parameters)]
        narrowed = tuple(_narrowed(p, can) for p in kept)
        check_together(narrowed, place)
        return replace(self, parameters=narrowed)

    def for_cell(self, spec: CellSpec) -> Space:
        """A copy that has one cell only and searches how it is trained: what a baseline is tuned over."""
        return self.fixed(cell_values(spec, {p.name for p in self.parameters}))

    def count(self) -> Count:
        """How many different cells and candidates there are, as far as it can be said exactly."""
        return count_space(self)


def cell_values(spec: CellSpec, there: Collection[str]) -> dict[str, Value]:
    """The values of the parameters that make the cell; those with defaults only if they are ``there``, in the space."""
    values: dict[str, Value] = {"base": spec.base, "rule": spec.rule}
    values |= {f"{spec.base}.{option}": value for option, value in spec.options.items()}
    values |= {f"{spec.rule}.{name}": value for name, value in spec.coefficients.items()}
    for name in spec.coefficients:
        learned = f"{spec.rule}.{name}.learned"
        kind = spec.learned_kinds.get(name, False)
        if kind or learned in there:
            values[learned] = kind
    plain = CellSpec(spec.base, spec.rule)
    parts = {
        "scope": (spec.scope, plain.scope),
        f"{spec.base}.gates": (gates_text(spec.base, spec.gates), gates_text(spec.base, plain.gates)),
        "drive_bias": (spec.drive_bias, plain.drive_bias),
    }
    values |= {name: value for name, (value, default) in parts.items() if name in there or value != default}
    return values


def _renewed(parameter: Parameter, can: Mapping[str, tuple[Value, ...]]) -> Parameter:
    """With its conditions that are written as ``not`` applied to what the other parameters can be now."""
    excluded = dict(parameter.unless)
    when = tuple(
        (other, tuple(v for v in can.get(other, ()) if not common([v], excluded[other])) if other in excluded else values)
        for other, values in parameter.when
    )
    return Parameter(parameter.name, parameter.domain, when, parameter.unless)


def _narrowed(parameter: Parameter, can: Mapping[str, tuple[Value, ...]]) -> Parameter:
    """With nothing in its conditions that the other parameters cannot be."""
    when = tuple((other, common(values, can[other])) for other, values in parameter.when)
    unless = ((other, common(values, can[other])) for other, values in parameter.unless)
    return Parameter(parameter.name, parameter.domain, when, tuple((other, values) for other, values in unless if values))


def _define_rules(data: object, place: Place) -> None:
    """Register what a space has under ``rules``: name -> formula, or formula, coefficients, summary and source."""
    if not isinstance(data, Mapping):
        raise place.error(f"found {shown(data)}, allowed: a mapping from a rule's name to its formula")
    for name, told in data.items():
        try:
            define(name, {"formula": told} if isinstance(told, str) else told)
        except InputError as error:
            raise InputError(error.message, str(place.at(str(name)))) from None


def load_space(name_or_path: str) -> Space:
    """The space in a file.

    Args:
        name_or_path: "optimizer_cells", or the path of a YAML file.

    Raises:
        InputError: no such file, or something in it is wrong.
    """
    path = resolve("search_spaces", name_or_path)
    return Space.from_dict(read_yaml(path), path.stem, display(path))


class RandomTrial:
    """A trial that answers at random, with nothing but the standard library."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        if step is not None:
            return min(low + step * self._random.randint(0, round((high - low) / step)), high)
        if log:
            return min(max(math.exp(self._random.uniform(math.log(low), math.log(high))), low), high)
        return self._random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:  # each whole number stands for the half-open interval around it
            value = round(math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            return min(max(value, low), high)
        return low + step * self._random.randint(0, (high - low) // step)
