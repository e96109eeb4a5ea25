"""Text to streams of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrnn_search._registry import InputError
from mrnn_search.benchmarks.text import character_ids, decoded, streams, word_ids, word_vocabulary

PATH = Path("x.txt")


def test_the_vocabulary_keeps_the_most_frequent() -> None:
    words = "b b b a a c c d <eos> <eos> <eos> <eos>".split()
    assert word_vocabulary(words, 5) == ["<eos>", "b", "a", "c", "<unk>"]  # a before c; d is out; <unk> is always in
    assert word_vocabulary([*words, "<unk>", "<unk>"], 4) == ["<eos>", "b", "<unk>", "a"]
    assert word_ids(["b", "d", "<eos>"], ["<eos>", "b", "<unk>"]).tolist() == [1, 2, 0]


def test_characters_are_places_in_the_training_alphabet() -> None:
    paths = {"train": PATH, "validation": Path("v.txt"), "test": PATH}
    found = character_ids({"train": "ba\né", "validation": "a\n", "test": "b"}, paths)
    assert {part: ids.tolist() for part, ids in found.items()} == {"train": [2, 1, 0, 3], "validation": [1, 0], "test": [2]}
    with pytest.raises(InputError, match="v.txt: has the character 'c', which the training part hasn't"):
        character_ids({"train": "ab", "validation": "abc", "test": "a"}, paths)


def test_streams_predict_the_next_token_in_the_same_memory() -> None:
    found = streams({part: np.arange(4) for part in ("train", "validation", "test")})
    x, y, lengths = found["train"]
    assert x.tolist() == [0, 1, 2] and y.tolist() == [1, 2, 3] and lengths is None and y.data_ptr() == x.data_ptr() + 8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\xff\n", "is not utf-8: byte 1 is 0xff"),
        (b"\xef\xbb\xbfa\n", "byte order mark"),
        (b"a\0\n", "character 1 is zero"),
        (b"a\r\n", "Windows line ends"),
        (b"a", "last line has no end"),
        (b"", "last line has no end"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"x.txt: .*{message}"):
        decoded(data, PATH)
