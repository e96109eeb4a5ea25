"""From a split to batches: which steps are read, and what is carried from one batch to the next.

Shapes: N sequences, B batch, T time, I input, H hidden, L tokens of a stream, S streams, M reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .task import IGNORED, Task, TaskSplit

MIN_EVALUATION_BATCH = 32
# Of an evaluation on a stream: as many for every candidate, whatever its batch size, so that all have the same context; the field's 10.
EVALUATION_STREAMS = 10


class Batch(NamedTuple):
    """What one lane sees at once.

    Attributes:
        x: (B, T, I) float32, or tokens (B, T) int64.
        y: (M, …), the targets of what is read.
        reads: which rows of the layer's outputs, time first (T·B, H), the readout sees: (M,) int64, or a slice.
    """

    x: Tensor
    y: Tensor
    reads: Tensor | slice

    @classmethod
    def last(cls, x: Tensor, y: Tensor) -> Batch:
        """Sequences of one length with a target each, (B, …), for their last steps."""
        return cls(x, y, slice(-len(x), None))

    @classmethod
    def every(cls, x: Tensor, y: Tensor) -> Batch:
        """Sequences of one length with a target for each step, (B, T, …)."""
        return cls(x, _time_first(y), slice(None))


class Feed(Protocol):
    """The batches of one split. ``carries``: each goes on from the state where the one before ended."""

    carries: bool

    def updates(self, batch_size: int) -> int:
        """How many batches an epoch has."""

    def epoch(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """The batches of a training epoch; ``seed``: of the order of what has no order."""

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        """Everything that is read, once; ``batch_size`` is a matter of memory and speed alone."""


class Sequences:
    """A split of sequences, in an order drawn for each epoch.

    A batch is as long as its longest sequence. What follows a sequence's end is its last step again: a cell is causal, so it reaches
    nothing that is read, and its gradient is zero. (Of zeros a rule may make 0 / 0, whose gradient is not zero.)

    Args:
        reads: "last" or "every", see `Task`.

    Raises:
        ValueError: a sequence of which nothing is read.
    """

    carries = False

    def __init__(self, split: TaskSplit, reads: str) -> None:
        self._x, self._y, self._lengths, self._every = split.x, split.y, split.lengths, reads == "every"
        self._whole = counts_all(split, reads)
        if not self._y.is_floating_point():
            counted = (self._y != IGNORED).view(len(self._y), -1)
            if self._every and self._lengths is not None:
                counted &= torch.arange(counted.shape[1], device=counted.device) < self._lengths[:, None]
            empty = (~counted.any(1)).nonzero()
            if len(empty):
                raise ValueError(f"sequence {int(empty[0])} has no target that is read")

    def updates(self, batch_size: int) -> int:
        return -(-len(self._x) // batch_size)

    def epoch(self, batch_size: int, seed: int) -> Iterator[Batch]:
        order = torch.randperm(len(self._x), generator=torch.Generator().manual_seed(seed))
        yield from map(self.batch, order.split(batch_size))

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        yield from map(self.batch, torch.arange(len(self._x)).split(max(MIN_EVALUATION_BATCH, batch_size)))

    def batch(self, rows: Tensor) -> Batch:
        """The sequences ``rows`` (B,) int64."""
        rows = rows.to(self._x.device)
        if self._lengths is None:
            x, y = self._x[rows], self._y[rows]
            if not self._every:
                return Batch.last(x, y)
            return Batch.every(x, y) if self._whole else _reading(x, _time_first(y), None)
        last = self._lengths[rows] - 1
        steps = torch.arange(int(last.max()) + 1, device=last.device)
        x, y = self._x[rows[:, None], steps.minimum(last[:, None])], self._y[rows]
        if not self._every:
            return Batch(x, y, last * len(rows) + torch.arange(len(rows), device=last.device))
        return _reading(x, _time_first(y[:, : len(steps)]), (steps[:, None] <= last).flatten())


class Streams:
    """A split that is one stream, cut into contiguous ones that are read side by side, window by window; the state is carried on.

    In training what does not fill the last step of all streams is left out, as is usual; in an evaluation nothing is. The last window
    is what is left.

    Raises:
        ValueError: a window in which nothing is read.
    """

    carries = True

    def __init__(self, split: TaskSplit, window: int) -> None:
        self._x, self._y, self._window = split.x, split.y, window

    def updates(self, batch_size: int) -> int:
        """See `Feed`.

        Raises:
            RuntimeError: there is less than a token for each stream.
        """
        if len(self._x) < batch_size:
            raise RuntimeError(f"{len(self._x)} tokens are no stream for each of a batch of {batch_size}")
        return -(-(len(self._x) // batch_size) // self._window)

    def epoch(self, batch_size: int, seed: int) -> Iterator[Batch]:
        del seed  # a stream has its order
        used = len(self._x) // batch_size * batch_size
        yield from self._windows(*(tensor[:used].view(batch_size, -1) for tensor in (self._x, self._y)))

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        del batch_size
        streams = min(EVALUATION_STREAMS, len(self._x))
        steps = -(-len(self._x) // streams)
        missing = streams * steps - len(self._x)
        x = torch.cat([self._x, self._x[-1:].expand(missing)]).view(streams, steps)
        y = torch.cat([self._y, self._y.new_full((missing,), IGNORED)]).view(streams, steps)
        yield from self._windows(x, y)

    def _windows(self, x: Tensor, y: Tensor) -> Iterator[Batch]:
        for at in range(0, x.shape[1], self._window):
            batch = _reading(x[:, at : at + self._window], _time_first(y[:, at : at + self._window]), None)
            if not len(batch.y):
                raise ValueError(f"no target is read from step {at} of the streams on")
            yield batch


def counts_all(split: TaskSplit, reads: str) -> bool:
    """Do all T steps of every sequence count?"""
    return split.lengths is None and (reads == "last" or split.y.is_floating_point() or not bool((split.y == IGNORED).any()))


def feed_of(task: Task, split: TaskSplit) -> Feed:
    """The batches of a split of ``task``."""
    return Sequences(split, task.reads) if task.window is None else Streams(split, task.window)


def _time_first(y: Tensor) -> Tensor:
    """(B, T, …) -> (T·B, …)."""
    return y.transpose(0, 1).flatten(0, 1)


def _reading(x: Tensor, y: Tensor, there: Tensor | None) -> Batch:
    """What of the targets ``y`` (T·B, …) counts: those that are ``there`` (T·B,), and not ignored."""
    counted = torch.ones(len(y), dtype=torch.bool, device=y.device) if there is None else there
    if not y.is_floating_point():
        counted = counted & (y != IGNORED)
    if counted.all():
        return Batch(x, y, slice(None))
    reads = counted.nonzero().squeeze(1)
    return Batch(x, y[reads], reads)
