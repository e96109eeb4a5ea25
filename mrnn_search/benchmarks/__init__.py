"""Tasks: real data → batches, loss, metric (layer 3). One file each."""

from . import (  # noqa: F401  each registers what it has
    adding,
    brown,
    chorales,
    copying,
    digits_rows,
    japanese_vowels,
    mnist,
    own_file,
    ptb,
    speech_frames,
    timit,
    ucr,
)
from .base import Benchmark, Split, benchmarks, find_benchmark, fingerprint, load_benchmark
from .families import CharacterModel, Classification, FrameRegression, MultiLabel, Regression, Tagging, WordModel
from .sealed import Permit, SealedError, SealedSplit, break_seal

__all__ = [
    "Benchmark",
    "CharacterModel",
    "Classification",
    "FrameRegression",
    "MultiLabel",
    "Permit",
    "Regression",
    "SealedError",
    "SealedSplit",
    "Split",
    "Tagging",
    "WordModel",
    "benchmarks",
    "break_seal",
    "find_benchmark",
    "fingerprint",
    "load_benchmark",
]
