"""`copying:T`: say again, T steps later, what came first."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from .base import Benchmark, benchmarks, fingerprint
from .data import as_splits, cached
from .generated import SIZES, Generated

SEED = 20151120
SYMBOLS, LETTERS = 10, 8  # to remember, and of how many
BLANK, GO = 8, 9
VERSION = 1


def tokens(symbols: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Input and target (N, T + 20) of symbols (N, 10): symbols, T - 1 blanks, the sign to go, 10 blanks; and T + 10 blanks, symbols."""
    count = len(symbols)
    x = np.full((count, delay + 2 * SYMBOLS), BLANK, np.int64)
    y = x.copy()
    x[:, :SYMBOLS], x[:, delay + SYMBOLS - 1] = symbols, GO
    y[:, delay + SYMBOLS :] = symbols
    return x, y


@benchmarks.register("copying")
class Copying(Generated):
    """The copying problem: T + 20 steps of 10 letters (one-hot), 10 of them to be said again after a delay of T steps.

    Mean cross entropy over all T + 20 steps, in nats; who remembers nothing has 10 ln 8 / (T + 20).

    Source: arXiv 1511.06464, section 4.1.
    """

    name = "copying"
    description = "copying problem: 10 symbols of 8, said again after T steps (T + 20 steps, I 10; T = 100 if not given)"
    metric = "cross_entropy"
    direction = "minimize"
    reads = "every"
    input_size = output_size = LETTERS + 2
    default, shortest = 100, 1
    licence = "none: generated"
    source = "generated as defined in arXiv 1511.06464, section 4.1, from a fixed seed"
    citation = "Arjovsky, Shah, Bengio, Unitary evolution recurrent neural networks, ICML 2016; Hochreiter, Schmidhuber, LSTM, 1997"

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y)

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y, reduction="none").double()

    @classmethod
    def generate(cls, length: int) -> Benchmark:
        symbols = {part: cls.random(SEED, length, part).randint(0, LETTERS, (size, SYMBOLS)) for part, size in SIZES.items()}
        print_ = fingerprint(np.array([length]), *symbols.values())

        def build() -> dict[str, np.ndarray]:
            made: dict[str, np.ndarray] = {}
            for part, drawn in symbols.items():
                x, made[f"{part}.y"] = tokens(drawn, length)
                made[f"{part}.x"] = np.eye(cls.input_size, dtype=np.float32)[x]
            return made

        one = cls(as_splits(cached((cls.name, VERSION, print_), build)), print_)
        one.figures = {"memoryless": SYMBOLS * math.log(LETTERS) / (length + 2 * SYMBOLS)}
        return one
