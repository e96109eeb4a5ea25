"""The plain data that travels between the head and its workers, and the one function that a worker runs.

A **pack** is lanes of one base and shape that train together on one device, from one rung to the next. Workers never
touch a file of the study: a lane's checkpoint comes in as bytes (safetensors) and goes back as bytes.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from ..benchmarks import load_benchmark
from ..cells.spec import Candidate
from ..engine.train import LaneOutcome, train_lane

NO_WORKER = "none"  # the worker of a pack that lost every worker it had


@dataclass(frozen=True)
class Lane:
    """One candidate inside a pack.

    Attributes:
        key: unique in the study ("search/12", "lstm/3", "confirmation/2"): lanes, results and checkpoints meet by it.
        candidate: what to train.
        seed: of initial weights, data order and dropout. Same seed on the same device: same curve, alone or in any pack.
        checkpoint: safetensors bytes of the state after ``Pack.start_epoch`` epochs; None when that is 0.
    """

    key: str
    candidate: Candidate
    seed: int
    checkpoint: bytes | None = None


@dataclass(frozen=True)
class Pack:
    """Lanes to take from ``start_epoch`` to ``stop_epoch`` (both counted in finished epochs) on one benchmark.

    Attributes:
        pack_id: unique in the run.
        benchmark: its registered name.
        read_test: also read the test split, once a lane, with the weights of the best validation epoch. Confirmation only.
        data_dir: folder of the user's data; None for data that a package ships.
        timeout_s: seconds that one lane may take from ``start_epoch`` to ``stop_epoch``; None: no limit.
    """

    pack_id: str
    benchmark: str
    lanes: tuple[Lane, ...]
    start_epoch: int
    stop_epoch: int
    read_test: bool = False
    data_dir: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class LaneResult:
    """What became of one lane; ``seconds`` is what its training took, loading of the data not counted."""

    key: str
    outcome: LaneOutcome
    seconds: float


@dataclass(frozen=True)
class PackResult:
    """What became of one pack; ``worker`` names the process ("host:pid"), ``device`` the device ("cpu", "cuda:0")."""

    pack_id: str
    lanes: tuple[LaneResult, ...]
    worker: str
    device: str


def train_pack(pack: Pack, device: str = "cpu") -> PackResult:
    """Train every lane of ``pack`` on ``device``, one after the other; a lane that fails leaves the others alone."""
    task = load_benchmark(pack.benchmark, Path(pack.data_dir) if pack.data_dir else None, device)
    test = task.open_test() if pack.read_test else None
    results = []
    for lane in pack.lanes:
        begun = time.monotonic()
        try:
            stretch = lane.checkpoint, pack.start_epoch, pack.stop_epoch
            outcome = train_lane(task, lane.candidate, lane.seed, *stretch, test=test, timeout_s=pack.timeout_s, device=device)
        except (RuntimeError, MemoryError) as error:  # torch's for out of memory, a failed factorisation, an impossible shape
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            outcome = LaneOutcome.failed(f"{type(error).__name__}: {reason}")
        results.append(LaneResult(lane.key, outcome, time.monotonic() - begun))
    return PackResult(pack.pack_id, tuple(results), f"{platform.node()}:{os.getpid()}", device)


def failed_pack(pack: Pack, error: str) -> PackResult:
    """The result of a pack whose worker died for good: every lane failed with ``error``."""
    lanes = tuple(LaneResult(lane.key, LaneOutcome.failed(error), 0.0) for lane in pack.lanes)
    return PackResult(pack.pack_id, lanes, NO_WORKER, "none")
