"""The recurrence in one launch: see `kernels.persistent`. For up to `LARGEST` hidden units.

After the persistent kernels of cuDNN (Diamos et al., Persistent RNNs, ICML 2016), haste, and FlashRNN (Pöppel et al. 2024,
arXiv 2412.07752), whose heads are our lanes.
"""

from __future__ import annotations

from torch import Tensor

from .buffers import FAMILIES, Buffers, How

LARGEST = 128
CHUNK = 16  # hidden units that a program multiplies at a time where the weights are not resident; to be tuned on a device


def padded(hidden_size: int) -> int:
    """The power of two, at least 16 as ``tl.dot`` needs it, that a program computes with."""
    return max(16, 1 << (hidden_size - 1).bit_length())


def forward(buffers: Buffers, how: How) -> None:
    """Fills hs, cs and gates."""
    from .kernels import persistent as kernels

    b, (t, rows, h) = buffers, buffers.sizes
    unused = b.drive
    bias, modrelu_bias, cs, gates = (unused if v is None else v for v in (b.bias, b.modrelu_bias, b.cs, b.gates))
    flags = (b.family, FAMILIES[b.family], b.bias is not None, b.gates is not None, how.resident, how.precision, padded(h), how.rows, CHUNK)
    grid = (len(b.drive), -(-rows // how.rows))
    kernels.forward[grid](b.drive, b.weight, bias, modrelu_bias, b.hs, cs, gates, t, rows, h, *flags, num_warps=how.warps, num_stages=1)


def backward(buffers: Buffers, dy: Tensor, dh: Tensor, dc: Tensor, how: How) -> None:
    """Turns gates into their gradients, and dh, dc (K, B, H) from those of the last state into those of the first."""
    from .kernels import persistent as kernels

    b, (t, rows, h) = buffers, buffers.sizes
    cs = b.hs if b.cs is None else b.cs
    flags = (b.family, FAMILIES[b.family], how.resident, how.precision, padded(h), how.rows, CHUNK)
    grid = (len(b.drive), -(-rows // how.rows))
    kernels.backward[grid](b.weight, b.hs, cs, b.gates, dy, dh, dc, t, rows, h, *flags, num_warps=how.warps, num_stages=1)
