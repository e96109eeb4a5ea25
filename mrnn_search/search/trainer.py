"""Has trials trained: makes packs of them, hands them to the executor, writes what became of them to the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from .checkpoints import Checkpoints, digest_of
from .executors import Executor
from .interrupt import Interrupt, Interrupted
from .ledger import CONFIRMATION, Ledger, Reading, Rung, TrialView
from .packs import NO_WORKER, Lane, LaneResult, Pack, PackResult
from .recipe import Recipe

POLL_S = 0.2  # how soon Ctrl-C is noticed
MOST_LANES = 16  # of a pack: past a few a CPU gains nothing, and results come in sooner


Job = tuple[TrialView, Sequence[int]]  # a trial, and the epochs that it stops at, each a rung; it ends at the last


class _Stretch(NamedTuple):
    """What the lanes of one pack have in common."""

    start: int
    stop: int
    read_test: bool
    base: str
    hidden_size: int
    num_layers: int
    batch_size: int


class Trainer:
    """Takes trials from rung to rung, recording each; fails those that fail.

    Args:
        executor: makes the executor when there is work for it.
        interrupt: asked for Ctrl-C between results.
    """

    def __init__(
        self, recipe: Recipe, ledger: Ledger, checkpoints: Checkpoints, executor: Callable[[], Executor], interrupt: Interrupt
    ) -> None:
        self._recipe, self._ledger, self._checkpoints = recipe, ledger, checkpoints
        self._make_executor, self._interrupt = executor, interrupt
        self._executor: Executor | None = None
        self._fingerprint = ledger.meta.get("benchmark", {}).get("fingerprint")
        self._packs = 0
        self._flying: dict[str, dict[str, Job]] = {}  # pack -> lane key -> job
        self._left: int | None = None  # packs still to come after an interrupt

    def close(self) -> None:
        """Stop every worker at once."""
        if self._executor is not None:
            self._executor.close()

    @property
    def busy(self) -> bool:
        """Is something training, or about to?"""
        return bool(self._flying)

    @property
    def hungry(self) -> bool:
        """Would a worker idle?"""
        return self._executor is None or len(self._flying) < self._executor.slots

    def submit(self, jobs: Sequence[Job]) -> None:
        """Have every trial trained from where it stands to the last of its stops, in packs of one base, shape and stretch of epochs."""
        if not jobs or self._left is not None:
            return
        executor = self._executor = self._executor or self._make_executor()
        alike: dict[_Stretch, list[tuple[Job, bytes | None]]] = {}
        for trial, stops in jobs:
            saved = self._checkpoints.load(trial.key, trial.epochs, trial.rungs[-1].checkpoint) if trial.rungs else None
            start = trial.epochs if saved is not None else 0  # a lost checkpoint costs time, nothing else
            stop = next(stop for stop in stops if stop > trial.epochs)
            c = trial.candidate
            stretch = _Stretch(
                start, stop, trial.group == CONFIRMATION and stop == stops[-1], c.spec.base, c.hidden_size, c.num_layers, c.batch_size
            )
            alike.setdefault(stretch, []).append(((trial, stops), saved))
        size = min(MOST_LANES, max(1, math.ceil(len(jobs) / executor.slots)))
        for stretch, lanes in alike.items():
            for at in range(0, len(lanes), size):
                self._launch(stretch, lanes[at : at + size], executor)

    def collect(self) -> list[TrialView]:
        """The trials that got to their next rung, or failed, since the last call; waits a little for the first.

        Raises:
            Interrupted: after the packs that were training are recorded.
        """
        if self._executor is None:
            return []
        if self._interrupt.requested and self._left is None:
            self._left = self._executor.cancel()
        if self._left == 0:
            raise Interrupted
        changed = []
        for result in self._executor.collect(POLL_S):
            self._left = self._left if self._left is None else self._left - 1
            changed += self._take(result)
        return changed

    def _launch(self, stretch: _Stretch, lanes: Sequence[tuple[Job, bytes | None]], executor: Executor) -> None:
        limit, (first, _) = self._recipe.limits.lane_seconds, lanes[0][0]
        if limit is not None:  # what a lost checkpoint costs is not the lane's fault
            limit *= (stretch.stop - stretch.start) / (stretch.stop - first.epochs)
        self._packs += 1
        pack = Pack(
            pack_id=str(self._packs),
            benchmark=self._recipe.benchmark,
            lanes=tuple(Lane(trial.key, trial.candidate, trial.seed, saved) for (trial, _), saved in lanes),
            start_epoch=stretch.start,
            stop_epoch=stretch.stop,
            read_test=stretch.read_test,
            data_dir=self._recipe.data,
            timeout_s=limit,
            fingerprint=self._fingerprint,
        )
        self._flying[pack.pack_id] = {job[0].key: job for job, _ in lanes}
        executor.submit(pack)

    def _take(self, result: PackResult) -> list[TrialView]:
        """Record a pack, and send those of its trials on that have further to go."""
        members = self._flying.pop(result.pack_id)
        if result.worker == NO_WORKER and len(members) > 1:
            for job in members.values():  # one of them kills its workers: each alone, so that it alone fails
                self.submit([job])
            return []
        with self._ledger.together():
            changed = [self._record(members[lane.key], lane, result) for lane in result.lanes]
        for trial in changed:  # now that what comes after them is on the disk
            self._checkpoints.drop(trial.key, but=None if trial.state == "FAIL" else trial.epochs)
        stops = {key: stops for key, (_, stops) in members.items()}
        self.submit([(trial, stops[trial.key]) for trial in changed if trial.running and trial.epochs < stops[trial.key][-1]])
        return changed

    def _record(self, job: Job, lane: LaneResult, result: PackResult) -> TrialView:
        """Write what became of a lane; the trial as it stands then."""
        (trial, stops), out = job, lane.outcome
        if out.error is not None or out.checkpoint is None:
            error = out.error or "no checkpoint came back"
            self._ledger.fail(trial, error)
            return replace(trial, state="FAIL", error=error)
        rows = tuple((r.epoch, r.step, r.train_loss, r.value, r.seconds) for r in out.rows if r.epoch > trial.epochs)
        rung = Rung(
            stop_epoch=rows[-1][0],
            rows=rows,
            value=out.value,
            best_epoch=out.best_epoch,
            seconds=lane.seconds,
            params=out.parameters,
            execution=out.execution,
            worker=result.worker,
            device=result.device,
            test_value=out.test_value,
            checkpoint=digest_of(out.checkpoint),
            reading=None if out.test_value is None else _reading(result),
        )
        self._checkpoints.save(trial.key, rung.stop_epoch, out.checkpoint)  # before the ledger says that it is there
        recorded = self._ledger.record(trial, rung)
        if trial.group == CONFIRMATION and rung.stop_epoch == stops[-1]:
            self._ledger.finish(recorded)
            return replace(recorded, state="COMPLETE")
        return recorded


def _reading(result: PackResult) -> Reading:
    """Raises:
    ValueError: a worker sent a test value and does not say which split it read.
    """
    if result.test_split is None:
        raise ValueError(f"pack {result.pack_id} has a test value, and no fingerprint of the split that was read")
    return Reading(datetime.now(UTC).isoformat(timespec="milliseconds"), result.pack_id, result.test_split)
