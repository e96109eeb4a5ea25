"""The contract of a benchmark: real data in three splits, a loss, and the metric by which cells are compared.

Shapes: N sequences, T time, I input, O readout, L tokens of a stream, M reads.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from .._registry import InputError, Registry
from ..engine.task import IGNORED as IGNORED
from .sealed import Permit, SealedSplit


class Split(NamedTuple):
    """Sequences and what is to be said of them.

    Attributes:
        x: (N, T, I) float32; of a benchmark with a ``vocabulary`` tokens, (N, T) int64; of one with a ``window`` one stream, (L,) int64.
        y: one target a read: (N,) int64 or (N, O) float32 where the last step is read, (N, T) int64 or (N, T, O) float32 where every
            step is, (L,) int64 of a stream. Int64 targets that are `IGNORED` are not read.
        lengths: (N,) int64, steps of each sequence, at least 1; what comes after is padding. None: all T.
    """

    x: Tensor
    y: Tensor
    lengths: Tensor | None = None

    def to(self, device: str) -> Split:
        """The same on ``device``."""
        return Split(*(None if tensor is None else tensor.to(device) for tensor in self))  # type: ignore[arg-type]


class Benchmark(ABC):
    """One task with its data; it has the shape that `mrnn_search.engine.train.Task` asks for. `families` has the usual ones.

    Attributes:
        name, description: as listed.
        metric, direction: what `score` returns, and "maximize" or "minimize".
        input_size, output_size: I, and the readout's width.
        reads: "last": the readout sees the last step of each sequence; "every": each step.
        vocabulary: how many tokens there are, if x has tokens; they are embedded, in ``input_size`` numbers, by a table that trains
            with the cell. None: x has numbers.
        window: of a stream, steps between updates, the state carried on (truncated backpropagation through time). None: no stream.
        parameter: what may follow the name and a colon, as listed ("T", the delay of ``copying:T``). None: nothing may.
        data_set: its files' name in `sources.SOURCES`, if they have an entry there.
        published: sizes of the splits as listed, "50,000 / 10,000 / 10,000".
        figures: values of the metric to hold results against, by name: what a constant answer or a simple model scores (on validation).
        licence, source, citation: of the data.
        train, validation: splits.
        test: the third one, under seal; see `open_test`.
        sizes: split -> N, of a stream L.
        fingerprint: SHA-256 (hex) of the data files and of the splits drawn from them.
    """

    name: str
    description: str
    metric: str
    direction: Literal["maximize", "minimize"]
    input_size: int
    output_size: int
    reads: Literal["last", "every"] = "last"
    vocabulary: int | None = None
    window: int | None = None
    parameter: str | None = None
    data_set: str | None = None
    published: str = ""
    figures: Mapping[str, float] = MappingProxyType({})
    licence: str
    source: str
    citation: str

    def __init__(self, splits: Mapping[str, Split | SealedSplit], fingerprint: str) -> None:
        """Seals the test split, if it comes open."""
        test = splits["test"]
        self.test = test if isinstance(test, SealedSplit) else SealedSplit(Split(*test))
        self.train, self.validation = Split(*splits["train"]), Split(*splits["validation"])
        self.fingerprint = fingerprint
        self.sizes = {"train": len(self.train.x), "validation": len(self.validation.x), "test": len(self.test)}

    @classmethod
    @abstractmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        """The benchmark from ``data_dir``; None: from data that a package ships, or from where data usually lies.

        Raises:
            InputError: the data is not there, or is not what it should be; says how to get it.
        """

    @classmethod
    def load_with(cls, argument: str | None, data_dir: Path | None) -> Benchmark:
        """`load`, of ``NAME:argument``; None: of the bare name. A benchmark with a ``parameter`` has one of its own.

        Raises:
            InputError: as `load` and `check_argument`.
        """
        cls.check_argument(argument)
        return cls.load(data_dir)

    @classmethod
    def check_argument(cls, argument: str | None) -> None:
        """Raises:
        InputError: no data could make ``NAME:argument`` a benchmark.
        """
        if argument is not None and cls.parameter is None:
            raise InputError(f'benchmark {cls.name} has no parameter, found "{cls.name}:{argument}"; allowed: {cls.name}')

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        """Where the data lies, in words, without reading it all; of one that is cheap to load, its sizes.

        Raises:
            InputError: it is not there; says how to get it.
        """
        return ", ".join(f"{split} {size:,}" for split, size in cls.load(data_dir).sizes.items())

    @abstractmethod
    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of readouts (M, O)."""

    @abstractmethod
    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What each read adds to the metric, (M,) float64, from readouts (M, O)."""

    def summarise(self, mean: float) -> float:
        """The metric, from the mean of `errors` over all reads of a split."""
        return mean

    def score(self, outputs: Tensor, y: Tensor) -> float:
        """The metric over a whole split, from its readouts (M, O)."""
        return self.summarise(float(self.errors(outputs, y).mean()))

    def open_test(self, *permits: Permit) -> Split:
        """The test split, for the runs of a confirmation that ``permits`` name, one each.

        Raises:
            SealedError: no permit, or one for anything but a run of a confirmation.
        """
        return self.test.open(*permits)

    def to(self, device: str) -> Benchmark:
        """This benchmark with its tensors on ``device``."""
        there = copy.copy(self)  # what a subclass has found out about its data comes along
        splits: dict[str, Split | SealedSplit] = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        Benchmark.__init__(there, splits, self.fingerprint)
        return there


benchmarks: Registry[type[Benchmark]] = Registry("benchmark", "mrnn_search.benchmarks")


@functools.lru_cache(maxsize=4)
def load_benchmark(name: str, data_dir: Path | None = None, device: str = "cpu") -> Benchmark:
    """The benchmark known as ``name`` or ``NAME:ARGUMENT``; a second call in the same process costs nothing.

    Raises:
        UnknownNameError: there is no such benchmark.
        InputError: it does not take this argument, or its data is not there.
    """
    kind, argument = find_benchmark(name)
    return kind.load_with(argument, data_dir).to(device)


def find_benchmark(name: str) -> tuple[type[Benchmark], str | None]:
    """The class that ``name`` stands for, and what follows the colon in it, or None.

    Raises:
        UnknownNameError: there is no such benchmark.
        InputError: it does not take this argument.
    """
    known, colon, argument = name.partition(":")
    kind = benchmarks[known]
    kind.check_argument(argument if colon else None)
    return kind, argument if colon else None


def stratified_split(y: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Rows of ``y`` (N,) in disjoint parts, every class in the same shares; the last part takes what rounding leaves.

    Returns:
        part -> row numbers in rising order.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in shares}
    for label in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == label))
        bounds = np.cumsum([round(share * len(rows)) for share in list(shares.values())[:-1]])
        for name, part in zip(shares, np.split(rows, bounds), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}


def stratified_rest(y: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    """Rows of a small ``y`` (N,) in "train" and "validation": of each class at least one in both, if it has two.

    Args:
        share: of validation.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    held: list[np.ndarray] = []
    for label in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == label))
        held.append(rows[: max(1, round(share * len(rows)))] if len(rows) > 1 else rows[:0])
    validation = np.sort(np.concatenate(held))
    return {"train": np.setdiff1d(np.arange(len(y)), validation), "validation": validation}


def fingerprint(*parts: bytes | np.ndarray) -> str:
    """SHA-256 (hex) of file contents and index arrays, each with its length, in order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else np.ascontiguousarray(part, dtype="<i8").tobytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
