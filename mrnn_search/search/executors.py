"""Who runs the packs: the contract of an executor, and the one that needs nothing but this machine.

An executor trains packs somewhere and hands their results back; it decides nothing, reads no ledger and writes no file.
"""

from __future__ import annotations

import itertools
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from .._registry import InputError, Registry
from .packs import Pack, PackResult

RETRIES = 2  # of a pack whose worker died: out of memory, killed, node lost. A wrong result is never retried.
LOST_AFTER_S = 60.0  # without a sign of life, after which a worker counts as dead: stopped, swapped out, or cut off
SLACK = 1e-6  # 1 / (1 / 49) is a little less than 49


class Executor(ABC):
    """Contract. Used from one thread, the driver's.

    * Every submitted pack comes back exactly once from `collect`, in any order. A pack whose worker dies, or is lost
      (`LOST_AFTER_S`, `patience`), is run again, as many times as ``retries`` says, then comes back as `failed_pack`; a pack is
      idempotent, so running it twice is safe.
    * An error that a pack *raises* (a bug, missing data) is raised by `collect`; an error of a lane is in its outcome.
    * The result does not depend on the executor: same pack, same device, same bits.
    * Workers ignore SIGINT: the driver decides what Ctrl-C means.

    Attributes:
        slots: packs that can train at the same time.
    """

    slots: int

    @abstractmethod
    def submit(self, pack: Pack) -> None:
        """Queue ``pack``; returns at once."""

    @abstractmethod
    def collect(self, timeout: float) -> list[PackResult]:
        """The packs that finished since the last call; waits up to ``timeout`` seconds for at least one."""

    @abstractmethod
    def cancel(self) -> int:
        """Forget the packs that have not started; they do not come back. Returns how many are still training."""

    @abstractmethod
    def close(self) -> None:
        """Stop everything at once and free every worker. May be called twice."""


class Kept(Executor):
    """An executor that several drivers use, one after the other: their `close` leaves it up, `end` does not.

    Args:
        make: makes it, when the first of them has work.
    """

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._made: Executor | None = None
        self._user = 0

    def __call__(self) -> Kept:
        """For the next driver, whose packs are told apart from those of the others."""
        self._user += 1
        return self

    @property
    def _executor(self) -> Executor:
        self._made = self._made or self._make()
        return self._made

    @property
    def slots(self) -> int:  # type: ignore[override]
        return self._executor.slots

    def submit(self, pack: Pack) -> None:
        self._executor.submit(replace(pack, pack_id=f"{self._user}/{pack.pack_id}"))

    def collect(self, timeout: float) -> list[PackResult]:
        return [replace(result, pack_id=result.pack_id.partition("/")[2]) for result in self._executor.collect(timeout)]

    def cancel(self) -> int:
        return self._executor.cancel()

    def close(self) -> None:
        """Nothing: the next driver goes on with it."""

    def end(self) -> None:
        """Stop everything at once and free every worker."""
        if self._made is not None:
            self._made.close()


def patience(pack: Pack) -> float:
    """Seconds that a worker may hold ``pack``: its lanes stop themselves at their limit, unless they hang."""
    return math.inf if pack.timeout_s is None else 2 * pack.timeout_s * len(pack.lanes) + LOST_AFTER_S


@dataclass(frozen=True)
class Resources:
    """What a study's workers are given. How a study is run is not what it is: none of it is part of the study.

    Attributes:
        devices: a worker for each, as `parse_devices` reads it; None: processors, or GPUs where ``gpus`` says so.
        workers: how many; None: one for each device, on a cluster as many as fit.
        cpus: processors that each is given; it computes in one thread all the same, and loads its data in others.
        gpus: share of a GPU that each is given; None: its part of the device that it has.
        ray_address: of a Ray cluster ("host:port" or "auto"); None: this machine.
        retries: workers that a pack may lose before its lanes fail: more where workers are taken away for reasons of others' own.
    """

    devices: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    ray_address: str | None = None
    retries: int = RETRIES

    def __post_init__(self) -> None:
        """Raises InputError: a value that no machine has."""
        if self.workers is not None and self.workers < 1:
            raise InputError(f"found {self.workers}, allowed: a whole number >= 1", "--workers")
        if not 0 < self.cpus < math.inf:
            raise InputError(f"found {self.cpus:g}, allowed: a number > 0", "--cpus-per-worker")
        if self.gpus is not None and not 0 < self.gpus <= 1:
            raise InputError(f"found {self.gpus:g}, allowed: 0 < share of one GPU <= 1", "--gpus-per-worker")
        if self.retries < 0:
            raise InputError(f"found {self.retries}, allowed: a whole number >= 0", "--retries")

    def here(self) -> list[str]:
        """The device of each worker on this machine.

        Raises:
            InputError: no such device, or none that has room.
        """
        if self.gpus is None:
            names = parse_devices(self.devices)
            if self.devices in (None, "cpu"):
                return ["cpu"] * (self.workers or max(1, int(len(names) / self.cpus)))
            return list(itertools.islice(itertools.cycle(names), self.workers or len(names)))
        gpus = list(dict.fromkeys(_gpus() if self.devices is None else parse_devices(self.devices)))
        if not gpus or "cpu" in gpus:
            raise InputError(f"a share of a GPU is asked for; devices: {', '.join(gpus) or 'no GPU'}", "--gpus-per-worker")
        room = gpus * int(1 / self.gpus + SLACK)
        if self.workers is not None and self.workers > len(room):
            raise InputError(f"found {self.workers} workers with {self.gpus:g} of a GPU each, room for {len(room)}", "--workers")
        return room[: self.workers]


def parse_devices(text: str | None) -> list[str]:
    """One worker for each: ``"cuda:0,cuda:1"`` → two; ``"cpu,cpu"`` → two; ``"cpu"`` or None → one a usable core.

    Raises:
        InputError: no such device.
    """
    names = [part.strip() for part in (text or "cpu").split(",")]
    if names == ["cpu"]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return ["cpu"] * cores
    there = ["cpu", *_gpus()]
    for name in names:
        if name not in there:
            raise InputError(f'no device "{name}"; found: {", ".join(there)}', "--devices")
    return names


def _gpus() -> list[str]:
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())]


executors: Registry[Callable[[Resources], Executor]] = Registry("executor", "mrnn_search.executors")


@executors.register("local")
def local(resources: Resources) -> Executor:
    """Processes on this machine, one for each device; needs nothing else."""
    from .local import LocalExecutor

    if resources.ray_address is not None:
        raise InputError("an address is for --executor ray", "--ray-address")
    return LocalExecutor(resources.here(), retries=resources.retries)


@executors.register("ray")
def ray(resources: Resources) -> Executor:
    """Ray Tune, on this machine or on a cluster; needs ``pip install 'mrnn-search[ray]'``."""
    from .ray_tune import RayExecutor

    return RayExecutor(resources)
