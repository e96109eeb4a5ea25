"""What is measured: shapes, and one cell on one shape as every side sees it.

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells import presets as _  # noqa: F401  registers the built-in bases and rules
from ..cells.spec import Candidate, CellSpec

CLASSES = 10
LOSSES = ("last", "sequence")
BASES = ("lstm", "gru", "orthogonal", "rnn")
SCALED = ("mu", "beta", "epsilon")  # coefficients in which the lanes of a pack differ


@dataclass(frozen=True)
class Shape:
    """The size of one training update: T steps, B sequences, I inputs, H units."""

    steps: int
    batch: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return f"T {self.steps}, B {self.batch}, I {self.inputs}, H {self.hidden}"


SHAPES: dict[str, Shape] = {
    "A": Shape(28, 128, 28, 128),  # MNIST by rows, as wide as the paper's
    "B": Shape(784, 128, 1, 128),  # MNIST by pixels, the paper's task
    "C": Shape(96, 32, 64, 64),
    "D": Shape(28, 32, 28, 64),  # the rungs of a search
    "E": Shape(28, 64, 28, 32),
}


@dataclass(frozen=True)
class Setting:
    """One comparison: a cell on a shape.

    Attributes:
        loss: "last": the readout of the last step; "sequence": that of every step, each with the sequence's label.
        device: "cpu" or "cuda:N", of every side.
    """

    base: str
    rule: str
    shape: Shape
    loss: str = "last"
    device: str = "cpu"

    @property
    def spec(self) -> CellSpec:
        """The cell with the rule's default coefficients."""
        return CellSpec(self.base, self.rule)

    def candidates(self, lanes: int) -> list[Candidate]:
        """As many as there are lanes, each with coefficients and a learning rate of its own: a pack must not gain by their being equal.

        No clipping; learning rates so small that the work stays the same however many updates are measured.
        """
        known = self.spec.coefficients
        out = []
        for lane in range(lanes):
            share = 1 - lane / (4 * lanes)
            spec = CellSpec(self.base, self.rule, {n: v * share if n in SCALED else v for n, v in known.items()})
            out.append(Candidate(spec, self.shape.hidden, lr=1e-5 * share, clip=None, batch_size=self.shape.batch))
        return out

    def batch(self, lanes: int) -> tuple[Tensor, Tensor]:
        """Inputs (K, B, T, I), normal, and labels (K, B). Always the same ones."""
        s, make = self.shape, torch.Generator().manual_seed(0)
        x = torch.randn(lanes, s.batch, s.steps, s.inputs, generator=make)
        y = torch.randint(CLASSES, (lanes, s.batch), generator=make)
        return x.to(self.device), y.to(self.device)


def classification_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, classes), or (B, T, classes) with one label a sequence; labels (B,)."""
    if logits.dim() == 3:
        y = y[:, None].expand(logits.shape[:2]).flatten()
    return F.cross_entropy(logits.flatten(0, -2), y)
