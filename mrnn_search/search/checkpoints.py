"""Lane checkpoints on disk: one safetensors file a lane and rung. The head alone writes here.

Losing them loses no result: a lane whose file is gone or damaged is trained again from its seed, to the same bits.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def digest_of(data: bytes) -> str:
    """SHA-256 (hex)."""
    return hashlib.sha256(data).hexdigest()


class Checkpoints:
    """The folder ``checkpoints`` of a study; keys are lane keys (``search/12``).

    A file is whole or not there: it is written under a temporary name, flushed to the disk, then renamed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str, epoch: int) -> Path:
        return self.folder / f"{key.replace('/', '-')}-epoch{epoch}.safetensors"

    def save(self, key: str, epoch: int, data: bytes) -> None:
        """Keep ``data`` as the state of lane ``key`` after ``epoch`` epochs; on return it is on the disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key, epoch)
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # a full disk: what is there of it is of no use to anyone
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(path)
        handle = os.open(self.folder, os.O_RDONLY)  # the new name itself must outlive a power cut
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def load(self, key: str, epoch: int, digest: str) -> bytes | None:
        """The state of lane ``key`` after ``epoch`` epochs; None if it is not there, or is not what ``digest`` (`digest_of`) says."""
        try:
            data = self._path(key, epoch).read_bytes()
        except OSError:  # gone, or a disk that cannot read it
            return None
        return data if digest_of(data) == digest else None

    def drop(self, key: str, *, but: int | None = None) -> None:
        """Delete every checkpoint of lane ``key``, except that of epoch ``but``."""
        for path in self.folder.glob(f"{key.replace('/', '-')}-epoch*"):
            if but is None or path != self._path(key, but):
                path.unlink(missing_ok=True)

    def keep_only(self, group: str) -> None:
        """Delete every checkpoint of other groups, those too that a killed process left behind."""
        for path in self.folder.glob("*"):
            if not path.name.startswith(f"{group}-"):
                path.unlink(missing_ok=True)
