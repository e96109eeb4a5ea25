"""The plain data that travels between the head and its workers, and the one function that a worker runs.

A **pack** is lanes of one base and shape that train together on one device, from one rung to the next. Workers never
touch a file of the study: a lane's checkpoint comes in as bytes (safetensors) and goes back as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..cells.spec import Candidate


@dataclass(frozen=True)
class Lane:
    """One candidate inside a pack.

    Attributes:
        key: unique in the study ("search-12", "lstm-3", "confirm-<12 hex of candidate_id>-s3"): lanes, results and checkpoints meet by it.
        candidate: what to train.
        seed: of initial weights, data order and dropout. Same seed on the same device: same curve, alone or in any pack.
        checkpoint: safetensors bytes of the state after ``start_epoch`` epochs; None when ``start_epoch`` is 0.
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
        read_test: also read the test split, once, with the weights of the best validation epoch. Confirmation only.
        data_dir: folder of the user's data, None for data that a package ships.
        timeout_s: seconds that one lane may take; None: no limit.
    """

    pack_id: str
    benchmark: str
    lanes: tuple[Lane, ...]
    start_epoch: int
    stop_epoch: int
    read_test: bool = False
    data_dir: str | None = None
    timeout_s: float | None = None
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one lane. ``value`` is the benchmark's metric on validation."""

    epoch: int
    step: int
    train_loss: float
    value: float
    seconds: float


@dataclass(frozen=True)
class LaneResult:
    """What became of one lane.

    Attributes:
        error: None, or why it failed ("loss is nan at epoch 2, step 61"): then the other fields hold what there was.
        rows: the epochs of *this* pack (start_epoch+1 … stop_epoch).
        value: the best validation metric over all epochs so far, from the first; NaN if none.
        best_epoch: the epoch that has it.
        checkpoint: safetensors bytes after ``stop_epoch``; None if failed.
        test_value: the metric on the test split with the best epoch's weights; None unless ``read_test``.
        parameters: how many numbers train (recurrent layer and readout).
        execution: which path ran and why (`Recurrent.execution`).
    """

    key: str
    error: str | None
    rows: tuple[EpochRow, ...]
    value: float
    best_epoch: int
    checkpoint: bytes | None
    test_value: float | None
    parameters: int
    execution: str
    seconds: float


@dataclass(frozen=True)
class PackResult:
    """What became of one pack; ``worker`` names the process ("host:pid"), ``device`` the device ("cpu", "cuda: NVIDIA …")."""

    pack_id: str
    lanes: tuple[LaneResult, ...]
    worker: str
    device: str
    seconds: float


def failed_pack(pack: Pack, error: str) -> PackResult:
    """The result of a pack whose worker died for good: every lane failed with ``error``."""
    nan = float("nan")
    lanes = tuple(LaneResult(lane.key, error, (), nan, 0, None, None, 0, "none", 0.0) for lane in pack.lanes)
    return PackResult(pack.pack_id, lanes, "none", "none", 0.0)
