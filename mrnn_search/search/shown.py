"""The trials as a sampler sees them: an Optuna storage in memory, of one study, that copies nothing."""

from __future__ import annotations

import bisect
import copy
import math
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

Standing = tuple[int, float, float]


def standing(trial: FrozenTrial, maximize: bool) -> Standing | None:
    """What trials are compared by, best first; None: there is nothing to compare.

    Complete ones by value, then those that a rung dropped: by how far they got, then by value; as TPE does. With several
    objectives, by the first.
    """
    sign = -1 if maximize else 1
    if trial.state == TrialState.COMPLETE:
        return 0, 0, sign * trial.values[0]
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        step = max(trial.intermediate_values)
        value = sign * trial.intermediate_values[step]
        return 1, -step, math.inf if math.isnan(value) else value
    return None


class Shown(InMemoryStorage):
    """Trials by number. Those put here are never changed, only replaced; the one being asked for is.

    A study over it is for asking alone. What a sampler notes at the study is forgotten with the next `show`, so that what it
    proposes follows from the trials.
    """

    def __init__(self, maximize: bool, prior: Sequence[FrozenTrial] = ()) -> None:
        super().__init__()
        self._maximize = maximize
        self._prior = list(prior)
        self._trials: list[FrozenTrial] = []
        self._ranks: dict[int, Standing] = {}
        self._order: list[tuple[Standing, int]] = []  # of those that can be compared, best first
        self._visible: list[FrozenTrial] = []
        self._notes: dict[str, Any] = {}
        for trial in self._prior:
            self._rank(trial)

    def __len__(self) -> int:
        return len(self._trials)

    def put(self, number: int, trial: FrozenTrial) -> None:
        """The trial of that number, the next or an earlier one, is now ``trial``."""
        if number == len(self._trials):
            self._trials.append(trial)
        else:
            self._trials[number] = trial
        if number in self._ranks:
            del self._order[bisect.bisect_left(self._order, (self._ranks.pop(number), number))]
        self._rank(trial, number)

    def _rank(self, trial: FrozenTrial, number: int | None = None) -> None:
        number = trial.number if number is None else number
        rank = standing(trial, self._maximize)
        if rank is not None:
            self._ranks[number] = rank
            bisect.insort(self._order, (rank, number))

    def last(self) -> FrozenTrial:
        """The trial of the highest number."""
        return self._trials[-1]

    def chosen(self, memory: int | None) -> list[FrozenTrial]:
        """The trials by number, the prior ones first. With a ``memory`` at most so many: the best tenth of it, and the latest."""
        if memory is None or len(self._prior) + len(self._trials) <= memory:
            return [*self._prior, *self._trials]
        best = {number for _, number in self._order[: memory // 10]}
        rest = range(len(self._trials) - 1, -len(self._prior) - 1, -1)
        for number in rest:
            if len(best) == memory:
                break
            best.add(number)
        return [self._trials[number] if number >= 0 else self._prior[number] for number in sorted(best)]

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """From here on a sampler sees these, and the one that is asked for next."""
        self._visible = list(trials)
        self._notes = {}

    # What Optuna calls

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        number = len(self._trials)
        trial = FrozenTrial(
            number=number,
            trial_id=number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        self._trials.append(trial)
        self._visible.append(trial)
        return number

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return trial_number

    def get_trial_number_from_id(self, trial_id: int) -> int:
        return trial_id

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        if states == (TrialState.WAITING,):  # asked for at every ask; no trial here waits
            return []
        trials = [t for t in self._visible if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        states = (state,) if isinstance(state, TrialState) else state
        return len(self.get_all_trials(study_id, deepcopy=False, states=states))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return BaseStorage.get_best_trial(self, study_id)

    def set_trial_param(self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution) -> None:
        trial = self._trials[trial_id]
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trials[trial_id].system_attrs[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._notes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._notes[key] = value


def directions(first: str, others: int = 0) -> list[StudyDirection]:
    """Of the quality, and of ``others`` costs beside it, which are always minimised."""
    quality = StudyDirection.MAXIMIZE if first == "maximize" else StudyDirection.MINIMIZE
    return [quality, *[StudyDirection.MINIMIZE] * others]
