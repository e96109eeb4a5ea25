"""`file:PATH`: the user's own arrays, from a ``.npz`` or ``.parquet`` file, without a line of code.

What is asked for follows from y: one whole number or text a sequence is its class, one whole number a step tags the step, numbers with
a point are to be predicted, of the sequence or of each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._registry import InputError
from .array_files import Arrays, read_arrays
from .base import IGNORED, Benchmark, Split, benchmarks, fingerprint, stratified_split
from .data import as_splits, cached, read_file
from .families import Classification, FrameRegression, Regression, Tagging

VERSION = 1
SPLIT_SEED = 20201206
SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}  # where the file has no ``split``
SUFFIXES = (".npz", ".parquet")


class _Own(Benchmark):
    """Facts that every benchmark from a file shares."""

    name = "file"
    description = "own arrays: file:PATH of a .npz or .parquet with x (N, T, I) and y, and split and lengths if there are any"
    input_size, output_size = 0, 0  # of an instance, what its file has
    licence, source, citation = "yours", "a file of yours", "none"
    parameter = "PATH"
    published = "the file's, or 70 / 15 / 15 %"

    @classmethod
    def check_argument(cls, argument: str | None) -> None:
        if argument is None or not argument.endswith(SUFFIXES):
            found = "file" if argument is None else f"file:{argument}"
            raise InputError(f'found "{found}", allowed: file:PATH of a .npz or .parquet file')

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        return cls.load_with(None, data_dir)

    @classmethod
    def load_with(cls, argument: str | None, data_dir: Path | None) -> Benchmark:
        """A relative path is taken from ``data_dir``, or from the working folder."""
        cls.check_argument(argument)
        path = (data_dir or Path()) / str(argument)
        data = read_file(path, what="own arrays")
        arrays = read_arrays(data, path)
        asked = _asked(arrays, str(path))
        rows = _rows(arrays, asked, str(path))
        drawn = fingerprint(data, *rows.values())

        def build() -> dict[str, np.ndarray]:
            made: dict[str, np.ndarray] = {}
            for part, chosen in rows.items():
                made |= {f"{part}.x": arrays.x[chosen], f"{part}.y": asked.y[chosen]}
                made |= {} if arrays.lengths is None else {f"{part}.lengths": arrays.lengths[chosen]}
            return made

        one = asked.kind(as_splits(cached((cls.name, VERSION, drawn), build)), drawn)
        one.name, one.input_size, one.output_size = f"{cls.name}:{argument}", arrays.x.shape[2], asked.output_size
        return one

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return "any file of yours"


class OwnClasses(_Own, Classification):
    """One class a sequence."""


class OwnTags(_Own, Tagging):
    """One class a step."""


class OwnNumbers(_Own, Regression):
    """Numbers of a sequence."""


class OwnFrames(_Own, FrameRegression):
    """Numbers of each step."""


@benchmarks.register("file")
class OwnFile(OwnClasses):
    """What is registered; what is loaded is one of the four above."""

    metric = "accuracy, mse or mse_per_frame"


class _Asked(NamedTuple):
    """What y asks for: the benchmark's class, y as its tensor wants it, and O."""

    kind: Callable[[Mapping[str, Split], str], _Own]
    y: np.ndarray
    output_size: int


def _asked(arrays: Arrays, where: str) -> _Asked:
    """Raises:
    InputError: y has neither a target a sequence nor a target a step.
    """
    y, (count, steps, _) = arrays.y, arrays.x.shape
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise InputError(f"y is not finite in row {int(np.argwhere(~np.isfinite(y))[0][0])}", where)
        if y.ndim == 3 and y.shape[1] == steps:
            return _Asked(OwnFrames, y.astype(np.float32), y.shape[2])
        if y.ndim in (1, 2):
            return _Asked(OwnNumbers, y.reshape(count, -1).astype(np.float32), 1 if y.ndim == 1 else y.shape[1])
        raise InputError(f"y of numbers has the shape {y.shape}, allowed: (N,), (N, O), or (N, T, O) with N {count}, T {steps}", where)
    if y.ndim == 1:
        labels, numbers = np.unique(y, return_inverse=True)
        if len(labels) < 2:
            raise InputError(f"y has one class alone: {labels[0]}", where)
        return _Asked(OwnClasses, numbers.astype(np.int64), len(labels))
    if y.shape == (count, steps) and y.dtype.kind in "iu":
        tags = y.astype(np.int64)
        wrong = (tags < 0) & (tags != IGNORED)
        if wrong.any():
            raise InputError(f"y has the tag {tags[wrong][0]}, allowed: 0, 1, 2 …, and {IGNORED} for a step that does not count", where)
        return _Asked(OwnTags, tags, int(tags.max()) + 1)
    raise InputError(f"y of classes has the shape {y.shape}, allowed: (N,), or whole numbers (N, T), with N {count}, T {steps}", where)


def _rows(arrays: Arrays, asked: _Asked, where: str) -> Mapping[str, np.ndarray]:
    """Rows of each split: the file's, or drawn, of classes in equal shares.

    Raises:
        InputError: a split would be empty.
    """
    if arrays.split is None:
        one_class = np.zeros(len(asked.y), np.int64)
        rows = stratified_split(asked.y if asked.kind is OwnClasses else one_class, SHARES, SPLIT_SEED)
    else:
        rows = {part: np.flatnonzero(arrays.split == part) for part in SHARES}
    empty = [part for part, chosen in rows.items() if not len(chosen)]
    if empty:
        raise InputError(f"there is nothing in its {' and '.join(empty)} split; rows: {len(asked.y)}", where)
    return rows
