"""What Ctrl-C means: the first time finish what trains and save, the second time stop at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The study was stopped by SIGINT or SIGTERM; everything that finished is in the ledger."""


class Interrupt:
    """Context manager that catches SIGINT and SIGTERM once; outside the main thread, where signals never come, it does nothing.

    Attributes:
        requested: a signal came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set by other than Python code
        self._before = {}

    def _caught(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested:
            raise Interrupted
        self.requested = True
