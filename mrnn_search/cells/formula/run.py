"""Programs on tensors, one step at a time. (All steps at once: `mrnn_search.engine.sequence`.)"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .node import ARITHMETIC, ELEMENTWISE, STEP, TEMPORAL, Node
from .program import Program, steep


def safe_sqrt(x: Tensor) -> Tensor:
    """The root, with derivative 0 (not infinity) at exactly 0."""
    inside = x != 0
    return torch.where(inside, torch.where(inside, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x))


def safe_pow(x: Tensor, exponent: Any) -> Tensor:
    """``x^exponent``, with derivative 0 (not infinity) at exactly 0."""
    inside = x != 0
    return torch.where(inside, torch.where(inside, x, torch.ones_like(x)) ** exponent, torch.zeros_like(x) ** exponent)


def _on_numbers(plain: Callable[..., float], function: Callable[..., Any]) -> Callable[..., float]:
    """``plain``, with torch's answer (inf, nan) where Python has none, as to ``1 / 0`` or ``log(-1)``."""

    def run(*values: float) -> float:
        try:
            result = plain(*values)
            if not isinstance(result, complex) and abs(result) <= sys.float_info.max:
                return result
        except (ArithmeticError, ValueError):
            pass
        return float(function(*(torch.tensor(v, dtype=torch.float64) for v in values)))

    return run


def _pick(a: Any, b: Any, function: Callable[[Tensor, Tensor], Tensor], plain: Callable[..., float]) -> Any:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return plain(a, b)
    like = a if isinstance(a, Tensor) else b
    a, b = (v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in (a, b))
    return function(a, b)


def _on_both(function: Callable[..., Any], plain: Callable[..., float]) -> Callable[..., Any]:
    plain = _on_numbers(plain, function)
    return lambda *values: function(*values) if any(isinstance(v, Tensor) for v in values) else plain(*values)


ON_TENSORS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sign": torch.sign,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: _on_both(function, function) for name, function in ARITHMETIC.items()},
    **{name: _on_both(function, ELEMENTWISE[name][1]) for name, function in ON_TENSORS.items()},
    "safe_sqrt": _on_both(safe_sqrt, math.sqrt),
    "safe_pow": _on_both(safe_pow, ARITHMETIC["pow"]),
    "neg": lambda x: -x,
    "min": lambda a, b: _pick(a, b, torch.minimum, min),
    "max": lambda a, b: _pick(a, b, torch.maximum, max),
}


def cast(scalar: Any, like: Tensor) -> Any:
    """A scalar beside a signal: tensors in the signal's dtype, so that step numbers in float64 do not widen it."""
    return scalar.to(like.dtype) if isinstance(scalar, Tensor) else scalar


def leaf(node: Node, c: Mapping[str, Any], u: Any, r: Any, t: Any) -> Any:
    """The value of a leaf."""
    match node.op:
        case "num":
            return node.value
        case "coef":
            return c[str(node.value)]
        case "step":
            return t
    return u if node.op == "u" else r


def evaluate(
    root: Node,
    leaf: Callable[[Node], Any],
    temporal: Callable[[Node, Any, Sequence[Any]], Any],
    values: dict[Node, Any] | None = None,
) -> Any:
    """The value of ``root``: each different node once, arguments first.

    Args:
        leaf: gives the values of numbers, coefficients, t, u and r.
        temporal: a function over time; called with its node, the signal and the scalars.
        values: of nodes that are known, and then of every node: for several roots that share parts.
    """
    values = {} if values is None else values
    for node in root.walk():
        if node in values:
            continue
        if not node.args:
            values[node] = leaf(node)
            continue
        given = [values[a] for a in node.args]
        if node.op == "cycle":
            values[node] = (leaf(STEP) - 1) % given[0] + 1
            continue
        if node.op in TEMPORAL:
            values[node] = temporal(node, given[0], given[1:])
            continue
        if node.is_signal and any(not a.is_signal for a in node.args):
            like = next(v for a, v in zip(node.args, given, strict=True) if a.is_signal)
            given = [v if a.is_signal else cast(v, like) for a, v in zip(node.args, given, strict=True)]
        values[node] = FUNCTIONS[f"safe_{node.op}" if steep(node) else node.op](*given)
    return values[root]


def run_step(program: Program, c: Mapping[str, Any], u: Any, held: Sequence[Any], t: Any, r: Any = None) -> tuple[Any, tuple[Any, ...]]:
    """One step of a rule.

    Args:
        c: coefficients: floats, or tensors that broadcast with u.
        u, r: drive and recurrent term, (B, C) each. (Plain numbers do as well: one channel of one sequence.)
        held: one tensor (B, C) for each state of the program.
        t: number of this step, from 1; an int, or a tensor (B, 1) if each sequence has its own.

    Returns:
        the result (B, C), the new states.
    """
    # A quotient of tensors of whole numbers would be float32; Python's own whole numbers grow without end in t^t^t.
    t = t.to(torch.float64) if isinstance(t, Tensor) else float(t)
    before = dict(zip(program.states, held, strict=True))
    after: dict[Node, Any] = {}

    def temporal(node: Node, x: Any, scalars: Sequence[Any]) -> Any:
        old = before[node]
        after[node], value = advance(node, old, x, [cast(s, x) for s in scalars])
        return value

    result = evaluate(program.root, lambda n: leaf(n, c, u, r, t), temporal)
    if isinstance(u, Tensor) and (not isinstance(result, Tensor) or result.shape != u.shape):
        result = u.new_zeros(u.shape) + result  # a rule that is constant in some way
    return result, tuple(after[n] for n in program.states)


def advance(node: Node, old: Any, x: Any, scalars: Sequence[Any]) -> tuple[Any, Any]:
    """What a function over time keeps and gives after one more step: the same, but for ``prev``."""
    if node.op == "prev":
        return x, old
    if node.op == "peak":
        new = FUNCTIONS["max"](old, x)
    elif node.op == "ema":
        new = scalars[0] * old + (1 - scalars[0]) * x
    else:
        new = scalars[0] * old + (scalars[1] * x if len(scalars) > 1 else x)
    return new, new
