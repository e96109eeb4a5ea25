"""Tasks: real data → batches, loss, metric (layer 3). One file each."""

from . import digits_rows
from .base import Benchmark, Classification, benchmarks, load_benchmark

__all__ = ["Benchmark", "Classification", "benchmarks", "digits_rows", "load_benchmark"]
