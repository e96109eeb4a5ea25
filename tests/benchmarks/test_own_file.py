"""The user's own arrays: what is asked for follows from y, and what is wrong with a file is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, find_benchmark
from mrnn_search.benchmarks.data import MissingDataError
from mrnn_search.benchmarks.families import Classification, FrameRegression, Regression, Tagging

from ..opened import opened

RANDOM = np.random.RandomState(0)
X = RANDOM.randn(40, 7, 3)
CLASSES = np.array(["no", "yes"] * 20)
LENGTHS = RANDOM.randint(1, 8, 40)
SPLIT = np.array(["train"] * 20 + ["validation"] * 12 + ["test"] * 8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(name: str, folder: Path) -> Benchmark:
    kind, argument = find_benchmark(name)
    return kind.load_with(argument, folder)


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def table(**columns: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out)
    return out.getvalue()


TAGS = RANDOM.randint(0, 4, (40, 7))
TAGS[0, 3] = -100


@pytest.mark.parametrize(
    ("arrays", "kind", "inputs", "outputs"),
    [
        ({"x": X, "y": CLASSES}, Classification, 3, 2),
        ({"x": X, "y": RANDOM.randint(5, 8, 40), "split": SPLIT}, Classification, 3, 3),
        ({"x": X.astype(np.int16), "y": CLASSES == "yes", "lengths": LENGTHS}, Classification, 3, 2),
        ({"x": X[..., 0], "y": TAGS}, Tagging, 1, 4),
        ({"x": X, "y": RANDOM.randn(40)}, Regression, 3, 1),
        ({"x": X, "y": RANDOM.randn(40, 5).astype(np.float32)}, Regression, 3, 5),
        ({"x": X, "y": RANDOM.randn(40, 7, 2), "split": SPLIT, "lengths": LENGTHS}, FrameRegression, 3, 2),
    ],
)
def test_what_is_asked_for(tmp_path: Path, arrays: dict[str, np.ndarray], kind: type, inputs: int, outputs: int) -> None:
    (tmp_path / "own.npz").write_bytes(npz(**arrays))
    found = load("file:own.npz", tmp_path)
    assert isinstance(found, kind) and found.name == "file:own.npz" and (found.input_size, found.output_size) == (inputs, outputs)
    sizes = [20, 12, 8] if "split" in arrays else [28, 6, 6]
    assert list(found.sizes.values()) == sizes
    for split in (found.train, found.validation, opened(found)):
        assert split.x.dtype == torch.float32 and split.x.shape[1:] == (7, inputs)
        assert split.y.dtype == (torch.float32 if kind in (Regression, FrameRegression) else torch.int64)
        assert (split.lengths is None) == ("lengths" not in arrays)
    if "split" in arrays:
        np.testing.assert_array_equal(found.validation.x.numpy(), arrays["x"][20:32].astype(np.float32))
    outputs_like = torch.zeros((*found.train.y.shape[: 2 if found.reads == "every" else 1], outputs)).flatten(0, -2)
    y = found.train.y.flatten(0, 1) if found.reads == "every" else found.train.y
    assert torch.isfinite(found.loss(outputs_like, y)) and np.isfinite(found.score(outputs_like, y))
    assert load("file:own.npz", tmp_path).fingerprint == found.fingerprint


def test_the_drawn_split_is_stratified_and_the_same_for_ever(tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(npz(x=np.arange(200)[:, None], y=np.repeat([7, 9], 100)))
    found = load("file:own.npz", tmp_path)
    assert [torch.bincount(part.y).tolist() for part in (found.train, found.validation, opened(found))] == [
        [70, 70],
        [15, 15],
        [15, 15],
    ]
    assert found.validation.x.flatten()[:5].tolist() == [0, 4, 10, 15, 20]


def test_parquet_has_the_same_as_npz(tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(npz(x=X, y=CLASSES, split=SPLIT))
    (tmp_path / "own.parquet").write_bytes(table(x=X.tolist(), y=CLASSES, split=SPLIT))
    one, other = load("file:own.npz", tmp_path), load("file:own.parquet", tmp_path)
    for part in ("train", "validation"):
        assert torch.equal(getattr(one, part).x, getattr(other, part).x) and torch.equal(getattr(one, part).y, getattr(other, part).y)


def test_parquet_pads_lists_of_several_lengths(tmp_path: Path) -> None:
    series = [row[:length] for row, length in zip(X, LENGTHS, strict=True)]
    (tmp_path / "a.parquet").write_bytes(table(x=[one.tolist() for one in series], y=CLASSES, split=SPLIT))
    found = load("file:a.parquet", tmp_path)
    assert found.train.x.shape == (20, 7, 3) and found.train.lengths.tolist() == LENGTHS[:20].tolist()
    for row, one in zip(found.train.x.numpy(), series, strict=False):
        np.testing.assert_array_equal(row[: len(one)], one.astype(np.float32))
        assert (row[len(one) :] == 0).all()
    (tmp_path / "b.parquet").write_bytes(table(x=[one[:, 0].tolist() for one in series], y=CLASSES, split=SPLIT))
    assert load("file:b.parquet", tmp_path).train.x.shape == (20, 7, 1)


PICKLED = npz(x=X, y=np.array([{}] * 40, dtype=object))
GOOD = npz(x=X, y=CLASSES)
GOOD_TABLE = table(x=X.tolist(), y=CLASSES)


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        (".npz", b"", "is empty"),
        (".npz", b"no zip", "cannot read it as .npz"),
        (".npz", GOOD[:-40], "cannot read it as .npz"),
        (".npz", GOOD[:60], "cannot read it as .npz"),
        (".npz", GOOD[:3000] + b"\xff" * 200 + GOOD[3200:], "cannot read it as .npz: Bad CRC-32"),
        (".npz", GOOD_TABLE, "cannot read it as .npz"),
        (".npz", PICKLED, "cannot read it as .npz: Object arrays"),
        (".npz", npz(), "has no x"),
        (".npz", npz(x=X), "has no y; needed: x"),
        (".npz", npz(x=X, Y=CLASSES), 'unknown array "Y"; allowed: lengths, split, x, y'),
        (".npz", npz(x=X[0, 0], y=CLASSES[:3]), r"x has the shape \(3,\), allowed: \(N, T, I\)"),
        (".npz", npz(x=X[None], y=CLASSES[:1]), r"x has the shape \(1, 40, 7, 3\)"),
        (".npz", npz(x=X[:0], y=CLASSES[:0]), "x is empty"),
        (".npz", npz(x=X[:, :0], y=CLASSES), "x is empty"),
        (".npz", npz(x=CLASSES[:, None], y=CLASSES), "x is of type <U3, allowed: numbers"),
        (".npz", npz(x=X + 1j, y=CLASSES), "x is of type complex128"),
        (".npz", npz(x=np.where(np.arange(40)[:, None, None] == 7, np.nan, X), y=CLASSES), r"x is not finite \(as float32\) in row 7"),
        (".npz", npz(x=X * 1e300, y=CLASSES), "x is not finite"),
        (".npz", npz(x=X, y=CLASSES[:-1]), r"y has the shape \(39,\), x has 40 rows"),
        (".npz", npz(x=X, y=np.float64(3)), r"y has the shape \(\), x has 40 rows"),
        (".npz", npz(x=X, y=np.zeros(40, int)), "y has one class alone: 0"),
        (".npz", npz(x=X, y=np.where(np.arange(40) == 3, np.inf, 0)), "y is not finite in row 3"),
        (".npz", npz(x=X, y=np.zeros((40, 6, 2))), r"y of numbers has the shape \(40, 6, 2\)"),
        (".npz", npz(x=X, y=np.zeros((40, 6), int)), r"y of classes has the shape \(40, 6\)"),
        (".npz", npz(x=X, y=np.full((40, 7), "a")), "y of classes has the shape"),
        (".npz", npz(x=X, y=TAGS - 1), "y has the tag -1|y has the tag -101"),
        (".npz", npz(x=X, y=np.zeros(40, "M8[s]")), "y is of type datetime64"),
        (".npz", npz(x=X, y=CLASSES, split=SPLIT[:-1]), r"split has the shape \(39,\)"),
        (".npz", npz(x=X, y=CLASSES, split=np.where(SPLIT == "validation", "valid", SPLIT)), 'unknown split "valid".*mean "validation"'),
        (".npz", npz(x=X, y=CLASSES, split=np.full(40, "train")), "nothing in its validation and test split"),
        (".npz", npz(x=X[:2], y=CLASSES[:2]), "nothing in its validation and test split; rows: 2"),
        (".npz", npz(x=X, y=CLASSES, lengths=LENGTHS + 1), "1 <= length <= T = 7"),
        (".npz", npz(x=X, y=CLASSES, lengths=LENGTHS - 1), "1 <= length"),
        (".npz", npz(x=X, y=CLASSES, lengths=LENGTHS * 1.0), "lengths must be whole numbers"),
        (".parquet", GOOD, "cannot read it as parquet"),
        (".parquet", GOOD_TABLE[:-10], "cannot read it as parquet"),
        (".parquet", table(x=[[1.0]] * 3 + [None], y=[0, 1, 0, 1]), "x is empty in row 3"),
        (".parquet", table(x=[[1.0]] * 4, z=[0, 1, 0, 1]), 'unknown column "z"'),
        (".parquet", table(x=[[[1.0], [1.0, 2.0]]] * 4, y=[0, 1, 0, 1]), "a row's lists are not all of one length"),
        (".parquet", table(x=[[]] * 4, y=[0, 1, 0, 1]), "x is empty"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, cache: Path, suffix: str, data: bytes, message: str) -> None:
    path = tmp_path / f"own{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        load(f"file:own{suffix}", tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and not cache.exists()


@pytest.mark.parametrize("name", ["file", "file:", "file:own.csv", "file:own"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="allowed: file:PATH of a .npz or .parquet file"):
        find_benchmark(name)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.npz").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)
    kind, argument = find_benchmark("file:deep/own.npz")
    prints = {kind.load_with(argument, None).fingerprint, load("file:own.npz", tmp_path / "deep").fingerprint}
    prints.add(load(f"file:{tmp_path}/deep/own.npz", Path("elsewhere")).fingerprint)
    assert len(prints) == 1
    with pytest.raises(MissingDataError, match="own.npz: there is no such file"):
        load("file:own.npz", tmp_path)


def spoil(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


@pytest.mark.parametrize(("suffix", "data"), [(".npz", GOOD), (".parquet", GOOD_TABLE)])
def test_damage_ends_in_a_message_or_in_other_data(tmp_path: Path, suffix: str, data: bytes) -> None:
    good: Callable[[], Benchmark] = lambda: load(f"file:own{suffix}", tmp_path)  # noqa: E731
    path = tmp_path / f"own{suffix}"
    path.write_bytes(data)
    before, refused = good().fingerprint, 0
    for at in np.linspace(0, len(data) - 1, 150).astype(int):
        path.write_bytes(spoil(data, int(at)))
        try:
            assert good().fingerprint != before
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")
    assert refused > 5  # parquet has no checksums of its own: other numbers are other data
