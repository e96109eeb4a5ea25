"""Who runs the packs: the contract of an executor, and the one that needs nothing but this machine.

An executor trains packs somewhere and hands their results back; it decides nothing, reads no ledger and writes no file.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from .._registry import InputError, Registry
from .packs import Pack, PackResult

MAX_RETRIES = 2  # of a pack whose worker died: out of memory, killed, node lost. A wrong result is never retried.


class Executor(ABC):
    """Contract. Used from one thread, the driver's.

    * Every submitted pack comes back exactly once from `collect`, in any order. A pack whose worker dies is run again,
      at most `MAX_RETRIES` times, then comes back as `failed_pack`; a pack is idempotent, so running it twice is safe.
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


def parse_devices(text: str | None) -> list[str]:
    """One worker for each: ``"cuda:0,cuda:1"`` → two; ``"cpu,cpu"`` → two; ``"cpu"`` or None → one a usable core.

    Raises:
        InputError: no such device.
    """
    names = [part.strip() for part in (text or "cpu").split(",")]
    if names == ["cpu"]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return ["cpu"] * cores
    import torch

    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    for name in names:
        if name not in there:
            raise InputError(f'no device "{name}"; found: {", ".join(there)}', "--devices")
    return names


executors: Registry[Callable[[Sequence[str]], Executor]] = Registry("executor", "mrnn_search.executors")


@executors.register("local")
def local(devices: Sequence[str]) -> Executor:
    """Processes on this machine, one for each device; needs nothing else."""
    from .local import LocalExecutor

    return LocalExecutor(devices)


@executors.register("ray")
def ray(devices: Sequence[str]) -> Executor:
    """Ray Tune: packs as trials on reused actors; needs ``pip install 'mrnn-search[ray]'``."""
    from .ray_tune import RayExecutor

    return RayExecutor(devices)
