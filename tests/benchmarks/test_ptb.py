"""The Penn Treebank: a miniature of its text files, streams of words and characters, and many broken files."""

from __future__ import annotations

import gzip
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, benchmarks, ptb
from mrnn_search.benchmarks.data import MissingDataError

from ..opened import opened

# As in Mikolov's files: a space before the first word and after the last one.
TEXTS = {
    "train": " the <unk> of the bank rose N to $ N \n the bank is <unk> \n no it was n't the unk \n",
    "validation": " the bank rose to <unk> \n <unk> was N \n",
    "test": " it is <unk> \n",
}
WORDS = {part: text.replace("\n", "<eos>").split() for part, text in TEXTS.items()}
PLAIN = {part: "".join(" ".join(line.split()) + "\n" for line in text.splitlines()) for part, text in TEXTS.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature, a loader that expects its sizes, and a cache of its own."""
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ptb.PtbWord, "tokens", {part: len(words) for part, words in WORDS.items()})
    monkeypatch.setattr(ptb.PtbWord, "vocabulary", len(set(WORDS["train"])))
    monkeypatch.setattr(ptb.PtbChar, "characters", {part: len(text) for part, text in PLAIN.items()})
    monkeypatch.setattr(ptb.PtbChar, "precision", 1)
    monkeypatch.setattr(ptb.PtbChar, "vocabulary", len(set(PLAIN["train"])))
    there = tmp_path / "ptb"
    there.mkdir()
    for part, name in ptb.FILES.items():
        (there / name).write_text(TEXTS[part], encoding="utf-8", newline="\n")
    return there


def spaced(text: str) -> str:
    """Mikolov's form of characters: a space between any two, "_" for a space."""
    return "".join(" ".join(line.replace(" ", "_")) + " \n" for line in text.splitlines())


def write_characters(folder: Path) -> None:
    for part, name in ptb.CHARACTER_FILES.items():
        (folder / name).write_text(spaced(PLAIN[part]), encoding="utf-8", newline="\n")


def load(name: str, folder: Path) -> Benchmark:
    return benchmarks[name].load(folder)


def test_published_sizes() -> None:
    """Mikolov et al. 2010 and 2012, Zaremba et al. 2014: 929k, 73k and 82k words; 5,017k, 393k and 442k characters, 50 of them."""
    assert ptb.PtbWord.tokens == {"train": 929_589, "validation": 73_760, "test": 82_430}
    assert ptb.PtbWord.vocabulary == ptb.PtbWord.output_size == 10_000
    assert [size / ptb.PtbChar.precision for size in ptb.PtbChar.characters.values()] == [5017, 393, 442] and ptb.PtbChar.vocabulary == 50
    assert ptb.PtbWord.figures["chance"] == ptb.PtbWord.vocabulary and ptb.PtbChar.figures["chance"] == pytest.approx(
        math.log2(50), abs=0.005
    )


def test_words_are_a_stream_of_places_by_frequency(folder: Path) -> None:
    found = load("ptb-word", folder)
    counts = {word: WORDS["train"].count(word) for word in WORDS["train"]}
    known = sorted(counts, key=lambda word: (-counts[word], word))
    assert known[:3] == ["the", "<eos>", "<unk>"]
    for part, split in (("train", found.train), ("validation", found.validation), ("test", opened(found))):
        stream = [known.index(word) for word in WORDS[part]]
        assert split.x.tolist() == stream[:-1] and split.y.tolist() == stream[1:] and split.lengths is None
    assert found.sizes == {part: len(words) - 1 for part, words in WORDS.items()} and found.window == 35


@pytest.mark.parametrize("form", ["of words", "of characters"])
def test_characters_from_either_form(folder: Path, form: str) -> None:
    if form == "of characters":
        write_characters(folder)
        for name in ptb.FILES.values():
            (folder / name).unlink()
    found = load("ptb-char", folder)
    alphabet = sorted(set(PLAIN["train"]))
    for part, split in (("train", found.train), ("validation", found.validation), ("test", opened(found))):
        assert "".join(alphabet[place] for place in [*split.x.tolist(), int(split.y[-1])]) == PLAIN[part]
        assert split.x[1:].tolist() == split.y[:-1].tolist()
    assert found.window == 150


@pytest.mark.parametrize("place", ptb.PLACES)
def test_the_places_of_the_usual_archives_and_gz(folder: Path, place: str) -> None:
    before = load("ptb-word", folder)
    for name in ptb.FILES.values():
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{name}.gz").write_bytes(gzip.compress(data))
    after = load("ptb-word", folder)
    assert after.train.x.equal(before.train.x) and after.fingerprint == before.fingerprint
    assert str(folder / place) in benchmarks["ptb-word"].locate(folder)


TRAIN, VALID, TEST = ptb.FILES.values()
CHAR_TRAIN, CHAR_VALID, CHAR_TEST = ptb.CHARACTER_FILES.values()
LATIN = TEXTS["train"].replace("bank", "bänk").encode("latin-1")

# What to write into which file -> what the message says; None: the file is removed.
WORD_FILES: dict[str, tuple[str, bytes | None, str]] = {
    "train missing": (TRAIN, None, "there is no ptb.train.txt.*LDC99T42"),
    "valid missing": (VALID, None, "there is no ptb.valid.txt"),
    "test missing": (TEST, None, "there is no ptb.test.txt"),
    "train empty": (TRAIN, b"", "is empty"),
    "valid empty": (VALID, b"", "is empty"),
    "test empty": (TEST, b"", "is empty"),
    "one line end": (TRAIN, b"\n", "line 1: is empty"),
    "only spaces": (TRAIN, b"   \n", "line 1: is empty"),
    "cut in a word": (TRAIN, TEXTS["train"][:-9].encode(), "truncated: its last line has no end"),
    "without the last line end": (TRAIN, TEXTS["train"][:-1].encode(), "truncated: its last line has no end"),
    "cut after a line": (TRAIN, TEXTS["train"][:38].encode(), "has 11 tokens with <eos>, not the train part's 23"),
    "valid cut in a word": (VALID, TEXTS["validation"][:9].encode(), "truncated"),
    "test cut in a word": (TEST, TEXTS["test"][:5].encode(), "truncated"),
    "a line too many": (TRAIN, (TEXTS["train"] + " the bank \n").encode(), "has 26 tokens"),
    "a word too many": (TEST, b" it is <unk> too \n", "has 5 tokens with <eos>, not the test part's 4"),
    "a word too few": (VALID, b" the bank rose to <unk> \n <unk> was \n", "has 9 tokens with <eos>, not the validation part's 10"),
    "Latin-1": (TRAIN, LATIN, "is not utf-8: byte 19 is 0xe4"),
    "UTF-16": (TRAIN, TEXTS["train"].encode("utf-16"), "is not utf-8"),
    "UTF-16 without mark": (TRAIN, TEXTS["train"].encode("utf-16-le"), "is no text: character 1 is zero"),
    "byte order mark": (TRAIN, b"\xef\xbb\xbf" + TEXTS["train"].encode(), "byte order mark"),
    "cut inside a character": (VALID, b" the b\xc3\n", "is not utf-8: byte 6"),
    "binary": (VALID, bytes(range(256)), "is not utf-8|is no text"),
    "zeros": (VALID, bytes(40), "is no text: character 0 is zero"),
    "Windows line ends": (TRAIN, TEXTS["train"].replace("\n", "\r\n").encode(), "Windows line ends.*dos2unix"),
    "Windows line ends in valid": (VALID, TEXTS["validation"].replace("\n", "\r\n").encode(), "Windows line ends"),
    "old Macintosh line ends": (TRAIN, TEXTS["train"].replace("\n", "\r").encode(), "Windows line ends|truncated"),
    "gzip under a plain name": (TRAIN, gzip.compress(TEXTS["train"].encode())[:-4], "damaged gzip"),
    "tar": (TRAIN, b"simple-examples/data/ptb.train.txt" + bytes(300), "is no text"),
    "zip": (TRAIN, b"PK\x03\x04\x14\0\0\0", "is no text|is not utf-8"),
    "HTML": (TRAIN, b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "has no <unk>: it is not the Penn Treebank"),
    "an empty line": (TRAIN, TEXTS["train"].replace("\n", "\n\n", 1).encode(), "line 2: is empty"),
    "an empty line at the end": (TRAIN, (TEXTS["train"] + "\n").encode(), "line 4: is empty"),
    "with <eos>": (TRAIN, TEXTS["train"].replace("\n", "<eos> \n").encode(), "line 1: has <eos> in it"),
    "without <unk>": (TRAIN, TEXTS["train"].replace("<unk>", "UNK").encode(), "has no <unk>"),
    "train and valid swapped": (TRAIN, TEXTS["validation"].encode(), "has 10 tokens with <eos>, not the train part's 23"),
    "valid is the test": (VALID, TEXTS["test"].encode(), "has 4 tokens with <eos>, not the validation part's 10"),
    "test is the valid": (TEST, TEXTS["validation"].encode(), "has 10 tokens with <eos>, not the test part's 4"),
    "test is the train": (TEST, TEXTS["train"].encode(), "has 23 tokens"),
    "vocabulary too large": (
        TRAIN,
        TEXTS["train"].replace("$ N", "$ M").encode(),
        "has 16 different words with <eos>; the Penn Treebank has 15",
    ),
    "vocabulary too small": (
        TRAIN,
        TEXTS["train"].replace("$", "the").encode(),
        "has 14 different words with <eos>; the Penn Treebank has 15",
    ),
    "strange word in valid": (VALID, TEXTS["validation"].replace("rose", "fell").encode(), 'has the word "fell", which the training part'),
    "strange word in test": (TEST, TEXTS["test"].replace("it", "It").encode(), 'has the word "It", which the training part'),
    "capitals": (TRAIN, TEXTS["train"].upper().encode(), "has no <unk>"),
    "tokens of characters": (TRAIN, spaced(PLAIN["train"]).encode(), "has no <unk>"),
}

CHARACTERS: dict[str, tuple[str, bytes | None, str]] = {
    "characters: valid missing": (CHAR_VALID, None, "there is no ptb.char.valid.txt"),
    "characters: train missing": (CHAR_TRAIN, None, "there is no ptb.char.train.txt"),
    "characters: test missing": (CHAR_TEST, None, "there is no ptb.char.test.txt"),
    "characters: empty": (CHAR_TRAIN, b"", "is empty"),
    "characters: words": (CHAR_TRAIN, TEXTS["train"].encode(), 'line 1: has "the" where a single character should be'),
    "characters: no spaces": (CHAR_VALID, b"the_bank_rose\n", 'has "the_bank_rose" where a single character'),
    "characters: a line of spaces": (CHAR_TRAIN, b"t h e\n_ _\n", "line 2: is empty"),
    "characters: cut": (CHAR_TRAIN, spaced(PLAIN["train"])[:-5].encode(), "truncated"),
    "characters: a line short": (CHAR_TRAIN, spaced(PLAIN["train"].split("\n")[0]).encode(), "has 36 characters, not the train part's"),
    "characters: Windows line ends": (CHAR_TEST, spaced(PLAIN["test"]).replace("\n", "\r\n").encode(), "Windows line ends"),
    "characters: Latin-1": (CHAR_TEST, b"i t _ \xe4 s\n", "is not utf-8"),
    "characters: swapped": (CHAR_VALID, spaced(PLAIN["test"]).encode(), "has 12 characters, not the validation part's"),
    "characters: a strange one": (CHAR_TEST, spaced(PLAIN["test"]).replace("s", "Q").encode(), "has the character 'Q', which the training"),
    "characters: alphabet too large": (
        CHAR_TRAIN,
        spaced(PLAIN["train"]).replace("k _ i", "Q _ i").encode(),
        "different characters",
    ),
    "characters: alphabet too small": (
        CHAR_TRAIN,
        spaced(PLAIN["train"]).replace("$", "t").encode(),
        "different characters; the Penn Treebank has",
    ),
}


def spoil(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


@pytest.mark.parametrize(("file", "data", "message"), WORD_FILES.values(), ids=WORD_FILES)
def test_a_broken_file_is_named_and_the_cache_untouched(folder: Path, file: str, data: bytes | None, message: str) -> None:
    spoil(folder / file, data)
    with pytest.raises(InputError, match=message) as error:
        load("ptb-word", folder)
    assert str(folder) in str(error.value) and (data is None or file in str(error.value))
    assert not (folder.parent / "cache").exists()


@pytest.mark.parametrize(("file", "data", "message"), CHARACTERS.values(), ids=CHARACTERS)
def test_a_broken_file_of_characters_is_named_and_the_cache_untouched(folder: Path, file: str, data: bytes | None, message: str) -> None:
    write_characters(folder)
    spoil(folder / file, data)
    with pytest.raises(InputError, match=message) as error:
        load("ptb-char", folder)
    assert str(folder) in str(error.value) and (data is None or file in str(error.value))
    assert not (folder.parent / "cache").exists()


def swap(folder: Path) -> None:
    (folder / TRAIN).rename(folder / "x")
    (folder / TEST).rename(folder / TRAIN)
    (folder / "x").rename(folder / TEST)


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "folder is empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "there is no ptb.train.txt"),
    "folder is a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("x")), "there is no folder"),
    "file is a folder": (lambda folder: ((folder / TRAIN).unlink(), (folder / TRAIN).mkdir()), "is a folder, not a file"),
    "train and test swapped": (swap, "has 4 tokens with <eos>, not the train part's 23"),
    "another archive's names": (lambda folder: (folder / TRAIN).rename(folder / "train.txt"), "there is no ptb.train.txt"),
    "gz is no gzip": (lambda folder: (folder / TRAIN).rename(folder / f"{TRAIN}.gz"), "is no gzip file"),
    "link to nowhere": (lambda folder: ((folder / VALID).unlink(), (folder / VALID).symlink_to("nowhere")), "there is no ptb.valid.txt"),
}


@pytest.mark.parametrize(("damage", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_broken_folder_is_named_and_the_cache_untouched(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load("ptb-word", folder)
    assert str(folder) in str(error.value) and not (folder.parent / "cache").exists()


def test_enough_broken_ones() -> None:
    assert len(WORD_FILES) + len(CHARACTERS) + len(FOLDERS) >= 50


def test_nothing_fetches_the_licensed_text(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="LDC99T42.*simple-examples"):
        load("ptb-word", tmp_path)
