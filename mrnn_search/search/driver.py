"""The head of a study: asks, packs, has packs trained, decides at rungs, tells, confirms.

What it decides follows from the recipe, the seeds and the recorded values alone, never from which pack came back
first: a study that was killed and goes on ends as the unbroken one would have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from ..cells.controls import CONTROLS
from ..cells.presets import preset
from ..cells.spec import Candidate, CellSpec
from ..engine.train import derive_seed
from .checkpoints import Checkpoints
from .controls import Control, controls_to_tune, guests_to_tune, tuned
from .executors import Executor
from .finalists import finalists
from .interrupt import Interrupt
from .ledger import CONFIRMATION, SEARCH, Ledger, TrialView
from .recipe import Recipe
from .sampler import Point
from .schedules import schedules
from .screening import Screening, plan_of
from .space import Space
from .trainer import Trainer
from .warm import start_points


@dataclass(frozen=True)
class Progress:
    """Where a study stands, for a progress bar.

    Attributes:
        stage: "search", a baseline's name, a control's group, or "confirmation".
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


def expected_epochs(recipe: Recipe, controls: int | None = None) -> int:
    """Lane-epochs that the recipe needs if no candidate fails: the unit of its cost.

    Args:
        controls: cells that are tuned and confirmed as controls; None: the most that there can be.
    """
    if controls is None:
        controls = recipe.confirmation.top * len(CONTROLS) if recipe.controls else 0
    plan, schedule = plan_of(recipe, "maximize"), schedules[recipe.rungs.method]
    compared = len(recipe.baselines.cells) + controls
    budgets = [recipe.budget.trials, *[recipe.baseline_trials] * compared]
    runs = (recipe.confirmation.top + compared) * recipe.confirmation.seeds
    return sum(schedule.epochs(plan, budget) for budget in budgets) + runs * recipe.confirmation.epochs


class Tallies:
    """The progress of several studies that are run one after the other, as one."""

    def __init__(self, recipes: Sequence[Recipe], on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._expected = {recipe.name: expected_epochs(recipe) for recipe in recipes}
        self._epochs = dict.fromkeys(self._expected, 0)

    def of(self, recipe: Recipe) -> Callable[[Progress], None]:
        """What the driver of ``recipe`` calls."""

        def show(now: Progress) -> None:
            self._expected[recipe.name], self._epochs[recipe.name] = now.expected, now.epochs
            epochs, expected = sum(self._epochs.values()), sum(self._expected.values())
            self._on_progress(replace(now, stage=f"{recipe.benchmark} {now.stage}", epochs=epochs, expected=expected))

        return show


class _Tally:
    """What the trials of one group add up to, kept up to date trial by trial."""

    def __init__(self, trials: Sequence[TrialView], sign: int) -> None:
        self._sign = sign
        self._trials: dict[int, TrialView] = {}
        self.epochs = self.failed = self.ended = 0
        self.best: TrialView | None = None
        for trial in trials:
            self.add(trial)

    def add(self, trial: TrialView) -> None:
        """``trial`` stands like this now."""
        if trial.duplicate_of is not None:
            return
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        self.epochs += trial.epochs - (before.epochs if before else 0)
        self.failed += (trial.state == "FAIL") - (before is not None and before.state == "FAIL")
        self.ended += (not trial.running) - (before is not None and not before.running)
        if trial.rungs and (
            self.best is None or (self._sign * trial.value, -trial.number) > (self._sign * self.best.value, -self.best.number)
        ):
            self.best = trial


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
        self.recipe, self.ledger, self.checkpoints = recipe.matched(ledger.meta.get("benchmark", {})), ledger, checkpoints
        self._on_progress = on_progress
        self._direction = ledger.direction
        self._expected = expected_epochs(recipe)
        self._interrupt = Interrupt()
        self._trainer = Trainer(self.recipe, ledger, checkpoints, executor, self._interrupt)
        self._sign = 1 if self._direction == "maximize" else -1
        self._tallies: dict[str, _Tally] = {}

    def __enter__(self) -> Driver:
        self._interrupt.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._trainer.close()
        finally:
            self._interrupt.__exit__(kind, error, trace)

    def screen(self) -> list[tuple[str, Candidate]]:
        """Search and tune the baselines.

        Returns:
            (role, candidate): who is to be confirmed, see `finalists`.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; everything that finished is in the ledger.
        """
        budget, tuning = self.recipe.budget.trials, self.recipe.baseline_trials
        cells = {name: preset(name) for name in self.recipe.baselines.cells}
        start = start_points(self.recipe.space, self.recipe.search.start.cells)
        search = self._screening(SEARCH, self.recipe.space, budget, start)
        compared = {name: self._screening(name, self.recipe.space.for_cell(cell), tuning) for name, cell in cells.items()}
        self._tallies[CONFIRMATION] = _Tally(self.ledger.trials(CONFIRMATION), self._sign)
        self._screen([search, *compared.values()])
        found = {name: screening.trials for name, screening in compared.items()}
        top, objectives = self.recipe.confirmation.top, self.recipe.search.objectives
        return finalists(search.trials, found, self._baselines, top, self._direction, objectives)

    def run(self, guests: Sequence[CellSpec] = ()) -> None:
        """Screen, tune the finalists' controls, confirm.

        Args:
            guests: cells that are confirmed whatever the search found: finalists of the same search on another benchmark. They are
                tuned as baselines are, where they are no finalists here.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; everything that finished is in the ledger.
        """
        chosen = self.screen()
        due = guests_to_tune(guests, chosen)
        due |= controls_to_tune(chosen, self._baselines) if self.recipe.controls else {}
        self._confirm(self.ledger.trials(CONFIRMATION), [*chosen, *self._compared(chosen, due)])
        self.ledger.set_complete()
        self.checkpoints.keep_only(CONFIRMATION)

    @property
    def _baselines(self) -> dict[str, str]:
        """Name -> cell_id."""
        return {name: preset(name).cell_id for name in self.recipe.baselines.cells}

    # Screening

    def _compared(self, chosen: Sequence[tuple[str, Candidate]], due: Mapping[str, Control]) -> list[tuple[str, Candidate]]:
        """Guests and controls, tuned with the baselines' number of trials: (role, candidate), each candidate once."""
        self._expected = expected_epochs(self.recipe, len(due))
        finite, budget = self.recipe.search.sampler == "grid", self.recipe.baseline_trials
        screenings = {
            group: self._screening(group, control.space(self.recipe.space, finite), budget, control.start) for group, control in due.items()
        }
        self._screen(list(screenings.values()))
        search = self.ledger.trials(SEARCH)
        found = {group: tuned(control, screenings[group].trials, search, self._direction) for group, control in due.items()}
        seen = {candidate.candidate_id for _, candidate in chosen}
        out = []
        for group, candidate in found.items():
            if candidate is not None and candidate.candidate_id not in seen:
                seen.add(candidate.candidate_id)
                out.append((group, candidate))
        return out

    def _screening(self, group: str, space: Space, budget: int, start: Sequence[Point] = ()) -> Screening:
        screening = Screening(group, space, budget, self.recipe, self.ledger, self.checkpoints, self._trainer, self._seed, start)
        self._tallies[group] = _Tally(screening.trials, self._sign)
        return screening

    def _screen(self, screenings: Sequence[Screening]) -> None:
        """All groups to their ends; one after the other, except that a later one fills workers that would idle.

        No group's decisions depend on another's, so it does not matter which of them trains when.
        """
        groups = {screening.group: screening for screening in screenings}
        while True:
            first = True
            for screening in screenings:
                screening.advance(first)
                first = first and screening.done
            training = next((screening for screening in screenings if not screening.done), None)
            if training is None:
                return
            self._show(training.group, training.decided, training.budget)
            for trial in self._trainer.collect():
                self._tallies[trial.group].add(trial)
                groups[trial.group].took(trial)

    # Confirmation

    def _confirm(self, trials: list[TrialView], chosen: Sequence[tuple[str, Candidate]]) -> None:
        """Every chosen candidate on every fresh seed, at the full budget; here alone the test split is read."""
        there = {(t.candidate_id, t.seed) for t in trials}
        for n in range(self.recipe.confirmation.seeds):  # seed by seed: the same seeds for all, so that differences are paired
            seed = self._seed(CONFIRMATION, n)
            for role, candidate in chosen:
                if (candidate.candidate_id, seed) not in there:
                    trials.append(self.ledger.add(CONFIRMATION, candidate, seed, role=role))
        epochs = self.recipe.confirmation.epochs
        stops = [stop for stop in self.recipe.rungs.epochs if stop < epochs] + [epochs]
        for trial in trials:
            if trial.running and trial.epochs == epochs:  # killed between its last rung and its end
                self.ledger.finish(trial)
                trials[trial.number] = replace(trial, state="COMPLETE")
        tally = self._tallies[CONFIRMATION] = _Tally(trials, self._sign)
        self._trainer.submit([(trial, stops) for trial in trials if trial.running])
        self._show(CONFIRMATION, tally.ended, len(trials))
        while self._trainer.busy:
            for trial in self._trainer.collect():
                tally.add(trial)
                self._show(CONFIRMATION, tally.ended, len(trials))

    # Small things

    def _seed(self, *parts: object) -> int:
        """32 bits: exact in every table and JSON reader."""
        return derive_seed(self.recipe.seed, *parts) >> 31

    def _show(self, group: str, done: int, total: int) -> None:
        tally = self._tallies[group]
        self._on_progress(
            Progress(
                stage=group,
                done=done,
                total=total,
                epochs=sum(each.epochs for each in self._tallies.values()),
                expected=self._expected,
                best=None if tally.best is None else (tally.best.candidate.spec.name, tally.best.value),
                failed=tally.failed,
            )
        )
