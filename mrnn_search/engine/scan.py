"""Linear recurrences over time, all t at once: what a rule's moments are.

    m_t = decay_t m_{t-1} + gain_t x_t,   t = 1 … T

is a lower-triangular (T, T) matrix applied to the whole sequence. Time is cut into chunks, so the cost is
T · CHUNK multiply-adds a channel in a few GEMMs, instead of T tiny element-wise launches, forward and backward.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32  # steps a GEMM; past about 64 the triangle's wasted half outweighs the saved launches


def _per_step(value: object, steps: Tensor, like: Tensor) -> Tensor:
    """``value`` (a float, a 0-dim tensor or a tensor like ``steps``) as a tensor (n,) of ``like``'s dtype and device."""
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=steps.dtype, device=like.device)
    return tensor.to(like.dtype).expand(steps.shape)


def transfer(decay: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix and the carry of n steps: ``m = matrix @ x + carry[:, None] * m_0``.

    Args:
        decay, gain: (n,).

    Returns:
        matrix (n, n), ``matrix[t, s] = gain_s Π_{s<j<=t} decay_j`` for s <= t, else 0; carry (n,), ``Π_{j<=t} decay_j``.
    """
    n = decay.shape[0]
    ones = torch.ones(n, n, dtype=decay.dtype, device=decay.device)
    # Column s: ones down to row s, then the decays; its running product is the weight of x_s in every later m_t.
    below = ones.tril(-1).bool()
    products = torch.where(below, decay[:, None], ones).cumprod(0)
    return products.tril() * gain, decay.cumprod(0)


def linear_scan(x: Tensor, decay: object, gain: object, initial: Tensor | None = None) -> Tensor:
    """``m_1 … m_T`` of ``m_t = decay_t m_{t-1} + gain_t x_t``; differentiable in all arguments.

    Args:
        x: (T, ..., C), any number of middle dimensions.
        decay, gain: a float, a 0-dim tensor, or a tensor (T,).
        initial: m_0, like ``x[0]``; None is zero.

    Returns:
        Tensor like ``x``.
    """
    steps = torch.arange(x.shape[0], dtype=torch.float64, device=x.device)
    decays, gains = _per_step(decay, steps, x), _per_step(gain, steps, x)
    constant = not any(isinstance(v, Tensor) and v.dim() for v in (decay, gain))
    shared: tuple[Tensor, Tensor] | None = None
    chunks, carried = [], initial
    for start in range(0, x.shape[0], CHUNK):
        part = x[start : start + CHUNK]
        n = part.shape[0]
        if shared is None or not constant or shared[1].shape[0] != n:
            shared = transfer(decays[start : start + n], gains[start : start + n])
        matrix, carry = shared
        m = (matrix @ part.reshape(n, -1)).view(part.shape)
        if carried is not None:
            m = m + carry.view(n, *[1] * (part.dim() - 1)) * carried
        carried = m[-1]
        chunks.append(m)
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)
