"""Drive rules of K lanes on whole sequences, one launch for all steps, forward and backward, in Triton (float32).

A rule is a formula; its kernels are generated: see `generate`. The forward keeps, at every step, the states that the backward reads.
A lane's result does not depend on the others.

Shapes: K lanes, T time, B batch, C channels, S slots (scalars of a formula, one a step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...cells.formula.program import Program
from ..native.scalars import unreadable
from .generate import Generated, Kernel, generated

BLOCK = 256  # channels a program; to be tuned on a device
# Products and sums are joined where the instructions say so and nowhere else: one lane's rounding is not another kernel's.
OPTIONS = {"enable_fp_fusion": False}


def unfit(program: Program, c: Mapping[str, Any], t: int | Tensor) -> str:
    """Why `drives` cannot run this; empty if it can."""
    if program.coupled:
        return "it reads the hidden state"
    return unreadable(program, c, t)


def drives(
    program: Program, c: Sequence[Mapping[str, Any]], u: Tensor, held: Sequence[Tensor | None], t: int = 0
) -> tuple[Tensor, list[Tensor]]:
    """One rule on all its steps, for K lanes with coefficients of their own.

    Differentiable once, in u, in the coefficients and in the states before the first step.

    Args:
        c: of each lane, the coefficients: floats, or tensors ().
        u: (K, T, B, C), float32, T >= 1.
        held: the states before the first step, (K, B, C) each; None is zero.
        t: steps that the rule has seen.

    Returns:
        the result (K, T, B, C), and the states after the last step, (K, B, C) each.

    Raises:
        ValueError: a lane does not fit (see `unfit`).
    """
    for one in c:
        if problem := unfit(program, one, t):
            raise ValueError(f"rule {program.text}: {problem}")
    code = generated(program)
    table = torch.stack([code.table(one, t, u.shape[1], u.device).double() for one in c])
    learned = frozenset(k for one in c for k, v in one.items() if isinstance(v, Tensor) and v.requires_grad)
    if any(h is not None for h in held):
        held = [torch.zeros_like(u[:, 0]) if h is None else h for h in held]
    back = None
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (u, table, *held)):
        back = code.backward(u.requires_grad, learned)
    d, *last = _Drives.apply(code, back, u, table, *held)
    return d, last


class _Drives(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, code: Generated, back: Kernel | None, u: Tensor, table: Tensor, *held: Tensor | None) -> tuple[Tensor, ...]:
        u, table, starts = u.contiguous(), table.float(), [h.contiguous() for h in held if h is not None]
        d, last = torch.empty_like(u), [torch.empty_like(u[:, 0]) for _ in held]
        states = back.states if back else ()
        kept = [torch.empty_like(u) for _ in states]
        sizes = u.shape[1], u.shape[2:].numel()
        grid = len(u), -(-sizes[1] // BLOCK)
        code.forward(states).run[grid](u, table, d, *(starts or last), *last, *kept, *sizes, bool(starts), BLOCK, **OPTIONS)
        ctx.back, ctx.grid, ctx.sizes, ctx.shape = back, grid, sizes, u.shape
        ctx.save_for_backward(table, u if back and back.reads_u else None, *kept, *(starts[k] for k in states if starts))
        ctx.set_materialize_grads(False)
        return (d, *last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dd: Tensor | None, *dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        table, u, *saved = ctx.saved_tensors
        _, _, for_u, for_table, *for_held = ctx.needs_input_grad
        kept, starts = saved[: len(ctx.back.states)], saved[len(ctx.back.states) :]
        dd = table.new_zeros(ctx.shape) if dd is None else dd.contiguous()
        ends = [torch.zeros_like(dd[:, 0]) if g is None else g.contiguous() for g in dlast] if any(g is not None for g in dlast) else []
        du = torch.empty_like(dd)
        sums = table.new_zeros(*ctx.grid, *table.shape[1:]) if for_table else table
        firsts = [torch.empty_like(dd[:, 0]) for _ in dlast] if any(for_held) else []
        none = [dd] * len(dlast)  # what is not there is not read or written
        states = (*(starts or none[: len(kept)]), *kept, *(ends or none), *(firsts or none))
        flags = bool(starts), bool(ends), bool(firsts)
        ctx.back.run[ctx.grid](dd if u is None else u, table, dd, du, sums, *states, *ctx.sizes, *flags, BLOCK, **OPTIONS)
        # Lane by lane: a sum over a whole table could have another order where it has more rows.
        d_table = torch.stack([parts.double().sum(0) for parts in sums]) if for_table else None
        return None, None, du if for_u else None, d_table, *(firsts[k] if wanted else None for k, wanted in enumerate(for_held))
