"""Where data is looked for, how files are read, and the cache: whole, rebuilt, shared by many processes, never in the way."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import time
import warnings
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks.data import MissingDataError, as_splits, cache_folder, cached, data_folder, find_file, read_file, unpacked

ARRAYS = {"train.x": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "train.y": np.array([1, 0])}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "data").iterdir()) if (cache / "data").exists() else []


def not_called() -> dict[str, np.ndarray]:
    raise AssertionError("there was a good entry")


def test_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    with pytest.raises(
        MissingDataError, match=r"data of mnist: there is no folder data/mnist or .*share/mrnn-search/mnist; .*data get mnist"
    ):
        data_folder("mnist", None)
    user, local, given, root = tmp_path / "share/mrnn-search/mnist", Path("data/mnist"), tmp_path / "given", tmp_path / "root"
    for folder in (user, local):
        folder.mkdir(parents=True)
        assert data_folder("mnist", None) == folder
    monkeypatch.setenv("MRNN_SEARCH_DATA", str(root))
    with pytest.raises(MissingDataError, match="root/mnist or .*root; to get it"):
        data_folder("mnist", None)
    for folder in (root, root / "mnist"):
        folder.mkdir()
        assert data_folder("mnist", None) == folder
    with pytest.raises(MissingDataError, match="given"):
        data_folder("mnist", given)
    given.mkdir()
    assert data_folder("mnist", given) == given


def test_find_file_takes_the_first_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"there is no a or b \(or the same with .gz\); to get it"):
        find_file(tmp_path, ("a", "b"), "mnist")
    (tmp_path / "b.gz").touch()
    assert find_file(tmp_path, ("a", "b"), "mnist").name == "b.gz"


def test_read_file_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "digits"
    with pytest.raises(MissingDataError, match="digits: there is no such file; it should hold ten digits"):
        read_file(path, what="ten digits")
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        read_file(path)
    path.write_bytes(b"0123456789")
    right = hashlib.sha256(b"0123456789").hexdigest()
    assert read_file(path, right) == read_file(path, ["0" * 64, right]) == read_file(path)
    with pytest.raises(InputError, match="SHA-256 is 84d89877f0d4…, not 000000000000…: a damaged or different file"):
        read_file(path, "0" * 64)
    with pytest.raises(InputError, match="is a folder"):
        read_file(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_file(tmp_path / "a\0b")


def test_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(b"digits" * 100)
    assert unpacked(packed, tmp_path / "x.gz") == b"digits" * 100 and unpacked(b"digits", tmp_path / "x") == b"digits"
    assert unpacked(packed, tmp_path / "x") == b"digits" * 100  # some unpackers leave the name, some the content
    wrong_crc = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    for broken in (packed[:-3], packed[:12], wrong_crc, packed[:12] + b"\xff\xff" + packed[14:], packed[:3]):
        with pytest.raises(InputError, match="damaged gzip file"):
            unpacked(broken, tmp_path / "x.gz")
    with pytest.raises(InputError, match="no gzip file: it begins with 64 69"):
        unpacked(b"digits", tmp_path / "x.gz")


def test_an_entry_is_built_once_and_mapped(cache: Path) -> None:
    first = cached(["a", 1], lambda: ARRAYS)
    again = cached(["a", 1], not_called)
    for found in (first, again):
        assert all(isinstance(found[name], np.memmap) and np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
    cached(["a", 2], lambda: ARRAYS)
    assert len(entries(cache)) == 2


def test_tensors_share_the_map_and_cannot_change_the_file(cache: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that cannot be written to
        split = as_splits(cached(["a"], lambda: ARRAYS))["train"]
    assert split.lengths is None and split.x.shape == (2, 3, 4) and split.y.dtype == torch.int64
    split.x.zero_()
    assert np.array_equal(cached(["a"], not_called)["train.x"], ARRAYS["train.x"])


def test_nothing_is_written_when_parsing_fails(cache: Path) -> None:
    def fails() -> dict[str, np.ndarray]:
        raise InputError("is truncated")

    with pytest.raises(InputError):
        cached(["a"], fails)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["bit", "short", "no array", "no index", "index", "other shape", "a file in its place"])
def test_a_damaged_entry_is_built_again(cache: Path, damage: str) -> None:
    cached(["a"], lambda: ARRAYS)
    (entry,) = entries(cache)
    array, index = entry / "train.x.npy", entry / "index.json"
    data = bytearray(array.read_bytes())
    if damage == "bit":
        data[-1] ^= 1
        array.write_bytes(data)
    elif damage == "short":
        array.write_bytes(data[:-5])
    elif damage == "no array":
        array.unlink()
    elif damage == "no index":
        index.unlink()
    elif damage == "index":
        index.write_text(index.read_text()[:-4])
    elif damage == "other shape":
        np.save(array, np.zeros((1, 2), np.float32))
    else:
        for path in entry.iterdir():
            path.unlink()
        entry.rmdir()
        entry.touch()
    built = []
    for _ in range(2):
        found = cached(["a"], lambda: built.append(1) or ARRAYS)
        assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
    assert built == [1] and entries(cache) == [entry]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "file" / "below"))
    found = cached(["a"], lambda: ARRAYS)
    assert np.array_equal(found["train.x"], ARRAYS["train.x"]) and (tmp_path / "file").is_file()


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MRNN_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/mrnn-search")


def _open_all(start: Barrier, wrong: Queue[str]) -> None:
    def build() -> dict[str, np.ndarray]:
        time.sleep(0.01)
        return {"train.x": np.arange(200_000, dtype=np.float32)}

    start.wait()
    for entry in range(20):
        if not np.array_equal(cached(["many", entry], build)["train.x"], np.arange(200_000)):
            wrong.put(f"entry {entry}")


def test_many_processes_at_once(cache: Path) -> None:
    fork = multiprocessing.get_context("fork")  # torch need not be imported by each
    start, wrong = fork.Barrier(8), fork.Queue()
    running = [fork.Process(target=_open_all, args=(start, wrong)) for _ in range(8)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 8 and wrong.empty()
    assert len(entries(cache)) == 20 and all(len(list(entry.iterdir())) == 2 for entry in entries(cache))  # and nothing half made
