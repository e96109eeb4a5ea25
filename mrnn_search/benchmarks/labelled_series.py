"""What `ucr` and `japanese-vowels` share: two files of labelled series become three splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .._registry import InputError
from .base import fingerprint, stratified_rest
from .data import as_splits, cached, read_file
from .families import Classification
from .timeseries import class_numbers, filled, padded, parse, sorted_labels

VERSION = 1
SPLIT_SEED = 20201206  # fixed for ever: the split is part of the benchmark
VALIDATION = 0.2  # of the training file, class by class


def load_series(
    paths: dict[str, Path],
    what: str,
    scale: Callable[[dict[str, list[np.ndarray]]], dict[str, list[np.ndarray]]],
    kind: type[Classification],
) -> Classification:
    """The benchmark in a training and a test file.

    Args:
        paths: "train" and "test" -> file.
        what: they hold, for messages.
        scale: from the series of both files, with no value missing, to those that the cells see.
        kind: of the benchmark; its instance gets its own ``input_size`` and ``output_size``.

    Raises:
        InputError: a file is not what it should be, or the two do not fit together.
    """
    contents = {part: read_file(path, what=what) for part, path in paths.items()}
    files = fingerprint(*contents.values(), *(path.suffix.encode() for path in paths.values()))

    def build() -> dict[str, np.ndarray]:
        found = {part: parse(data, paths[part].suffix, str(paths[part])) for part, data in contents.items()}
        known = sorted_labels(found["train"].labels)
        strange = sorted(set(found["test"].labels) - set(known))
        if strange:
            raise InputError(f'has the label "{strange[0]}", which the training file lacks: {", ".join(known)}', str(paths["test"]))
        channels = {part: series.values[0].shape[1] for part, series in found.items()}
        if channels["train"] != channels["test"]:
            raise InputError(f"has {channels['test']} channels, the training file has {channels['train']}", str(paths["test"]))
        return _splits(
            scale({p: [filled(v) for v in s.values] for p, s in found.items()}), {p: s.labels for p, s in found.items()}, known, paths
        )

    arrays = cached((kind.name, VERSION, files), build)
    drawn = [arrays.pop(f"{part}.rows") for part in ("train", "validation")]
    made = kind(as_splits(arrays), fingerprint(files.encode(), *drawn))
    made.input_size, made.output_size = made.train.x.shape[2], int(made.train.y.max()) + 1
    return made


def _splits(
    series: dict[str, list[np.ndarray]], labels: dict[str, list[str]], known: list[str], paths: dict[str, Path]
) -> dict[str, np.ndarray]:
    y = {part: class_numbers(names, known) for part, names in labels.items()}
    rows = stratified_rest(y["train"], VALIDATION, SPLIT_SEED)
    if not len(rows["validation"]):
        raise InputError("has one series of each class: none is left to validate on", str(paths["train"]))
    steps = max(len(values) for part in series.values() for values in part)
    made: dict[str, np.ndarray] = {}
    for part, source in {"train": "train", "validation": "train", "test": "test"}.items():
        chosen = rows.get(part, np.arange(len(series[source])))
        x, lengths = padded([series[source][row] for row in chosen], steps)
        made |= {f"{part}.x": x, f"{part}.y": y[source][chosen], f"{part}.lengths": lengths}
        if part in rows:
            made[f"{part}.rows"] = chosen
    if all((made[f"{part}.lengths"] == steps).all() for part in ("train", "validation", "test")):
        return {name: array for name, array in made.items() if not name.endswith(".lengths")}
    return made
