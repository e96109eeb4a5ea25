"""A floor and a ceiling for each benchmark: a linear model beats guessing, and a small LSTM with a few seconds reaches what it should."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import one_hot

from mrnn_search.benchmarks import Benchmark, Split, load_benchmark
from mrnn_search.cells import Candidate, preset
from mrnn_search.engine.train import train_lane

from ..real_data import real

FOLDERS = {"mnist-rows": "mnist", "psmnist-196": "mnist", "japanese-vowels": "japanese-vowels", "ucr": "ucr"}


def load(name: str, rows: int | None = None) -> Benchmark:
    """The benchmark, with the first ``rows`` of its training split; its test split stays under seal."""
    folder = FOLDERS.get(name.partition(":")[0])
    task = load_benchmark(name, real(folder) if folder else None)
    small = copy.copy(task)
    train = Split(*(None if tensor is None else tensor[:rows] for tensor in task.train))
    Benchmark.__init__(small, {"train": train, "validation": task.validation, "test": task.test}, task.fingerprint)
    return small


def linear(task: Benchmark) -> float:
    """Validation accuracy of a ridge regression on all steps at once."""
    x, y = (torch.nn.functional.pad(task.train.x.flatten(1), (0, 1), value=1.0).double(), one_hot(task.train.y).double())
    weights = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ y)
    return task.score(torch.nn.functional.pad(task.validation.x.flatten(1), (0, 1), value=1.0).double() @ weights, task.validation.y)


# Over the share of the largest class: 0.11, 0.11, 0.11, 0.58, 0.04. A linear model of all 50,000 images has 0.92 (LeCun, 1998).
@pytest.mark.parametrize(
    ("name", "floor"), [("mnist-rows", 0.82), ("psmnist-196", 0.82), ("japanese-vowels", 0.85), ("ucr:ECG5000", 0.85), ("ucr:Crop", 0.3)]
)
def test_a_linear_model_beats_guessing(name: str, floor: float) -> None:
    assert linear(load(name, 10_000)) > floor


# What the LSTM of the same budget had when this was written was a little more: (0.94, 0.49, 0.94, 0.91).
@pytest.mark.parametrize(
    ("name", "rows", "epochs", "lr", "batch", "reached"),
    [
        ("mnist-rows", 12_000, 3, 5e-3, 32, 0.91),
        ("psmnist-196", 4_000, 2, 1e-2, 32, 0.35),
        ("japanese-vowels", None, 25, 5e-3, 16, 0.90),
        ("ucr:ECG5000", None, 8, 1e-2, 32, 0.87),
    ],
)
def test_a_small_lstm_learns(name: str, rows: int | None, epochs: int, lr: float, batch: int, reached: float) -> None:
    assert best(name, rows, epochs, lr, batch, 64) > reached


def test_a_small_lstm_remembers_and_adds() -> None:
    """Over short delays: who remembers nothing scores 0.99 and 0.167."""
    copying, adding = load_benchmark("copying:1"), load_benchmark("adding:10")
    assert best("copying:1", None, 3, 1e-2, 32, 64) < 0.75 * copying.figures["memoryless"]
    assert best("adding:10", 4_000, 4, 1e-2, 32, 32) < 0.05 * adding.figures["always 1"]


def best(name: str, rows: int | None, epochs: int, lr: float, batch: int, hidden: int) -> float:
    """The best epoch's validation metric."""
    candidate = Candidate(preset("lstm"), hidden_size=hidden, lr=lr, batch_size=batch, optimizer="adam")
    out = train_lane(load(name, rows), candidate, 1, None, 0, epochs)
    assert out.error is None
    return out.value
