"""The per-step loop: any spec, differentiable, slow and obvious. Every fast path is tested against it.

Shapes: T time, B batch, I input, H hidden, G gate blocks; C channels that the rule acts on: those of the chosen gates, or
H under the scope "hidden".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .bases.base import Base, Weights, add, bases
from .formula.program import Program
from .formula.run import run_step
from .rules.base import Coefficient, Coefficients
from .spec import CellSpec


@dataclass(frozen=True)
class FromInput:
    """A coefficient that depends on the input: ``from_raw(raw + x_t @ weight)``, one number for each step and sequence.

    Attributes:
        coefficient: its range and map.
        raw: (), weight: (I,).
    """

    coefficient: Coefficient
    raw: Tensor
    weight: Tensor

    def at(self, x: Tensor) -> Tensor:
        """``x`` (..., I) -> (..., 1), in the weight's dtype, under autocast too: in bfloat16 a decay of 0.999 would be 1."""
        with torch.autocast(x.device.type, enabled=False) if autocast_on(x) else nullcontext():
            return self.coefficient.from_raw(self.raw + (x.to(self.weight.dtype) @ self.weight)[..., None])


def autocast_on(x: Tensor) -> bool:
    """Is autocast on where ``x`` is? (Asked of the device "meta", torch raises.)"""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def at_input(c: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
    """The coefficients at the inputs ``x`` (..., I): floats and tensors only."""
    return {name: value.at(x) if isinstance(value, FromInput) else value for name, value in c.items()}


def chosen_gates(spec: CellSpec) -> tuple[int, ...] | None:
    """Positions of the gates that the rule acts on; None: all."""
    if spec.gates is None:
        return None
    return tuple(bases[spec.base].gate_names.index(gate) for gate in spec.gates)


def rule_channels(spec: CellSpec, hidden_size: int) -> int:
    """C: how many channels the rule acts on."""
    if spec.scope == "hidden":
        return hidden_size
    return hidden_size * len(spec.gates or bases[spec.base].gate_names)


class Coupled:
    """A rule on the pre-activation, for one step: the ``join`` of `Base.step`, which keeps the rule's states.

    Args:
        held: states before the step, (B, C) each.
        bias: (G·H,), added after the rule; None: none.
        chosen: as `chosen_gates` gives them.
    """

    def __init__(
        self,
        program: Program,
        c: Coefficients,
        held: Sequence[Tensor],
        t: Any,
        hidden_size: int,
        chosen: tuple[int, ...] | None,
        bias: Tensor | None,
    ) -> None:
        self.program, self.c, self.before, self.t = program, c, held, t
        self.size, self.chosen, self.bias = hidden_size, chosen, bias
        self.after: list[tuple[Tensor, ...]] = []
        self.done = 0  # channels of the rule that were seen

    def __call__(self, d: Tensor, r: Tensor, first: int = 0) -> Tensor:
        """The pre-activation (B, n·H) of the gates ``first`` to ``first + n``."""
        count = d.shape[-1] // self.size
        if self.chosen is None:
            a = self._rule(d, r)
        elif count == 1:
            a = self._rule(d, r) if first in self.chosen else d + r
        else:
            pairs = zip(d.chunk(count, -1), r.chunk(count, -1), strict=True)
            return torch.cat([self(d_i, r_i, first + i) for i, (d_i, r_i) in enumerate(pairs)], -1)
        return a if self.bias is None else a + self.bias[first * self.size : (first + count) * self.size]

    def _rule(self, d: Tensor, r: Tensor) -> Tensor:
        here = slice(self.done, self.done + d.shape[-1])
        self.done = here.stop
        c = {k: v[here] if isinstance(v, Tensor) and v.dim() == 1 else v for k, v in self.c.items()}
        held = [m[..., here] for m in self.before]
        wide_d, wide_r = (x.to(held[0].dtype) if held else x for x in (d, r))
        if self.program.coupled:
            a, new = run_step(self.program, c, wide_d, held, self.t, wide_r)
        else:
            a, new = run_step(self.program, c, wide_d + wide_r, held, self.t)
        self.after.append(new)
        seen: Tensor = a.to(d.dtype)
        return seen

    def held(self) -> tuple[Tensor, ...]:
        """The states after the step."""
        if len(self.after) == 1:
            return self.after[0]
        return tuple(torch.cat(parts, -1) for parts in zip(*self.after, strict=True))


def rule_pieces(spec: CellSpec) -> int:
    """In how many pieces a rule on the pre-activation runs in one step: a gru's candidate waits for its reset gate."""
    base, one = bases[spec.base], torch.zeros(1, 1)
    w = {name: torch.zeros(shape) for name, shape in base.shapes(1, 1, True).items()}
    program = spec.rule_type.program
    held = [torch.zeros(1, rule_channels(spec, 1))] * len(program.states)
    join = Coupled(program, spec.coefficients, held, 1, 1, chosen_gates(spec), None)
    base.step(w, torch.zeros(1, base.gates), (one,) * base.states, spec.options, join)
    return len(join.after)


def step_hidden(
    spec: CellSpec, base: type[Base], c: Coefficients, w: Weights, u: Tensor, state: tuple[Tensor, ...], held: Sequence[Tensor], t: Any
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """One step under the scope "hidden": ``h_t = h_{t-1} + rule(f(x_t, h_{t-1}) - h_{t-1})``."""
    h = state[0]
    plain = base.step(w, u, state, spec.options, add)
    gap = plain[0] - h
    moved, held = run_step(spec.rule_type.program, c, gap.to(held[0].dtype) if held else gap, held, t)
    return (h + moved.to(h.dtype), *plain[1:]), tuple(held)


def step_coupled(
    spec: CellSpec,
    base: type[Base],
    c: Coefficients,
    w: Weights,
    u: Tensor,
    state: tuple[Tensor, ...],
    held: Sequence[Tensor],
    t: Any,
    bias: Tensor | None,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """One step under the scope "preactivation"."""
    join = Coupled(spec.rule_type.program, c, held, t, state[0].shape[-1], chosen_gates(spec), bias)
    state = base.step(w, u, state, spec.options, join)
    return state, join.held()


def split_bias(spec: CellSpec, w: Weights) -> tuple[Tensor | None, Tensor | None]:
    """The drive's bias inside the rule, and the one added after it."""
    bias = w.get("bias_ih")
    return (bias, None) if spec.drive_bias == "inside" else (None, bias)


def select(u: Tensor, chosen: tuple[int, ...] | None, gates: int) -> Tensor:
    """The channels (..., C) of the chosen gates of ``u`` (..., G·H)."""
    if chosen is None:
        return u
    blocks = u.chunk(gates, -1)
    return torch.cat([blocks[i] for i in chosen], -1)


def replace(u: Tensor, d: Tensor, chosen: tuple[int, ...] | None, gates: int) -> Tensor:
    """``u`` (..., G·H) with ``d`` (..., C) in the place of the chosen gates."""
    if chosen is None:
        return d
    blocks = list(u.chunk(gates, -1))
    for i, block in zip(chosen, d.chunk(len(chosen), -1), strict=True):
        blocks[i] = block
    return torch.cat(blocks, -1)


def reference_steps(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: int = 0,
) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """The state and the rule's states after each step: the very tensors that the next step reads. Arguments as `run_reference`."""
    base, program, chosen = bases[spec.base], spec.rule_type.program, chosen_gates(spec)
    inside, outside = split_bias(spec, w)
    held = tuple(moments)
    for x_t in x.unbind(0):
        t += 1
        now = at_input(c, x_t)
        u = F.linear(x_t, w["weight_ih"], inside)  # (B, G*H)
        if spec.scope == "preactivation":
            state, held = step_coupled(spec, base, now, w, u, state, held, t, outside)
        elif spec.scope == "hidden":
            state, held = step_hidden(spec, base, now, w, u, state, held, t)
        else:
            seen = select(u, chosen, base.gates)
            d, held = run_step(program, now, seen.to(held[0].dtype) if held else seen, held, t)
            d = replace(u, d.to(u.dtype), chosen, base.gates)
            state = base.step(w, d if outside is None else d + outside, state, spec.options, add)
        yield state, held


def run_reference(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: int = 0,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """One layer over one sequence, one step at a time.

    Args:
        c: the rule's coefficients: floats, tensors () or (C,), or `FromInput`.
        w: the base's parameters by name (``weight_ih`` …).
        x: (T, B, I).
        state: h or (h, c), each (B, H).
        moments: the rule's states, each (B, C); the rule computes in their dtype, the base in x's.
        t: steps that the rule has seen.

    Returns:
        outputs h_1 … h_T (T, B, H), the last state, the rule's last states.
    """
    steps = list(reference_steps(spec, c, w, x, state, moments, t))
    return torch.stack([h for (h, *_), _ in steps]), *steps[-1]
