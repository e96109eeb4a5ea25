"""Tables beside the ledger, so that they need not be made again while it stays the same. Never trusted over it, and safe to delete.

A file is one line of JSON (what it was made from, and the SHA-256 of the rest) and then the table as parquet. One that is
damaged, or made from another state of the ledger or by another version, counts as not there. A folder that cannot be written to
stays without.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from .. import __version__

FOLDER = "cache"
TAIL = 65_536  # bytes of a journal's end that are part of its key
MADE_BY = f"mrnn-search {__version__}, pandas {pd.__version__}"  # another one may have other columns, or other types


def journal_key(path: Path) -> str | None:
    """The state of a journal file: which file, how long, when written, and how it ends; None if it cannot be read.

    A journal is only ever appended to, so its length alone would do for one that nobody has edited.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            file.seek(max(0, facts.st_size - TAIL))
            tail = hashlib.sha256(file.read(TAIL)).hexdigest()
    except OSError:
        return None
    return f"{facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {tail}"


class Cache:
    """The folder ``cache`` of a study.

    Args:
        folder: of the study.
        key: the ledger's state now; None: it is not known, and nothing is kept.
    """

    def __init__(self, folder: Path, key: Callable[[], str | None]) -> None:
        self._folder, self._key = folder, key

    def has(self, name: str) -> bool:
        """Is there a table of this name, made from the ledger as it is?"""
        with contextlib.suppress(OSError), self._path(name).open("rb") as file:
            return self._header(file.readline()) is not None
        return False

    def frame(self, name: str, fits: Callable[[pd.DataFrame, Any], bool], make: Callable[[], tuple[pd.DataFrame, Any]]) -> pd.DataFrame:
        """The table, made and kept if it is not there.

        Args:
            fits: whether a kept table, and the note on it, is what ``make`` would give in this process.
            make: the table and a note (JSON data) to keep with it.
        """
        found = self._read(name)
        if found is not None:
            with contextlib.suppress(Exception):  # whatever pyarrow makes of a file that somebody made up
                frame = pd.read_parquet(io.BytesIO(found[1]))
                if fits(frame, found[0]):
                    return frame
        before = self._key()
        frame, note = make()
        if before is not None and before == self._key():
            buffer = io.BytesIO()
            frame.to_parquet(buffer, index=False)
            self._write(name, before, note, buffer.getvalue())
        return frame

    def _path(self, name: str) -> Path:
        return self._folder / FOLDER / f"{name}.table"

    def _read(self, name: str) -> tuple[Any, bytes] | None:
        """Note and parquet of a table that is whole and made from the ledger as it is."""
        with contextlib.suppress(OSError):
            line, _, body = self._path(name).read_bytes().partition(b"\n")
            header = self._header(line)
            if header is not None and header["sha256"] == hashlib.sha256(body).hexdigest():
                return header["note"], body
        return None

    def _header(self, line: bytes) -> dict[str, Any] | None:
        """What the first line says; None where it speaks of another ledger, or not at all."""
        key = self._key()
        try:
            header = json.loads(line)
            fits = key is not None and (header["made_by"], header["key"]) == (MADE_BY, key) and {"note", "sha256"} <= header.keys()
        except (ValueError, KeyError, TypeError):
            return None
        return header if fits else None

    def _write(self, name: str, key: str, note: Any, body: bytes) -> None:
        """Whole or not at all: under another name first. Not flushed to the disk: what a power cut makes of it is noticed."""
        path = self._path(name)
        header = {"made_by": MADE_BY, "key": key, "sha256": hashlib.sha256(body).hexdigest(), "note": note}
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            # A study whose ledger is a database may have no folder on this machine; a link could lead out of it.
            if not self._folder.is_dir() or path.parent.is_symlink():
                return
            path.parent.mkdir(exist_ok=True)
            try:
                temporary.write_bytes(json.dumps(header).encode() + b"\n" + body)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError:
            return
