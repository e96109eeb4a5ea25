"""The contract of a rule: what turns the drive ``u_t = W x_t + b`` into what the gates see, ``d_t``.

A rule is *data*, as a Runge-Kutta method is a tableau: a tuple of running moments of the drive,

    m_t = decay(c, t) m_{t-1} + gain(c, t) u_t ** power,        m_0 = 0,   t = 1, 2, …

and one formula ``read`` that makes ``d_t`` of them. Decay and gain never depend on the hidden state, so the engine may
compute every moment for all t at once, before the recurrence; the reference computes them one step at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..._registry import Registry, SpecError, UnknownNameError

# A coefficient at run time: a float if it is fixed, a 0-dim tensor if it is learned.
Scalar = Any
Coefficients = Mapping[str, Scalar]


@dataclass(frozen=True)
class Coefficient:
    """The range of one coefficient, and the smooth map that keeps it there when it is learned.

    Attributes:
        default: value when none is given.
        low, high: bounds; ``low_open``/``high_open`` exclude the bound itself.
        integer: whole numbers only (never learnable).
        learnable: may be trained: its range must be an interval (0, 1) or (0, inf).
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
            return math.log(value)
        return math.log(value / (self.high - value))

    def from_raw(self, raw: Tensor) -> Tensor:
        """Smooth map of the real line onto the range: exp for (0, inf), a scaled sigmoid for (0, high)."""
        return torch.exp(raw) if math.isinf(self.high) else self.high * torch.sigmoid(raw)


@dataclass(frozen=True)
class Moment:
    """One running moment of the drive.

    Attributes:
        name: its letter in the formulas.
        power: 1 for the drive itself, 2 for its square.
        decay, gain: functions of the coefficients and of the step number t (an int from 1, or a float tensor of step
            numbers); each returns a scalar or a tensor like t.
        constant: neither depends on t.
    """

    name: str
    power: int
    decay: Callable[[Coefficients, Any], Scalar]
    gain: Callable[[Coefficients, Any], Scalar]
    constant: bool = True


class Rule(ABC):
    """One rule; all methods are class methods, a rule has no state of its own.

    Attributes:
        coefficients: name -> range and default.
        moments: running moments that the rule keeps; its state is one tensor (B, G·H) for each.
        linear: ``d_t`` is the drive itself (no moments) or the first moment: then the rule commutes with ``W``
            (identity 2) and the base may run on torch's own kernel over a filtered input.
        equations: the formulas, one line each.
        source: where it comes from, and where it differs from there.
    """

    coefficients: ClassVar[Mapping[str, Coefficient]] = {}
    moments: ClassVar[Sequence[Moment]] = ()
    linear: ClassVar[bool] = False
    equations: ClassVar[Sequence[str]]
    source: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, c: Coefficients, u: Tensor, moments: Sequence[Tensor]) -> Tensor:
        """``d_t`` from the drive and the moments *after* their update; all of one shape, element-wise."""

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


rules: Registry[type[Rule]] = Registry("rule", "mrnn_search.rules")

# Coefficients that several rules share. Defaults are the released MNIST recipes'.
MU = Coefficient(0.6, 0.0, 1.0, high_open=True, meaning="momentum: how much of the velocity stays")
EPSILON = Coefficient(0.6, 0.0, math.inf, low_open=True, high_open=True, meaning="step size: gain on the drive")
BETA = Coefficient(0.9, 0.0, 1.0, high_open=True, meaning="decay of the second moment")
DELTA = Coefficient(
    1e-16, 0.0, math.inf, low_open=True, high_open=True, learnable=False, guard=True, meaning="inside the root, against division by zero"
)

SECOND_MOMENT = Moment("s", 2, decay=lambda c, t: c["beta"], gain=lambda c, t: 1 - c["beta"])
VELOCITY = Moment("v", 1, decay=lambda c, t: c["mu"], gain=lambda c, t: c["epsilon"])

PAPER = "Nguyen, Baraniuk, Bertozzi, Osher, Wang, MomentumRNN, NeurIPS 2020, arXiv 2006.06919"
