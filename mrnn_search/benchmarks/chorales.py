"""`chorales`: Bach's four-part chorales as music21 ships them; which notes sound at the next beat."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from .base import Benchmark, Split, benchmarks, fingerprint, stratified_split
from .data import MissingDataError, cached, data_folder, read_file
from .families import MultiLabel
from .musicxml import Note, read_score
from .release import check_release
from .sources import how_to_get

LOWEST, NOTES = 21, 88  # the piano's: MIDI 21 (A0) to 108 (C8)
VOCAL = range(1, 439)  # BWV numbers of vocal works and chorales
VOICES = 4
SPLIT_SEED = 20201206  # fixed for ever: the split is part of the benchmark
SHARES = {"train": 0.60, "validation": 0.20, "test": 0.20}  # as of the JSB chorales: 229 / 76 / 77
SHA256 = "27195b646393a8a530c5c95f9eaf90df85d83e806589329de4a7c1ef7a8bbdad"
VERSION = "1"  # of this file and musicxml.py: part of the cache's key
PLACES = ("corpus/bach", "music21/corpus/bach", ".")


@benchmarks.register("chorales")
class Chorales(MultiLabel):
    """Bach's chorales as piano rolls of 88 notes on a grid of quarter notes; which notes sound at the next step.

    All scores with four parts, as they are written: no transposition, no repeats. One that equals an earlier one, also in another key, is
    left out, so that none is in two splits.
    """

    name = "chorales"
    description = "Bach's chorales: which of 88 notes sound next (a step a quarter note, T up to 192, I 88)"
    published = "217 / 72 / 72"
    input_size = output_size = NOTES
    figures = {"how frequent each note is": 11.35, "and whether it sounds already": 10.70}
    data_set = "chorales"
    licence = "the music: public domain; the scores: music21's corpus, free to use with music21 (BSD 3-clause)"
    source = "music21's wheel: music21/corpus/bach/bwv*.mxl"
    citation = (
        "Cuthbert, Ariza, music21: a toolkit for computer-aided musicology and symbolic music data, ISMIR, 2010; task as in "
        "Boulanger-Lewandowski, Bengio, Vincent, Modeling temporal dependencies in high-dimensional sequences, ICML, 2012"
    )

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_folder(data_dir))

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        folder = _folder(data_dir)
        contents = {path: read_file(path, what="a score") for path in _scores(folder)}
        check_release({path.name: data for path, data in contents.items()}, SHA256, "music21 9.1 to 10.5", folder, "chorales")
        arrays = cached(["chorales", VERSION, SHA256], lambda: _rolls(contents))
        return cls(_splits(arrays), fingerprint(bytes.fromhex(SHA256), *(arrays[f"{part}.rows"] for part in SHARES)))


def _folder(given: Path | None) -> Path:
    """The folder with the scores: in the given one, where data usually lies, or in the installed music21."""
    try:
        root = data_folder("chorales", given)
    except MissingDataError:
        spec = find_spec("music21")  # found, not imported: that would take seconds
        if given is not None or spec is None or spec.origin is None:
            raise
        root = Path(spec.origin).parent
    for place in PLACES:
        if (root / place / "bwv1.6.mxl").exists():
            return root / place
    raise MissingDataError(f"has no scores (bwv1.6.mxl …); {how_to_get('chorales')}", str(root))


def _scores(folder: Path) -> list[Path]:
    """Scores of vocal works, in order of their names."""
    numbered = ((re.match(r"bwv(\d+)", path.name), path) for path in folder.glob("bwv*.mxl"))
    return sorted(path for match, path in numbered if match and int(match[1]) in VOCAL)


def _rolls(contents: Mapping[Path, bytes]) -> dict[str, np.ndarray]:
    """For each part of the data its rolls (N, max T, 88) float32, how long each is, and which of all rolls they are, (N,) int64."""
    rolls: dict[tuple[int, bytes], np.ndarray] = {}
    for path, data in contents.items():
        parts = read_score(data, path)
        if len(parts) == VOICES:
            roll = piano_roll([note for part in parts for note in part])
            rolls.setdefault(_in_any_key(roll), roll)
    chosen = list(rolls.values())
    arrays: dict[str, np.ndarray] = {}
    for part, rows in stratified_split(np.zeros(len(chosen)), SHARES, SPLIT_SEED).items():
        arrays[f"{part}.rows"] = rows
        members = [chosen[row] for row in rows]
        arrays[f"{part}.lengths"] = np.array([len(roll) for roll in members], dtype=np.int64)
        arrays[f"{part}.rolls"] = np.zeros((len(members), max(map(len, members)), NOTES), dtype=np.float32)
        for row, roll in zip(arrays[f"{part}.rolls"], members, strict=True):
            row[: len(roll)] = roll
    return arrays


def piano_roll(notes: Sequence[Note]) -> np.ndarray:
    """Which notes sound at each quarter note, (T, 88) bool; what only sounds between two of them is not seen."""
    roll = np.zeros((math.ceil(max(note.end for note in notes)), NOTES), dtype=bool)
    for start, end, midi in notes:
        roll[math.ceil(start) : math.ceil(end), midi - LOWEST] = True
    return roll


def _in_any_key(roll: np.ndarray) -> tuple[int, bytes]:
    """The same for two rolls that differ by a transposition alone."""
    lowest = int(np.flatnonzero(roll.any(0))[0])
    return len(roll), np.roll(roll, -lowest, axis=1).tobytes()


def _splits(arrays: Mapping[str, np.ndarray]) -> dict[str, Split]:
    """Splits whose y is x one step later, in the same memory."""
    found = {}
    for part in SHARES:
        rolls = torch.from_numpy(arrays[f"{part}.rolls"])
        found[part] = Split(rolls[:, :-1], rolls[:, 1:], torch.from_numpy(arrays[f"{part}.lengths"]) - 1)
    return found
