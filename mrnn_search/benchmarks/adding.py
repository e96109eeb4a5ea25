"""`adding:T`: the sum of the two numbers that were marked among T."""

from __future__ import annotations

import numpy as np
import torch

from .base import Benchmark, Split, benchmarks, fingerprint
from .families import Regression
from .generated import SIZES, Generated

SEED = 19970815


def draw(random: np.random.RandomState, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """x (N, T, 2): numbers in [0, 1) and marks; y (N, 1): the sum of the marked two, one in each half. Both float32."""
    numbers = random.random_sample((count, length)).astype(np.float32)
    half, rows = length // 2, np.arange(count)
    first, second = random.randint(0, half, count), random.randint(half, length, count)
    marks = np.zeros_like(numbers)
    marks[rows, first] = marks[rows, second] = 1
    return np.stack((numbers, marks), -1), (numbers[rows, first] + numbers[rows, second])[:, None]


@benchmarks.register("adding")
class Adding(Generated, Regression):
    """The adding problem: T numbers in [0, 1), two of which are marked, one in each half; their sum is asked for.

    Mean squared error; who always says 1 has the variance of the sum, 1/6 = 0.167.

    Source: arXiv 1511.06464, section 4.2.
    """

    name = "adding"
    description = "adding problem: the sum of two marked numbers among T (T steps, I 2; T = 100 if not given)"
    input_size, output_size = 2, 1
    default, shortest = 100, 2
    figures = {"always 1": 1 / 6}
    licence = "none: generated"
    source = "generated as defined in arXiv 1511.06464, section 4.2, from a fixed seed"
    citation = "Arjovsky, Shah, Bengio, Unitary evolution recurrent neural networks, ICML 2016; Hochreiter, Schmidhuber, LSTM, 1997"

    @classmethod
    def generate(cls, length: int) -> Benchmark:
        drawn = {part: draw(cls.random(SEED, length, part), size, length) for part, size in SIZES.items()}
        contents = [array.astype("<f4").tobytes() for pair in drawn.values() for array in pair]
        return cls({part: Split(*map(torch.from_numpy, pair)) for part, pair in drawn.items()}, fingerprint(*contents))
