"""Arrays x, y, split and lengths in a ``.npz`` or a ``.parquet`` file of the user's."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._registry import InputError, UnknownNameError

NAMES = ("x", "y", "split", "lengths")
SPLITS = ("train", "validation", "test")


class Arrays(NamedTuple):
    """What a file has.

    Attributes:
        x: (N, T, I) float32.
        y: N targets, as they are.
        split: (N,) of "train", "validation", "test"; None: the file does not say.
        lengths: (N,) int64; None: all T.
    """

    x: np.ndarray
    y: np.ndarray
    split: np.ndarray | None
    lengths: np.ndarray | None


def read_arrays(data: bytes, path: Path) -> Arrays:
    """The arrays in the file's bytes.

    Raises:
        InputError: it is no such file, an array is missing, unknown, of another kind or shape, or not finite.
    """
    where = str(path)
    found = _npz(data, where) if path.suffix == ".npz" else _parquet(data, where)
    for name in found:
        if name not in NAMES:
            raise UnknownNameError("array" if path.suffix == ".npz" else "column", name, NAMES, where)
    for name in ("x", "y"):
        if name not in found:
            raise InputError(f"has no {name}; needed: x (N, T, I) and y; found: {', '.join(found) or 'nothing'}", where)
    x, y = _series(found["x"], where), found["y"]
    for name in set(found) - {"x"}:
        if found[name].ndim == 0 or len(found[name]) != len(x):
            raise InputError(f"{name} has the shape {found[name].shape}, x has {len(x)} rows", where)
    if y.dtype.kind not in "iufUb":
        raise InputError(f"y is of type {y.dtype}, allowed: whole numbers or text for classes, numbers with a point", where)
    return Arrays(x, y, _split(found.get("split"), where), _lengths(found.get("lengths"), x, where))


def _series(x: np.ndarray, where: str) -> np.ndarray:
    if x.dtype.kind not in "iufb":
        raise InputError(f"x is of type {x.dtype}, allowed: numbers", where)
    if x.ndim not in (2, 3):
        raise InputError(f"x has the shape {x.shape}, allowed: (N, T, I), or (N, T) of one number a step", where)
    if not x.size:
        raise InputError(f"x is empty: {x.shape}", where)
    with np.errstate(over="ignore"):  # said below
        series = x.reshape(*x.shape[:2], -1).astype(np.float32)
    if not np.isfinite(series).all():
        raise InputError(f"x is not finite (as float32) in row {int(np.argwhere(~np.isfinite(series))[0][0])}", where)
    return series


def _split(split: np.ndarray | None, where: str) -> np.ndarray | None:
    if split is None:
        return None
    for name in np.unique(split.astype(str)):
        if name not in SPLITS:
            raise UnknownNameError("split", name, SPLITS, where)
    return split.astype(str)


def _lengths(lengths: np.ndarray | None, x: np.ndarray, where: str) -> np.ndarray | None:
    if lengths is None:
        return None
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > x.shape[1]:
        raise InputError(f"lengths must be whole numbers, one a row, 1 <= length <= T = {x.shape[1]}", where)
    return lengths.astype(np.int64)


def _npz(data: bytes, where: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError("holds one array, not several; write it with numpy.savez(PATH, x=…, y=…)", where)
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read it as .npz: {error}", where) from None


def _parquet(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Columns; x is a list of T numbers, or of T lists of I, and a shorter one is padded and its length noted."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(data))
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read it as parquet: {str(error).splitlines()[0]}", where) from None
    empty = next((name for name, values in columns.items() if None in values), None)
    if empty is not None:
        raise InputError(f"{empty} is empty in row {columns[empty].index(None)}", where)
    series = columns.get("x", [])
    if "lengths" not in columns and all(isinstance(one, list) for one in series) and len({len(one) for one in series}) > 1:
        columns["lengths"] = [len(one) for one in series]
        steps = max(columns["lengths"])
        width = [0.0] * len(series[0][0]) if series[0] and isinstance(series[0][0], list) else 0.0
        columns["x"] = [one + [width] * (steps - len(one)) for one in series]
    try:
        return {name: np.array(values) for name, values in columns.items()}
    except ValueError:
        raise InputError("a row's lists are not all of one length: x is a list of T numbers, or of T lists of I numbers", where) from None
