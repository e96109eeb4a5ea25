"""The plain data that travels between the head and its workers, and the one function that a worker runs.

A **pack** is lanes of one base and shape that train together on one device, from one rung to the next. Workers never
touch a file of the study: a lane's checkpoint comes in as bytes (safetensors) and goes back as bytes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .._registry import InputError
from ..benchmarks import Benchmark, load_benchmark
from ..benchmarks.base import Split
from ..benchmarks.sealed import Permit
from ..cells.spec import Candidate
from ..engine.memory import Sizes, arrange, free_bytes
from ..engine.train import LaneOutcome, LaneStart, train_lanes

SPLIT = "in a part of its pack, which could not run whole"
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

    @property
    def permit(self) -> Permit:
        """Leave to read the test split for this lane; good for one of a confirmation."""
        return Permit(self.key.rpartition("/")[0], self.candidate.spec.cell_id, self.seed)


@dataclass(frozen=True)
class Pack:
    """Lanes to take from ``start_epoch`` to ``stop_epoch`` (both counted in finished epochs) on one benchmark.

    Attributes:
        pack_id: unique in the run.
        benchmark: its registered name.
        read_test: also read the test split, once a lane, with the weights of the best validation epoch. Confirmation only.
        data_dir: folder of the user's data; None for data that a package ships.
        timeout_s: seconds that one lane may take, its share of the pack's time, from ``start_epoch`` to ``stop_epoch``; None: no limit.
        fingerprint: of the study's data; None: whatever data the worker finds.
    """

    pack_id: str
    benchmark: str
    lanes: tuple[Lane, ...]
    start_epoch: int
    stop_epoch: int
    read_test: bool = False
    data_dir: str | None = None
    timeout_s: float | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class LaneResult:
    """What became of one lane; ``seconds`` is what its training took, loading of the data not counted."""

    key: str
    outcome: LaneOutcome
    seconds: float


@dataclass(frozen=True)
class PackResult:
    """What became of one pack; ``worker`` names the process ("host:pid"), ``device`` the device ("cpu", "cuda:0").

    ``test_split``: fingerprint of the test split, if it was read.
    """

    pack_id: str
    lanes: tuple[LaneResult, ...]
    worker: str
    device: str
    test_split: str | None = None


def data_of(pack: Pack, device: str = "cpu") -> Benchmark:
    """The benchmark of ``pack``, with the data that is found here.

    Raises:
        InputError: its data is not there, or is not the study's.
    """
    task = load_benchmark(pack.benchmark, Path(pack.data_dir) if pack.data_dir else None, device)
    if pack.fingerprint is not None and pack.fingerprint != task.fingerprint:
        found = f"the study's data is {pack.fingerprint[:12]}…, found: {task.fingerprint[:12]}…"
        raise InputError(f"{found}; values would not compare", f"data of {pack.benchmark} on {platform.node()}")
    return task


def train_pack(pack: Pack, device: str = "cpu", task: Benchmark | None = None) -> PackResult:
    """Train the lanes of ``pack`` in lockstep on ``device``; where they would not fit into its memory together, with gates computed
    again in the backward pass, and where that is not enough in parts.

    A lane that fails leaves the others alone.

    Args:
        task: the benchmark on ``device``; None: what `data_of` finds.

    Raises:
        InputError: the data is not there, or is not the study's.
        SealedError: the test split is to be read for a lane that is not of a confirmation.
    """
    task = task or data_of(pack, device)
    test = task.open_test(*(lane.permit for lane in pack.lanes)) if pack.read_test else None
    parts = arrange([lane.candidate for lane in pack.lanes], Sizes.of(task), free_bytes(device), device)
    outcomes = [o for part, recompute in parts for o in _train(pack, task, pack.lanes[part.start : part.stop], test, device, recompute)]
    lanes = tuple(LaneResult(lane.key, outcome, outcome.seconds) for lane, outcome in zip(pack.lanes, outcomes, strict=True))
    return PackResult(pack.pack_id, lanes, f"{platform.node()}:{os.getpid()}", device, task.test.fingerprint if pack.read_test else None)


def _train(pack: Pack, task: Benchmark, lanes: Sequence[Lane], test: Split | None, device: str, recompute: bool) -> list[LaneOutcome]:
    """All lanes together; where that cannot be done, in halves, so that a lane that nothing can be done with fails alone."""
    starts = [LaneStart(lane.candidate, lane.seed, lane.checkpoint) for lane in lanes]
    try:
        epochs = pack.start_epoch, pack.stop_epoch
        return train_lanes(task, starts, *epochs, test=test, timeout_s=pack.timeout_s, device=device, recompute=recompute)
    except (RuntimeError, MemoryError) as error:  # torch's for out of memory, a failed factorisation, an impossible shape
        if len(lanes) == 1:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            return [LaneOutcome.failed(f"{type(error).__name__}: {reason}")]
    half = len(lanes) // 2
    parts = [_train(pack, task, part, test, device, recompute) for part in (lanes[:half], lanes[half:])]
    return [
        replace(o, execution=f"{o.execution}; {SPLIT}") if o.error is None and SPLIT not in o.execution else o for p in parts for o in p
    ]


def failed_pack(pack: Pack, error: str) -> PackResult:
    """The result of a pack whose worker died for good: every lane failed with ``error``."""
    lanes = tuple(LaneResult(lane.key, LaneOutcome.failed(error), 0.0) for lane in pack.lanes)
    return PackResult(pack.pack_id, lanes, NO_WORKER, "none")
