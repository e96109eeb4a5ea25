"""Has trials trained: makes packs of them, hands them to the executor, writes what became of them to the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .checkpoints import Checkpoints, digest_of
from .executors import Executor
from .interrupt import Interrupt, Interrupted
from .ledger import CONFIRMATION, Ledger, Rung, TrialView
from .packs import NO_WORKER, Lane, LaneResult, Pack, PackResult
from .recipe import Recipe

POLL_S = 0.2  # how soon Ctrl-C is noticed
MOST_LANES = 16  # of a pack: past a few a CPU gains nothing, and results come in sooner


class _Stretch(NamedTuple):
    """What the lanes of one pack have in common."""

    start: int
    stop: int
    base: str
    hidden_size: int
    num_layers: int
    batch_size: int


class Trainer:
    """Takes trials from rung to rung; one at a time may call it.

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
        self._flying: dict[str, dict[str, TrialView]] = {}  # pack -> lane key -> trial

    def close(self) -> None:
        """Stop every worker at once."""
        if self._executor is not None:
            self._executor.close()

    def train(self, trials: Iterable[TrialView], stops: Sequence[int], on_change: Callable[[], None]) -> None:
        """Take every trial from where it stands to the last of ``stops``, recording each rung; fails those that fail.

        Raises:
            Interrupted: after the packs that were training are recorded.
        """
        due = [trial for trial in trials if trial.epochs < stops[-1]]
        if not due:
            return
        executor = self._executor = self._executor or self._make_executor()
        left: int | None = None  # packs still to come after an interrupt
        self._flying = {}
        self._submit(due, stops, executor)
        while self._flying:
            if self._interrupt.requested and left is None:
                left = executor.cancel()
            if left == 0:
                raise Interrupted
            for result in executor.collect(POLL_S):
                left = left if left is None else left - 1
                due = self._take(result, stops, executor)
                if left is None:
                    self._submit(due, stops, executor)
                on_change()

    def _submit(self, trials: Sequence[TrialView], stops: Sequence[int], executor: Executor) -> None:
        """Packs of one base, shape and stretch of epochs."""
        alike: dict[_Stretch, list[tuple[TrialView, bytes | None]]] = {}
        for trial in trials:
            saved = self._checkpoints.load(trial.key, trial.epochs, trial.rungs[-1].checkpoint) if trial.rungs else None
            start = trial.epochs if saved is not None else 0  # a lost checkpoint costs time, nothing else
            c = trial.candidate
            shape = c.spec.base, c.hidden_size, c.num_layers, c.batch_size
            alike.setdefault(_Stretch(start, self._next(trial, stops), *shape), []).append((trial, saved))
        size = min(MOST_LANES, max(1, math.ceil(len(trials) / executor.slots)))
        for stretch, lanes in alike.items():
            for at in range(0, len(lanes), size):
                self._launch(stretch, lanes[at : at + size], stops, executor)

    @staticmethod
    def _next(trial: TrialView, stops: Sequence[int]) -> int:
        return next(stop for stop in stops if stop > trial.epochs)

    def _launch(self, stretch: _Stretch, lanes: Sequence[tuple[TrialView, bytes | None]], stops: Sequence[int], executor: Executor) -> None:
        limit, first = self._recipe.limits.lane_seconds, lanes[0][0]
        if limit is not None:  # what a lost checkpoint costs is not the lane's fault
            limit *= (stretch.stop - stretch.start) / (stretch.stop - first.epochs)
        self._packs += 1
        pack = Pack(
            pack_id=str(self._packs),
            benchmark=self._recipe.benchmark,
            lanes=tuple(Lane(trial.key, trial.candidate, trial.seed, saved) for trial, saved in lanes),
            start_epoch=stretch.start,
            stop_epoch=stretch.stop,
            read_test=first.group == CONFIRMATION and stretch.stop == stops[-1],
            data_dir=self._recipe.data,
            timeout_s=limit,
            fingerprint=self._fingerprint,
        )
        self._flying[pack.pack_id] = {trial.key: trial for trial, _ in lanes}
        executor.submit(pack)

    def _take(self, result: PackResult, stops: Sequence[int], executor: Executor) -> list[TrialView]:
        """Record a pack; the trials that have further to go."""
        members = self._flying.pop(result.pack_id)
        if result.worker == NO_WORKER and len(members) > 1:
            for trial in members.values():  # one of them kills its workers: each alone, so that it alone fails
                self._submit([trial], stops, executor)
            return []
        on = [self._record(members[lane.key], lane, result, stops) for lane in result.lanes]
        return [trial for trial in on if trial is not None]

    def _record(self, trial: TrialView, lane: LaneResult, result: PackResult, stops: Sequence[int]) -> TrialView | None:
        """Write what became of a lane; the trial if it has further to go."""
        out = lane.outcome
        if out.error is not None or out.checkpoint is None:
            self._ledger.fail(trial, out.error or "no checkpoint came back")
            self._checkpoints.drop(trial.key)
            return None
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
        )
        self._checkpoints.save(trial.key, rung.stop_epoch, out.checkpoint)  # before the ledger says that it is there
        recorded = self._ledger.record(trial, rung)
        self._checkpoints.drop(trial.key, but=rung.stop_epoch)
        if rung.stop_epoch < stops[-1]:
            return recorded
        if trial.group == CONFIRMATION:
            self._ledger.finish(recorded)
        return None
