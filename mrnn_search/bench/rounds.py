"""Rounds: every side has its turn in every round, so that what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..engine.heap import keep_freed
from .sides import Side

LEAST_ROUNDS = 5
SHORTEST_TURN = 0.02  # seconds: a side whose update is shorter makes several in a turn


@dataclass(frozen=True)
class Spread:
    """Median and interquartile range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one number."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Timing:
    """What a side took, round by round, in milliseconds per candidate and update.

    Attributes:
        updates: how many it made in a turn; a turn's time is divided by this and by ``lanes``.
        wall_ms: by the clock on the wall; cpu_ms: of processor time of all threads. Where the first is well above the second
            (and there is one thread), something else had the processor.
    """

    side: str
    lanes: int
    updates: int
    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """``of / to``, round by round."""
    return [a / b for a, b in zip(of, to, strict=True)]


def wait_for(device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def _turn(side: Side, updates: int, device: str) -> tuple[float, float]:
    """Seconds by the wall and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(updates):
        side.update()
    wait_for(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def alternate(sides: Sequence[Side], seconds: float, device: str = "cpu", least: int = LEAST_ROUNDS) -> list[Timing]:
    """Rounds of one turn a side, in the given order, until the time is used up; no fewer than ``least``.

    Each side first makes two updates that do not count: memory, threads and kernels are then there. The second one says how
    many updates a turn needs.
    """
    updates = []
    for side in sides:
        _turn(side, 1, device)
        updates.append(max(1, round(SHORTEST_TURN / _turn(side, 1, device)[0])))
    walls: list[list[float]] = [[] for _ in sides]
    cpus: list[list[float]] = [[] for _ in sides]
    until = time.perf_counter() + seconds
    while len(walls[0]) < least or time.perf_counter() < until:
        for i, side in enumerate(sides):
            wall, cpu = _turn(side, updates[i], device)
            each = 1000 / (updates[i] * side.lanes)
            walls[i].append(wall * each)
            cpus[i].append(cpu * each)
    return [Timing(s.name, s.lanes, updates[i], tuple(walls[i]), tuple(cpus[i])) for i, s in enumerate(sides)]


def prepare(threads: int) -> None:
    """Settings of a process that measures.

    Denormal numbers count as 0 on every side: gradients fade over long sequences, and arithmetic on denormals is many times
    slower, which would measure the data and not the code. Freed memory is kept, as in a search's workers: of the loop, too. And
    float32 is float32: cuDNN's layers would otherwise round to TF32 on a GPU, the loop's products not.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.set_flush_denormal(True)  # first: threads that are made from here on have it too
    torch.set_num_threads(threads)
    keep_freed()
