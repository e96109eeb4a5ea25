"""Trains lanes on one task, from one rung to the next. Same seed, same device: same curve, resumed or not, alone or in any pack."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..cells.spec import Candidate
from .batches import feed_of
from .checkpoint import Progress, best_layer, pack_state, unpack_state
from .lane_layers import planned, recomputes
from .lanes import Lanes
from .model import SequenceModel
from .seeds import derive_seed
from .task import Task, TaskSplit

__all__ = [
    "Epoch",
    "LaneOutcome",
    "LaneStart",
    "SequenceModel",
    "Task",
    "TaskSplit",
    "best_layer",
    "derive_seed",
    "train_lane",
    "train_lanes",
]

RECOMPUTED = "recomputed in the backward pass"


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: ``value`` is the task's metric on validation, ``train_loss`` the mean over its updates."""

    epoch: int
    step: int
    train_loss: float
    value: float
    seconds: float


@dataclass(frozen=True)
class LaneOutcome:
    """What became of a lane.

    Attributes:
        error: None, or why it failed ("loss is nan at epoch 2, step 61"); the other fields then hold what there was.
        rows: the epochs that this call trained.
        value: the best validation metric over all epochs so far, from the first; NaN if none; best_epoch: the epoch that has it.
        checkpoint: safetensors bytes after the last epoch; None if failed.
        test_value: the metric on the test split with the best epoch's weights; None unless it was to be read.
        parameters: how many numbers train (recurrent layer, readout and embedding).
        execution: which path ran and why (`Recurrent.execution`), and whether it was `RECOMPUTED`.
        seconds: the lane's share of the time that its pack trained.
    """

    error: str | None
    rows: tuple[Epoch, ...]
    value: float
    best_epoch: int
    checkpoint: bytes | None
    test_value: float | None
    parameters: int
    execution: str
    seconds: float = 0.0

    @classmethod
    def failed(cls, error: str) -> LaneOutcome:
        """The outcome of a lane that came to nothing."""
        return cls(error, (), math.nan, 0, None, None, 0, "none")


@dataclass(frozen=True)
class LaneStart:
    """A lane to train: ``seed`` is of initial weights, data order and dropout; ``checkpoint``: bytes of its last rung, None at epoch 0."""

    candidate: Candidate
    seed: int
    checkpoint: bytes | None = None


class _Lane:
    """What is kept of a lane beside its numbers."""

    def __init__(self, position: int, at: Progress, parameters: int, execution: str) -> None:
        self.position, self.at, self.parameters, self.execution = position, at, parameters, execution
        self.rows: list[Epoch] = []
        self.spent = 0.0

    def outcome(self, error: str | None, checkpoint: bytes | None, test_value: float | None) -> LaneOutcome:
        best = self.at.best_value, self.at.best_epoch
        return LaneOutcome(error, tuple(self.rows), *best, checkpoint, test_value, self.parameters, self.execution, self.spent)


class _Pack:
    """Lanes on their way from one rung to the next; those that fail leave."""

    def __init__(self, task: Task, starts: Sequence[LaneStart], start_epoch: int, limit: float, device: str, recompute: bool) -> None:
        self.task, self.limit = task, limit
        candidates = [s.candidate for s in starts]
        seeds = [s.seed for s in starts]
        sizes = task.input_size, task.output_size
        self.feed = feed_of(task, task.train)
        self.lanes = Lanes(candidates, seeds, *sizes, task.loss, device, task.vocabulary, self.feed.carries, recompute)
        self.live: list[_Lane] = []
        self.failed: dict[int, LaneOutcome] = {}
        for k, (start, model) in enumerate(zip(starts, self.lanes.models, strict=True)):
            at = Progress() if start.checkpoint is None else unpack_state(start.checkpoint, model, self.lanes.memory_of(k))
            if at.epoch != start_epoch:
                raise ValueError(f"checkpoint stands at epoch {at.epoch}, not at {start_epoch}")
            execution = str(planned(model.layer, carried=self.feed.carries))
            if recompute and recomputes(model.layer):
                execution = f"{execution}; {RECOMPUTED}"
            self.live.append(_Lane(k, at, model.num_parameters(), execution))
        self.lanes.step = self.live[0].at.step

    def drop(self, errors: Mapping[int, str]) -> None:
        """Take out the lanes at these places."""
        if not errors:
            return
        for k, error in errors.items():
            self.failed[self.live[k].position] = self.live[k].outcome(error, None, None)
        left = [k for k in range(len(self.live)) if k not in errors]
        self.live = [self.live[k] for k in left]
        self.lanes.keep(left)

    def train_epoch(self) -> None:
        """One pass over the training split, and the validation split at its end."""
        epoch = self.live[0].at.epoch
        clock, size = time.monotonic(), self.lanes.candidates[0].batch_size
        orders = [derive_seed(seed, "order", epoch) for seed in self.lanes.seeds]
        own = {lane.position: self.feed.epoch(size, order) for lane, order in zip(self.live, orders, strict=True)}
        self.lanes.begin_epoch(epoch)
        totals, updates = {lane.position: 0.0 for lane in self.live}, self.feed.updates(size)
        for _ in range(updates):
            losses = self.lanes.update([next(own[lane.position]) for lane in self.live])
            clock = self._share(clock)
            for lane, loss in zip(self.live, losses, strict=True):
                lane.at.step += 1
                totals[lane.position] += loss
            self.drop(self._failures(losses))
            if not self.live:
                return
        self._validate({position: total / updates for position, total in totals.items()}, clock)

    def _score(self, split: TaskSplit) -> list[float]:
        """Each lane's metric; NaN where its outputs were not finite."""
        means = self.lanes.evaluate(feed_of(self.task, split).evaluation(self.lanes.candidates[0].batch_size), self.task.errors)
        return [mean if math.isnan(mean) else self.task.summarise(mean) for mean in means]

    def _share(self, clock: float) -> float:
        """Every lane pays for its part of the time since ``clock``."""
        now = time.monotonic()
        for lane in self.live:
            lane.spent += (now - clock) / len(self.live)
        return now

    def _failures(self, losses: Sequence[float]) -> dict[int, str]:
        found = {}
        for k, (lane, loss, norm) in enumerate(zip(self.live, losses, self.lanes.norms, strict=True)):
            place = f"at epoch {lane.at.epoch + 1}, step {lane.at.step}"
            if not math.isfinite(loss):
                found[k] = f"loss is {loss} {place}"
            elif norm is not None and not math.isfinite(norm):
                found[k] = f"gradient norm is {norm} {place}"
            elif lane.spent > self.limit:
                found[k] = f"ran past its time limit {place}"
        return found

    def _validate(self, losses: Mapping[int, float], clock: float) -> None:
        values = self._score(self.task.validation)
        bad = {
            k: f"validation outputs are not finite after epoch {lane.at.epoch + 1}"
            for k, (lane, value) in enumerate(zip(self.live, values, strict=True))
            if math.isnan(value)
        }
        self._share(clock)
        for k, (lane, model, value) in enumerate(zip(self.live, self.lanes.models, values, strict=True)):
            if k in bad:
                continue
            at = lane.at
            at.epoch += 1
            if _better(self.task, value, at.best_value):
                at.best_value, at.best_epoch = value, at.epoch
                at.best = {name: v.detach().clone() for name, v in model.state_dict().items()}
            lane.rows.append(Epoch(at.epoch, at.step, losses[lane.position], value, lane.spent - sum(row.seconds for row in lane.rows)))
        self.drop(bad)

    def finish(self, test: TaskSplit | None) -> list[LaneOutcome]:
        """The outcomes, in the order of the starts; reads the test split, if it is given, with the best weights."""
        saved = [
            pack_state(model, self.lanes.memory_of(k), lane.at)
            for k, (lane, model) in enumerate(zip(self.live, self.lanes.models, strict=True))
        ]
        values: list[float | None] = [None] * len(self.live)
        if test is not None and self.live:
            for lane, model in zip(self.live, self.lanes.models, strict=True):
                if lane.at.best is not None:
                    model.load_state_dict(lane.at.best)
            values = [score if lane.at.best else None for lane, score in zip(self.live, self._score(test), strict=True)]
        done = {lane.position: lane.outcome(None, data, value) for lane, data, value in zip(self.live, saved, values, strict=True)}
        return [outcome for _, outcome in sorted((done | self.failed).items())]


def _better(task: Task, new: float, old: float) -> bool:
    return math.isnan(old) or (new > old if task.direction == "maximize" else new < old)


def train_lanes(
    task: Task,
    starts: Sequence[LaneStart],
    start_epoch: int,
    stop_epoch: int,
    *,
    test: TaskSplit | None = None,
    timeout_s: float | None = None,
    device: str = "cpu",
    recompute: bool = False,
) -> list[LaneOutcome]:
    """Train lanes in lockstep from ``start_epoch`` to ``stop_epoch`` finished epochs.

    Args:
        starts: of one base, hidden size, number of layers and batch size.
        test: also score this split once, with the best validation epoch's weights.
        timeout_s: seconds after which a lane fails: its share of the time that the pack takes; None: no limit.
        recompute: less memory for more time, see `Lanes`.

    Returns:
        an outcome for each; ``error`` is set where the loss or a gradient was not finite, or the time ran out.

    Raises:
        ValueError: a checkpoint does not stand at ``start_epoch``; lanes that cannot train together.
        RuntimeError, MemoryError: torch could not compute a cell, or memory ran out; a batch has more streams than there are tokens.
    """
    pack = _Pack(task, starts, start_epoch, math.inf if timeout_s is None else timeout_s, device, recompute)
    for _ in range(start_epoch, stop_epoch):
        if pack.live:
            pack.train_epoch()
    return pack.finish(test)


def train_lane(
    task: Task,
    candidate: Candidate,
    seed: int,
    checkpoint: bytes | None,
    start_epoch: int,
    stop_epoch: int,
    *,
    test: TaskSplit | None = None,
    timeout_s: float | None = None,
    device: str = "cpu",
) -> LaneOutcome:
    """One lane alone, see `train_lanes`: the same curve as in any pack."""
    start = LaneStart(candidate, seed, checkpoint)
    return train_lanes(task, [start], start_epoch, stop_epoch, test=test, timeout_s=timeout_s, device=device)[0]
