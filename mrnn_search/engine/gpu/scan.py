"""First-order linear recurrences over time, and running maxima, for K lanes: what a rule's moments are, on a CUDA device.

    m_t = decay_t m_{t-1} + gain_t x_t,   t = 1 … T

Each channel is read and written once, in T steps of one program: no GEMM, unlike `mrnn_search.engine.scan`, as a device has
enough lanes and channels to hide the steps. A lane's result does not depend on the others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 256  # channels a program; to be tuned on a device


def linear_scan(x: Tensor, decay: Tensor, gain: Tensor, initial: Tensor | None = None) -> Tensor:
    """``m_1 … m_T``; differentiable in all arguments.

    Args:
        x: (K, T, N), float32 or float64.
        decay, gain: (K, T), or (K,) where it is the same at every step; dtype of x.
        initial: m_0 (K, N); None is zero.

    Returns:
        (K, T, N).
    """
    shape = x.shape[:2]
    decays, gains = (v[:, None].expand(shape) if v.dim() == 1 else v for v in (decay, gain))
    result: Tensor = _Linear.apply(x, decays, gains, initial)
    return result


def peak(x: Tensor, initial: Tensor | None = None) -> Tensor:
    """``p_t = max(p_{t-1}, x_t)``; differentiable.

    The gradient goes to the latest of equal values of x, as torch.cummax has it; and to the initial value where no x is larger.
    (`torch.maximum` would split it where both are equal.)

    Args:
        x: (K, T, N).
        initial: p_0 (K, N); None is zero.

    Returns:
        (K, T, N).
    """
    first = x.new_zeros(x.shape[0], x.shape[2]) if initial is None else initial
    result: Tensor = _Peak.apply(x, first)
    return result


def _grid(x: Tensor) -> tuple[int, int]:
    return x.shape[0], -(-x.shape[2] // BLOCK)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, gain: Tensor, initial: Tensor | None) -> Tensor:
        from .kernels.scan import linear_forward

        x, initial = x.contiguous(), None if initial is None else initial.contiguous()
        m = torch.empty_like(x)
        sizes = (*x.shape[1:], *decay.stride(), *gain.stride())
        linear_forward[_grid(x)](x, decay, gain, x if initial is None else initial, m, *sizes, initial is not None, BLOCK)
        _, for_decay, for_gain, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if for_gain else None, decay, gain, initial, m if for_decay else None)
        return m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dm: Tensor) -> tuple[Tensor | None, ...]:
        from .kernels.scan import linear_backward

        x, decay, gain, initial, m = ctx.saved_tensors
        for_x, for_decay, for_gain, for_initial = ctx.needs_input_grad
        dm = dm.contiguous()
        grid = _grid(dm)
        dx = torch.empty_like(dm) if for_x else None
        sums = [dm.new_empty(*grid, dm.shape[1]) if wanted else None for wanted in (for_decay, for_gain)]
        d_initial = None if initial is None else torch.empty_like(initial)
        given = (dm if v is None else v for v in (initial, m))  # what is not wanted is not read or written
        out = (dm if v is None else v for v in (dx, *sums, d_initial))
        sizes = (*dm.shape[1:], *decay.stride(), *gain.stride())
        flags = (initial is not None, for_x, for_decay, for_gain)
        linear_backward[grid](dm if x is None else x, decay, gain, *given, dm, *out, *sizes, *flags, BLOCK)
        d_decay, d_gain = (None if s is None else s.sum(1) for s in sums)
        return dx, d_decay, d_gain, d_initial if for_initial else None


class _Peak(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, initial: Tensor) -> Tensor:
        from .kernels.scan import peak_forward

        x, initial = x.contiguous(), initial.contiguous()
        p = torch.empty_like(x)
        peak_forward[_grid(x)](x, initial, p, *x.shape[1:], BLOCK)
        ctx.save_for_backward(x, initial, p)
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dp: Tensor) -> tuple[Tensor, Tensor]:
        from .kernels.scan import peak_backward

        x, initial, p = ctx.saved_tensors
        dp, dx, d_initial = dp.contiguous(), torch.empty_like(x), torch.empty_like(initial)
        peak_backward[_grid(x)](x, initial, p, dp, dx, d_initial, *x.shape[1:], BLOCK)
        return dx, d_initial
