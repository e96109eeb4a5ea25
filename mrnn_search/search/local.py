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

from .executors import LOST_AFTER_S, RETRIES, Executor, patience
from .packs import Pack, PackResult
from .worker import ENVIRONMENT, die_with, given_up, prepare_worker, run_pack

LOOK_S = 1.0  # how often at least the workers are looked at while the driver waits


def _start(driver: int) -> None:
    """Runs first in each worker."""
    die_with(driver)
    prepare_worker()


class _Worker:
    """One process that stays bound to one device; a new one takes its place when it dies.

    Attributes:
        pack, future: what it trains, and the promise of its result; both None while it idles.
    """

    def __init__(self, device: str, lost_after_s: float) -> None:
        self.device, self._lost_after_s = device, lost_after_s
        self.pack: Pack | None = None
        self.future: Future[PackResult | Exception] | None = None
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(max_workers=1, initializer=_start, initargs=(os.getpid(),), env=ENVIRONMENT)
        self._pid = self._pool.submit(os.getpid)  # loky starts no process before it has a task: this one imports torch in the meantime

    def train(self, pack: Pack) -> None:
        """Send ``pack`` to the process."""
        try:
            future = self._pool.submit(run_pack, pack, self.device)
        except BrokenProcessPool:  # it died while it idled
            self.restart()
            future = self._pool.submit(run_pack, pack, self.device)
        self.pack, self.future = pack, future
        self._age = self._stopped = 0.0

    def is_lost(self, passed_s: float) -> bool:
        """Has the process been stopped for too long, or its pack taken too long, now that ``passed_s`` more seconds went by?"""
        if self.pack is None:
            return False
        self._age += passed_s
        self._stopped = self._stopped + passed_s if self._pid.done() and _is_stopped(self._pid) else 0.0
        return self._stopped > self._lost_after_s or self._age > patience(self.pack)

    def restart(self) -> None:
        """Bury the dead process and start another."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Kill the process and wait until it is gone."""
        self.pack = self.future = None
        self._pool.shutdown(wait=True, kill_workers=True)


def _is_stopped(pid: Future[int]) -> bool:
    """Is this child stopped, by SIGSTOP or a debugger? It stays to be waited for."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, pid.result(), os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except (ChildProcessError, BrokenProcessPool):
        return False


class LocalExecutor(Executor):
    """Trains packs in processes of this machine, first come, first served; see `Executor`.

    Args:
        devices: one worker for each; a device may be named more than once.
        lost_after_s: see `LOST_AFTER_S`.
        retries: of a pack whose worker died.
    """

    def __init__(self, devices: Sequence[str], lost_after_s: float = LOST_AFTER_S, retries: int = RETRIES) -> None:
        # loky says so at each worker that it ends where neither psutil nor pgrep is installed; it kills it all the same
        warnings.filterwarnings("ignore", "Failed to kill subprocesses", UserWarning, r"loky\.")
        self.slots, self._retries = len(devices), retries
        self._waiting: deque[Pack] = deque()
        self._finished: deque[PackResult | Exception] = deque()
        self._deaths: Counter[str] = Counter()
        self._looked = time.monotonic()
        self._workers = [_Worker(device, lost_after_s) for device in devices]

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
            wait(running, min(left, LOOK_S), FIRST_COMPLETED)

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
        """Take what finished off the workers; a pack whose worker died or is lost is the next to start."""
        now = time.monotonic()
        passed_s, self._looked = min(now - self._looked, LOOK_S), now  # while this process is stopped, nobody is lost
        for worker in self._workers:
            pack, future = worker.pack, worker.future
            if pack is None or future is None:
                continue
            if not future.done():
                if worker.is_lost(passed_s):
                    worker.restart()
                    self._bereave(pack)
                continue
            worker.pack = worker.future = None
            try:
                self._finished.append(future.result())
            except BrokenProcessPool:
                worker.restart()
                self._bereave(pack)

    def _bereave(self, pack: Pack) -> None:
        self._deaths[pack.pack_id] += 1
        if self._deaths[pack.pack_id] > self._retries:
            self._finished.append(given_up(pack, self._deaths[pack.pack_id]))
        else:
            self._waiting.appendleft(pack)
