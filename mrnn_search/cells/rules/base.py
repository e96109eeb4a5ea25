"""The contract of a rule: a formula over the drive ``u_t = W x_t + b``, and the ranges of its coefficients.

A rule is *data*: everything that it needs (one step, all steps at once, its states, equations, export, normal form) follows
from its formula, in the language of `mrnn_search.cells.formula`. A new rule is a class with two attributes:

    @rules.register("leaky_sign")
    class LeakySign(Rule):
        "Sign of the averaged drive, smoothed."
        coefficients = {"mu": MU, "epsilon": EPSILON}
        formula = "m = ema(u, mu); d = epsilon * tanh(10 * m)"

A rule that reads the recurrent term ``r`` is coupled: its result is the whole pre-activation, not the drive alone.
"""

from __future__ import annotations

import inspect
import math
import re
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..._registry import Registry, SpecError, UnknownNameError
from ..formula.program import Program, with_values

# A coefficient at run time: a float if it is fixed, else a tensor that broadcasts with the drive.
Scalar = Any
Coefficients = Mapping[str, Scalar]


@dataclass(frozen=True)
class Coefficient:
    """The range of one coefficient, and the smooth map that keeps it there when it is learned.

    Attributes:
        default: value when none is given.
        low, high: bounds; ``low_open``/``high_open`` exclude the bound itself.
        integer: whole numbers only (never learnable).
        learnable: may be trained.
        guard: a numerical guard: names leave it out where it has its default.
        meaning: half a line for ``mrnn-search rules``.
    """

    default: float
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False
    integer: bool = False
    learnable: bool = True
    guard: bool = False
    meaning: str = ""

    def allowed(self, name: str) -> str:
        """The range in words: ``0 <= mu < 1``."""
        left = f"{self.low:g} {'<' if self.low_open else '<='} {name}"
        right = "" if math.isinf(self.high) else f" {'<' if self.high_open else '<='} {self.high:g}"
        return left + right + (", a whole number" if self.integer else "")

    def check(self, name: str, value: object) -> float:
        """``value`` as a float (an int where ``integer``).

        Raises:
            SpecError: not a number, not finite, or outside the range.
        """
        wrong = SpecError(f"{name} = {value!r}, allowed {self.allowed(name)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise wrong
        if value < self.low or value > self.high or (self.low_open and value == self.low) or (self.high_open and value == self.high):
            raise wrong
        if self.integer:
            if value != int(value):
                raise wrong
            return int(value)
        return float(value) + 0.0  # + 0.0 turns -0.0 into 0.0: one value, one text

    def check_learnable(self, name: str, value: float) -> None:
        """Raises:
        SpecError: the coefficient cannot be trained, or starts on the edge of its range, where the map ends.
        """
        if not self.learnable:
            raise SpecError(f"{name} cannot be learned")
        if value <= self.low or value >= self.high:
            raise SpecError(f"{name} = {value!r}, a learned coefficient starts strictly inside: {self.low:g} < {name} < {self.high:g}")

    def to_raw(self, value: float) -> float:
        """The unconstrained number that `from_raw` maps to ``value``."""
        if math.isinf(self.high):
            return math.log(value - self.low)
        return math.log((value - self.low) / (self.high - value))

    def from_raw(self, raw: Tensor) -> Tensor:
        """Smooth map of the real line onto the inside of the range: exp for (low, inf), a scaled sigmoid for (low, high)."""
        return self.low + (torch.exp(raw) if math.isinf(self.high) else (self.high - self.low) * torch.sigmoid(raw))


class Rule(ABC):
    """One rule. It is never instantiated.

    Attributes:
        coefficients: name -> range and default.
        formula: lines ``name = …`` and the result, see `mrnn_search.cells.formula.text`.
        source: where it comes from, and where it differs from there.
        program: the formula, compiled when the class is made.
    """

    coefficients: ClassVar[Mapping[str, Coefficient]] = {}
    formula: ClassVar[str]
    source: ClassVar[str] = ""
    program: ClassVar[Program]

    def __init_subclass__(cls) -> None:
        """Raises:
        SpecError, UnknownNameError: there is something wrong with the formula.
        """
        super().__init_subclass__()
        cls.program = Program.of(cls.formula, cls.coefficients)

    @classmethod
    def summary(cls) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(cls) or "").split("\n")[0]

    @classmethod
    def complete(cls, given: Mapping[str, float]) -> dict[str, float]:
        """Every coefficient of the rule: the given ones, checked, and defaults for the rest.

        Raises:
            UnknownNameError: a name that the rule does not have.
            SpecError: a value outside its range.
        """
        for name in given:
            if name not in cls.coefficients:
                raise UnknownNameError(f"coefficient of {cls.__name__}", name, cls.coefficients)
        return {name: c.check(name, given.get(name, c.default)) for name, c in cls.coefficients.items()}

    @classmethod
    def check_values(cls, values: Mapping[str, float]) -> None:
        """Raises:
        SpecError: the formula makes no sense with these coefficients: a divisor of 0, a decay outside its range, …
        """
        try:
            with_values(cls.program, tuple(sorted(values.items())))
        except SpecError as error:
            told = ", ".join(f"{name} = {value:g}" for name, value in values.items())
            raise SpecError(f"formula {cls.program.text} with {told}: {error}") from None


rules: Registry[type[Rule]] = Registry("rule", "mrnn_search.rules")

# Coefficients that several rules share. Defaults are the released MNIST recipes'.
MU = Coefficient(0.6, 0.0, 1.0, high_open=True, meaning="momentum: how much of the velocity stays")
EPSILON = Coefficient(0.6, 0.0, math.inf, low_open=True, high_open=True, meaning="step size: gain on the drive")
BETA = Coefficient(0.9, 0.0, 1.0, high_open=True, meaning="decay of the second moment")
BETA2 = Coefficient(0.99, 0.0, 1.0, high_open=True, meaning="decay of what is remembered")
DELTA = Coefficient(
    1e-16, 0.0, math.inf, low_open=True, high_open=True, learnable=False, guard=True, meaning="inside the root, against division by zero"
)
DELTA_OUTSIDE = replace(DELTA, default=1e-8, meaning="beside the root, against division by zero")
NU = Coefficient(0.7, 0.0, 1.0, meaning="share of the average in the step; the drive itself has the rest")
TAU = Coefficient(0.1, 0.0, math.inf, low_open=True, high_open=True, meaning="width of the smoothed sign")
RESTART = Coefficient(2, 1, 10**6, integer=True, learnable=False, meaning="F: time steps between restarts")

STANDARD: Mapping[str, Coefficient] = {
    "mu": MU, "epsilon": EPSILON, "beta": BETA, "beta2": BETA2, "delta": DELTA, "nu": NU, "tau": TAU, "restart": RESTART,
}  # fmt: skip  # the names that a formula given as text may use

PAPER = "Nguyen, Baraniuk, Bertozzi, Osher, Wang, MomentumRNN, NeurIPS 2020, arXiv 2006.06919"

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def find_rule(name: str) -> type[Rule]:
    """The rule known as ``name``, or, if that is a formula, the rule that it describes.

    Raises:
        UnknownNameError: no such rule, or an unknown name in the formula.
        SpecError: the formula is wrong.
    """
    if name in rules:
        return rules[name]
    if not isinstance(name, str) or (_NAME.fullmatch(name) and name != "u"):
        return rules[name]  # raises, with the nearest name
    return _symbolic(name)


def rule_name(name: str) -> str:
    """``name`` itself, or the one text of the formula that it is. Raises as `find_rule`."""
    found = find_rule(name)
    return found.program.text if issubclass(found, Symbolic) else name


def definition(name: str) -> dict[str, Any] | None:
    """A registered rule of the user's as plain JSON data, for `define` in another process; None for the rules that come with
    this package and for formulas, which need none.
    """
    rule = find_rule(name)
    if rule.__module__.startswith(_OWN) or issubclass(rule, Symbolic):
        return None
    coefficients = {}
    for key, c in rule.coefficients.items():
        told = {f.name: getattr(c, f.name) for f in fields(c)}
        told["high"] = None if math.isinf(c.high) else c.high
        coefficients[key] = {k: v for k, v in told.items() if k in ("default", "low", "high") or v != _ORDINARY[k]}
    return {"formula": rule.program.source, "coefficients": coefficients, "summary": rule.summary(), "source": rule.source}


def define(name: str, data: Mapping[str, Any]) -> None:
    """Register the rule that ``data`` describes (see `definition`), unless this very rule is there already.

    Raises:
        SpecError: there is another rule of that name, or ``data`` describes none.
        UnknownNameError: an unknown name in ``data`` or in the formula.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]{1,64}", name) or name == "u":
        raise SpecError(f"name of a rule {name!r}, allowed: letters, digits, _ and -")
    known = ("formula", "coefficients", "summary", "source")
    if not isinstance(data, Mapping) or "formula" not in data:
        raise SpecError(f"rule {name}: found {data!r}, allowed: a mapping with {', '.join(known)}; formula is needed")
    for key in data:
        if key not in known:
            raise UnknownNameError(f"field of rule {name}", key, known)
    made: type[Rule] = type(
        name,
        (Rule,),
        {
            "__module__": "defined",
            "__doc__": str(data.get("summary", "")),
            "coefficients": {key: _coefficient(name, key, c) for key, c in _mapping(name, data).items()},
            "formula": data["formula"],
            "source": str(data.get("source", "")),
        },
    )
    if name in rules:
        there = rules[name]
        if (there.program.root, dict(there.coefficients)) != (made.program.root, dict(made.coefficients)):
            raise SpecError(f'rule "{name}" is registered with another formula or other coefficients: {there.program.text}')
        return
    rules.register(name)(made)


def _mapping(rule: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The coefficients that are told of; if there are none, the standard ones that the formula uses."""
    if not isinstance(data["formula"], str):
        raise SpecError(f"formula of rule {rule}: found {data['formula']!r}, allowed: text")
    if "coefficients" not in data:
        return {key: STANDARD[key].default for key in Program.of(data["formula"], STANDARD).root.coefficients}
    if not isinstance(data["coefficients"], Mapping):
        raise SpecError(f"coefficients of rule {rule}: found {data['coefficients']!r}, allowed: a mapping from name to range")
    return data["coefficients"]


def _coefficient(rule: str, name: str, data: object) -> Coefficient:
    names = [f.name for f in fields(Coefficient)]
    if isinstance(data, (int, float)) and not isinstance(data, bool) and name in STANDARD:
        return replace(STANDARD[name], default=STANDARD[name].check(name, data))
    if not isinstance(data, Mapping) or "default" not in data:
        raise SpecError(
            f"{rule}.{name}: found {data!r}, allowed: a mapping with default, low and high (or, of {', '.join(STANDARD)}, the default)"
        )
    for key in data:
        if key not in names:
            raise UnknownNameError(f"field of coefficient {rule}.{name}", key, names)
    given = {**data, "low": data.get("low", 0.0), "high": math.inf if data.get("high") is None else data["high"]}
    for key in ("default", "low", "high"):
        if isinstance(given[key], bool) or not isinstance(given[key], (int, float)):
            raise SpecError(f"{rule}.{name}.{key} = {given[key]!r}, allowed: a number")
    made = Coefficient(**given)
    made.check(name, made.default)
    return made


_OWN = __name__.removesuffix(".base")
_ORDINARY = {f.name: f.default for f in fields(Coefficient)}


class Symbolic(Rule):
    """A rule that is written out in the space or the spec."""

    formula = "u"
    source = "written as a formula"


@lru_cache(maxsize=4096)
def _symbolic(text: str) -> type[Rule]:
    program = Program.of(text, STANDARD)
    used = {name: STANDARD[name] for name in program.root.coefficients}
    return type("Symbolic", (Symbolic,), {"__doc__": f"``{program.text}``", "coefficients": used, "formula": program.text})
