"""Tasks: real data → batches, loss, metric (layer 3). One file each."""

from . import digits_rows
from .base import Benchmark, Split, benchmarks, load_benchmark
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
    "digits_rows",
    "load_benchmark",
]
