"""The file formats of the UCR and UEA archives of time series: ``.tsv`` (one channel) and ``.ts`` (several, of several lengths)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .._registry import InputError

MISSING = "?"  # in .ts files; .tsv files have NaN


class Series(NamedTuple):
    """Labelled series: ``values`` (T, I) float64 each, NaN where a value is missing; ``labels`` as the file has them."""

    values: list[np.ndarray]
    labels: list[str]


def parse(data: bytes, suffix: str, where: str) -> Series:
    """The series of a file, labelled, in its order.

    Args:
        data: the whole file.
        suffix: ".tsv" or ".ts".
        where: the file, for messages.

    Raises:
        InputError: it is not such a file; names the line.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not text: byte {error.object[error.start]:#04x} at offset {error.start}", where) from None
    if "\0" in text:
        raise InputError(f"is not text: byte 0x00 at offset {data.index(0)}", where)
    found = _tsv(text, where) if suffix == ".tsv" else _ts(text, where)
    if not found.values:
        raise InputError("has no series", where)
    return found


def _tsv(text: str, where: str) -> Series:
    """A line a series: its label, then its values; a short one is filled up with NaN at its end."""
    values, labels, width = [], [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        label, *cells = line.rstrip("\r\n").split("\t")
        width = width or len(cells)
        if not cells or len(cells) != width:
            raise InputError(f"line {number} has {len(cells)} values after its label, the first line has {width}", where)
        labels.append(_label(label, f"{where}: line {number}"))
        values.append(_without_end(_numbers(cells, f"{where}: line {number}")[:, None], f"{where}: line {number}"))
    return Series(values, labels)


def _ts(text: str, where: str) -> Series:
    """A header of ``@key value`` lines, then a line a series: its channels, then its label, with colons between."""
    values, labels, known = [], [], None
    lines = _lines(text)
    for number, line in lines:
        key, *rest = line.split()
        if not key.startswith("@"):
            raise InputError(f"line {number} comes before @data and is no @key", where)
        if key.lower() == "@timestamps" and rest[:1] == ["true"]:
            raise InputError(f"line {number}: series with time stamps; allowed: @timeStamps false", where)
        if key.lower() == "@classlabel":
            known = set(rest[1:]) if rest[:1] == ["true"] else None
        if key.lower() == "@data":
            break
    else:
        raise InputError("has no @data line", where)
    if known is None:
        raise InputError("has no line @classLabel true LABEL…; allowed: labelled series", where)
    channels = 0
    for number, line in lines:
        *parts, label = line.split(":")
        channels = channels or len(parts)
        at = f"{where}: line {number}"
        if not parts or len(parts) != channels:
            raise InputError(f"has {len(parts)} channels before its label, the first series has {channels}", at)
        if label.strip() not in known:
            raise InputError(f'has the label "{label.strip()[:40]}", the header allows {", ".join(sorted(known))}', at)
        columns = [_numbers(part.split(","), at) for part in parts]
        if len({len(column) for column in columns}) > 1:
            raise InputError(f"has channels of {' and '.join(str(len(c)) for c in columns)} values", at)
        labels.append(_label(label, at))
        values.append(_without_end(np.stack(columns, -1), at))
    return Series(values, labels)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments and empty ones."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and line.lstrip()[0] not in "#%":
            yield number, line.strip()


def _label(text: str, where: str) -> str:
    """A label; 1, 1.0 and 1.000e+00 are one."""
    if not text.strip():
        raise InputError("has no label", where)
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.strip()


def _numbers(cells: list[str], where: str) -> np.ndarray:
    if MISSING in cells:
        cells = ["nan" if cell == MISSING else cell for cell in cells]
    try:
        found = np.array(cells, dtype=object).astype(np.float64)  # as objects: twice as fast as one float at a time
    except ValueError as error:
        raise InputError(f"found {str(error).partition(': ')[2][:40]}, allowed: numbers", where) from None
    if np.isinf(found).any():
        raise InputError("has an infinite value", where)
    return found


def _without_end(values: np.ndarray, where: str) -> np.ndarray:
    """``values`` (T, I) up to the last step that has one."""
    present = np.flatnonzero(~np.isnan(values).all(1))
    if not len(present) or np.isnan(values).all(0).any():
        raise InputError("a series without a single value", where)
    return values[: present[-1] + 1]


def filled(values: np.ndarray) -> np.ndarray:
    """(T, I) with missing values on the straight line between their neighbours; at an end, the nearest value."""
    steps, out = np.arange(len(values)), values.copy()
    for column in out.T:
        gaps = np.isnan(column)
        column[gaps] = np.interp(steps[gaps], steps[~gaps], column[~gaps])
    return out


def padded(series: list[np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """x (N, T, I) float32, zeros after each series' end, and lengths (N,) int64."""
    x = np.zeros((len(series), steps, series[0].shape[1]), np.float32)
    for row, values in zip(x, series, strict=True):
        row[: len(values)] = values
    return x, np.array([len(values) for values in series], np.int64)


def class_numbers(labels: list[str], known: list[str]) -> np.ndarray:
    """(N,) int64: each label's place in ``known``."""
    places = {label: number for number, label in enumerate(known)}
    return np.array([places[label] for label in labels], np.int64)


def sorted_labels(labels: list[str]) -> list[str]:
    """Each label once: numbers by size, then texts by their letters."""

    def rank(label: str) -> tuple[bool, float, str]:
        try:
            return False, float(label), label
        except ValueError:
            return True, 0.0, label

    return sorted(set(labels), key=rank)
