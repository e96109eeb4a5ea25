"""MNIST as sequences: `mnist-rows`, `smnist`, `psmnist`, and `smnist-196`, `psmnist-196` at half the resolution.

All five read the same four files, plain or packed. 50,000 of the 60,000 training images train; the last 10,000 are the validation
split, as is usual; the 10,000 test images are the test split.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._registry import InputError
from .base import Benchmark, benchmarks, fingerprint
from .data import as_splits, cached, data_folder, find_file, read_file, unpacked
from .families import Classification
from .idx import parse_idx

VERSION = 1  # of what is made of the files; a cache entry of another is not read
SIDE, CLASSES = 28, 10
# The permutation of scoRNN's code (Helfrich, Willmott, Ye, 2018), which expRNN's took over; a RandomState's stream never changes.
PERMUTATION_SEED = 92916


class Release(NamedTuple):
    """The files of the one release: base name without its IDX suffix -> SHA-256 of the unpacked file; and how many images."""

    sha256: dict[str, str]
    train: int
    test: int
    validation: int


RELEASE = Release(
    sha256={
        "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    train=60_000,
    test=10_000,
    validation=10_000,
)


def permutation(steps: int) -> np.ndarray:
    """The order in which ``psmnist`` reads its pixels: step t sees pixel ``permutation(T)[t]``."""
    return np.random.RandomState(PERMUTATION_SEED).permutation(steps)


def _locate(folder: Path, stem: str) -> Path:
    suffix = f"idx{3 if stem.endswith('images') else 1}-ubyte"
    return find_file(folder, (f"{stem}-{suffix}", f"{stem}.{suffix}"), "mnist")


def _read(folder: Path, release: Release) -> tuple[dict[str, np.ndarray], str]:
    """The four arrays of uint8, and the fingerprint of the unpacked files.

    Raises:
        InputError: a file is missing, is no IDX file, does not fit the others, or is not the release's.
    """
    contents: dict[str, bytes] = {}
    arrays: dict[str, np.ndarray] = {}
    paths = {stem: _locate(folder, stem) for stem in release.sha256}
    for stem, path in paths.items():
        contents[stem] = unpacked(read_file(path, what=f"MNIST's {stem}"), path)
        arrays[stem] = parse_idx(contents[stem], 3 if stem.endswith("images") else 1, str(path))
        _check(stem, arrays[stem], release, str(path))
    for stem, path in paths.items():
        found = hashlib.sha256(contents[stem]).hexdigest()
        if found != release.sha256[stem]:
            known = release.sha256[stem]
            raise InputError(f"is a sound IDX file, but not MNIST's: SHA-256 is {found[:12]}…, not {known[:12]}…", str(path))
    return arrays, fingerprint(*contents.values())


def _check(stem: str, array: np.ndarray, release: Release, where: str) -> None:
    expected = release.train if stem.startswith("train") else release.test
    if len(array) != expected:
        raise InputError(f"has {len(array):,} {stem.split('-')[1]}, MNIST's {stem} has {expected:,}; are two files swapped?", where)
    if array.ndim == 3 and array.shape[1:] != (SIDE, SIDE):
        raise InputError(f"has images of {array.shape[1]} x {array.shape[2]} pixels, MNIST's have {SIDE} x {SIDE}", where)
    if array.ndim == 1 and array.max() >= CLASSES:
        raise InputError(f"has the label {array.max()}, allowed: 0 to {CLASSES - 1}", where)


@benchmarks.register("mnist-rows")
class MnistRows(Classification):
    """Rows of MNIST digits: T = 28 rows of I = 28 pixels in [0, 1], 10 classes; 50,000 / 10,000 / 10,000."""

    name = "mnist-rows"
    description = "MNIST digits read row by row (T 28, I 28, 10 classes)"
    data_set = "mnist"
    published = "50,000 / 10,000 / 10,000"
    input_size = 28
    output_size = CLASSES
    licence = "CC BY-SA 3.0"
    source = "MNIST's four IDX files; validation: the last 10,000 of the training set"
    citation = "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE, 1998"

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        release = RELEASE
        arrays, files = _read(data_folder("mnist", data_dir), release)

        def build() -> dict[str, np.ndarray]:
            cut = release.train - release.validation
            parts = {"train": ("train", slice(0, cut)), "validation": ("train", slice(cut, None)), "test": ("t10k", slice(None))}
            made: dict[str, np.ndarray] = {}
            for part, (stem, rows) in parts.items():
                made[f"{part}.x"] = cls.arrange(arrays[f"{stem}-images"][rows] / np.float32(255))
                made[f"{part}.y"] = arrays[f"{stem}-labels"][rows].astype(np.int64)
            return made

        drawn = fingerprint(files.encode(), cls.name.encode(), np.array([release.validation]))  # the name stands for the order of pixels
        return cls(as_splits(cached((VERSION, drawn), build)), drawn)

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        folder = data_folder("mnist", data_dir)
        for stem in RELEASE.sha256:
            _locate(folder, stem)
        return str(folder)

    @classmethod
    def arrange(cls, images: np.ndarray) -> np.ndarray:
        """(N, T, I) of images (N, 28, 28), both float32."""
        return images


@benchmarks.register("smnist")
class SequentialMnist(MnistRows):
    """Pixels of MNIST digits, one a step: T = 784, I = 1, in [0, 1]."""

    name = "smnist"
    description = "MNIST digits read pixel by pixel (T 784, I 1, 10 classes)"
    input_size = 1
    citation = f"{MnistRows.citation}; Le, Jaitly, Hinton, A simple way to initialize recurrent networks of rectified linear units, 2015"

    @classmethod
    def arrange(cls, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1, 1)


@benchmarks.register("psmnist")
class PermutedMnist(SequentialMnist):
    """Pixels of MNIST digits in one fixed random order, see `permutation`."""

    name = "psmnist"
    description = "MNIST digits, their pixels in one fixed random order (T 784, I 1, 10 classes)"

    @classmethod
    def arrange(cls, images: np.ndarray) -> np.ndarray:
        sequences = super().arrange(images)
        return sequences[:, permutation(sequences.shape[1])]


def _halved(images: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    return np.asarray(images.reshape(len(images), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4), dtype=np.float32))


@benchmarks.register("smnist-196")
class SequentialMnist196(SequentialMnist):
    """`smnist` at half the resolution, each pixel the mean of 2 x 2: T = 196."""

    name = "smnist-196"
    description = "MNIST digits of 14 x 14 pixels (means of 2 x 2), pixel by pixel (T 196, I 1, 10 classes)"

    @classmethod
    def arrange(cls, images: np.ndarray) -> np.ndarray:
        return super().arrange(_halved(images))


@benchmarks.register("psmnist-196")
class PermutedMnist196(PermutedMnist):
    """`psmnist` at half the resolution, each pixel the mean of 2 x 2: T = 196."""

    name = "psmnist-196"
    description = "MNIST digits of 14 x 14 pixels (means of 2 x 2), in one fixed random order (T 196, I 1, 10 classes)"

    @classmethod
    def arrange(cls, images: np.ndarray) -> np.ndarray:
        return super().arrange(_halved(images))
