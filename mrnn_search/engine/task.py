"""What can be trained on: the engine's side of a benchmark.

Shapes: N sequences, T time, I input, O readout, L tokens of a stream, M reads.
"""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

IGNORED = -100  # an int64 target that is not read; torch's own ``ignore_index``


class TaskSplit(Protocol):
    """Sequences and their targets; attributes as of `mrnn_search.benchmarks.Split`."""

    @property
    def x(self) -> Tensor:
        """(N, T, I) float32; with a vocabulary tokens, (N, T) int64; with a window one stream, (L,) int64."""

    @property
    def y(self) -> Tensor:
        """One target a read: (N, …) where the last step is read, (N, T, …) where every step is, (L,) of a stream."""

    @property
    def lengths(self) -> Tensor | None:
        """(N,) int64, steps of each sequence; None: all T."""


class Task(Protocol):
    """What a benchmark must offer to be trained on.

    Attributes:
        input_size, output_size: I, and the readout's width.
        metric: the name of what `summarise` returns; direction: "maximize" or "minimize".
        reads: "last" or "every" step of a sequence.
        vocabulary: how many tokens there are; None: x has numbers.
        window: steps between updates on a stream; None: there are sequences.
    """

    name: str
    input_size: int
    output_size: int
    metric: str
    direction: Literal["maximize", "minimize"]
    reads: Literal["last", "every"]
    vocabulary: int | None
    window: int | None

    @property
    def train(self) -> TaskSplit:
        """What is trained on."""

    @property
    def validation(self) -> TaskSplit:
        """What epochs and candidates are compared on."""

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of readouts (M, O)."""

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What each read adds to the metric, (M,) float64, from readouts (M, O)."""

    def summarise(self, mean: float) -> float:
        """The metric, from the mean of `errors` over all reads of a split."""
