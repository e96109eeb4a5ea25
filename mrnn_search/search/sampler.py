"""Asks a sampler for candidates. A sampler is made anew for every ask, seeded by the study's seed and the trial's number.

Optuna stores no sampler state; with one seed a trial, what a resumed study proposes is what the unbroken one would have.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from .._registry import InputError
from ..cells.spec import Candidate
from .flat import distributions
from .pareto import with_costs
from .samplers import Ask, Told, make_sampler
from .shown import Shown, directions
from .space import Space

if TYPE_CHECKING:
    from .recipe import Search

Point = Mapping[str, Any]  # values of parameters


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
    """Asks a sampler, over a copy of the ledger's trials in memory, which lives as long as the study runs.

    A trial is written to the ledger in one piece, when all of it is known: a process that dies while it asks leaves nothing
    half-asked. What is proposed follows from the arguments, the seed of the ask, and the trials as they are known then: one that
    is made from the ledger's trials proposes what one that lived through them does.

    Args:
        search: which sampler, with which options.
        direction: of the quality.
        seen: the ledger's trials, by number; trials that still run count as the sampler sees fit.
        seed: the study's, for samplers that have one plan for all of it (sobol, grid).
        start: the first trials are these points, whatever they leave open being drawn at random; see `warm.start_points`.
        prior: trials of other studies, as if they had come before; see `warm.prior_trials`.
    """

    def __init__(
        self,
        search: Search,
        direction: Literal["maximize", "minimize"],
        seen: Sequence[FrozenTrial],
        *,
        seed: int = 0,
        start: Sequence[Point] = (),
        prior: Sequence[FrozenTrial] = (),
    ) -> None:
        self._search, self._seed, self._start = search, seed % 2**32, tuple(start)
        self._trials = Shown(direction == "maximize", prior)
        for number, trial in enumerate(seen):
            self.learn(number, trial)
        costs = len(search.objectives) - 1
        self._study = optuna.create_study(directions=directions(direction, costs), storage=self._trials)
        self._flat: tuple[Space, Mapping[str, BaseDistribution]] | None = None

    def propose(self, space: Space, seed: int, *, at_random: bool = False) -> Proposal:
        """The next candidate; it counts as a running trial for those after it.

        Args:
            at_random: draw it from the space, whatever the sampler.

        Raises:
            InputError: the sampler cannot work on this space.
        """
        self._study.sampler = RandomSampler(seed % 2**32) if at_random else self._sampler(space, seed)
        try:
            asked = self._study.ask()
            candidate = space.suggest(asked)
        except InputError:
            raise
        except (ValueError, TypeError, NotImplementedError) as error:
            if not self._search.sampler.startswith("optuna:"):
                raise
            raise InputError(f"sampler {self._search.sampler}: {error}") from error
        trial = self._trials.last()
        return Proposal(candidate, dict(trial.params), dict(trial.distributions), dict(trial.system_attrs))

    def _sampler(self, space: Space, seed: int) -> BaseSampler:
        """The sampler for the next ask, with what it is to see put before it."""
        number = len(self._trials)
        if number < len(self._start):
            self._trials.show(())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return PartialFixedSampler(dict(self._start[number]), RandomSampler(seed % 2**32))
        sampler = make_sampler(self._search.sampler, seed, self._search.options)
        if not isinstance(sampler, Told):
            self._trials.show(self._trials.chosen(None))
            return sampler
        if self._flat is None or self._flat[0] is not space:
            self._flat = space, distributions(space)
        sampler.tell(Ask(space, self._flat[1], number - len(self._start), self._seed, len(self._search.objectives)))
        self._trials.show(sampler.see(self._trials.chosen(sampler.memory)))
        return sampler

    def reject(self) -> None:
        """The last proposal was no new candidate: for those after it, it does not count."""
        failed = copy.copy(self._trials.last())
        failed.state = TrialState.FAIL
        self._trials.put(len(self._trials) - 1, failed)

    def learn(self, number: int, trial: FrozenTrial) -> None:
        """The trial of that number is now ``trial``, in whatever state; it is not changed from here.

        A trial that waits for a promotion is shown as PRUNED, with its intermediate values, and may later run again.
        """
        self._trials.put(number, with_costs(trial, self._search.objectives) if len(self._search.objectives) > 1 else trial)
