"""TIMIT: a byte-exact miniature, its splits, and many broken ones."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, benchmarks, load_benchmark, timit
from mrnn_search.benchmarks.audio import log_magnitude
from mrnn_search.benchmarks.data import MissingDataError

from .timit_files import CORE_TEST, DEVELOPMENT, RATE, SENTENCES, TRAINING, USED, build, riff, sphere, wave


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader expects the miniature's speakers, and has a cache of its own."""
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timit, "CORE_TEST", frozenset(CORE_TEST))
    monkeypatch.setattr(timit, "DEVELOPMENT", frozenset(DEVELOPMENT))
    monkeypatch.setattr(timit.Timit, "training_speakers", len(TRAINING))
    monkeypatch.setattr(timit.Timit, "lost_speakers", 1)


def load(folder: Path, variant: str = "timit") -> Benchmark:
    load_benchmark.cache_clear()
    return load_benchmark(variant, folder)


def test_the_lists_of_speakers_are_those_of_the_field() -> None:
    """LDC93S1's readme: 24 core test speakers, two men and one woman of each region; Kaldi's 50 of the development set."""
    assert len(timit.CORE_TEST) == 24 and len(timit.DEVELOPMENT) == 50 and not timit.CORE_TEST & timit.DEVELOPMENT
    assert sum(speaker[0] == "m" for speaker in timit.CORE_TEST) == 16
    speakers, lost, sentences = timit.Timit.training_speakers, timit.Timit.lost_speakers, timit.SENTENCES
    assert ((speakers - lost) * sentences, len(timit.CORE_TEST) * sentences, len(timit.DEVELOPMENT) * sentences) == (3640, 192, 400)
    assert not any("sa" in speaker for speaker in timit.CORE_TEST | timit.DEVELOPMENT)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("upper", [False, True], ids=["small", "capital"])
@pytest.mark.parametrize("form", ["sphere", "wav"])
def test_the_miniature_in_both_formats_and_cases(tmp_path: Path, upper: bool, form: str) -> None:
    build(tmp_path / "TIMIT" if upper else tmp_path, upper, form)
    found = load(tmp_path)
    assert found.sizes == {"train": 16, "validation": 8, "test": 8}  # without the speaker with "sa" in the name, and without SA
    unit = found.unit  # type: ignore[attr-defined]
    expected = [log_magnitude(wave(speaker, sentence), RATE) for speaker in ("fcjf0", "mdac0") for sentence in USED]
    mean = np.concatenate(expected).mean(0)
    assert found.train.lengths is not None and found.train.lengths.tolist() == [len(frames) for frames in expected]
    for x, y, frames in zip(found.train.x, found.train.y, expected, strict=True):
        inputs, targets = x.numpy() * unit + mean, y.numpy() * unit + mean
        np.testing.assert_allclose(inputs[: len(frames)], frames, atol=1e-3)
        np.testing.assert_allclose(targets[: len(frames) - 1], frames[1:], atol=1e-3)
        np.testing.assert_allclose(targets[len(frames) - 1], -50, atol=1e-3)
    own = torch.cat([x[:length] for x, length in zip(found.train.x, found.train.lengths, strict=True)])
    assert own.mean(0).abs().max() < 1e-4 and own.square().mean() == pytest.approx(1, abs=1e-3)
    assert found.train.x.data_ptr() + 4 * 129 == found.train.y.data_ptr()  # one memory


@pytest.mark.usefixtures("small")
def test_the_released_form_is_raw_and_turned_round(tmp_path: Path) -> None:
    build(tmp_path)
    released, ours = load(tmp_path, "timit:released"), load(tmp_path)
    frames = log_magnitude(wave(CORE_TEST[0], USED[0]), RATE)
    np.testing.assert_allclose(released.validation.y[0, : len(frames)], frames, atol=1e-4)
    np.testing.assert_allclose(released.validation.x[0, : len(frames) - 1], frames[1:], atol=1e-4)
    assert released.fingerprint == ours.fingerprint and released.sizes == ours.sizes
    with pytest.raises(InputError, match='"timit:relased"; allowed: timit, timit:released'):
        load(tmp_path, "timit:relased")


@pytest.mark.usefixtures("small")
def test_errors_are_in_decibels(tmp_path: Path) -> None:
    build(tmp_path)
    found = load(tmp_path)
    unit = found.unit  # type: ignore[attr-defined]
    y = found.train.y[0, :4]
    assert torch.allclose(found.errors(y + 2 / unit, y), torch.full((4,), 4.0, dtype=torch.float64), atol=1e-3)


@pytest.mark.usefixtures("small")
def test_both_formats_side_by_side_count_once(tmp_path: Path) -> None:
    """As one release on the web has them: SX37.WAV of the CD and SX37.WAV.wav beside it."""
    build(tmp_path, upper=True)
    before = load(tmp_path)
    for path in list(tmp_path.rglob("*.WAV")):
        path.with_name(f"{path.name}.wav").write_bytes(riff(wave(path.parent.name.lower(), path.stem.lower())))
    assert load(tmp_path).fingerprint == before.fingerprint


@pytest.mark.usefixtures("small")
def test_another_byte_is_another_fingerprint_and_another_cache_entry(tmp_path: Path) -> None:
    build(tmp_path)
    before = load(tmp_path)
    path = tmp_path / "train/dr1/fcjf0/sx37.wav"
    samples = wave("fcjf0", "sx37")
    path.write_bytes(sphere(samples // 2))
    after = load(tmp_path)
    assert before.fingerprint != after.fingerprint and not torch.equal(before.train.x, after.train.x)


VICTIM = "train/dr1/fcjf0/sx37.wav"
WHOLE = sphere(wave("fcjf0", "sx37"))
SAMPLES = wave("fcjf0", "sx37")


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in WHOLE
    header = WHOLE[:1024].replace(old, new)
    return header[:1024].ljust(1024, b"\0") + WHOLE[1024:]


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "one byte": (b"N", "neither NIST sphere nor RIFF wav"),
    "magic cut": (WHOLE[:7], "neither NIST sphere"),
    "header cut early": (WHOLE[:30], "truncated NIST header"),
    "header cut before its end": (WHOLE[:200], "truncated NIST header"),
    "header only": (WHOLE[:1024], "truncated: its header promises"),
    "header one byte short": (WHOLE[:1023], "bad header|truncated"),
    "one sample short": (WHOLE[:-2], "truncated: its header promises"),
    "half a sample short": (WHOLE[:-1], "truncated: its header promises"),
    "half of it": (WHOLE[: len(WHOLE) // 2], "truncated: its header promises"),
    "wrong magic": (b"NIST_2A\n" + WHOLE[8:], "neither NIST sphere"),
    "magic in small letters": (WHOLE.replace(b"NIST_1A", b"nist_1a"), "neither NIST sphere"),
    "byte order mark before it": (b"\xef\xbb\xbf" + WHOLE, "neither NIST sphere"),
    "Windows line ends in the header": (replaced(b"NIST_1A\n   1024\n", b"NIST_1A\r\n   1024\r\n"), "neither NIST sphere"),
    "zeros": (bytes(len(WHOLE)), "neither NIST sphere"),
    "text": (b"0 1000 She had your dark suit.\n", "neither NIST sphere"),
    "gzip": (gzip.compress(WHOLE), "neither NIST sphere"),
    "FLAC": (b"fLaC\0\0\0\x22" + bytes(50), "neither NIST sphere"),
    "Ogg": (b"OggS\0\2" + bytes(50), "neither NIST sphere"),
    "AIFF": (b"FORM\0\0\0\x2eAIFFCOMM" + bytes(50), "neither NIST sphere"),
    "no end_head": (replaced(b"end_head", b"end_here"), "no end_head"),
    "no sample_count": (replaced(b"sample_count", b"sample_costs"), "without a sample_count"),
    "sample_count is a word": (replaced(f"sample_count -i {len(SAMPLES)}".encode(), b"sample_count -i many"), "without a sample_count"),
    "more promised than there": (sphere(SAMPLES, count=len(SAMPLES) + 1), "truncated: its header promises"),
    "fewer promised than there": (sphere(SAMPLES, count=len(SAMPLES) - 5), "truncated|promises"),
    "no samples": (sphere(SAMPLES[:0]), "no samples"),
    "shorten": (sphere(SAMPLES, extra="sample_coding -s26 pcm,embedded-shorten-v2.00\n"), "compressed .pcm,embedded-shorten.*sph2pipe"),
    "wavpack": (sphere(SAMPLES, extra="sample_coding -s25 pcm,embedded-wavpack-v1.0\n"), "compressed"),
    "mu-law": (sphere(SAMPLES, extra="sample_coding -s4 ulaw\n"), "compressed .ulaw"),
    "8 kHz": (sphere(SAMPLES, rate=8000), "has 8000 samples a second; 16000"),
    "44.1 kHz": (sphere(SAMPLES, rate=44100), "has 44100 samples a second; 16000"),
    "two channels": (replaced(b"channel_count -i 1", b"channel_count -i 2"), "has 2 channels|truncated"),
    "one byte a sample": (replaced(b"sample_n_bytes -i 2", b"sample_n_bytes -i 1"), "16-bit PCM|truncated|no readable audio"),
    "no rate": (replaced(b"sample_rate -i", b"sample_race -i"), "no readable audio|samples a second"),
    "wav: only RIFF": (b"RIFF", "neither NIST sphere nor RIFF wav"),
    "wav: no chunks": (riff(SAMPLES)[:12], "no data chunk"),
    "wav: format cut": (riff(SAMPLES)[:30], "no data chunk"),
    "wav: no data": (riff(SAMPLES)[:36], "no data chunk"),
    "wav: data header only": (riff(SAMPLES)[:44], "truncated|no samples|no readable audio"),
    "wav: one sample short": (riff(SAMPLES)[:-2], "truncated: its header promises"),
    "wav: half of it": (riff(SAMPLES)[: 44 + len(SAMPLES)], "truncated: its header promises"),
    "wav: no samples": (riff(SAMPLES[:0]), "no samples"),
    "wav: big endian": (b"RIFX" + riff(SAMPLES)[4:], "neither NIST sphere nor RIFF wav"),
    "wav: no WAVE": (riff(SAMPLES).replace(b"WAVE", b"AVI "), "neither NIST sphere nor RIFF wav"),
    "wav: two channels": (riff(SAMPLES[: len(SAMPLES) // 2 * 2], channels=2), "has 2 channels"),
    "wav: 8 bit": (riff(SAMPLES.view("u1"), bits=8), "has PCM_U8 samples; 16-bit PCM"),
    "wav: float": (riff(SAMPLES.astype("<f4"), bits=32, kind=3), "has FLOAT samples; 16-bit PCM"),
    "wav: mu-law": (riff(SAMPLES.view("u1"), bits=8, kind=7), "has ULAW samples; 16-bit PCM"),
    "wav: 8 kHz": (riff(SAMPLES, rate=8000), "has 8000 samples a second"),
    "wav: unknown codec": (riff(SAMPLES, kind=0x4242), "no readable audio"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("data", "message"), FILES.values(), ids=FILES)
def test_a_broken_file_is_named_and_the_cache_untouched(tmp_path: Path, data: bytes, message: str) -> None:
    path = build(tmp_path) / VICTIM
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path)
    assert error.value.where == str(path) and not (tmp_path / "cache").exists()


def move(source: str, target: str) -> Callable[[Path], object]:
    return lambda folder: shutil.move(folder / source, folder / target)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def fold(folder: Path) -> None:
    (folder / VICTIM).unlink()
    (folder / VICTIM).mkdir()


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (
        lambda folder: [shutil.rmtree(path) for path in folder.iterdir() if path.is_dir()],
        "no folders TRAIN and TEST.*LDC93S1",
    ),
    "no training part": (remove("train"), "no folders TRAIN and TEST"),
    "no test part": (remove("test"), "no folders TRAIN and TEST"),
    "training part is a file": (lambda folder: (shutil.rmtree(folder / "train"), (folder / "train").write_text("x")), "no folders TRAIN"),
    "a training speaker is missing": (remove("train/dr2"), "train: has 2 speakers; TIMIT's training part has 3"),
    "a training speaker too many": (
        lambda folder: shutil.copytree(folder / "train/dr1/fcjf0", folder / "train/dr1/fdaw0"),
        "has 4 speakers",
    ),
    "a speaker twice": (lambda folder: shutil.copytree(folder / "train/dr1/fcjf0", folder / "train/dr2/fcjf0"), "fcjf0: is there twice"),
    "a speaker in both parts": (
        lambda folder: shutil.copytree(folder / "train/dr1/fcjf0", folder / "test/dr1/fcjf0"),
        "fcjf0 is in the training",
    ),
    "a core test speaker is missing": (remove("test/dr1/mdab0"), "test: has no speaker mdab0, of the validation split"),
    "a development speaker is missing": (remove("test/dr2/faks0"), "test: has no speaker faks0, of the test split"),
    "parts swapped": (
        lambda folder: (move("train", "x")(folder), move("test", "train")(folder), move("x", "test")(folder)),
        'has 0 speakers with "sa"',
    ),
    "another region's name": (move("train/dr1", "train/region1"), "has 2 speakers"),
    "a speaker's folder is empty": (
        lambda folder: [path.unlink() for path in (folder / "train/dr1/fcjf0").iterdir()],
        "fcjf0: has 0 utterances .* TIMIT has 8: none",
    ),
    "an utterance is missing": (remove(VICTIM), "fcjf0: has 7 utterances"),
    "an utterance too many": (
        lambda folder: shutil.copy(folder / VICTIM, (folder / VICTIM).with_name("sx38.wav")),
        "fcjf0: has 9 utterances",
    ),
    "an utterance under another name": (move(VICTIM, "train/dr1/fcjf0/37.wav"), "fcjf0: has 7 utterances"),
    "an utterance in another format": (move(VICTIM, "train/dr1/fcjf0/sx37.flac"), "fcjf0: has 7 utterances"),
    "an utterance is a folder": (fold, "sx37.wav: is a folder"),
    "no speaker with sa": (move("train/dr3/fsah0", "train/dr3/fsbh0"), 'has 0 speakers with "sa" in their names; TIMIT has 1'),
    "no part": (lambda folder: (shutil.rmtree(folder / "train"), shutil.rmtree(folder / "test")), "no folders TRAIN and TEST"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("damage", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_broken_corpus_is_named_and_the_cache_untouched(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(build(tmp_path))
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path)
    assert str(tmp_path) in error.value.where and not (tmp_path / "cache").exists()


def test_enough_broken_ones() -> None:
    assert len(FILES) + len(FOLDERS) >= 50


def test_a_missing_corpus_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(MissingDataError, match="timit.*Linguistic Data Consortium"):
        benchmarks["timit"].load(None)
    with pytest.raises(MissingDataError, match="nowhere"):
        benchmarks["timit"].load(tmp_path / "nowhere")


@pytest.mark.usefixtures("small")
def test_where_it_lies(tmp_path: Path) -> None:
    build(tmp_path / "timit")
    assert benchmarks["timit"].locate(tmp_path) == str(tmp_path / "timit")


def test_the_miniature_is_what_it_says() -> None:
    assert WHOLE[:16] == b"NIST_1A\n   1024\n" and len(WHOLE) == 1024 + 2 * len(SAMPLES) and set(USED) < set(SENTENCES)


def test_a_corpus_of_the_published_shape_has_the_published_sizes(tmp_path: Path) -> None:
    """462 and 168 speakers, seven of the former with "sa" in their names, ten utterances each; of the files the names alone."""
    trained = [f"q{a}{b}c0" for a in "bdefghijklmnopqrstuvwx" for b in "bdefghijklmnopqrstuvw"][:455] + [f"fsa{c}0" for c in "bcdefgh"]
    tested = [*timit.CORE_TEST, *timit.DEVELOPMENT, *(f"x{a}{b}z0" for a in "bcdefghijk" for b in "bcdefghijk")][:168]
    for part, speakers in (("TRAIN", trained), ("TEST", tested)):
        for number, speaker in enumerate(speakers):
            folder = tmp_path / part / f"DR{number % 8 + 1}" / speaker.upper()
            folder.mkdir(parents=True)
            for sentence in SENTENCES:
                (folder / f"{sentence.upper()}.WAV").touch()
    parts = timit.Timit._utterances(tmp_path)
    assert {part: len(paths) for part, paths in parts.items()} == {"train": 3640, "validation": 192, "test": 400}
    assert not any(path.name.startswith("SA") for paths in parts.values() for path in paths)
