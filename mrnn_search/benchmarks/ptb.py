"""`ptb-word` and `ptb-char`: the Penn Treebank as Mikolov prepared it (text without punctuation, 10,000 words, numbers as N)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._registry import InputError
from .base import Benchmark, benchmarks, fingerprint
from .data import MissingDataError, cached, data_folder, find_file, read_file, unpacked
from .families import CharacterModel, WordModel
from .sources import how_to_get
from .text import END, UNKNOWN, VERSION, character_ids, decoded, streams, word_ids, word_vocabulary

FILES = {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"}
CHARACTER_FILES = {part: name.replace("ptb.", "ptb.char.") for part, name in FILES.items()}
PLACES = (".", "data", "simple-examples/data")  # as Mikolov's archive unpacks
LICENCE = "LDC User Agreement (LDC99T42): not to be passed on"


@benchmarks.register("ptb-word")
class PtbWord(WordModel):
    """The next word of the Penn Treebank: 10,000 words with <unk> and <eos>; 929,589 / 73,760 / 82,430 tokens."""

    name = "ptb-word"
    description = "next word of the Penn Treebank (10,000 words, window 35); needs the licensed text"
    published = "929,589 / 73,760 / 82,430 tokens"
    data_set = "ptb"
    licence = LICENCE
    source = "the user's ptb.train.txt, ptb.valid.txt, ptb.test.txt, as in Mikolov's simple-examples"
    citation = (
        "Marcus, Santorini, Marcinkiewicz, Building a large annotated corpus of English: the Penn Treebank, Comp. Linguistics, 1993; "
        "prepared as in Mikolov, Karafiát, Burget, Černocký, Khudanpur, Recurrent neural network based language model, Interspeech, 2010"
    )
    input_size = 200  # width of the embedding, as of Zaremba's small model (arXiv 1409.2329)
    output_size = vocabulary = 10_000
    window = 35
    figures = {"chance": 10_000.0}
    tokens: Mapping[str, int] = {"train": 929_589, "validation": 73_760, "test": 82_430}

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_files(FILES, data_dir)["train"].parent)

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        paths = _files(FILES, data_dir)
        contents = {part: unpacked(read_file(path, what="the Penn Treebank's text"), path) for part, path in paths.items()}
        digest = fingerprint(*contents.values())
        return cls(streams(cached(["ptb-word", VERSION, digest], lambda: cls._tokens(paths, contents))), digest)

    @classmethod
    def _tokens(cls, paths: Mapping[str, Path], contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        words = {part: _words(contents[part], path) for part, path in paths.items()}
        for part, path in paths.items():
            if len(words[part]) != cls.tokens[part]:
                known = ", ".join(f"{name} {size:,}" for name, size in cls.tokens.items())
                raise InputError(
                    f"has {len(words[part]):,} tokens with {END}, not the {part} part's {cls.tokens[part]:,} ({known})", str(path)
                )
        types = set(words["train"])
        if len(types) != cls.vocabulary:
            raise InputError(
                f"has {len(types):,} different words with {END}; the Penn Treebank has {cls.vocabulary:,}", str(paths["train"])
            )
        for part, path in paths.items():
            strange = sorted(set(words[part]) - types)
            if strange:
                raise InputError(f'has the word "{strange[0]}", which the training part hasn\'t', str(path))
        known_words = word_vocabulary(words["train"], cls.vocabulary)
        return {part: word_ids(found, known_words) for part, found in words.items()}


@benchmarks.register("ptb-char")
class PtbChar(CharacterModel):
    """The next character of the Penn Treebank: 50 characters, the end of a line among them; 5,017k / 393k / 442k."""

    name = "ptb-char"
    description = "next character of the Penn Treebank (50 characters, window 150); needs the licensed text"
    published = "5,017k / 393k / 442k characters"
    data_set = "ptb"
    licence = LICENCE
    source = "the user's ptb.char.train.txt …, or made of ptb.train.txt …: its words with a space between them, lines with their ends"
    citation = (
        "Marcus, Santorini, Marcinkiewicz, Building a large annotated corpus of English: the Penn Treebank, Comp. Linguistics, 1993; "
        "prepared as in Mikolov, Sutskever, Deoras, Le, Kombrink, Černocký, Subword language modeling with neural networks, 2012"
    )
    input_size = 128
    output_size = vocabulary = 50
    window = 150
    figures = {"chance": 5.64}
    characters: Mapping[str, int] = {"train": 5_017_000, "validation": 393_000, "test": 442_000}
    precision = 1_000  # of these published figures

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_character_files(data_dir)[0]["train"].parent)

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        paths, spaced = _character_files(data_dir)
        contents = {part: unpacked(read_file(path, what="the Penn Treebank's text"), path) for part, path in paths.items()}
        digest = fingerprint(*contents.values())
        return cls(streams(cached(["ptb-char", VERSION, spaced, digest], lambda: cls._tokens(paths, contents, spaced))), digest)

    @classmethod
    def _tokens(cls, paths: Mapping[str, Path], contents: Mapping[str, bytes], spaced: bool) -> dict[str, np.ndarray]:
        texts = {part: _characters(contents[part], path, spaced) for part, path in paths.items()}
        for part, path in paths.items():
            if abs(len(texts[part]) - cls.characters[part]) >= cls.precision:
                known = ", ".join(f"{name} {size:,}" for name, size in cls.characters.items())
                raise InputError(
                    f"has {len(texts[part]):,} characters, not the {part} part's {cls.characters[part]:,} ({known})", str(path)
                )
        alphabet = set(texts["train"])
        if len(alphabet) != cls.vocabulary:
            raise InputError(f"has {len(alphabet)} different characters; the Penn Treebank has {cls.vocabulary}", str(paths["train"]))
        return character_ids(texts, paths)


def _files(names: Mapping[str, str], data_dir: Path | None) -> dict[str, Path]:
    """Part -> its file.

    Raises:
        MissingDataError: one is missing; names it.
    """
    root = data_folder("ptb", data_dir)
    for place in PLACES:
        if any((root / place / f"{names['train']}{ending}").exists() for ending in ("", ".gz")):
            return {part: find_file(root / place, [name], "ptb") for part, name in names.items()}
    raise MissingDataError(f"there is no {names['train']}; {how_to_get('ptb')}", str(root))


def _character_files(data_dir: Path | None) -> tuple[dict[str, Path], bool]:
    """Part -> its file, and whether its characters have spaces between them; without such files those of the words."""
    root = data_folder("ptb", data_dir)
    if any((root / place / name).exists() for place in PLACES for name in CHARACTER_FILES.values()):
        return _files(CHARACTER_FILES, data_dir), True
    return _files(FILES, data_dir), False


def _words(data: bytes, path: Path) -> list[str]:
    """The words of a file, with `END` after each line."""
    words: list[str] = []
    for number, line in enumerate(decoded(data, path).splitlines(), 1):
        found = line.split()
        if not found:
            raise InputError("is empty; each line of the Penn Treebank's text is a sentence", f"{path}: line {number}")
        if END in found:
            raise InputError(f"has {END} in it; line ends stand for it", f"{path}: line {number}")
        words += [*found, END]
    if UNKNOWN not in words:
        raise InputError(f"has no {UNKNOWN}: it is not the Penn Treebank's text in Mikolov's form", str(path))
    return words


def _characters(data: bytes, path: Path, spaced: bool) -> str:
    """The text as one string: words with one space between them, lines ended by a line feed.

    Args:
        spaced: the file is in Mikolov's form: characters with spaces between them, ``_`` for a space.
    """
    lines = []
    for number, line in enumerate(decoded(data, path).splitlines(), 1):
        found = line.split()
        if spaced:
            long = next((one for one in found if len(one) > 1), None)
            if long is not None:
                raise InputError(f'has "{long}" where a single character should be', f"{path}: line {number}")
            found = "".join(found).strip("_").split("_")
        if not any(found):
            raise InputError("is empty; each line of the Penn Treebank's text is a sentence", f"{path}: line {number}")
        lines.append(" ".join(found) + "\n")
    return "".join(lines)
