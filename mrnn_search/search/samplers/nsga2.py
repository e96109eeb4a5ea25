"""NSGA-II: crossover between the best, for one objective or several."""

from __future__ import annotations

import heapq
import random
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..flat import value_at
from ..shown import standing
from .base import Ask, Told, check, filled, samplers


class Nsga2(Told, NSGAIISampler):
    """Optuna's selection and crossover over a conditional space laid flat, without generations.

    Parents are the elite of all trials that have a value, at every ask: there is no generation to wait for, and what is
    proposed follows from the trials alone (Optuna notes generations at the study). A parameter that is not active has a random
    value of the trial's own, which a child may inherit and wake.
    """

    def tell(self, ask: Ask) -> None:
        super().tell(ask)
        self.memory = None if ask.objectives > 1 else 10 * (self.population_size or 0)  # the best tenth of it is the elite

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.ask.flat)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        elite = self._elite(study)
        if len(elite) < (self.population_size or 0) or not search_space:
            return {}
        return dict(self._child_generation_strategy(study, search_space, [self._whole(t) for t in elite]))

    def _elite(self, study: Study) -> list[FrozenTrial]:
        trials = study.get_trials(deepcopy=False)
        if len(study.directions) > 1:
            return self._elite_population_selection_strategy(study, [t for t in trials if t.state == TrialState.COMPLETE])
        maximize = study.direction == StudyDirection.MAXIMIZE
        ranks = [(rank, t.number, t) for t in trials if (rank := standing(t, maximize)) is not None]
        return [t for _, _, t in heapq.nsmallest(self.population_size or 0, ranks)]

    def _whole(self, trial: FrozenTrial) -> FrozenTrial:
        chance = random.Random(trial.number)
        asleep = {name: value_at(distribution, chance.random()) for name, distribution in self.ask.flat.items()}
        return filled(trial, self.ask.flat, asleep.__getitem__)


@samplers.register("nsga2")
def nsga2(
    seed: int,
    *,
    population_size: int = 30,
    mutation_prob: float | None = None,
    crossover_prob: float = 0.9,
    swapping_prob: float = 0.5,
) -> BaseSampler:
    """Two parents, each the better of two of the elite; every parameter from one of them; now and then a new value.

    Source: Deb et al., IEEE Trans. Evol. Comput. 6, 2002; one child at a time as in Durillo et al., EMO 2009.

    Args:
        population_size: of the elite; before there are so many trials, they are drawn at random.
        mutation_prob: of each parameter; null: one of them on average.
        crossover_prob: otherwise a child has one parent.
        swapping_prob: of each parameter to come from the second parent.
    """
    check("population_size", population_size, 2)
    for name, value in (("mutation_prob", mutation_prob), ("crossover_prob", crossover_prob), ("swapping_prob", swapping_prob)):
        check(name, 0 if value is None else value, 0, 1)
    return Nsga2(
        seed=seed,
        population_size=population_size,
        mutation_prob=mutation_prob,
        crossover_prob=crossover_prob,
        swapping_prob=swapping_prob,
    )
