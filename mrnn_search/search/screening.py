"""The screening of one group: its schedule's waves, asked for, sent to the trainer, and consumed in the order in which they were sent.

Results are recorded as they come, and count only when their wave's turn comes: neither the schedule nor the sampler sees who was
done first. A study that goes on is lived through again from its first wave, with the recorded values in the place of training.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial, TrialState, create_trial

from .checkpoints import Checkpoints
from .ledger import SEARCH, Ledger, TrialView
from .recipe import Recipe
from .sampler import Point, Proposal, Proposer
from .schedules import Plan, Result, Wave, schedules
from .space import Space
from .trainer import Trainer
from .warm import prior_trials

MAX_DUPLICATES = 100  # proposals in a row that were there already: the space is used up
SHOWN = ("value", "params", "seconds", "stop_epoch")  # of a rung: what objectives are made of
STUCK = 10  # and so many: the sampler insists on what it knows, and random draws go on in its place


def plan_of(recipe: Recipe, direction: str) -> Plan:
    """What the recipe's schedule decides by."""
    search, rungs = recipe.search, recipe.rungs
    return Plan(
        epochs=rungs.epochs,
        keep=rungs.keep,
        direction="maximize" if direction == "maximize" else "minimize",
        cohort=search.cohort,
        ahead=search.ahead,
        top=recipe.confirmation.top,
        curve_stop=rungs.curve_stop,
    )


class Screening:
    """Tries a budget of candidates of one space.

    Args:
        group: of the ledger.
        budget: candidates to try.
        seed: the seed of what its arguments name.
        start: the first candidates are these points of the space.

    Attributes:
        trials: of the group, by number, duplicates included, as they stand in the ledger.
    """

    def __init__(
        self,
        group: str,
        space: Space,
        budget: int,
        recipe: Recipe,
        ledger: Ledger,
        checkpoints: Checkpoints,
        trainer: Trainer,
        seed: Callable[..., int],
        start: Sequence[Point] = (),
    ) -> None:
        self.group, self.budget = group, budget
        self.trials = ledger.trials(group)
        self._space, self._recipe, self._seed, self._start_points = space, recipe, seed, start
        self._ledger, self._checkpoints, self._trainer = ledger, checkpoints, trainer
        self._schedule = schedules[recipe.rungs.method](plan_of(recipe, ledger.direction))
        self._cohorts: dict[int, list[int]] = {}
        self._duplicates = 0  # in a row, up to now
        for trial in self.trials:
            self._note(trial)
        self._waves: deque[tuple[Wave, list[tuple[int, int]]]] = deque()  # with (trial, rung that it trains to)
        self._dry = False  # the schedule has no wave before more is told
        self._begun = 0  # candidates of the waves so far
        self._shown: dict[int, tuple[TrialState, int]] = {}  # what the sampler may know: state, rungs; a new trial runs
        self._proposer: Proposer | None = None
        self._points: list[FrozenTrial] = []  # what each trial is in the space; there once there is a proposer
        self.done = False

    @property
    def decided(self) -> int:
        """Candidates that do not train at the moment."""
        return self._begun - len({number for _, jobs in self._waves for number, _ in jobs})

    def advance(self, first: bool) -> None:
        """Send off and consume waves as far as it goes now; unless ``first``, only where workers would idle otherwise.

        A wave is consumed only when no other could have been sent off before it: one that is there early must wait for that.
        """
        while not self.done:
            if len(self._waves) < self._schedule.plan.ahead and not self._dry:
                if not (first or self._trainer.hungry):
                    return
                self._dry = not self._start()
            elif self._waves and all(self._settled(number, rung) for number, rung in self._waves[0][1]):
                self._consume(*self._waves.popleft())
                self._dry = False
            elif self._waves:
                return
            else:
                self._close()

    def _start(self) -> bool:
        """Send off the next wave, if there is one yet."""
        used_up = self._duplicates >= MAX_DUPLICATES and self._begun >= sum(map(len, self._cohorts.values()))
        wave = self._schedule.wave(0 if used_up else max(0, self.budget - self._begun))
        if wave is None:
            return False
        new = self._ask(wave) if wave.new else []
        self._begun += len(new)
        jobs = [*((number, wave.first) for number in new), *wave.on]
        self._show([(number, TrialState.RUNNING, rung) for number, rung in wave.on])
        self._waves.append((wave, jobs))
        epochs = self._recipe.rungs.epochs
        self._trainer.submit([(self.trials[number], epochs[: rung + 1]) for number, rung in jobs if not self._settled(number, rung)])
        return True

    def took(self, trial: TrialView) -> None:
        """``trial`` stands like this now."""
        self.trials[trial.number] = trial

    def _settled(self, number: int, rung: int) -> bool:
        trial = self.trials[number]
        return not trial.running or len(trial.rungs) > rung

    def _consume(self, wave: Wave, jobs: Sequence[tuple[int, int]]) -> None:
        results = [self._result(number, rung) for number, rung in jobs]
        dropped = set(self._schedule.tell(wave, results))
        shown, ended = [], []
        for result in results:
            if result.value is None:  # it failed, or was closed when a smaller budget ended
                state = TrialState.FAIL if self.trials[result.number].state == "FAIL" else TrialState.PRUNED
            elif result.rung == self._schedule.last:
                state = TrialState.COMPLETE
                ended.append((result.number, "COMPLETE"))
            else:
                state = TrialState.PRUNED  # until it goes on, if it does
                if result.number in dropped:
                    ended.append((result.number, "PRUNED"))
            shown.append((result.number, state, result.rung + (result.value is not None)))
        self._end(ended)
        self._show(shown)

    def _result(self, number: int, rung: int) -> Result:
        trial = self.trials[number]
        if len(trial.rungs) <= rung:
            return Result(number, rung, None)
        curve = [(epoch, value) for r in trial.rungs[: rung + 1] for epoch, _, _, value, _ in r.rows]
        return Result(number, rung, trial.rungs[rung].value, curve)

    def _end(self, trials: Sequence[tuple[int, str]]) -> None:
        """Close trials that train no more (number, state), unless that was done before a restart."""
        due = [(self.trials[number], state) for number, state in trials if self.trials[number].running]
        with self._ledger.together():
            for trial, state in due:
                if state == "COMPLETE":
                    self._ledger.finish(trial)
                else:
                    self._ledger.drop(trial)
        for trial, state in due:
            self._checkpoints.drop(trial.key)
            self.took(dataclasses.replace(trial, state=state))

    def _close(self) -> None:
        """Nothing is left to train: those that still waited at a rung are dropped."""
        self._end([(trial.number, "PRUNED") for trial in self.trials])
        self.done = True

    # Asking

    def _note(self, trial: TrialView) -> None:
        """``trial`` is the newest."""
        if trial.duplicate_of is None:
            self._cohorts.setdefault(trial.cohort, []).append(trial.number)
            self._duplicates = 0
        else:
            self._duplicates += 1

    def _ask(self, wave: Wave) -> list[int]:
        """The new trials of ``wave``: those that are there, filled up if asking was cut short."""
        there = self._cohorts.get(wave.cohort, [])
        if any(self.trials[n].rungs or not self.trials[n].running for n in there) or max(self._cohorts, default=0) > wave.cohort:
            return list(there)
        with self._ledger.together():
            while len(self._cohorts.get(wave.cohort, ())) < wave.new and self._duplicates < MAX_DUPLICATES:
                self._ask_one(wave.cohort)
        return list(self._cohorts.get(wave.cohort, ()))

    def _ask_one(self, cohort: int) -> None:
        number = len(self.trials)
        if self._proposer is None:
            self._points = list(self._ledger.frozen(self.group))
            seen = [self._as_shown(number) for number in range(len(self._points))]
            # other groups have spaces of their own: one cell
            prior = prior_trials(self._ledger.meta.get("prior", ()), self._space) if self.group == SEARCH else ()
            search, seed = self._recipe.search, self._seed("plan", self.group)
            self._proposer = Proposer(search, self._schedule.plan.direction, seen, seed=seed, start=self._start_points, prior=prior)
        seed, stuck = self._seed("sampler", self.group, number), self._duplicates >= STUCK
        proposal = self._proposer.propose(self._space, seed, at_random=stuck)
        trial = self._ledger.add(self.group, proposal.candidate, self._seed(self.group, number), proposal=proposal, cohort=cohort)
        if trial.duplicate_of is not None:
            self._proposer.reject()
        self.trials.append(trial)
        self._points.append(_point(number, trial, proposal))
        self._note(trial)

    def _show(self, changes: Sequence[tuple[int, TrialState, int]]) -> None:
        """Let the sampler know: (trial, state, rungs)."""
        self._shown |= {number: (state, rungs) for number, state, rungs in changes}
        if self._proposer is None or not changes:
            return
        for number, _, _ in changes:
            self._proposer.learn(number, self._as_shown(number))

    def _as_shown(self, number: int) -> FrozenTrial:
        """A trial as far as its results have been consumed."""
        trial, point = self.trials[number], self._points[number]
        if trial.duplicate_of is not None:
            return point
        state, rungs = self._shown.get(number, (TrialState.RUNNING, 0))
        known = trial.rungs[:rungs]
        out = copy.copy(point)
        out.state = state
        out.user_attrs = {f"rung/{i}": {name: getattr(rung, name) for name in SHOWN} for i, rung in enumerate(known)}
        out.intermediate_values = {epoch: value for rung in known for epoch, _, _, value, _ in rung.rows}
        out.value = known[-1].value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        out.datetime_complete = point.datetime_start if state.is_finished() else None
        return out


def _point(number: int, trial: TrialView, proposal: Proposal) -> FrozenTrial:
    """What the ledger has of a new trial, without reading it."""
    out = create_trial(
        state=TrialState.RUNNING if trial.running else TrialState.FAIL,
        params=dict(proposal.params),
        distributions=dict(proposal.distributions),
        system_attrs=dict(proposal.system_attrs),
    )
    out.number = number
    return out
