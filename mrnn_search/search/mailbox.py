"""Where packs wait for a worker and results for the driver, when the two are on different machines.

It sees bytes only, so the process that holds it loads neither torch nor ray; `ray_tune` makes an actor of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Generic, TypeVar

W = TypeVar("W")  # whatever the driver needs to kill a worker


class Mailbox(Generic[W]):
    """Contract: each pack that was `put`, and not forgotten, is in exactly one item of `collect`; methods run in one event loop.

    Args:
        max_deaths: workers that a pack may lose; it is given up with the next one.
    """

    def __init__(self, max_deaths: int) -> None:
        self._max_deaths = max_deaths
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._held: dict[str, tuple[str, bytes, W]] = {}  # by the trial that trains it
        self._dead: set[str] = set()  # trials
        self._deaths: Counter[str] = Counter()  # by pack
        self._finished: deque[tuple[str, bytes | int]] = deque()
        self._acknowledged = 0
        self._closed = False
        self._change = asyncio.Condition()

    async def put(self, pack_id: str, pack: bytes) -> None:
        """Queue a pack."""
        self._waiting.append((pack_id, pack))
        await self._notify()

    async def take(self, trial: str, worker: W) -> bytes | None:
        """The next pack, for the worker of ``trial``; waits for one. None: there will be no more."""
        async with self._change:
            await self._change.wait_for(lambda: self._waiting or self._closed or trial in self._dead)
        if self._closed or trial in self._dead:  # dead: the caller died while it waited here
            return None
        pack_id, pack = self._waiting.popleft()
        self._held[trial] = (pack_id, pack, worker)
        return pack

    async def give(self, trial: str, result: bytes) -> None:
        """Hand in the result of the pack that ``trial`` took."""
        pack_id, *_ = self._held.pop(trial)
        self._finished.append((pack_id, result))
        await self._notify()

    async def bury(self, trial: str) -> None:
        """The worker of ``trial`` died: the pack that it held is the next to start, or given up."""
        self._dead.add(trial)
        if trial in self._held:
            pack_id, pack, _ = self._held.pop(trial)
            self._deaths[pack_id] += 1
            if self._deaths[pack_id] > self._max_deaths:
                self._finished.append((pack_id, self._deaths[pack_id]))
            else:
                self._waiting.appendleft((pack_id, pack))
        await self._notify()

    async def collect(self, seen: int, timeout: float) -> list[tuple[str, bytes | int]]:
        """What finished after the first ``seen`` items; waits up to ``timeout`` seconds for at least one.

        An item is kept until a later call counts it as seen: a driver that is interrupted while it waits loses nothing.

        Returns:
            Pairs of a pack's id and its result; an int is the number of workers that the pack lost before it was given up.
        """
        while self._acknowledged < seen:
            self._finished.popleft()
            self._acknowledged += 1
        try:
            async with asyncio.timeout(timeout), self._change:
                await self._change.wait_for(lambda: self._finished or self._closed)
        except TimeoutError:
            pass
        return list(self._finished)

    async def forget(self) -> list[str]:
        """Drop the packs that wait; returns their ids."""
        dropped = [pack_id for pack_id, _ in self._waiting]
        self._waiting.clear()
        return dropped

    async def close(self) -> list[W]:
        """Give out no more packs; returns the workers that train."""
        self._closed = True
        await self._notify()
        return [worker for *_, worker in self._held.values()]

    async def _notify(self) -> None:
        async with self._change:
            self._change.notify_all()
