"""Where packs wait for a worker and results for the driver, when the two are on different machines.

It sees bytes only, so the process that holds it loads neither torch nor ray; `ray_tune` makes an actor of it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

TICKS = 12  # in which a worker must be heard of at least once


class Mail(NamedTuple):
    """What the driver finds.

    Attributes:
        finished: pairs of a pack's id and its result; an int is the number of workers that the pack lost before it was given up.
        wanted: data that a worker lacks, and the pack that needs it.
        lost: every worker that was given up so far; whoever gets this kills them.
        hopeless: why no worker comes up, once that is certain.
    """

    finished: list[tuple[str, bytes | int]]
    wanted: dict[str, str]
    lost: list[bytes]
    hopeless: str | None


@dataclass
class _Held:
    """A pack in a worker's hands, and for how many ticks it has been; for how many of them the worker has been silent."""

    pack_id: str
    pack: bytes
    patience_s: float
    worker: bytes
    age: int = 0
    silent: int = 0


class Mailbox:
    """Contract: each pack that was `put`, and not forgotten, is in exactly one item of `collect`; methods run in one event loop.

    Args:
        max_deaths: workers that a pack may lose; it is given up with the next one.
        max_refusals: of workers to start, in a row and while no worker lives; with the next one it is hopeless.
        lost_after_s: seconds of silence after which a worker that holds a pack counts as dead.
    """

    def __init__(self, max_deaths: int, max_refusals: int, lost_after_s: float) -> None:
        self._max_deaths, self._max_refusals = max_deaths, max_refusals
        self._tick_s = lost_after_s / TICKS
        self._waiting: deque[tuple[str, bytes, float]] = deque()
        self._held: dict[str, _Held] = {}  # by the trial that trains it
        self._alive: set[str] = set()  # trials that asked for a pack once
        self._dead: set[str] = set()  # trials
        self._deaths: Counter[str] = Counter()  # by pack
        self._refusals = 0
        self._lost: list[bytes] = []
        self._hopeless: str | None = None
        self._finished: deque[tuple[str, bytes | int]] = deque()
        self._acknowledged = 0
        self._wanted: dict[str, str] = {}
        self._data: dict[str, list[Any]] = {}
        self._closed = False
        self._change = asyncio.Condition()
        self._watch: asyncio.Task[None] | None = None

    # For the driver

    async def put(self, pack_id: str, pack: bytes, patience_s: float = math.inf) -> None:
        """Queue a pack; a worker that holds it for longer than ``patience_s`` counts as dead."""
        self._watch = self._watch or asyncio.create_task(self._listen())
        self._waiting.append((pack_id, pack, patience_s))
        await self._notify()

    async def collect(self, seen: int, timeout: float) -> Mail:
        """What there is for the driver; waits up to ``timeout`` seconds for at least one thing.

        A finished pack is kept until a later call counts it among the ``seen``: a driver that is interrupted while it waits loses nothing.
        """
        while self._acknowledged < seen:
            self._finished.popleft()
            self._acknowledged += 1
        try:
            async with asyncio.timeout(timeout), self._change:
                await self._change.wait_for(lambda: self._finished or self._wanted or self._hopeless or self._closed)
        except TimeoutError:
            pass
        return Mail(list(self._finished), dict(self._wanted), list(self._lost), self._hopeless)

    async def provide(self, name: str, data: list[Any]) -> None:
        """Let every worker that lacks the data called ``name`` have it."""
        self._data[name] = data
        self._wanted.pop(name, None)
        await self._notify()

    async def forget(self) -> list[str]:
        """Drop the packs that wait; returns their ids."""
        dropped = [pack_id for pack_id, *_ in self._waiting]
        self._waiting.clear()
        return dropped

    async def close(self) -> list[bytes]:
        """Give out no more packs; returns the workers that train."""
        self._closed = True
        await self._notify()
        return [held.worker for held in self._held.values()]

    # For workers

    async def take(self, trial: str, worker: bytes, result: bytes | None = None) -> bytes | None:
        """Hand in the result of the pack that ``trial`` took, and take the next; waits for one. None: there will be no more.

        ``worker`` is what the driver needs to kill it.
        """
        if result is not None and trial in self._held:  # if it is not, the trial was given up for lost, and its pack went elsewhere
            self._finished.append((self._held.pop(trial).pack_id, result))
            await self._notify()
        self._alive.add(trial)
        self._refusals = 0
        async with self._change:
            await self._change.wait_for(lambda: self._waiting or self._closed or trial in self._dead)
        if self._closed or trial in self._dead:  # dead: the caller died while it waited here
            return None
        pack_id, pack, patience_s = self._waiting.popleft()
        self._held[trial] = _Held(pack_id, pack, patience_s, worker)
        return pack

    async def beat(self, trial: str) -> None:
        """The worker of ``trial`` lives."""
        if trial in self._held:
            self._held[trial].silent = 0

    async def fetch(self, name: str, pack_id: str) -> list[Any]:
        """The data called ``name``, which the worker of ``pack_id`` lacks; waits until the driver provides it."""
        async with self._change:
            if name not in self._data:
                self._wanted[name] = pack_id
                self._change.notify_all()
            await self._change.wait_for(lambda: name in self._data)
        return self._data[name]

    # For whoever hears of deaths

    async def bury(self, trial: str, refusal: str = "") -> None:
        """The worker of ``trial`` died: the pack that it held is the next to start, or given up. ``refusal``: why it would not start."""
        if trial in self._dead:
            return
        self._dead.add(trial)
        self._alive.discard(trial)
        if refusal:
            self._refusals += 1
            if self._refusals > self._max_refusals and not self._alive:
                self._hopeless = refusal
        if trial in self._held:
            held = self._held.pop(trial)
            self._deaths[held.pack_id] += 1
            if self._deaths[held.pack_id] > self._max_deaths:
                self._finished.append((held.pack_id, self._deaths[held.pack_id]))
            else:
                self._waiting.appendleft((held.pack_id, held.pack, held.patience_s))
        await self._notify()

    async def _listen(self) -> None:
        """Bury those that are lost. Counted in ticks, not by a clock: while this process is stopped, nobody else grows silent."""
        while not self._closed:
            await asyncio.sleep(self._tick_s)
            for trial, held in list(self._held.items()):
                held.age, held.silent = held.age + 1, held.silent + 1
                if held.silent > TICKS or held.age * self._tick_s > held.patience_s:
                    self._lost.append(held.worker)
                    await self.bury(trial)

    async def _notify(self) -> None:
        async with self._change:
            self._change.notify_all()
