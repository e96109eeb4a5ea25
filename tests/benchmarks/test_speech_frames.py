"""The prompts of one speaker: real speech, its splits, and what a linear model and a small LSTM make of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, benchmarks, speech_frames
from mrnn_search.benchmarks.data import MissingDataError
from mrnn_search.cells.presets import preset
from mrnn_search.cells.spec import Candidate
from mrnn_search.engine.train import train_lane

from ..opened import opened
from ..real_data import real


@pytest.fixture(scope="module")
def speech() -> Benchmark:
    return benchmarks["speech-frames"].load(real("speech"))


def frames(split: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Every frame and the one after it, (M, 129) each."""
    x, y, lengths = split  # type: ignore[misc]
    own = torch.arange(x.shape[1]) < lengths[:, None]
    return x[own], y[own]


def test_sizes_and_the_split_for_ever(speech: Benchmark) -> None:
    folder = real("speech") / speech_frames.SPEAKER
    assert len(speech_frames._prompts(folder)) == 551 and len(list(folder.rglob("*.wav"))) == 568  # as Debian's package lists them
    assert speech.sizes == {"train": 504, "validation": 89, "test": 107}
    assert speech.fingerprint == "f0e14851cb3f388ab0421269d83c1f0a8a934e91413ce4da5e4a27462fd9ed9a"
    test = opened(speech)
    for split in (speech.train, speech.validation, test):
        assert split.x.shape[2] == 129 and split.x.shape == split.y.shape and split.lengths is not None
        assert split.lengths.max() == 250 == split.x.shape[1] and split.lengths.min() >= 1
    heard = [{row.tobytes() for row in frames(split)[0].numpy() if row.any()} for split in (speech.train, speech.validation, test)]
    silence = max(heard[0], key=lambda row: row in heard[1] and row in heard[2])  # digital silence is everywhere
    assert heard[0] & heard[1] <= {silence} and heard[0] & heard[2] <= {silence}


def test_only_the_training_part_sets_the_scale(speech: Benchmark) -> None:
    x, _ = frames(speech.train)
    assert x.mean(0).abs().max() < 1e-3 and x.var(0).mean() == pytest.approx(1, abs=1e-3)
    assert abs(float(frames(speech.validation)[0].mean())) > 1e-3


def test_floor_and_ceiling(speech: Benchmark) -> None:
    """The mean frame, the last frame again, a linear model of the last frame; and a small LSTM that knows more."""
    x, y, seen, wanted = (part.double() for split in (speech.train, speech.validation) for part in frames(split))
    mean = float(speech.errors(y.mean(0).expand_as(wanted), wanted).mean())
    again = float(speech.errors(seen, wanted).mean())
    x, seen = (torch.nn.functional.pad(part, (0, 1), value=1.0) for part in (x, seen))
    linear = float(speech.errors(seen @ torch.linalg.solve(x.T @ x, x.T @ y), wanted).mean())
    assert [mean, again, linear] == pytest.approx(list(speech.figures.values()), rel=1e-3)
    found = train_lane(
        speech, Candidate(preset("lstm"), hidden_size=64, init="torch", optimizer="adam", lr=5e-3, batch_size=16), 0, None, 0, 5
    )
    assert found.error is None and 40 < found.value < 0.97 * linear


def test_another_release_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    there = tmp_path / speech_frames.SPEAKER
    there.mkdir()
    with pytest.raises(MissingDataError, match="no prompts.*apt-get install"):
        benchmarks["speech-frames"].load(tmp_path)
    shutil.copy(real("speech") / speech_frames.SPEAKER / "activated.wav", there)
    with pytest.raises(InputError, match="its 1 files have SHA-256 .* not 6708f40a1913…: damaged, or not of Debian package") as error:
        benchmarks["speech-frames"].load(tmp_path)
    assert error.value.where == str(there) and not (tmp_path / "cache").exists()


def test_debian_s_own_folder_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(speech_frames, "INSTALLED", tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="apt-get install"):
        benchmarks["speech-frames"].locate(None)
    monkeypatch.setattr(speech_frames, "INSTALLED", real("speech") / speech_frames.SPEAKER)
    assert benchmarks["speech-frames"].locate(None) == str(real("speech") / speech_frames.SPEAKER)
    (tmp_path / "data" / "speech").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="data/speech: has no prompts"):
        benchmarks["speech-frames"].locate(None)
