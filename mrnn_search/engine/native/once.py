"""Gradients that have none of their own, and say so however they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def once(gradients: Sequence[Tensor | None], sources: Iterable[Tensor | None]) -> tuple[Tensor | None, ...]:
    """``gradients``, as functions of ``sources`` whose derivative raises; where no graph is made of them, as they are.

    `torch.autograd.function.once_differentiable` ties them to nothing: ``torch.autograd.grad(loss + penalty, weights)`` would
    leave the penalty out without a word.
    """
    if not torch.is_grad_enabled():
        return tuple(gradients)
    there = [g for g in gradients if g is not None]
    tied = iter(_Once.apply(len(there), *there, *(s for s in sources if s is not None)))
    return tuple(None if g is None else next(tied) for g in gradients)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.detach() for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError('the fused kernels are differentiable once; a second derivative needs execution = "loop"')
