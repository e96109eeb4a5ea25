"""torch.optim's RMSprop, Adam and SGD for many lanes at once: one row of numbers a lane, each with rates of its own.

Only single operations that IEEE 754 rounds exactly (sum, product, quotient, root) touch the rows, none that a compiler may
fuse in one place and not in another: a lane's numbers are the same, bit for bit, wherever its row lies.

Shapes: K lanes, P parameters of a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

ALPHA, RMSPROP_EPS = 0.9, 1e-8  # the paper's recipes for the LSTM family have 0.9, torch 0.99
BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8

# What each optimizer remembers, (K, P) each, zeros at first; names as in torch.optim's states.
MEMORY: Mapping[str, tuple[str, ...]] = {"rmsprop": ("square_avg",), "adam": ("exp_avg", "exp_avg_sq"), "sgd": ()}


def _average(mean: Tensor, x: Tensor, decay: float) -> Tensor:
    return mean.mul_(decay).add_(x * (1 - decay))


def rmsprop(grad: Tensor, memory: Mapping[str, Tensor], step: int) -> Tensor:
    """The step (K, P) to go back, before the learning rate. torch.optim.RMSprop(alpha=0.9)."""
    del step
    return grad / _average(memory["square_avg"], grad * grad, ALPHA).sqrt().add_(RMSPROP_EPS)


def adam(grad: Tensor, memory: Mapping[str, Tensor], step: int) -> Tensor:
    """As `rmsprop`; torch.optim.Adam. ``step`` counts from 1."""
    mean = _average(memory["exp_avg"], grad, BETA1)
    size = _average(memory["exp_avg_sq"], grad * grad, BETA2).sqrt().div_((1 - BETA2**step) ** 0.5).add_(ADAM_EPS)
    return (mean / size).div_(1 - BETA1**step)


def sgd(grad: Tensor, memory: Mapping[str, Tensor], step: int) -> Tensor:
    """As `rmsprop`; torch.optim.SGD."""
    del memory, step
    return grad.clone()


OPTIMIZERS: Mapping[str, Callable[[Tensor, Mapping[str, Tensor], int], Tensor]] = {"rmsprop": rmsprop, "adam": adam, "sgd": sgd}


def clip(grads: Sequence[Tensor], limits: Sequence[float | None]) -> list[float | None]:
    """Scale each lane's gradient (P,) to a norm of at most its limit, as torch.nn.utils.clip_grad_norm_.

    Returns:
        the norms before; None without limit.
    """
    # Lane by lane: a reduction over a whole table could sum in another order where it has more rows.
    norms = [None if limit is None else torch.linalg.vector_norm(row) for row, limit in zip(grads, limits, strict=True)]
    for row, norm, limit in zip(grads, norms, limits, strict=True):
        if norm is not None and limit is not None:
            row.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return [None if norm is None else norm.item() for norm in norms]
