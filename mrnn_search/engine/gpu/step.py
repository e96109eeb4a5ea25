"""The recurrence one time step at a time: a GEMM and an element-wise kernel each, for all lanes.

Two launches a step and no work for the host in between, so that the whole can be captured into a CUDA graph: see `graphs`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .buffers import FAMILIES, Buffers, How

BLOCK = 256  # elements a program; to be tuned on a device


def _multiply(a: Tensor, b: Tensor, out: Tensor, how: How, *, add: bool = False) -> None:
    """``out = a @ b`` or ``out += a @ b`` for each lane; a (K, B, ·), b (K, ·, ·)."""
    if how.batched:
        torch.baddbmm(out, a, b, beta=int(add), out=out)
        return
    for a_k, b_k, out_k in zip(a, b, out, strict=True):
        torch.addmm(out_k, a_k, b_k, beta=int(add), out=out_k)


def forward(buffers: Buffers, how: How) -> None:
    """Fills hs, cs and gates."""
    from .kernels import step as kernels

    b, (t, rows, h) = buffers, buffers.sizes
    recurrent = b.drive.new_empty(len(b.drive), *b.drive.shape[2:])
    unused = b.drive
    given = (unused if v is None else v for v in (b.bias, b.modrelu_bias))
    kept = tuple(unused if v is None else v for v in (b.cs, b.gates))
    flags = (b.family, FAMILIES[b.family], b.bias is not None, b.gates is not None, BLOCK)
    arguments = (b.drive, recurrent, *given, b.hs, *kept)
    launch = kernels.forward[(len(b.drive), -(-rows * h // BLOCK))]
    for k in range(t):
        _multiply(b.hs[:, k], b.weight.mT, recurrent, how)
        launch(*arguments, k, t, rows, h, *flags)


def backward(buffers: Buffers, dy: Tensor, dh: Tensor, dc: Tensor, how: How) -> None:
    """Turns gates into their gradients, and dh, dc (K, B, H) from those of the last state into those of the first."""
    from .kernels import step as kernels

    b, (t, rows, h) = buffers, buffers.sizes
    _, da = b.gradients()
    assert b.gates is not None
    cs = b.hs if b.cs is None else b.cs
    launch = kernels.backward[(len(b.drive), -(-rows * h // BLOCK))]
    for k in reversed(range(t)):
        launch(b.hs, cs, b.gates, dy, dh, dc, k, t, rows, h, b.family, BLOCK)
        _multiply(da[:, k], b.weight, dh, how, add=b.family == "gru")
