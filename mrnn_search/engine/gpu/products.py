"""The input's products: a linear layer of each lane's own weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ALIGNED = 64  # bytes


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, batched: bool) -> Tensor:
    """``x W^T + b`` of each lane; differentiable once.

    Args:
        x: (K, T, B, I); weight: (K, G·H, I); bias: (K, G·H), or None for zero.
        batched: one GEMM for all lanes, whose algorithm, and so a lane's last bits, may depend on K. Else one GEMM a lane.

    Returns:
        (K, T, B, G·H).
    """
    y: Tensor = _Linear.apply(batched, x.flatten(1, 2), weight, bias)
    return y.view(*x.shape[:3], -1)


def shifted(d: Tensor, bias: Tensor) -> Tensor:
    """``d`` (K, T, B, C) plus ``bias`` (K, C); differentiable once."""
    result: Tensor = _Shift.apply(d, bias)
    return result


def one(stacked: Tensor, lane: int) -> Tensor:
    """A lane's matrix for a product or a sum: libraries choose the algorithm by the address, which must not tell the lane's place."""
    found = stacked[lane]
    return found if found.data_ptr() % ALIGNED == 0 else found.clone()


def _multiply(a: Tensor, b: Tensor, batched: bool) -> Tensor:
    if batched:
        return torch.bmm(a, b)
    return torch.stack([one(a, k) @ one(b, k) for k in range(len(a))])


def _column_sums(stacked: Tensor) -> Tensor:
    """(K, N, C) -> (K, C), a lane at a time: the order of a sum over a whole stack may depend on K."""
    return torch.stack([one(stacked, k).sum(0) for k in range(len(stacked))])


class _Linear(torch.autograd.Function):
    """Rows (K, N, I)."""

    @staticmethod
    def forward(ctx: Any, batched: bool, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.batched = batched
        ctx.save_for_backward(x if weight.requires_grad else None, weight if x.requires_grad else None)
        y = _multiply(x, weight.mT, batched)
        return y if bias is None else y.add_(bias[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, for_x, for_weight, for_bias = ctx.needs_input_grad
        dy = dy.contiguous()
        dx = _multiply(dy, weight, ctx.batched) if for_x else None
        d_weight = _multiply(dy.mT, x, ctx.batched) if for_weight else None
        return None, dx, d_weight, _column_sums(dy) if for_bias else None


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Tensor, bias: Tensor) -> Tensor:
        return d + bias[:, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return dy, _column_sums(dy.contiguous().flatten(1, 2)) if ctx.needs_input_grad[1] else None
