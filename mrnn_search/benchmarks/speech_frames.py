"""`speech-frames`: the task of `timit` on open data, one speaker's studio prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .audio import RATE, log_magnitude, padded, pieces, samples
from .base import Benchmark, benchmarks, fingerprint, stratified_split
from .data import MissingDataError, cached, data_folder, read_file
from .release import check_release
from .sources import how_to_get
from .speech import VERSION, NextFrame, splits, standardised

SPEAKER = "en_US_f_Allison"
INSTALLED = Path("/usr/share/asterisk/sounds") / SPEAKER  # where Debian puts it
NOT_SPEECH = frozenset({"ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave", "descending-2tone", "tt-monkeys"})
SILENT = "silence"  # a folder of recorded silence
LONGEST = 250  # frames: 4 seconds
SPLIT_SEED = 20201206  # fixed for ever: the split is part of the benchmark
SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}
SHA256 = "6708f40a1913391e1523696e275e07c47ffd5ed78c4379ccc82f0d894ba0d1af"


@benchmarks.register("speech-frames")
class SpeechFrames(NextFrame):
    """Prompts of one speaker, log-magnitude frames (129 bins) at 8 kHz; split by prompt, longer ones in pieces of 4 seconds.

    551 prompts (without tones and silence), 70 / 15 / 15 % of them in the splits: 504 / 89 / 107 sequences.
    """

    name = "speech-frames"
    description = "next frame of studio prompts, one speaker (log-magnitude, 8 kHz; T up to 250, I 129)"
    published = "504 / 89 / 107"
    figures = {"the mean frame": 231.3, "the last frame again": 83.3, "a linear model of the last frame": 65.2}
    data_set = "speech"
    licence = "CC BY-SA 3.0"
    source = "Debian package asterisk-core-sounds-en-wav 1.6.1-1: 8 kHz, 16 bit, spoken by Allison Smith"
    citation = "Allison Smith, Asterisk core sounds (English), Digium, 2003-2018; task as in arXiv 1611.00035"

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_folder(data_dir))

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        folder = _folder(data_dir)
        prompts = {path: read_file(path, what="a prompt") for path in _prompts(folder)}
        contents = {path.relative_to(folder).with_suffix("").as_posix(): data for path, data in prompts.items()}
        check_release(contents, SHA256, cls.source.split(":")[0], folder, "speech")
        parts = stratified_split(np.zeros(len(prompts)), SHARES, SPLIT_SEED)
        arrays = cached(["speech-frames", VERSION, SHA256], lambda: standardised(_frames(parts, list(prompts.items()))))
        return cls(splits(arrays), fingerprint(bytes.fromhex(SHA256), *parts.values()), float(arrays["unit"][0]))


def _folder(given: Path | None) -> Path:
    """The folder of the speaker's prompts: in the given one, where data usually lies, or where Debian installs it."""
    try:
        root = data_folder("speech", given)
    except MissingDataError:
        if given is not None or not INSTALLED.is_dir():
            raise
        root = INSTALLED
    for folder in (root, root / SPEAKER, root / INSTALLED.relative_to("/")):
        if (folder / "activated.wav").exists():
            return folder
    raise MissingDataError(f"has no prompts ({SPEAKER}/activated.wav); {how_to_get('speech')}", str(root))


def _prompts(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*.wav") if path.stem not in NOT_SPEECH and path.relative_to(folder).parts[0] != SILENT]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _frames(parts: Mapping[str, np.ndarray], prompts: list[tuple[Path, bytes]]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, rows in parts.items():
        spoken = (log_magnitude(samples(data, path, RATE), RATE) for path, data in (prompts[row] for row in rows))
        arrays[f"{part}.frames"], arrays[f"{part}.lengths"] = padded([piece for frames in spoken for piece in pieces(frames, LONGEST)])
    return arrays
