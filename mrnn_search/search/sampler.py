"""Name → Optuna sampler. A sampler is made anew for every ask, seeded by the study's seed and the trial's number.

Optuna stores no sampler state; with one seed a trial, what a resumed study proposes is what the unbroken one would have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from .._registry import Registry
from ..cells.spec import Candidate
from .space import Space

if TYPE_CHECKING:
    from .recipe import Search

samplers: Registry[Callable[[int], BaseSampler]] = Registry("sampler", "mrnn_search.samplers")


@samplers.register("random")
def random(seed: int) -> BaseSampler:
    """Independent draws from the space."""
    return RandomSampler(seed=seed)


@samplers.register("tpe")
def tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator, multivariate within each branch of a conditional space.

    The constant liar makes asks of one cohort differ: trials that still run count as bad.
    Source: Bergstra et al., NeurIPS 2011; Watanabe, arXiv 2304.11127.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def make_sampler(name: str, seed: int) -> BaseSampler:
    """The sampler for one ask.

    Raises:
        UnknownNameError: there is no such sampler.
    """
    return samplers[name](seed % 2**32)


@dataclass(frozen=True)
class Proposal:
    """What a sampler proposed: the candidate, the point of the space that it is, and the sampler's own notes on it.

    Without its notes (``system_attrs``) TPE does not take a running trial into account.
    """

    candidate: Candidate
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    system_attrs: Mapping[str, Any]


class Proposer:
    """Asks a sampler, over a copy of the ledger's trials in memory.

    A trial is then written to the ledger in one piece, when all of it is known: a process that dies while it asks leaves
    nothing half-asked, and the resumed one proposes the same.

    Args:
        trials: those of the ledger, in order; trials that still run count as the sampler sees fit.
    """

    def __init__(self, search: Search, direction: Literal["maximize", "minimize"], seen: Iterable[FrozenTrial]) -> None:
        self._sampler, self._direction = search.sampler, direction
        self._trials = list(seen)
        self._study: optuna.Study | None = None

    def propose(self, space: Space, seed: int) -> Proposal:
        """The next candidate; it counts as a running trial for those after it."""
        if self._study is None:
            self._study = optuna.create_study(direction=self._direction)
            self._study.add_trials(self._trials)
        self._study.sampler = make_sampler(self._sampler, seed)
        self._last = self._study.ask()
        candidate = space.suggest(self._last)
        notes = self._study._storage.get_trial_system_attrs(self._last._trial_id)
        self._trials.append(self._study.get_trials(deepcopy=False)[-1])
        return Proposal(candidate, self._last.params, self._last.distributions, notes)

    def reject(self) -> None:
        """The last proposal was no new candidate: for those after it, it does not count."""
        assert self._study is not None
        self._study.tell(self._last, state=TrialState.FAIL)
        self._trials[-1] = self._study.get_trials(deepcopy=False)[-1]

    def learn(self, number: int, trial: FrozenTrial) -> None:
        """The trial of that number is this now."""
        self._trials[number] = trial
        self._study = None
