"""Optuna's journal in a file: with a lock that dies with its holder, several records in one flush, and no half-written ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock


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


class JournalFile(BaseJournalBackend):
    """One record a line, as Optuna's own backend writes and reads it; used from one thread.

    Every append reaches the disk before it returns, as there; inside `together` it does so at the end of the block. A reader sees
    each record at once either way, and a killed process loses none: they are in the kernel's hands. An append that fails (a full
    disk) leaves nothing behind.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, _KernelLock(path)
        self._backend = JournalFileBackend(str(path), lock_obj=self._lock)
        self._file: int | None = None  # open inside `together`

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Records from the given one on, those that are whole."""
        return self._backend.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records at the end.

        Raises:
            OSError: the disk is full, or worse; the file is as it was.
        """
        with self.together():
            assert self._file is not None
            end = os.fstat(self._file).st_size
            left = memoryview("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
            try:
                while left:
                    left = left[os.write(self._file, left) :]
            except BaseException:
                os.ftruncate(self._file, end)
                raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything that is appended inside is flushed to the disk once, at the end; other writers wait until then."""
        if self._file is not None:
            yield
            return
        self._lock.acquire()
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                yield
            finally:
                os.fsync(self._file)
                os.close(self._file)
                self._file = None
        finally:
            self._lock.release()


class FileStorage(JournalStorage):
    """A journal storage that knows its file.

    Raises:
        ValueError, KeyError, TypeError, AssertionError: a line is no record of Optuna's.
    """

    def __init__(self, path: Path) -> None:
        self.file = JournalFile(path)
        super().__init__(self.file)
