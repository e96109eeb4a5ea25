"""The head of a study: asks, packs, has packs trained, decides at rungs, tells, confirms.

What it decides follows from the recipe, the seeds and the recorded values alone, never from which pack came back
first: a study that was killed and goes on ends as the unbroken one would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from ..cells.presets import preset
from ..cells.spec import Candidate
from ..engine.train import derive_seed
from .checkpoints import Checkpoints
from .executors import Executor
from .finalists import finalists
from .interrupt import Interrupt, Interrupted
from .ledger import CONFIRMATION, SEARCH, Ledger, Rung, TrialView
from .packs import Lane, LaneResult, Pack, PackResult
from .recipe import Recipe
from .rungs import keep
from .sampler import Proposer
from .space import Space

MAX_DUPLICATES = 100  # proposals in a row that were there already: the space is used up
POLL_S = 0.2  # how soon Ctrl-C is noticed
PACKS_PER_SLOT = 4  # small packs even out slow and fast cells, large ones save round trips


@dataclass(frozen=True)
class Progress:
    """Where a study stands, for a progress bar.

    Attributes:
        stage: "search", a baseline's name, or "confirmation".
        done, total: candidates (in confirmation: runs) of this stage that are decided, and of its budget.
        epochs: lane-epochs trained so far, over all stages; expected: what the recipe will need, estimated.
        best: name and validation value of the best of this stage so far.
        failed: lanes of this stage that failed.
    """

    stage: str
    done: int
    total: int
    epochs: int
    expected: int
    best: tuple[str, float] | None
    failed: int


def expected_epochs(recipe: Recipe) -> int:
    """Lane-epochs that the recipe needs if no candidate fails: the unit of its cost."""
    each = []
    for trials in (recipe.budget.trials, *[recipe.baselines.trials] * len(recipe.baselines.cells)):
        alive, before, total = trials, 0, 0
        for stop in recipe.rungs.epochs:
            total += alive * (stop - before)
            alive, before = math.ceil(alive * recipe.rungs.keep), stop
        each.append(total)
    runs = (recipe.confirmation.top + len(recipe.baselines.cells)) * recipe.confirmation.seeds
    return sum(each) + runs * recipe.confirmation.epochs


class Driver:
    """Runs one study to the end of its recipe; whatever the ledger has already is not done again.

    Args:
        executor: makes the executor when there is work for it.
        on_progress: called from this thread after every change.
    """

    def __init__(
        self,
        recipe: Recipe,
        ledger: Ledger,
        checkpoints: Checkpoints,
        executor: Callable[[], Executor],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.recipe, self.ledger, self.checkpoints = recipe, ledger, checkpoints
        self._make_executor = executor
        self._executor: Executor | None = None
        self._on_progress = on_progress
        self._direction = ledger.direction
        self._expected = expected_epochs(recipe)
        self._packs = 0
        self._interrupt = Interrupt()

    def __enter__(self) -> Driver:
        self._interrupt.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._executor is not None:
                self._executor.close()
        finally:
            self._interrupt.__exit__(kind, error, trace)

    def run(self) -> None:
        """Screen, tune the baselines, confirm.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; everything that finished is in the ledger.
        """
        names = self.recipe.baselines.cells
        self._screen(SEARCH, self.recipe.space, self.recipe.budget.trials)
        for name in names:
            self._screen(name, self.recipe.space.for_cell(preset(name)), self.recipe.baselines.trials)
        tuned = {name: self.ledger.trials(name) for name in names}
        cells = {name: preset(name).cell_id for name in names}
        self._confirm(finalists(self.ledger.trials(SEARCH), tuned, cells, self.recipe.confirmation.top, self._direction))
        self.ledger.set_complete()

    # Screening

    def _screen(self, group: str, space: Space, budget: int) -> None:
        """Cohort after cohort: ask, train to a rung, drop the worst, until ``budget`` candidates were tried."""
        while True:
            trials = [t for t in self.ledger.trials(group) if t.duplicate_of is None]
            self._show(group, budget)
            if not any(t.running for t in trials) and len(trials) >= budget:
                return
            cohort = self._ask(group, space, trials, budget)
            if not cohort:
                return
            self._halve(group, cohort, budget)

    def _ask(self, group: str, space: Space, trials: Sequence[TrialView], budget: int) -> list[TrialView]:
        """The open cohort, filled up if asking was cut short; a new one if there is none. Empty: the space is used up."""
        last = max((t.cohort for t in trials), default=0)
        cohort = [t for t in trials if t.cohort == last]
        if cohort and not any(t.running for t in cohort):
            cohort, last = [], last + 1
        started = any(t.rungs or not t.running for t in cohort)
        room = 0 if started else min(self.recipe.search.cohort - len(cohort), budget - len(trials))
        proposer = Proposer(self.recipe.search.sampler, self._direction, self.ledger.frozen(group)) if room > 0 else None
        duplicates = 0
        while proposer and room > 0 and duplicates < MAX_DUPLICATES:
            number = len(self.ledger.frozen(group))
            proposal = proposer.propose(space, self._seed("sampler", group, number))
            trial = self.ledger.add(group, proposal.candidate, self._seed(group, number), proposal=proposal, cohort=last)
            if trial.duplicate_of is None:
                cohort.append(trial)
                room, duplicates = room - 1, 0
            else:
                proposer.reject()
                duplicates += 1
        return cohort

    def _halve(self, group: str, cohort: Sequence[TrialView], budget: int) -> None:
        """Take one cohort through the rungs."""
        stops = self.recipe.rungs.epochs
        for rung, stop in enumerate(stops):
            self._train([t for t in cohort if t.running], (stop,), stage=(group, budget))
            trials = self.ledger.trials(group)
            members = {t.number for t in cohort}
            table = {t.number: t.rungs[rung].value for t in trials if len(t.rungs) > rung}
            cohort = [t for t in trials if t.number in members]
            last = stop == stops[-1]
            good = set(table) if last else keep(table, members, self.recipe.rungs.keep, self._direction)
            for trial in cohort:
                if not trial.running:
                    continue
                if last:
                    self.ledger.finish(trial)
                elif trial.number not in good:
                    self.ledger.drop(trial)
                else:
                    continue
                self.checkpoints.drop(trial.key)
            cohort = [t for t in self.ledger.trials(group) if t.number in members]
            self._show(group, budget)

    # Confirmation

    def _confirm(self, chosen: Sequence[tuple[str, Candidate]]) -> None:
        """Every chosen candidate on every fresh seed, at the full budget; here alone the test split is read."""
        there = {(t.candidate_id, t.seed) for t in self.ledger.trials(CONFIRMATION)}
        for n in range(self.recipe.confirmation.seeds):  # seed by seed: the same seeds for all, so that differences are paired
            seed = self._seed(CONFIRMATION, n)
            for role, candidate in chosen:
                if (candidate.candidate_id, seed) not in there:
                    self.ledger.add(CONFIRMATION, candidate, seed, role=role)
        epochs = self.recipe.confirmation.epochs
        stops = [stop for stop in self.recipe.rungs.epochs if stop < epochs] + [epochs]
        trials = self.ledger.trials(CONFIRMATION)
        for trial in trials:
            if trial.running and trial.epochs == epochs:  # killed between its last rung and its end
                self.ledger.finish(trial)
        self._show(CONFIRMATION, len(trials))
        self._train([t for t in trials if t.running], stops, stage=(CONFIRMATION, len(trials)))

    # Training

    def _train(self, trials: Sequence[TrialView], stops: Sequence[int], stage: tuple[str, int]) -> None:
        """Take every trial from where it stands to the last of ``stops``, recording each; fails those that fail.

        Raises:
            Interrupted: after the packs that were training are recorded.
        """
        flying: dict[str, dict[str, TrialView]] = {}
        due: list[TrialView] = [t for t in trials if t.epochs < stops[-1]]
        left: int | None = None  # packs still to come after an interrupt
        while due or flying:
            self._submit(due, stops, flying)
            due = []
            if self._interrupt.requested and left is None:
                left = self.executor.cancel()
            if left == 0:
                raise Interrupted
            for result in self.executor.collect(POLL_S):
                members = flying.pop(result.pack_id)
                left = left if left is None else left - 1
                for lane in result.lanes:
                    trial = self._record(members[lane.key], lane, result, stops)
                    if trial is not None:
                        due.append(trial)
                self._show(*stage)
            if left is not None:
                due = []

    @property
    def executor(self) -> Executor:
        if self._executor is None:
            self._executor = self._make_executor()
        return self._executor

    def _submit(self, trials: Sequence[TrialView], stops: Sequence[int], flying: dict[str, dict[str, TrialView]]) -> None:
        """Packs of one base, shape and stretch of epochs."""
        alike: dict[tuple[int, int, str, int, int, int], list[tuple[TrialView, bytes | None]]] = {}
        for trial in trials:
            saved = self.checkpoints.load(trial.key, trial.epochs) if trial.epochs else None
            start = trial.epochs if saved is not None else 0  # a lost checkpoint costs time, nothing else
            stop = next(s for s in stops if s > trial.epochs)
            c = trial.candidate
            alike.setdefault((start, stop, c.spec.base, c.hidden_size, c.num_layers, c.batch_size), []).append((trial, saved))
        size = max(1, len(trials) // (PACKS_PER_SLOT * self.executor.slots)) if trials else 1
        for (start, stop, *_), lanes in alike.items():
            for at in range(0, len(lanes), size):
                self._packs += 1
                part = lanes[at : at + size]
                pack = Pack(
                    pack_id=str(self._packs),
                    benchmark=self.recipe.benchmark,
                    lanes=tuple(Lane(t.key, t.candidate, t.seed, saved) for t, saved in part),
                    start_epoch=start,
                    stop_epoch=stop,
                    read_test=part[0][0].group == CONFIRMATION and stop == stops[-1],
                    data_dir=self.recipe.data,
                    timeout_s=self.recipe.limits.lane_seconds,
                )
                flying[pack.pack_id] = {t.key: t for t, _ in part}
                self.executor.submit(pack)

    def _record(self, trial: TrialView, lane: LaneResult, result: PackResult, stops: Sequence[int]) -> TrialView | None:
        """Write what became of a lane; the trial if it has further to go."""
        out = lane.outcome
        if out.error is not None or out.checkpoint is None:
            self.ledger.fail(trial, out.error or "no checkpoint came back")
            self.checkpoints.drop(trial.key)
            return None
        rows = tuple((r.epoch, r.step, r.train_loss, r.value, r.seconds) for r in out.rows if r.epoch > trial.epochs)
        stop = rows[-1][0]
        self.checkpoints.save(trial.key, stop, out.checkpoint)  # before the ledger says that it is there
        rung = Rung(
            stop, rows, out.value, out.best_epoch, lane.seconds, out.parameters, out.execution, result.worker, result.device, out.test_value
        )
        trial = self.ledger.record(trial, rung)
        self.checkpoints.drop(trial.key, but=stop)
        if stop < stops[-1]:
            return trial
        if trial.group == CONFIRMATION:
            self.ledger.finish(trial)
        return None

    # Small things

    def _seed(self, *parts: object) -> int:
        """32 bits: exact in every table and JSON reader."""
        return derive_seed(self.recipe.seed, *parts) >> 31

    def _show(self, group: str, total: int) -> None:
        everything: Mapping[str, Sequence[TrialView]] = {g: self.ledger.trials(g) for g in self.ledger.groups()}
        trials = [t for t in everything.get(group, ()) if t.duplicate_of is None]
        sign = 1 if self._direction == "maximize" else -1
        best = max((t for t in trials if t.rungs), key=lambda t: sign * t.value, default=None)
        self._on_progress(
            Progress(
                stage=group,
                done=sum(not t.running for t in trials),
                total=total,
                epochs=sum(t.epochs for ts in everything.values() for t in ts),
                expected=self._expected,
                best=None if best is None else (best.candidate.spec.name, best.value),
                failed=sum(t.state == "FAIL" for t in trials),
            )
        )
