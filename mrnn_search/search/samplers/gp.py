"""Gaussian process with expected improvement."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from ..flat import value_at
from .base import Told, check, filled, samplers


class Gp(Told, GPSampler):
    """Optuna's, made to see a conditional space as a flat one: a parameter that is not active has the middle of its range.

    Two trials then differ only in what is active in one of them. Optuna's own models the parameters that all trials have and
    draws the others at random. Its cost grows with the cube of the trials, so its memory is short.
    """

    memory = 200

    def see(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        middle = {name: value_at(distribution, 0.5) for name, distribution in self.ask.flat.items()}
        return [filled(trial, self.ask.flat, middle.__getitem__) for trial in trials]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.ask.flat)


@samplers.register("gp")
def gp(seed: int, *, n_startup_trials: int = 10, deterministic_objective: bool = False) -> BaseSampler:
    """For few and costly trials.

    Source: Jones et al., J. Glob. Optim. 13, 1998; Ament et al., arXiv 2310.20708 (its logarithm).

    Args:
        n_startup_trials: this many are drawn at random first.
        deterministic_objective: values have no noise.
    """
    check("n_startup_trials", n_startup_trials, 1)
    return Gp(
        seed=seed, n_startup_trials=n_startup_trials, deterministic_objective=deterministic_objective, warn_independent_sampling=False
    )
