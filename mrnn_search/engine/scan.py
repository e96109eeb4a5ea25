"""Linear recurrences over time, all t at once: what a rule's moments are.

    m_t = decay_t m_{t-1} + gain_t x_t,   t = 1 … T

is a lower-triangular (T, T) matrix applied to the whole sequence. Time is cut into chunks, so the cost is
T · CHUNK multiply-adds a channel in a few GEMMs, instead of T tiny element-wise launches, forward and backward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..cells.reference import autocast_on

CHUNK = 32  # steps a GEMM; past about 64 the triangle's wasted half outweighs the saved launches


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which moments are kept: float32 for what is narrower.

    In bfloat16 a decay of 0.999 would be 1, and in float16 a guard of 1e-16 would be 0.
    """
    return torch.promote_types(dtype, torch.float32)


def wide(x: Tensor) -> Tensor:
    """``x`` in the dtype in which moments are kept."""
    dtype = wide_dtype(x.dtype)
    return x if x.dtype == dtype else x.to(dtype)


def _per_step(value: object, x: Tensor) -> Tensor:
    """``value`` (a float or a tensor (), (T,) or (T, B)) as a tensor (T,) or (B, T) of the dtype and device of ``x`` (T, ...)."""
    tensor = value.to(x.dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=x.dtype, device=x.device)
    return tensor.T if tensor.dim() == 2 else tensor.expand(x.shape[0])


def transfer(decay: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix and the carry of n steps: ``m = matrix @ x + carry[:, None] * m_0``.

    Args:
        decay, gain: (..., n).

    Returns:
        matrix (..., n, n), ``matrix[t, s] = gain_s Π_{s<j<=t} decay_j`` for s <= t, else 0; carry (..., n), ``Π_{j<=t} decay_j``.
    """
    n = decay.shape[-1]
    ones = torch.ones(n, n, dtype=decay.dtype, device=decay.device)
    # Column s: ones down to row s, then the decays; its running product is the weight of x_s in every later m_t.
    below = ones.tril(-1).bool()
    products = torch.where(below, decay.unsqueeze(-1), ones).cumprod(-2)
    return products.tril() * gain.unsqueeze(-2), decay.cumprod(-1)


def _chunk(x: Tensor, matrix: Tensor, carry: Tensor, initial: Tensor | None) -> Tensor:
    """n steps of ``x`` (n, ..., C) from a transfer (n, n), (n,), or one for each sequence: (B, n, n), (B, n), x (n, B, C)."""
    each = matrix.dim() == 3
    m = (matrix @ x.transpose(0, 1)).transpose(0, 1) if each else (matrix @ x.flatten(1)).view(x.shape)
    if initial is None:
        return m
    return m + (carry.T[..., None] if each else carry.view(-1, *[1] * (x.dim() - 1))) * initial


def linear_scan(x: Tensor, decay: object, gain: object, initial: Tensor | None = None) -> Tensor:
    """``m_1 … m_T`` of ``m_t = decay_t m_{t-1} + gain_t x_t``; differentiable in all arguments.

    Args:
        x: (T, ..., C), any number of middle dimensions.
        decay, gain: a float, a 0-dim tensor, a tensor (T,); or (T, B), one column for each sequence of x (T, B, C).
        initial: m_0, like ``x[0]``; None is zero.

    Returns:
        Tensor like ``x``, in float32 if ``x`` is narrower.
    """
    if autocast_on(x):
        with torch.autocast(x.device.type, enabled=False):  # it would run the GEMMs in bfloat16
            return linear_scan(x, decay, gain, initial)
    return _linear_scan(wide(x), decay, gain, None if initial is None else wide(initial))


def _linear_scan(x: Tensor, decay: object, gain: object, initial: Tensor | None) -> Tensor:
    decays, gains = _per_step(decay, x), _per_step(gain, x)
    if decays.shape != gains.shape:
        decays, gains = torch.broadcast_tensors(decays, gains)
    constant = not any(isinstance(v, Tensor) and v.dim() for v in (decay, gain))
    shared: tuple[Tensor, Tensor] | None = None
    chunks, carried = [], initial
    for start, part in zip(range(0, x.shape[0], CHUNK), x.split(CHUNK), strict=True):  # the gradient of a slice would be as long as x
        n = part.shape[0]
        if shared is None or not constant or shared[1].shape[-1] != n:
            shared = transfer(decays.narrow(-1, start, n), gains.narrow(-1, start, n))
        m = _chunk(part, *shared, carried)
        carried = m[-1]
        chunks.append(m)
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def channel_scan(x: Tensor, decay: Tensor, initial: Tensor | None = None) -> Tensor:
    """``m_t = decay_t m_{t-1} + x_t`` with a decay of its own for every channel, in log2(T) passes over the sequence.

    Args:
        x: (T, B, C).
        decay: (1, 1, C), or (T, B or 1, C).
        initial: m_0 (B, C); None is zero.

    Returns:
        (T, B, C).
    """
    steady = decay.shape[0] == 1
    if initial is not None:
        x = torch.cat([x[:1] + decay[0] * initial, x[1:]])
    m, span = x, 1
    while span < x.shape[0]:
        # m_t holds the last `span` inputs, decay_t the product of as many decays: join each with what came before it
        reach = decay if steady else decay[span:]
        m = torch.cat([m[:span], m[span:] + reach * m[:-span]])
        decay = decay * decay if steady else torch.cat([decay[:span], reach * decay[:-span]])
        span *= 2
    return m
