"""Data sets of many files: their fingerprint, and whether they are the release that a benchmark is defined on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from .._registry import InputError
from .sources import how_to_get


def digest_of(contents: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) of files, with their names and lengths, in order."""
    digest = hashlib.sha256()
    for name, data in contents.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def check_release(contents: Mapping[str, bytes], sha256: str, release: str, folder: Path, name: str) -> None:
    """Refuse files that are not the release of data set ``name``.

    Args:
        sha256: `digest_of` the release.
        release: what it is called.
        folder: where the files lie, named in the message.

    Raises:
        InputError: they are damaged or others.
    """
    found = digest_of(contents)
    if found != sha256:
        raise InputError(
            f"its {len(contents)} files have SHA-256 {found[:12]}…, not {sha256[:12]}…: damaged, or not of {release}; {how_to_get(name)}",
            str(folder),
        )
