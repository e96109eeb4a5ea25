"""Formulas as trees: what there is, what fits together, and the limits.

A formula turns the drive ``u`` (and, in coupled rules, the recurrent term ``r``) into what the gates see. Every part of it
is of one of two types: a *scalar*, made of numbers, coefficients and the step number ``t``; or a *signal*, one number for
each sequence and channel at each step, made of ``u`` and ``r`` too. What runs over time (`TEMPORAL`) keeps one tensor of
state, 0 before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..._registry import SpecError, UnknownNameError

MAX_NODES = 256  # of a tree; what a person reads has a tenth of that
MAX_DEPTH = 48
LARGEST = 1e30  # of a number, and its inverse the smallest: products of two stay finite in float32's range of exponents
MAX_PERIOD = 10**6

# Elementwise functions -> (number of arguments, the same on plain numbers, meaning).
ELEMENTWISE: Mapping[str, tuple[int, Callable[..., float], str]] = {
    "sqrt": (1, math.sqrt, "square root; its derivative at exactly 0 counts as 0"),
    "abs": (1, abs, "absolute value"),
    "sign": (1, lambda x: float((x > 0) - (x < 0)), "-1, 0 or 1"),
    "exp": (1, math.exp, "exponential"),
    "log": (1, math.log, "natural logarithm"),
    "tanh": (1, math.tanh, "hyperbolic tangent"),
    "sigmoid": (1, lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0, "logistic function"),
    "relu": (1, lambda x: max(x, 0.0), "max(x, 0)"),
    "min": (2, min, "the smaller one"),
    "max": (2, max, "the larger one"),
}
# Functions over time -> (fewest arguments, most, meaning). The first argument is a signal, the others are scalars.
TEMPORAL: Mapping[str, tuple[int, int, str]] = {
    "momentum": (2, 3, "momentum(x, mu, gain=1): v_t = mu v_{t-1} + gain x_t"),
    "ema": (2, 2, "ema(x, beta): m_t = beta m_{t-1} + (1 - beta) x_t"),
    "peak": (1, 1, "peak(x): p_t = max(p_{t-1}, x_t), the largest so far, at least 0"),
    "prev": (1, 1, "prev(x): x_{t-1}"),
}
SHORT = {"m": "ema(u, beta)", "n": "ema(u^2, beta)"}  # m(beta), n(beta)
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "^"}
ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
}
LEAVES = ("num", "coef", "step", "u", "r")


@dataclass(frozen=True, eq=False)
class Node:
    """One node of a formula. Equal where the trees are equal.

    Attributes:
        op: a leaf ("num", "coef", "step", "u", "r"), an operator ("add", "sub", "mul", "div", "pow", "neg"), "cycle",
            or a function of `ELEMENTWISE` or `TEMPORAL`.
        args: its arguments.
        value: of a number, or the name of a coefficient.
        is_signal: it depends on u or r; is_coupled: on r.
        size, depth: nodes of the tree, and the longest way down.
    """

    op: str
    args: tuple[Node, ...] = ()
    value: float | str | None = None
    _hash: int = field(init=False, repr=False)
    is_signal: bool = field(init=False, repr=False)
    is_coupled: bool = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    depth: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # once: trees are compared and looked up often
        put(self, "_hash", hash((self.op, self.args, self.value)))
        put(self, "is_signal", self.op in ("u", "r") or any(a.is_signal for a in self.args))
        put(self, "is_coupled", self.op == "r" or any(a.is_coupled for a in self.args))
        put(self, "size", 1 + sum(a.size for a in self.args))
        put(self, "depth", 1 + max((a.depth for a in self.args), default=0))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Node) or self._hash != other._hash:
            return False
        return self.op == other.op and self.value == other.value and self.args == other.args

    def __repr__(self) -> str:
        inner = [repr(self.value)] if self.value is not None else []
        return f"{self.op}({', '.join(inner + [repr(a) for a in self.args])})"

    def walk(self) -> tuple[Node, ...]:
        """Every different node below and this one, arguments first."""
        if "_order" not in self.__dict__:  # every step of every layer asks
            order: dict[Node, None] = {}
            for argument in self.args:
                order.update(dict.fromkeys(argument.walk()))
            object.__setattr__(self, "_order", (*order, self))
        known: tuple[Node, ...] = self.__dict__["_order"]
        return known

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients in it, sorted."""
        return tuple(sorted({str(n.value) for n in self.walk() if n.op == "coef"}))


U, R, STEP = Node("u"), Node("r"), Node("step")


def num(value: float) -> Node:
    """A number.

    Raises:
        SpecError: not finite, or absurdly large or small.
    """
    if not math.isfinite(value) or abs(value) > LARGEST or 0 < abs(value) < 1 / LARGEST:
        raise SpecError(f"number {value:g} in a formula, allowed: 0, or {1 / LARGEST:g} <= |number| <= {LARGEST:g}")
    return Node("num", (), float(value) + 0.0)


def coef(name: str) -> Node:
    """A coefficient, by name."""
    return Node("coef", (), name)


def neg(x: Node) -> Node:
    """``-x``; of a number, the number."""
    return num(-float(x.value or 0)) if x.op == "num" else Node("neg", (x,))


def make(op: str, *args: Node) -> Node:
    """An operator or a function of ``args``, checked.

    Raises:
        UnknownNameError: no such function.
        SpecError: the wrong number or type of arguments, a number outside its range, or a tree that is too large.
    """
    if op in OPERATORS or op == "neg":
        fewest = most = 1 if op == "neg" else 2
    elif op in ELEMENTWISE:
        fewest = most = ELEMENTWISE[op][0]
    elif op in TEMPORAL:
        fewest, most, _ = TEMPORAL[op]
    elif op == "cycle":
        fewest = most = 1
    else:
        raise UnknownNameError("function in a formula", op, [*ELEMENTWISE, *TEMPORAL, *SHORT, "cycle"])
    if not fewest <= len(args) <= most:
        allowed = f"{fewest}" if fewest == most else f"{fewest} or {most}"
        raise SpecError(f"{op} has {len(args)} argument{'s' * (len(args) != 1)}, allowed: {allowed}")
    if op == "neg":
        node = neg(args[0])
    else:
        node = Node(op, args)
        _check(node)
    if node.size > MAX_NODES:
        raise SpecError(f"the formula has more than {MAX_NODES} parts")
    if node.depth > MAX_DEPTH:
        raise SpecError(f"the formula is nested more than {MAX_DEPTH} deep")
    return node


def _check(node: Node) -> None:
    op, args = node.op, node.args
    if op in TEMPORAL:
        if not args[0].is_signal:
            raise SpecError(f"the first argument of {op} is a scalar, allowed: a signal (something with u)")
        if any(a.is_signal for a in args[1:]):
            raise SpecError(f"an argument of {op} after the first depends on u or r, allowed: a scalar (numbers, coefficients, t)")
        if len(args) > 1:
            decay = constant(args[1])
            if decay is not None and not 0 <= decay <= 1:
                raise SpecError(f"decay {decay:g} in {op}, allowed 0 <= decay <= 1")
    elif op == "cycle":
        period = constant(args[0])
        if args[0].op != "coef" and (period is None or period != int(period) or not 1 <= period <= MAX_PERIOD):
            raise SpecError(f"the argument of cycle is not a period, allowed: a coefficient, or a whole number from 1 to {MAX_PERIOD}")
    elif op == "pow" and args[1].is_signal:
        raise SpecError("an exponent depends on u or r, allowed: a scalar")
    elif op == "div" and constant(args[1]) == 0:
        raise SpecError("a divisor in a formula is 0")
    if not node.is_signal:
        constant(node)


def constant(node: Node) -> float | None:
    """The value of a scalar that is made of numbers alone; None for any other node.

    Raises:
        SpecError: it has none, as ``1 / 0`` or ``sqrt(-1)``, or one that is not finite.
    """
    if node.op == "num":
        return float(node.value or 0)
    if node.is_signal or node.op in ("coef", "step", "cycle"):
        return None
    values = [constant(a) for a in node.args]
    if any(v is None for v in values):
        return None
    return number(node.op, *(v for v in values if v is not None))


def number(op: str, *values: float) -> float:
    """An operator or an elementwise function of plain numbers.

    Raises:
        SpecError: the result is not a finite real number.
    """
    try:
        if op == "neg":
            return -values[0]
        result = ARITHMETIC[op](*values) if op in ARITHMETIC else ELEMENTWISE[op][1](*values)
        if isinstance(result, complex) or not math.isfinite(result):
            raise ValueError
    except (ArithmeticError, ValueError):
        told = ", ".join(f"{v:g}" for v in values)
        raise SpecError(f"{op}({told}) in a formula is not a finite number") from None
    return float(result)
