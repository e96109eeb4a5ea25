"""Packs on this machine: one process for each device, started by loky.

loky, because a user's script needs no ``if __name__ == "__main__"`` for it, and because it notices a worker that dies.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from .executors import MAX_RETRIES, Executor
from .packs import Pack, PackResult
from .worker import ONE_THREAD, die_with, given_up, prepare_worker, run_pack


def _start(driver: int) -> None:
    """Runs first in each worker."""
    die_with(driver)
    prepare_worker()


class _Worker:
    """One process that stays bound to one device; a new one takes its place when it dies.

    Attributes:
        pack, future: what it trains, and the promise of its result; both None while it idles.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.pack: Pack | None = None
        self.future: Future[PackResult | Exception] | None = None
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(max_workers=1, initializer=_start, initargs=(os.getpid(),), env=ONE_THREAD)
        self._pool.submit(os.getpid)  # loky starts no process before it has a task: this one imports torch in the meantime

    def train(self, pack: Pack) -> None:
        """Send ``pack`` to the process."""
        try:
            future = self._pool.submit(run_pack, pack, self.device)
        except BrokenProcessPool:  # it died while it idled
            self.restart()
            future = self._pool.submit(run_pack, pack, self.device)
        self.pack, self.future = pack, future

    def restart(self) -> None:
        """Bury the dead process and start another."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Kill the process and wait until it is gone."""
        self.pack = self.future = None
        self._pool.shutdown(wait=True, kill_workers=True)


class LocalExecutor(Executor):
    """Trains packs in processes of this machine, first come, first served; see `Executor`.

    Args:
        devices: one worker for each; a device may be named more than once.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        # loky says so at each worker that it ends where neither psutil nor pgrep is installed; it kills it all the same
        warnings.filterwarnings("ignore", "Failed to kill subprocesses", UserWarning, r"loky\.")
        self.slots = len(devices)
        self._waiting: deque[Pack] = deque()
        self._finished: deque[PackResult | Exception] = deque()
        self._deaths: Counter[str] = Counter()
        self._workers = [_Worker(device) for device in devices]

    def submit(self, pack: Pack) -> None:
        self._waiting.append(pack)
        self._feed()

    def collect(self, timeout: float) -> list[PackResult]:
        deadline = time.monotonic() + timeout
        while True:
            self._gather()
            self._feed()
            running = [worker.future for worker in self._workers if worker.future]
            left = deadline - time.monotonic()
            if self._finished or not running or left <= 0:
                return self._take_finished()
            wait(running, left, FIRST_COMPLETED)

    def cancel(self) -> int:
        self._waiting.clear()
        return len(self._finished) + sum(worker.pack is not None for worker in self._workers)

    def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _take_finished(self) -> list[PackResult]:
        """Everything that finished; an error that a pack raised is raised alone, the rest comes with the next call."""
        for item in self._finished:
            if isinstance(item, Exception):
                self._finished.remove(item)
                raise item
        results = [item for item in self._finished if isinstance(item, PackResult)]
        self._finished.clear()
        return results

    def _feed(self) -> None:
        for worker in self._workers:
            if worker.pack is None and self._waiting:
                worker.train(self._waiting.popleft())

    def _gather(self) -> None:
        """Take what finished off the workers; a pack whose worker died is the next to start."""
        for worker in self._workers:
            if worker.pack is None or worker.future is None or not worker.future.done():
                continue
            pack, future = worker.pack, worker.future
            worker.pack = worker.future = None
            try:
                self._finished.append(future.result())
            except BrokenProcessPool:
                worker.restart()
                self._bereave(pack)

    def _bereave(self, pack: Pack) -> None:
        self._deaths[pack.pack_id] += 1
        if self._deaths[pack.pack_id] > MAX_RETRIES:
            self._finished.append(given_up(pack, self._deaths[pack.pack_id]))
        else:
            self._waiting.appendleft(pack)
