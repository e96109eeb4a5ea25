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
from .interrupt import Interrupt
from .ledger import CONFIRMATION, SEARCH, Ledger, TrialView
from .recipe import Recipe
from .rungs import keep
from .sampler import Proposer
from .space import Space
from .trainer import Trainer
from .warm import prior_trials, start_points

MAX_DUPLICATES = 100  # proposals in a row that were there already: the space is used up


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
        self._on_progress = on_progress
        self._direction = ledger.direction
        self._expected = expected_epochs(recipe)
        self._interrupt = Interrupt()
        self._trainer = Trainer(recipe, ledger, checkpoints, executor, self._interrupt)

    def __enter__(self) -> Driver:
        self._interrupt.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._trainer.close()
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
        top, objectives = self.recipe.confirmation.top, self.recipe.search.objectives
        self._confirm(finalists(self.ledger.trials(SEARCH), tuned, cells, top, self._direction, objectives))
        self.ledger.set_complete()
        self.checkpoints.keep_only(CONFIRMATION)

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
        search, plan = self.recipe.search, self._seed("plan", group)
        start = start_points(space, search.start.cells) if group == SEARCH else ()
        prior = prior_trials(self.ledger.meta.get("prior", ()), space) if group == SEARCH else ()
        seen = self.ledger.frozen(group)
        proposer = Proposer(search, self._direction, seen, seed=plan, start=start, prior=prior) if room > 0 else None
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
            self._trainer.train([t for t in cohort if t.running], (stop,), lambda: self._show(group, budget))
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
        self._trainer.train([t for t in trials if t.running], stops, lambda: self._show(CONFIRMATION, len(trials)))

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
