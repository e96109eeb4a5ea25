"""Where a benchmark's files lie, how they are read, and the cache of what was parsed. Nothing here touches the network.

A data set is looked for in the recipe's or the caller's folder; else in ``$MRNN_SEARCH_DATA``; else in ``./data/NAME`` and in the user's
data folder, where ``make data`` and ``mrnn-search data get`` put it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from .._registry import InputError
from ..engine.folders import cache_folder
from .base import Split
from .sources import how_to_get

LAYOUT = "1"  # of a cache entry: one folder of .npy files and an index of their sizes and checksums
INDEX = "index.json"


class MissingDataError(InputError):
    """The data of a benchmark is not on this machine; the message says where it was looked for and how to get it."""


def user_folder() -> Path:
    """Where ``mrnn-search data get`` puts data: a folder for each data set.

    Raises:
        InputError: the user has no home.
    """
    try:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mrnn-search"
    except RuntimeError:
        raise InputError("there is no home folder to look for data in; set MRNN_SEARCH_DATA") from None


def data_folder(name: str, given: Path | None) -> Path:
    """The folder with the files of data set ``name`` ("mnist", "ptb"); what lies in it is not looked at.

    Args:
        given: the recipe's ``data`` or the caller's folder; it comes first, and nothing else is looked at.

    Raises:
        MissingDataError: there is no such folder.
    """
    if given is not None:
        places = [given]
    elif root := os.environ.get("MRNN_SEARCH_DATA"):
        places = [Path(root) / name, Path(root)]
    else:
        places = [Path("data") / name, user_folder() / name]
    for place in places:
        if place.is_dir():
            return place
    raise MissingDataError(f"there is no folder {' or '.join(map(str, places))}; {how_to_get(name)}", f"data of {name}")


def find_file(folder: Path, names: Iterable[str], name: str) -> Path:
    """The first of the ``names`` that ``folder`` has, as it is or with ``.gz``.

    Raises:
        MissingDataError: none is there; says how to get data set ``name``.
    """
    wanted = list(names)
    for file in wanted:
        for path in (folder / file, folder / f"{file}.gz"):
            if path.exists():
                return path
    raise MissingDataError(f"there is no {' or '.join(wanted)} (or the same with .gz); {how_to_get(name)}", str(folder))


def read_file(path: Path, sha256: str | Collection[str] | None = None, what: str = "the data") -> bytes:
    """The bytes of a file.

    Args:
        sha256: of the known releases (hex), if the file is one of a fixed release.
        what: it holds, as the message names it.

    Raises:
        MissingDataError: there is no such file.
        InputError: it is a folder, cannot be read, is empty, or is none of the releases.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(f"there is no such file; it should hold {what}", str(path)) from None
    except IsADirectoryError:
        raise InputError(f"is a folder, not a file with {what}", str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"cannot read {what}: {getattr(error, 'strerror', None) or error}", str(path)) from None
    if not data:
        raise InputError(f"is empty; it should hold {what}", str(path))
    known = [sha256] if isinstance(sha256, str) else list(sha256 or [])
    if known:
        found = hashlib.sha256(data).hexdigest()
        if found not in known:
            allowed = " or ".join(f"{one[:12]}…" for one in known)
            raise InputError(f"SHA-256 is {found[:12]}…, not {allowed}: a damaged or different file; it should hold {what}", str(path))
    return data


def unpacked(data: bytes, path: Path) -> bytes:
    """``data`` itself, or what is in it if it is a gzip file.

    Raises:
        InputError: the gzip file is truncated or damaged.
    """
    if data[:2] != b"\x1f\x8b":
        if path.suffix == ".gz":
            raise InputError(f"is no gzip file: it begins with {data[:2].hex(' ')}, not 1f 8b", str(path))
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"is a damaged gzip file: {error}", str(path)) from None


def cached(key_parts: Iterable[object], build: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What ``build`` makes of a data set's files, kept between processes as memory-mapped ``.npy`` files.

    Workers that read the same entry share its memory. An entry appears whole or not at all; a damaged one is made again; where none can
    be written, the arrays are simply the process's own. The arrays may be written to, as torch wants it: that changes neither the file
    nor another process's.

    Args:
        key_parts: what the arrays follow from: the loader's name and version, and the fingerprint of the files.
        build: name -> array; called if there is no good entry. What it raises is passed on, and nothing is written.
    """
    key = hashlib.sha256(json.dumps([LAYOUT, *map(str, key_parts)]).encode()).hexdigest()[:32]
    try:
        entry = cache_folder() / "data" / key
    except RuntimeError:  # there is no home
        return dict(build())
    found = _read_entry(entry)
    if found is None:
        built = {name: np.ascontiguousarray(array) for name, array in build().items()}
        _write_entry(entry, built)
        found = _read_entry(entry) or built
    return found


def _read_entry(entry: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a cache entry; None if there is none, or if it is damaged."""
    try:
        index = json.loads((entry / INDEX).read_bytes())
        arrays: dict[str, np.ndarray] = {}
        for name, checksum in index.items():
            arrays[name] = np.load(entry / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            if _checksum(arrays[name]) != checksum:
                return None
    except (OSError, ValueError, EOFError, AttributeError):  # AttributeError: an index that is no mapping
        return None
    return arrays


def _write_entry(entry: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Put the entry there at once; if another process was faster, its entry stays. A cache that cannot be written is no error."""
    made: Path | None = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", dir=entry.parent))
        for name, array in arrays.items():
            np.save(made / f"{name}.npy", array, allow_pickle=False)
        (made / INDEX).write_text(json.dumps({name: _checksum(array) for name, array in arrays.items()}), encoding="utf-8")
        if entry.exists() and _read_entry(entry) is None:
            entry.rename(made / "damaged")  # not removed in place: a process may be reading it
        made.rename(entry)
        shutil.rmtree(entry / "damaged", ignore_errors=True)
    except OSError:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data) if array.size else 0


def as_splits(arrays: Mapping[str, np.ndarray]) -> dict[str, Split]:
    """Splits over arrays (no copies) that are named ``train.x``, ``train.y`` and, of sequences of several lengths, ``train.lengths``,
    and so for ``validation`` and ``test``."""
    parts = list(dict.fromkeys(name.split(".")[0] for name in arrays))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {part: Split(tensors[f"{part}.x"], tensors[f"{part}.y"], tensors.get(f"{part}.lengths")) for part in parts}
