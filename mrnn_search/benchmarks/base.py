"""The contract of a benchmark: real data in three splits, a loss, and the metric by which cells are compared.

Shapes: N sequences, T time, I input.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .._registry import Registry

Split = tuple[Tensor, Tensor]


class Benchmark(ABC):
    """One task with its data; it has the shape that `mrnn_search.engine.train.Task` asks for.

    Attributes:
        name, description: as listed.
        metric, direction: what `score` returns, and "maximize" or "minimize".
        input_size, output_size: I, and the readout's width.
        licence, source, citation: of the data.
        train, validation: pairs x (N, T, I) float32, y (N,) int64.
        sizes: split -> N.
        fingerprint: SHA-256 (hex) of the data files and of the splits drawn from them.
    """

    name: str
    description: str
    metric: str
    direction: Literal["maximize", "minimize"]
    input_size: int
    output_size: int
    licence: str
    source: str
    citation: str

    def __init__(self, splits: Mapping[str, Split], fingerprint: str) -> None:
        self._splits, self.fingerprint = dict(splits), fingerprint
        self.train, self.validation = splits["train"], splits["validation"]
        self.sizes = {name: len(x) for name, (x, _) in splits.items()}

    @classmethod
    @abstractmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        """The benchmark from ``data_dir``; None: from data that a package ships.

        Raises:
            InputError: the data is not there, or is not what it should be; says how to get it.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of readouts (B, output_size)."""

    @abstractmethod
    def score(self, outputs: Tensor, y: Tensor) -> float:
        """The metric over a whole split, from readouts (N, output_size)."""

    def open_test(self) -> Split:
        """The test split. Confirmation alone may call this, once for each cell and seed."""
        return self._splits["test"]

    def to(self, device: str) -> Benchmark:
        """This benchmark with its tensors on ``device``."""
        return type(self)({name: (x.to(device), y.to(device)) for name, (x, y) in self._splits.items()}, self.fingerprint)


class Classification(Benchmark):
    """One class a sequence: cross entropy, accuracy."""

    metric = "accuracy"
    direction = "maximize"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y)

    def score(self, outputs: Tensor, y: Tensor) -> float:
        return float((outputs.argmax(-1) == y).double().mean())


benchmarks: Registry[type[Benchmark]] = Registry("benchmark", "mrnn_search.benchmarks")


@functools.lru_cache(maxsize=4)
def load_benchmark(name: str, data_dir: Path | None = None, device: str = "cpu") -> Benchmark:
    """The benchmark known as ``name``; a second call in the same process costs nothing.

    Raises:
        UnknownNameError: there is no such benchmark.
        InputError: its data is not there.
    """
    return benchmarks[name].load(data_dir).to(device)


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


def fingerprint(*parts: bytes | np.ndarray) -> str:
    """SHA-256 (hex) of file contents and index arrays, each with its length, in order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else np.ascontiguousarray(part, dtype="<i8").tobytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def as_tensors(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> Split:
    """The ``rows`` of both arrays as float32 and int64 tensors of their own."""
    return torch.from_numpy(x[rows].astype(np.float32)), torch.from_numpy(y[rows].astype(np.int64))
