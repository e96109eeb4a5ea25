"""Sobol's sequence: draws that fill the space more evenly than chance."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from ..flat import value_at
from .base import OnSpace, samplers


class Sobol(OnSpace):
    """One sequence over all parameters, active or not, scrambled by the study's seed: every part of it is as even.

    Optuna's own takes the parameters of the first trial and draws all others at random, and counts its points in the study,
    not in the trials.
    """

    memory = 0

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        if not search_space:
            return {}
        sequence = qmc.Sobol(len(search_space), scramble=True, seed=self.ask.seed)
        if self.ask.index:
            sequence.fast_forward(self.ask.index)
        point = sequence.random(1)[0]
        return {name: value_at(distribution, float(u)) for (name, distribution), u in zip(search_space.items(), point, strict=True)}


@samplers.register("sobol")
def sobol(seed: int) -> BaseSampler:
    """Quasi-random points.

    Source: Sobol', USSR Comput. Math. Math. Phys. 7, 1967; scrambled after Owen (scipy.stats.qmc).
    """
    return Sobol(seed)
