"""Sequences of different lengths, as torch.nn's PackedSequence lays them out.

Rows are sorted by time, then by sequence, the longest sequence first: all B first steps, then the second steps of the
sequences that have one, … Shapes: T longest length, B sequences, N rows (the sum of the lengths), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each row of packed data belongs.

    Attributes:
        batch_sizes: (T,) on the CPU, as torch's kernels take it; ``sizes``: the same as a list.
        lengths: (B,), not increasing.
        times, columns: (N,), step and sequence of each row, from 0.
        table: (T, B), the row of each step and sequence; after a sequence's end its last one.
        backwards: (N,), rows in the order that reads each sequence from its own end; its own inverse.
        order, restore: (B,) or None, the caller's order -> sorted by length, and back.
    """

    batch_sizes: Tensor
    sizes: list[int]
    lengths: Tensor
    times: Tensor
    columns: Tensor
    table: Tensor
    backwards: Tensor
    order: Tensor | None
    restore: Tensor | None

    @classmethod
    def of(cls, packed: PackedSequence) -> Packing:
        """The layout of ``packed``; its indices are on the data's device."""
        sizes, device = packed.batch_sizes, packed.data.device
        times = torch.arange(len(sizes)).repeat_interleave(sizes)
        starts = sizes.cumsum(0) - sizes
        columns = torch.arange(len(times)) - starts[times]
        lengths = (sizes[:, None] > torch.arange(int(sizes[0]))).sum(0)
        steps = torch.arange(len(sizes))[:, None].minimum(lengths - 1)
        table = starts[steps] + torch.arange(int(sizes[0]))
        backwards = starts[lengths[columns] - 1 - times] + columns
        return cls(
            sizes,
            sizes.tolist(),
            lengths.to(device),
            times.to(device),
            columns.to(device),
            table.to(device),
            backwards.to(device),
            packed.sorted_indices,
            packed.unsorted_indices,
        )

    def pad(self, rows: Tensor) -> Tensor:
        """(N, C) -> (T, B, C), each sequence's last row again after its end.

        Not zeros: what a rule makes of those (0 / 0, say) would reach gradients as 0 times infinity.
        """
        return rows[self.table]

    def rows(self, padded: Tensor) -> Tensor:
        """(T, B, C) -> (N, C)."""
        return padded[self.times, self.columns]

    def last(self, padded: Tensor) -> Tensor:
        """(T, B, C) -> (B, C): each sequence's last step."""
        return padded[self.lengths - 1, torch.arange(self.sizes[0], device=padded.device)]

    def sequences(self, rows: Tensor) -> list[Tensor]:
        """(N, C) -> one (length, 1, C) a sequence."""
        padded = self.pad(rows)
        return [padded[:n, b : b + 1] for b, n in enumerate(self.lengths.tolist())]

    @staticmethod
    def join(sequences: list[Tensor]) -> Tensor:
        """The inverse of `sequences`."""
        return pack_sequence([s.squeeze(1) for s in sequences]).data

    def like(self, rows: Tensor) -> PackedSequence:
        """``rows`` (N, C) as the caller packed the input."""
        return PackedSequence(rows, self.batch_sizes, self.order, self.restore)
