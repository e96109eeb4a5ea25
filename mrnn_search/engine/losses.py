"""Losses that training spends time in. Shapes: M reads, C classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

FEW_CLASSES = 16  # below, torch's soft-max along rows does not use vector instructions, and takes two to three times as long
MANY_READS = 256


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """`F.cross_entropy` of outputs (M, C) and y (M,) int64: the same bits, sooner where reads are many and classes few."""
    if outputs.device.type == "cpu" and outputs.shape[1] < FEW_CLASSES and len(outputs) >= MANY_READS:
        return F.cross_entropy(outputs.t()[None], y[None])  # along columns: every instruction has several reads
    return F.cross_entropy(outputs, y)
