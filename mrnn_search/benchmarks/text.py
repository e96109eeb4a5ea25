"""Text -> streams of tokens, for language models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .._registry import InputError
from .base import Split

UNKNOWN = "<unk>"
END = "<eos>"  # of a sentence
VERSION = "1"  # of this file: part of the cache's key


def decoded(data: bytes, path: Path, encoding: str = "utf-8") -> str:
    """The text of a file.

    Raises:
        InputError: it is not in this encoding, has a byte order mark, zeros, Windows line ends, or ends in the middle of a line.
    """
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"is not {encoding}: byte {error.start} is 0x{data[error.start]:02x}", str(path)) from None
    if text.startswith("\ufeff"):
        raise InputError("begins with a byte order mark; convert it to plain UTF-8", str(path))
    if "\0" in text:
        raise InputError(f"is no text: character {text.index(chr(0))} is zero", str(path))
    if "\r" in text:
        raise InputError("has Windows line ends; convert it, e.g. with dos2unix", str(path))
    if not text.endswith("\n"):
        raise InputError("is truncated: its last line has no end", str(path))
    return text


def word_vocabulary(words: Iterable[str], limit: int) -> list[str]:
    """The ``limit`` most frequent words with `UNKNOWN` and `END` among them, most frequent first, equals in order of the alphabet."""
    counts = Counter(words)
    kept = sorted((word for word in counts if word not in (UNKNOWN, END)), key=lambda word: (-counts[word], word))[: limit - 2]
    return sorted([UNKNOWN, END, *kept], key=lambda word: (-counts[word], word))


def word_ids(words: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Place of each word in the vocabulary, (L,) int64; of one that is not there, `UNKNOWN`'s."""
    places = {word: place for place, word in enumerate(vocabulary)}
    unknown = places[UNKNOWN]
    return np.fromiter((places.get(word, unknown) for word in words), dtype=np.int64, count=len(words))


def character_ids(texts: Mapping[str, str], where: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Part -> places of its characters, (L,) int64, in the alphabet of the training part, sorted.

    Raises:
        InputError: another part has a character that the training part hasn't; names the part's file.
    """
    codes = {part: np.frombuffer(text.encode("utf-32-le"), dtype="<u4") for part, text in texts.items()}
    alphabet = np.unique(codes["train"])
    for part, characters in codes.items():
        strange = np.setdiff1d(characters, alphabet)
        if len(strange):
            raise InputError(f"has the character {chr(strange[0])!r}, which the training part hasn't", str(where[part]))
    return {part: np.searchsorted(alphabet, characters).astype(np.int64) for part, characters in codes.items()}


def streams(tokens: Mapping[str, np.ndarray]) -> dict[str, Split]:
    """Splits whose target is the next token, in the same memory; the first token is never predicted."""
    found = {}
    for part in ("train", "validation", "test"):
        stream = torch.from_numpy(tokens[part])
        found[part] = Split(stream[:-1], stream[1:])
    return found
