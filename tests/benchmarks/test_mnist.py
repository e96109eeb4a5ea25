"""MNIST: byte-exact miniature files in the original format, many broken ones, and the real ones as published."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, benchmarks, load_benchmark, mnist
from mrnn_search.benchmarks.data import MissingDataError
from mrnn_search.benchmarks.idx import parse_idx

from ..opened import opened
from ..real_data import real

STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
NAMES = {stem: f"{stem}-idx{3 if stem.endswith('images') else 1}-ubyte" for stem in STEMS}
TRAIN, TEST, HELD = 40, 10, 15


def idx(array: np.ndarray) -> bytes:
    """The array's file, as the format is defined."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


RANDOM = np.random.RandomState(0)
ARRAYS = {
    f"{part}-{kind}": RANDOM.randint(0, 256 if kind == "images" else 10, (count, 28, 28) if kind == "images" else (count,)).astype(np.uint8)
    for part, count in (("train", TRAIN), ("t10k", TEST))
    for kind in ("images", "labels")
}
FILES = {stem: idx(array) for stem, array in ARRAYS.items()}
MINIATURE = mnist.Release({stem: hashlib.sha256(FILES[stem]).hexdigest() for stem in STEMS}, TRAIN, TEST, HELD)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature, and a cache of its own."""
    monkeypatch.setattr(mnist, "RELEASE", MINIATURE)
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    there = tmp_path / "mnist"
    there.mkdir()
    for stem, data in FILES.items():
        (there / NAMES[stem]).write_bytes(data)
    return there


def load(name: str, folder: Path) -> Benchmark:
    return benchmarks[name].load(folder)


def test_the_format_byte_for_byte() -> None:
    data = bytes.fromhex("00000803 00000002 00000001 00000003 000102 fdfeff")
    assert np.array_equal(parse_idx(data, 3, "x"), [[[0, 1, 2]], [[253, 254, 255]]])
    assert np.array_equal(parse_idx(bytes.fromhex("00000801 00000002 0709"), 1, "x"), [7, 9])


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("dotted", [False, True], ids=["dash", "dot"])
def test_miniature_files_under_every_usual_name(folder: Path, packed: bool, dotted: bool) -> None:
    before = load("mnist-rows", folder).fingerprint
    for stem, name in NAMES.items():
        (folder / name).unlink()
        new = name.replace("-idx", ".idx") if dotted else name
        (folder / f"{new}{'.gz' if packed else ''}").write_bytes(gzip.compress(FILES[stem]) if packed else FILES[stem])
    found = load("mnist-rows", folder)
    assert found.sizes == {"train": TRAIN - HELD, "validation": HELD, "test": TEST} and found.fingerprint == before
    images, labels = ARRAYS["train-images"], ARRAYS["train-labels"]
    assert np.array_equal((found.train.x * 255).round().numpy(), images[:-HELD])
    assert np.array_equal((found.validation.x * 255).round().numpy(), images[-HELD:])
    assert np.array_equal(torch.cat([found.train.y, found.validation.y]).numpy(), labels)
    test = opened(found)
    assert np.array_equal((test.x * 255).round().numpy(), ARRAYS["t10k-images"]) and np.array_equal(test.y, ARRAYS["t10k-labels"])


def test_what_each_benchmark_makes_of_an_image(folder: Path) -> None:
    image = ARRAYS["train-images"][3] / np.float32(255)
    means = np.array([[image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(14)] for r in range(14)], np.float32)
    expected = {
        "mnist-rows": image,
        "smnist": image.reshape(784, 1),
        "psmnist": image.reshape(784, 1)[np.random.RandomState(92916).permutation(784)],
        "smnist-196": means.reshape(196, 1),
        "psmnist-196": means.reshape(196, 1)[np.random.RandomState(92916).permutation(196)],
    }
    prints = set()
    for name, sequence in expected.items():
        found = load(name, folder)
        assert found.train.x.dtype == torch.float32 and found.input_size == sequence.shape[1]
        np.testing.assert_allclose(found.train.x[3].numpy(), sequence, rtol=0, atol=1e-6)  # means: another order of summation
        prints.add(found.fingerprint)
    assert len(prints) == 5


def test_the_permutation_is_the_same_for_ever() -> None:
    first = mnist.permutation(784)
    assert sorted(first) == list(range(784))
    assert hashlib.sha256(first.astype("<i8").tobytes()).hexdigest()[:16] == "96240fe27409981c"
    assert hashlib.sha256(mnist.permutation(196).astype("<i8").tobytes()).hexdigest()[:16] == "c4e50b70c46de955"


@dataclasses.dataclass(frozen=True)
class Case:
    """One file of the four, spoiled."""

    what: str
    stem: str
    spoil: Callable[[bytes], bytes]
    message: str
    suffix: str = ""


def put(at: int, *values: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes(values) + data[at + len(values) :]


def cut(length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:length]


def broken() -> list[Case]:
    """Every field of every header, the values, the packing."""
    cases: list[Case] = []
    for stem in STEMS:
        kind, header = ("images", 16) if stem.endswith("images") else ("labels", 8)
        cases.append(Case("empty", stem, cut(0), "is empty"))
        cases += [Case(f"cut in the magic number at {n}", stem, cut(n), "is no IDX file.*truncated") for n in (1, 3)]
        cases += [Case(f"cut in the header at {n}", stem, cut(n), "is truncated") for n in range(4, header, 3)]
        cases += [Case(f"cut by {n}", stem, lambda d, n=n: d[:-n], "is truncated: its header says") for n in (1, 5)]
        cases.append(Case("values gone", stem, cut(header), "is truncated: its header says"))
        cases.append(Case("a byte too many", stem, lambda d: d + b"\0", "bytes that do not belong"))
        cases.append(Case("twice", stem, lambda d: d + d, "bytes that do not belong"))
        cases += [Case(f"magic byte {at}", stem, put(at, 1), "is no IDX file: it begins with") for at in (0, 1)]
        cases.append(Case("little-endian", stem, lambda d: d[3::-1] + d[4:], "is no IDX file: it begins with"))
        cases += [
            Case(f"type {code:#x}", stem, put(2, code), f"type {code:#04x}.*allowed: 0x08") for code in (0x09, 0x0B, 0x0C, 0x0D, 0x0E)
        ]
        cases += [Case(f"type {code:#x}", stem, put(2, code), "is no IDX file") for code in (0x00, 0x0A, 0xFF)]
        other = 1 if kind == "images" else 3
        cases += [Case(f"{n} dimensions", stem, put(3, n), f"has {n} dimensions.*needed: .*{kind}") for n in (0, 2, other, 255)]
        cases.append(Case("count + 1", stem, lambda d: d[:7] + bytes([d[7] + 1]) + d[8:], "is truncated"))
        cases.append(Case("count - 1", stem, lambda d: d[:7] + bytes([d[7] - 1]) + d[8:], "bytes that do not belong"))
        cases.append(Case("count 2^32 - 1", stem, put(4, 255, 255, 255, 255), "is truncated"))
        cases.append(Case("a web page", stem, lambda d: b"<!DOCTYPE html><html>404</html>", "is no IDX file: it begins with 3c 21"))
        cases.append(Case("none in it", stem, lambda d, h=header: put(4, 0, 0, 0, 0)(d)[:h], f"has 0 {kind}"))
        for n in (3, 30, -9, -1):
            cases.append(Case(f"gz cut at {n}", stem, lambda d, n=n: gzip.compress(d)[:n], "damaged gzip", ".gz"))
        cases.append(Case("gz CRC", stem, lambda d: flip(gzip.compress(d), -6), "damaged gzip", ".gz"))
        cases.append(Case("gz length", stem, lambda d: flip(gzip.compress(d), -2), "damaged gzip", ".gz"))
        cases.append(Case("gz content", stem, lambda d: flip(gzip.compress(d), 14), "damaged gzip", ".gz"))
        cases.append(Case("no gz", stem, lambda d: d, "is no gzip file", ".gz"))
        cases.append(Case("gz of nothing", stem, lambda d: gzip.compress(b""), "is no IDX file: 0 bytes", ".gz"))
        cases.append(Case("gz twice", stem, lambda d: gzip.compress(gzip.compress(d)), "is no IDX file: it begins with 1f 8b", ".gz"))
        cases.append(Case("another value", stem, lambda d, h=header: put(h, d[h] ^ 1)(d), "a sound IDX file, but not MNIST's"))
        if kind == "images":
            cases.append(Case("14 x 56 pixels", stem, put(8, 0, 0, 0, 14, 0, 0, 0, 56), "images of 14 x 56 pixels"))
            cases.append(Case("27 rows", stem, put(8, 0, 0, 0, 27), "bytes that do not belong"))
            cases.append(Case("29 columns", stem, put(12, 0, 0, 0, 29), "is truncated"))
            cases.append(Case("mirrored", stem, lambda d: d[:16] + d[:15:-1], "but not MNIST's"))
        else:
            cases += [Case(f"label {label}", stem, put(9, label), f"the label {label}, allowed: 0 to 9") for label in (10, 255)]
            cases.append(Case("other order", stem, lambda d: d[:8] + d[:7:-1], "but not MNIST's"))
    return cases


def flip(data: bytes, at: int) -> bytes:
    return bytes(value ^ (0x55 if n == at % len(data) else 0) for n, value in enumerate(data))


def test_there_are_many_broken_ones() -> None:
    assert len(broken()) >= 50


@pytest.mark.parametrize("case", broken(), ids=lambda case: f"{case.stem}: {case.what}")
def test_a_broken_file_is_named_and_nothing_is_cached(folder: Path, case: Case) -> None:
    (folder / NAMES[case.stem]).unlink()
    path = folder / f"{NAMES[case.stem]}{case.suffix}"
    path.write_bytes(case.spoil(FILES[case.stem]))
    with pytest.raises(InputError, match=case.message) as caught:
        load("mnist-rows", folder)
    assert str(caught.value).startswith(f"{path}: ") and not (folder.parent / "cache").exists()


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("train-images", "train-labels", r"has 1 dimensions \(labels\), needed: 3 \(images\); are two files swapped"),
        ("t10k-images", "t10k-labels", r"has 1 dimensions \(labels\)"),
        ("train-images", "t10k-images", "has 10 images, MNIST's train-images has 40; are two files swapped"),
        ("train-labels", "t10k-labels", "has 10 labels, MNIST's train-labels has 40; are two files swapped"),
    ],
)
def test_swapped_files(folder: Path, one: str, other: str, message: str) -> None:
    (folder / NAMES[one]).write_bytes(FILES[other])
    (folder / NAMES[other]).write_bytes(FILES[one])
    with pytest.raises(InputError, match=message):
        load("smnist", folder)
    assert not (folder.parent / "cache").exists()


@pytest.mark.parametrize("stem", STEMS)
def test_a_missing_file_a_folder_in_its_place_and_one_that_may_not_be_read(
    folder: Path, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / NAMES[stem]
    original = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))  # root may read everything: chmod would test nothing
        return original(self)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=f"{NAMES[stem]}: cannot read MNIST's {stem}: Permission denied"):
        patch.setattr(Path, "read_bytes", refused)
        load("psmnist", folder)
    path.unlink()
    for look in (lambda: load("psmnist", folder), lambda: benchmarks["psmnist"].locate(folder)):
        with pytest.raises(MissingDataError, match=rf"there is no {NAMES[stem]} or .*data get mnist"):
            look()
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        load("psmnist", folder)
    assert not (folder.parent / "cache").exists()


def test_any_changed_byte_is_noticed(folder: Path) -> None:
    random = np.random.RandomState(1)
    for _ in range(150):
        stem = STEMS[random.randint(4)]
        at = random.randint(len(FILES[stem])) if random.randint(2) else random.randint(16)
        data = bytearray(FILES[stem])
        data[at % len(data)] ^= 1 << random.randint(8)
        (folder / NAMES[stem]).write_bytes(data)
        with pytest.raises(InputError, match=NAMES[stem]):
            load("mnist-rows", folder)
        (folder / NAMES[stem]).write_bytes(FILES[stem])
    assert not (folder.parent / "cache").exists() and load("mnist-rows", folder).sizes["test"] == TEST


def test_the_real_files_are_as_published() -> None:
    found = load_benchmark("mnist-rows", real("mnist"))
    assert found.sizes == {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert found.train.x.shape[1:] == (28, 28) and found.train.x.min() == 0 and found.train.x.max() == 1
    # LeCun's page: 60,000 and 10,000; the classes' counts are those of every MNIST tutorial
    counts = torch.bincount(torch.cat([found.train.y, found.validation.y])).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(opened(found).y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(float(torch.cat([found.train.x, found.validation.x]).double().mean()) - 0.1307) < 5e-5  # torchvision's constant
    assert found.train.y[:5].tolist() == [5, 0, 4, 1, 9]  # the first images that everybody has seen
    assert benchmarks["mnist-rows"].locate(real("mnist")) == str(real("mnist"))
