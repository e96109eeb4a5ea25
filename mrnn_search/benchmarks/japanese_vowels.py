"""`japanese-vowels`: who of nine says /ae/? From the wheel of aeon, or from a folder with its two files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .._registry import InputError
from .base import Benchmark, benchmarks
from .data import MissingDataError, data_folder, find_file
from .families import Classification
from .labelled_series import load_series


def _unchanged(series: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    return series


@benchmarks.register("japanese-vowels")
class JapaneseVowels(Classification):
    """LPC cepstrum coefficients of two vowels said by nine speakers: T 7 to 29, I 12; 216 / 54 / 370.

    The training file has 30 utterances of each speaker; 6 of each validate.
    """

    name = "japanese-vowels"
    description = "speakers by 12 LPC cepstrum coefficients of /ae/ (T 7 to 29, I 12, 9 classes)"
    data_set = "japanese-vowels"
    published = "216 / 54 / 370"
    input_size = 12
    output_size = 9
    licence = "CC BY 4.0 (UCI)"
    source = "JapaneseVowels_TRAIN.ts and _TEST.ts, as in aeon's wheel; UCI Machine Learning Repository, data set 128"
    citation = (
        "Kudo, Toyama, Shimbo, Multidimensional curve classification using passing-through regions, Pattern Recognition Letters, 1999"
    )

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        files = _files(data_dir)
        made = load_series(files, "the Japanese vowels", _unchanged, cls)
        found = (tuple(made.sizes.values()), tuple(made.train.x.shape[1:]), made.output_size)
        if found != ((216, 54, 370), (29, 12), 9):
            needed = "270 and 370 series of at most 29 steps, 12 channels, 9 classes"
            raise InputError(f"is not the set that was published: {needed}; found (sizes, shape, classes): {found}", str(files["train"]))
        return made

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_files(data_dir)["train"].parent)


def _files(given: Path | None) -> dict[str, Path]:
    try:
        folder = data_folder("japanese-vowels", given)
    except MissingDataError:
        spec = find_spec("aeon")  # found, not imported: that would take seconds
        if given is not None or spec is None or spec.origin is None:
            raise
        folder = Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels"
    return {part: find_file(folder, [f"JapaneseVowels_{part.upper()}.ts"], "japanese-vowels") for part in ("train", "test")}
