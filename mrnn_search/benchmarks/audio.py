"""Recorded speech -> frames of log-magnitude, as the field's next-frame benchmarks take them.

Wisdom, Powers, Hershey, Le Roux, Atlas, Full-capacity unitary recurrent neural networks, NeurIPS 2016 (arXiv 1611.00035), from whose
published scripts the figures here are taken; every later paper on this TIMIT task took its data from them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .._registry import InputError

RATE = 8_000  # Hz, after resampling
WINDOW = 256  # samples: 32 ms
HOP = 128
BINS = WINDOW // 2 + 1
FLOOR = 1e-5  # power added before the logarithm
SILENCE = float(10 * np.log10(np.float32(FLOOR)))  # dB: a frame of zeros, and the padding behind a sequence
FULL_SCALE = 32_768  # of 16-bit samples

_SPHERE = b"NIST_1A\n"
_HEADER = 1024


def samples(data: bytes, path: Path, rate: int) -> np.ndarray:
    """The samples of a NIST sphere or RIFF wav file.

    Args:
        data: the file's bytes.
        path: named in messages.
        rate: samples a second that the file must have.

    Returns:
        (S,) int16.

    Raises:
        InputError: it is neither format, is truncated, compressed, not 16-bit, not mono or of another rate; or soundfile is missing.
    """
    try:
        import soundfile  # an extra: only speech needs it
    except ImportError:
        raise InputError(
            "soundfile, which reads speech, is not installed; pip install 'mrnn-search[speech]'", "benchmarks of speech"
        ) from None
    promised = _promised(data, path)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found = (file.samplerate, file.channels, file.subtype)
            wave = file.read(dtype="int16", always_2d=True)[:, 0]
    except soundfile.LibsndfileError as error:
        raise InputError(f"is no readable audio: {error.error_string}", str(path)) from None
    if found[2] != "PCM_16":
        raise InputError(f"has {found[2]} samples; 16-bit PCM is needed", str(path))
    if found[1] != 1:
        raise InputError(f"has {found[1]} channels; one is needed", str(path))
    if found[0] != rate:
        raise InputError(f"has {found[0]} samples a second; {rate} are needed", str(path))
    if len(wave) != promised:
        raise InputError(f"is truncated: its header promises {promised} samples, and there are {len(wave)}", str(path))
    if not len(wave):
        raise InputError("has no samples", str(path))
    return np.asarray(wave)


def _promised(data: bytes, path: Path) -> int:
    """How many 16-bit samples of one channel the header promises; libsndfile does not compare that with what is there."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        size = dict(_chunks(data)).get(b"data")
        if size is None:
            raise InputError("is a truncated RIFF wav file: it has no data chunk", str(path))
        return size // 2  # bytes of a 16-bit sample
    if data[: len(_SPHERE)] != _SPHERE:
        raise InputError(f"is neither NIST sphere nor RIFF wav: it begins with {data[:8]!r}", str(path))
    header = data[:_HEADER]
    if b"end_head" not in header:
        raise InputError(f"has a truncated NIST header: no end_head in its first {_HEADER} bytes", str(path))
    coding = re.search(rb"sample_coding -s\d+ (\S+)", header)
    if coding and coding[1] != b"pcm":
        raise InputError(f"is compressed ({coding[1].decode('ascii', 'replace')}); unpack it first, e.g. with sph2pipe -p", str(path))
    count = re.search(rb"sample_count -i (\d+)", header)
    if count is None:
        raise InputError("has a NIST header without a sample_count", str(path))
    return int(count[1])


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Name and promised size of each chunk of a RIFF file whose header is there."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], size
        at += 8 + size + size % 2


def log_magnitude(wave: np.ndarray, rate: int) -> np.ndarray:
    """Log-magnitude of the short-time Fourier transform, 8 kHz: ``10 log10(1e-5 + |X|^2)``, periodic Hann window of 256, hop 128.

    As in the published scripts the signal is resampled and rounded to 16 bits, filled up to whole hops and set between 256 zeros on either
    side, so that the first and the last frame are `SILENCE`. Nothing is normalised. Their resampling is MATLAB's ``resample``, ours is
    `scipy.signal.resample_poly` (same length of filter and Kaiser window, another design): equal but for the filter's ripple.

    Args:
        wave: (S,) int16.
        rate: its samples a second.

    Returns:
        (S' / 128 + 3, 129) float32, S' the samples at 8 kHz, filled up to whole hops; dB.
    """
    from scipy.signal import resample_poly  # here, as it takes long to import and only speech needs it
    from scipy.signal.windows import hann

    x = wave.astype(np.float64) / FULL_SCALE
    if rate != RATE:
        x = resample_poly(x, RATE, rate)
        x = np.clip(np.round(x * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE
    x = np.concatenate([np.zeros(WINDOW), x, np.zeros(-len(x) % HOP + WINDOW)])
    frames = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP] * hann(WINDOW, sym=False)
    spectrum = np.fft.rfft(frames).astype(np.complex64)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.asarray(10 * np.log10(np.float32(FLOOR) + power), dtype=np.float32)


def pieces(frames: np.ndarray, longest: int | None = None) -> list[np.ndarray]:
    """Frames (T, 129) in pieces of at most ``longest``, each with the frame that follows it; after the last frame comes silence."""
    whole = np.concatenate([frames, np.full((1, BINS), SILENCE, dtype=np.float32)])
    length = longest or len(frames)
    return [whole[start : start + length + 1] for start in range(0, len(frames), length)]


def padded(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pieces (T_n + 1, 129) one below the other, with silence behind each.

    Returns:
        frames (N, max T + 1, 129) float32, lengths T_n (N,) int64.
    """
    table = np.full((len(sequences), max(map(len, sequences)), BINS), SILENCE, dtype=np.float32)
    for row, frames in zip(table, sequences, strict=True):
        row[: len(frames)] = frames
    return table, np.array([len(frames) - 1 for frames in sequences], dtype=np.int64)
