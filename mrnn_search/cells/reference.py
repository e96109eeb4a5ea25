"""The per-step loop: any spec, differentiable, slow and obvious. Every fast path is tested against it.

Shapes: T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .bases.base import Weights, bases
from .rules.base import Coefficients, rules
from .spec import CellSpec


def reference_steps(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: int = 0,
) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """The state and the moments after each step: the very tensors that the next step reads. Arguments as `run_reference`."""
    base, rule = bases[spec.base], rules[spec.rule]
    held = tuple(moments)
    for x_t in x.unbind(0):
        t += 1
        u = F.linear(x_t, w["weight_ih"], w.get("bias_ih"))  # (B, G*H)
        drive = u.to(held[0].dtype) if held else u
        held = tuple(m.decay(c, t) * old + m.gain(c, t) * drive**m.power for m, old in zip(rule.moments, held, strict=True))
        state = base.step(w, rule.read(c, drive, held).to(u.dtype), state, spec.options)
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
        c: the rule's coefficients, floats or 0-dim tensors.
        w: the base's parameters by name (``weight_ih`` …).
        x: (T, B, I).
        state: h or (h, c), each (B, H).
        moments: the rule's moments, each (B, G·H); the rule computes in their dtype, the base in x's.
        t: steps that the moments have seen.

    Returns:
        outputs h_1 … h_T (T, B, H), the last state, the last moments.
    """
    steps = list(reference_steps(spec, c, w, x, state, moments, t))
    return torch.stack([h for (h, *_), _ in steps]), *steps[-1]
