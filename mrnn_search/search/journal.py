"""Optuna's journal in a file, with a lock that dies with its holder and with several records in one flush."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class _KernelLock(JournalFileOpenLock):
    """A lock that the kernel frees when its holder dies; Optuna's own makes the next process wait out a grace period."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


class JournalFile(JournalFileBackend):
    """One record a line, as Optuna's own backend writes it.

    Every append reaches the disk before it returns, as there; inside `together` it does so at the end of the block. A reader sees
    each record at once either way, and a killed process loses none: they are in the kernel's hands.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._kernel_lock = path, _KernelLock(path)
        super().__init__(str(path), lock_obj=self._kernel_lock)
        self._open = 0  # blocks of `together` that are open

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if not self._open:
            super().append_logs(logs)
            return
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._kernel_lock._lock, self._path.open("ab") as file:
            file.write(text.encode("utf-8"))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything that is appended inside is flushed to the disk once, when the outermost block ends."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                with self._path.open("ab") as file:
                    os.fsync(file.fileno())


class FileStorage(JournalStorage):
    """A journal storage that knows its file.

    Raises:
        ValueError, KeyError, TypeError, AssertionError: a line is no record of Optuna's.
    """

    def __init__(self, path: Path) -> None:
        self.file = JournalFile(path)
        super().__init__(self.file)
