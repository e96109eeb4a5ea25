"""A tiny benchmark of each kind, learnable in seconds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mrnn_search.benchmarks import (
    Benchmark,
    CharacterModel,
    Classification,
    FrameRegression,
    MultiLabel,
    Regression,
    Split,
    Tagging,
    WordModel,
)
from mrnn_search.benchmarks.base import IGNORED

PARTS = (("train", 0, 96), ("validation", 96, 136), ("test", 136, 176))
STEPS, TOKENS = 9, 7


class _Made(Benchmark):
    """Drawn anew, unless splits are given."""

    def __init__(self, splits: Mapping[str, Split] | None = None, fingerprint: str = "") -> None:
        super().__init__(splits or self._drawn(), fingerprint)

    @classmethod
    def load(cls, data_dir: object) -> Benchmark:
        return cls()

    @classmethod
    def _drawn(cls) -> dict[str, Split]:
        raise NotImplementedError


class _Drawn(_Made):
    """Of sequences, each as long as it likes, with the numbers of `_targets`."""

    @classmethod
    def _drawn(cls) -> dict[str, Split]:
        g = torch.Generator().manual_seed(0)
        x = torch.randn(176, STEPS, 2, generator=g)
        lengths = torch.randint(1, STEPS + 1, (len(x),), generator=g)
        x[torch.arange(STEPS) >= lengths[:, None]] = 1e3  # nobody is to read it
        y = cls._targets(x, lengths)
        return {name: Split(x[a:b], y[a:b], lengths[a:b]) for name, a, b in PARTS}

    @staticmethod
    def _targets(x: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


def _own(x: Tensor, lengths: Tensor) -> Tensor:
    """x with zeros after each sequence's end."""
    return x * (torch.arange(STEPS) < lengths[:, None])[..., None]


class Ends(_Drawn, Classification):
    """Is the sum of the sequence positive?"""

    name, input_size, output_size = "ends", 2, 2

    @staticmethod
    def _targets(x: Tensor, lengths: Tensor) -> Tensor:
        return (_own(x, lengths).sum((1, 2)) > 0).long()


class Means(_Drawn, Regression):
    """The means of the sequence."""

    name, input_size, output_size = "means", 2, 2

    @staticmethod
    def _targets(x: Tensor, lengths: Tensor) -> Tensor:
        return _own(x, lengths).sum(1) / lengths[:, None]


class Signs(_Drawn, Tagging):
    """Is the sum so far positive? Some steps do not count, but the first does."""

    name, input_size, output_size = "signs", 2, 2

    @staticmethod
    def _targets(x: Tensor, lengths: Tensor) -> Tensor:
        y = (x.sum(-1).cumsum(1) > 0).long()
        y[:, 1::3] = IGNORED
        return y


class Frames(_Drawn, FrameRegression):
    """The frame before."""

    name, input_size, output_size = "frames", 2, 2

    @staticmethod
    def _targets(x: Tensor, lengths: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


class Notes(_Drawn, MultiLabel):
    """Which inputs were positive one step before."""

    name, input_size, output_size = "notes", 2, 2

    @staticmethod
    def _targets(x: Tensor, lengths: Tensor) -> Tensor:
        return (Frames._targets(x, lengths) > 0).float()


class Characters(_Made, CharacterModel):
    """Each token is the sum of the two before, or, one time in ten, any; some targets do not count."""

    name, input_size, output_size, vocabulary, window = "characters", 5, TOKENS, TOKENS, 6

    @classmethod
    def _drawn(cls) -> dict[str, Split]:
        g = torch.Generator().manual_seed(0)
        tokens = [0, 1]
        for luck in torch.rand(900, generator=g).tolist():
            tokens.append(int(luck * 70) if luck < 0.1 else (tokens[-1] + tokens[-2]) % TOKENS)
        stream = torch.tensor(tokens)
        x, y = stream[:-1], stream[1:].clone()
        y[5::11] = IGNORED
        parts = (("train", 0, 617), ("validation", 617, 760), ("test", 760, 901))
        return {name: Split(x[a:b], y[a:b]) for name, a, b in parts}


class Words(Characters, WordModel):
    """The same, told as perplexity."""

    name, metric = "words", WordModel.metric
    summarise = WordModel.summarise


TASKS: tuple[type[Benchmark], ...] = (Ends, Means, Signs, Frames, Notes, Characters, Words)
