"""Frames of log-magnitude against a plain discrete Fourier transform; sphere and wav files byte by byte."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mrnn_search.benchmarks.audio import BINS, HOP, SILENCE, WINDOW, log_magnitude, padded, pieces, samples

from .timit_files import riff, sphere

PATH = Path("x.wav")
NOISE = np.random.RandomState(0).randint(-9000, 9000, 1000).astype("<i2")


def by_hand(wave: np.ndarray) -> np.ndarray:
    """The definition, one bin at a time."""
    x = [0.0] * WINDOW + [sample / 32768 for sample in wave]
    x += [0.0] * (-len(wave) % HOP + WINDOW)
    frames = []
    for start in range(0, len(x) - WINDOW + 1, HOP):
        bins = []
        for k in range(BINS):
            total = 0j
            for n in range(WINDOW):
                window = 0.5 - 0.5 * math.cos(2 * math.pi * n / WINDOW)
                total += window * x[start + n] * complex(math.cos(2 * math.pi * k * n / WINDOW), -math.sin(2 * math.pi * k * n / WINDOW))
            bins.append(10 * math.log10(1e-5 + abs(total) ** 2))
        frames.append(bins)
    return np.array(frames)


def test_log_magnitude_is_its_definition() -> None:
    ours = log_magnitude(NOISE[:300], 8_000)
    assert ours.dtype == np.float32 and ours.shape == (3 + 3, BINS)
    np.testing.assert_allclose(ours, by_hand(NOISE[:300]), atol=2e-3)
    assert (ours[[0, -1]] == np.float32(SILENCE)).all() and SILENCE == pytest.approx(-50, abs=1e-5)


def test_a_tone_lies_in_its_bin_at_either_rate() -> None:
    for rate in (8_000, 16_000):
        tone = np.round(10_000 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.int16)
        frames = log_magnitude(tone, rate)
        assert frames.shape == (math.ceil(8_000 / HOP) + 3, BINS)
        assert (frames[5:-5].argmax(1) == 32).all()  # 1,000 Hz of 8,000 / 256
        assert frames[5:-5].max() == pytest.approx(20 * math.log10(10_000 / 32_768 * WINDOW / 4), abs=0.1)


def test_what_is_above_4_khz_is_gone_after_resampling() -> None:
    tone = np.round(10_000 * np.sin(2 * np.pi * 6000 * np.arange(16_000) / 16_000)).astype(np.int16)
    assert log_magnitude(tone, 16_000)[5:-5].max() < -20


def test_pieces_overlap_in_the_frame_that_is_predicted() -> None:
    frames = np.arange(7 * BINS, dtype=np.float32).reshape(7, BINS)
    found = pieces(frames, 3)
    assert [len(piece) for piece in found] == [4, 4, 2]
    assert np.array_equal(np.concatenate([piece[:-1] for piece in found]), frames)
    assert np.array_equal(found[0][-1], frames[3]) and (found[2][-1] == np.float32(SILENCE)).all()
    table, lengths = padded(found)
    assert table.shape == (3, 4, BINS) and lengths.tolist() == [3, 3, 1] and (table[2, 2:] == np.float32(SILENCE)).all()
    assert len(pieces(frames)) == 1 and len(pieces(frames)[0]) == 8


@pytest.mark.parametrize(
    "data",
    [
        sphere(NOISE),
        sphere(NOISE, order="10"),
        sphere(NOISE, extra="sample_coding -s3 pcm\n"),
        riff(NOISE),
        riff(NOISE, between=b"JUNK\x09\0\0\0INFOdata\1\0"),
        riff(NOISE) + b"LIST\x04\0\0\0INFO",
    ],
    ids=["sphere", "sphere-high-byte-first", "sphere-says-pcm", "wav", "wav-with-odd-chunk", "wav-with-chunk-behind"],
)
def test_both_formats_give_their_samples(data: bytes) -> None:
    assert np.array_equal(samples(data, PATH, 16_000), NOISE)
