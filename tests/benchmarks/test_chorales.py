"""Bach's chorales: scores read against notes by hand, the real corpus, and what independent notes and a small LSTM make of it."""

from __future__ import annotations

import io
import math
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, benchmarks
from mrnn_search.benchmarks.chorales import LOWEST, _in_any_key, piano_roll
from mrnn_search.benchmarks.data import MissingDataError
from mrnn_search.benchmarks.musicxml import Note, read_score
from mrnn_search.cells.presets import preset
from mrnn_search.cells.spec import Candidate
from mrnn_search.engine.train import train_lane

from ..opened import opened
from ..real_data import real

PATH = Path("x.mxl")
CONTAINER = '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'


def mxl(measures: str, container: str = CONTAINER) -> bytes:
    """A compressed score with one part."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("score.xml", f"<score-partwise><part>{measures}</part></score-partwise>")
    return file.getvalue()


def note(step: str, octave: int, duration: int, more: str = "", alter: int = 0) -> str:
    pitch = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>"
    return f"<note>{more}{pitch}<duration>{duration}</duration></note>"


REST = "<note><rest/><duration>{}</duration></note>"
DIVISIONS = "<attributes><divisions>{}</divisions></attributes>"


def test_notes_rests_chords_voices_and_grace_notes() -> None:
    first = DIVISIONS.format(2) + note("C", 4, 2) + note("E", 4, 2, "<chord/>") + REST.format(1) + note("B", 3, 3, alter=-1)
    grace = "<note><grace/><pitch><step>G</step><octave>4</octave></pitch></note>"
    second = DIVISIONS.format(3) + grace + note("F", 4, 3, alter=1) + "<backup><duration>3</duration></backup>" + note("A", 0, 1)
    third = "<forward><duration>3</duration></forward>" + note("C", 8, 2)
    parts = read_score(mxl("".join(f"<measure>{measure}</measure>" for measure in (first, second, third))), PATH)
    assert parts == [
        [
            Note(Fraction(0), Fraction(1), 60),
            Note(Fraction(0), Fraction(1), 64),
            Note(Fraction(3, 2), Fraction(3), 58),
            Note(Fraction(3), Fraction(4), 66),
            Note(Fraction(3), Fraction(10, 3), 21),
            Note(Fraction(5), Fraction(17, 3), 108),
        ]
    ]


def test_the_roll_shows_what_sounds_on_the_beat() -> None:
    half, quarter = Fraction(1, 2), Fraction(1)
    notes = [Note(0 * quarter, 2 * quarter, 60), Note(half, quarter, 62), Note(quarter, quarter + half, 64), Note(half, 2 * quarter, 21)]
    roll = piano_roll(notes)
    assert roll.shape == (2, 88) and [np.flatnonzero(row).tolist() for row in roll] == [[60 - LOWEST], [0, 60 - LOWEST, 64 - LOWEST]]
    assert _in_any_key(roll) == _in_any_key(roll.copy()) != _in_any_key(piano_roll(notes[:-1]))
    up = piano_roll([Note(start, end, midi + 5) for start, end, midi in notes])
    assert not np.array_equal(up, roll) and _in_any_key(up) == _in_any_key(roll)


WHOLE = mxl(f"<measure>{DIVISIONS.format(1)}{note('C', 4, 1)}</measure>")


@pytest.mark.parametrize(
    "data",
    [
        b"PK",
        WHOLE[:-30],
        WHOLE[: len(WHOLE) // 2],
        b"<score-partwise/>",
        mxl("", container="<container/>"),
        mxl("", container='<container><rootfile full-path="other.xml"/></container>'),
        mxl("", container="<container><rootfile/></container>"),
        mxl("", container="no xml"),
        mxl("<measure>"),
        mxl(f"<measure>{note('H', 4, 1)}</measure>"),
        mxl(f"<measure>{DIVISIONS.format(0)}{note('C', 4, 1)}</measure>"),
        mxl(f"<measure>{DIVISIONS.format('two')}</measure>"),
        mxl("<measure><note><rest/></note></measure>"),
        mxl("<measure><note><pitch><step>C</step></pitch><duration>1</duration></note></measure>"),
        WHOLE.replace(b"<score-partwise>", b"<score-partwisE>"),
    ],
    ids=range(15),
)
def test_a_broken_score_is_named(data: bytes) -> None:
    with pytest.raises(InputError, match="^x.mxl: is no readable MusicXML score"):
        read_score(data, PATH)


@pytest.fixture(scope="module")
def music() -> Benchmark:
    return benchmarks["chorales"].load(real("chorales"))


def test_the_first_bars_of_bwv_269_as_printed() -> None:
    """Aus meines Herzens Grunde, G major, 3/4 with an upbeat: soprano and bass of the upbeat and the first two bars."""
    path = real("chorales") / "bwv269.mxl"
    soprano, _, _, bass = read_score(path.read_bytes(), path)
    assert [(str(start), midi) for start, _, midi in soprano[:5]] == [("0", 67), ("1", 67), ("3", 74), ("4", 71), ("11/2", 69)]
    assert [(str(start), midi) for start, _, midi in bass[:6]] == [("0", 43), ("1", 55), ("2", 52), ("3", 54), ("4", 55), ("5", 50)]


def test_sizes_and_the_split_for_ever(music: Benchmark) -> None:
    assert music.sizes == {"train": 217, "validation": 72, "test": 72} and music.published == "217 / 72 / 72"
    assert music.fingerprint == "3505eac74438053596a97c8eccb1d577a87cc7a74b0f07af6ed3a6ecd08939a8"
    rolls = [split.x[n, : split.lengths[n]] for split in (music.train, music.validation, opened(music)) for n in range(len(split.x))]  # type: ignore[index]
    whole = torch.cat(rolls)
    assert set(whole.unique().tolist()) == {0, 1} and whole.sum(1).max() == 4  # four voices
    assert whole.sum(1).mean() > 3.5 and (36 - LOWEST, 81 - LOWEST) == (int(whole.any(0).nonzero()[0]), int(whole.any(0).nonzero()[-1]))
    assert len({_in_any_key(roll.bool().numpy()) for roll in rolls}) == len(rolls)  # no chorale twice, in whatever key
    x, y, lengths = music.train
    assert lengths is not None and lengths.max() == x.shape[1] and torch.equal(x[:, 1:], y[:, :-1])


def test_floor_and_ceiling(music: Benchmark) -> None:
    """Each note by its frequency alone, the last chord again; and an LSTM that comes near the field's figures on its JSB chorales."""

    def steps(split: object) -> tuple[torch.Tensor, torch.Tensor]:
        x, y, lengths = split  # type: ignore[misc]
        own = torch.arange(x.shape[1]) < lengths[:, None]
        return x[own], y[own]

    (x, y), (seen, wanted) = steps(music.train), steps(music.validation)
    share = (y.sum(0) + 0.5) / (len(y) + 1)
    alone = float(music.errors(torch.logit(share).expand_as(wanted), wanted).mean())
    stays = torch.stack([((y * (1 - x)).sum(0) + 0.5) / ((1 - x).sum(0) + 1), ((y * x).sum(0) + 0.5) / (x.sum(0) + 1)])
    pairs = float(music.errors(torch.where(seen > 0, torch.logit(stays[1]), torch.logit(stays[0])), wanted).mean())
    assert alone < 88 * math.log(2) and [alone, pairs] == pytest.approx(list(music.figures.values()), rel=1e-3)
    small = Candidate(preset("lstm"), hidden_size=64, init="torch", optimizer="adam", lr=1e-2, batch_size=8)
    found = train_lane(music, small, 0, None, 0, 10)
    assert found.error is None and 6 < found.value < pairs


def test_the_installed_music21_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by its name; it is not imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    installed = tmp_path / "site" / "music21"
    shutil.copytree(real("chorales"), installed / "corpus" / "bach")
    (installed / "__init__.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert benchmarks["chorales"].locate(None) == str(installed / "corpus" / "bach")
    (tmp_path / "data" / "chorales").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="data/chorales: has no scores"):
        benchmarks["chorales"].locate(None)


def test_another_corpus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingDataError, match="no scores.*pip install 'mrnn-search.music.'"):
        benchmarks["chorales"].load(tmp_path)
    shutil.copytree(real("chorales"), tmp_path / "corpus" / "bach")
    (tmp_path / "corpus" / "bach" / "bwv366.mxl").write_bytes(WHOLE)
    with pytest.raises(InputError, match="its 407 files have SHA-256 .* not 27195b646393…: damaged, or not of music21 9.1 to 10.5"):
        benchmarks["chorales"].load(tmp_path)
    assert not (tmp_path / "cache").exists()
