"""The usual kinds of tasks: what is read, the loss, and the metric as its field reports it.

Shapes: M reads, O readout.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from ..engine.losses import cross_entropy
from .base import Benchmark


class Classification(Benchmark):
    """One class a sequence, read at its last step: cross entropy, accuracy."""

    metric = "accuracy"
    direction = "maximize"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(outputs, y)

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.argmax(-1) == y).double()


class Tagging(Classification):
    """One class a step: cross entropy, accuracy over all steps that count."""

    reads = "every"


class Regression(Benchmark):
    """Numbers, read at the last step: mean squared error over sequences and numbers."""

    metric = "mse"
    direction = "minimize"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(outputs, y)

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.double() - y.double()).square().mean(-1)


class FrameRegression(Regression):
    """The numbers of each step: squared error summed over a frame, mean over frames."""

    metric = "mse_per_frame"
    reads = "every"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().sum(-1).mean()

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.double() - y.double()).square().sum(-1)


class MultiLabel(Benchmark):
    """Which of O are on, at each step: negative log-likelihood a step, summed over the O (nats)."""

    metric = "nll_per_step"
    direction = "minimize"
    reads = "every"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, y, reduction="none").sum(-1).mean()

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.double(), y.double(), reduction="none").sum(-1)


class _NextToken(Benchmark):
    direction = "minimize"
    reads = "every"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(outputs, y)

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y, reduction="none").double()


class CharacterModel(_NextToken):
    """The next character of a stream: bits per character."""

    metric = "bits_per_character"

    def summarise(self, mean: float) -> float:
        return mean / math.log(2)


class WordModel(_NextToken):
    """The next word of a stream: perplexity a word."""

    metric = "perplexity"

    def summarise(self, mean: float) -> float:
        return math.exp(mean) if mean < 700 else math.inf
