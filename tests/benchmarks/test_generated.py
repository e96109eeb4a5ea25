"""The copying and the adding problem: as arXiv 1511.06464 defines them, the same for ever, and as hard as they should be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import find_benchmark, load_benchmark
from mrnn_search.benchmarks.copying import tokens

from ..opened import opened


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))


def test_tokens_of_a_small_copying_problem() -> None:
    x, y = tokens(np.arange(10)[None] % 8, 3)
    assert x.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]]
    assert y.tolist() == [[8] * 13 + [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]]


@pytest.mark.parametrize(("name", "delay"), [("copying:30", 30), ("copying:1", 1), ("copying", 100)])
def test_copying(name: str, delay: int) -> None:
    task = load_benchmark(name)
    assert task.name == name and task.reads == "every" and task.sizes == {"train": 10_000, "validation": 1_000, "test": 1_000}
    for split in (task.train, task.validation, opened(task)):
        assert split.x.shape == (len(split.y), delay + 20, 10) and split.x.dtype == torch.float32 and split.y.dtype == torch.int64
        assert (split.x.sum(-1) == 1).all()
        letters = split.x.argmax(-1)
        assert torch.equal(letters[:, :10], split.y[:, -10:]) and letters[:, :10].max() == 7
        assert (letters[:, delay + 9] == 9).all() and (split.y[:, :-10] == 8).all()
    assert task.train.x.requires_grad is False and not torch.equal(task.validation.y, opened(task).y)


def test_who_remembers_nothing_scores_the_memoryless_baseline() -> None:
    task = load_benchmark("copying:200")
    y = opened(task).y.reshape(-1)
    blank, guess = torch.full((10,), -1e4), torch.full((10,), -1e4)
    blank[8], guess[:8] = 0, 0
    step = torch.arange(220).repeat(1_000)
    outputs = torch.where((step >= 210)[:, None], guess, blank)
    assert task.score(outputs, y) == pytest.approx(10 * math.log(8) / 220, rel=1e-6) == task.figures["memoryless"]
    assert float(task.loss(outputs, y)) == pytest.approx(task.figures["memoryless"], rel=1e-4)
    perfect = torch.nn.functional.one_hot(y, 10) * 100.0
    assert task.score(perfect, y) < 1e-6 and task.direction == "minimize"


@pytest.mark.parametrize(("name", "length"), [("adding:50", 50), ("adding:3", 3), ("adding", 100)])
def test_adding(name: str, length: int) -> None:
    task = load_benchmark(name)
    for split in (task.train, task.validation, opened(task)):
        numbers, marks = split.x.unbind(-1)
        assert split.x.shape[1:] == (length, 2) and split.y.shape == (len(split.x), 1) and split.y.dtype == torch.float32
        assert numbers.min() >= 0 and numbers.max() < 1 and set(marks.unique().tolist()) == {0.0, 1.0}
        half = length // 2
        assert (marks[:, :half].sum(1) == 1).all() and (marks[:, half:].sum(1) == 1).all()
        torch.testing.assert_close((numbers * marks).sum(1, keepdim=True), split.y)
    always_one = task.score(torch.ones(10_000, 1), task.train.y)
    # the variance of the sum of two; of 10,000 its standard error is 0.002
    assert abs(always_one - 1 / 6) < 0.006 and task.figures["always 1"] == pytest.approx(0.1667, abs=1e-4)


def test_every_mark_is_used() -> None:
    marks = load_benchmark("adding:7").train.x[..., 1].sum(0)
    assert (marks[:3] / 10_000 - 1 / 3).abs().max() < 0.02 and (marks[3:] / 10_000 - 1 / 4).abs().max() < 0.02


def test_the_numbers_are_the_same_for_ever() -> None:
    assert load_benchmark("copying:50").fingerprint[:16] == "88bf53319d705e44"
    assert load_benchmark("adding:100").fingerprint[:16] == load_benchmark("adding").fingerprint[:16] == "77f1b1a219949972"
    assert len({load_benchmark(name).fingerprint for name in ("adding:99", "adding:100", "copying:99", "copying:100")}) == 4


@pytest.mark.parametrize("argument", ["", "0", "x", "-1", "1.5", "0100", "10001", "9" * 5000, "٣", " 5", "5 "])
@pytest.mark.parametrize("name", ["copying", "adding"])
def test_lengths_that_are_none(name: str, argument: str) -> None:
    with pytest.raises(InputError, match=f"allowed: {name}:T with a whole number"):
        find_benchmark(f"{name}:{argument}")
