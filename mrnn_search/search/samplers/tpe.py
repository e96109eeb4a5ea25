"""Tree-structured Parzen estimator."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from ..parameter import Constant, Parameter, common
from .base import Ask, Told, check, samplers


class Tpe(Told):
    """Optuna's multivariate TPE, one joint model for all parameters that have the same conditions.

    Optuna's own ``group=True`` finds these groups in the trials, at every ask, and then draws from all of them; here they are
    read off the space, and only those that the proposal has are drawn from. The memory is bounded: good trials are the best
    25 at most, and of the others the latest weigh most.
    """

    memory = 500

    def __init__(self, seed: int, n_startup_trials: int, n_ei_candidates: int) -> None:
        self._inner = TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=n_startup_trials, n_ei_candidates=n_ei_candidates
        )
        self._drawn: dict[str, Any] = {}

    def tell(self, ask: Ask) -> None:
        super().tell(ask)
        constant = {p.name: p.domain.value for p in ask.space.parameters if isinstance(p.domain, Constant)}
        self._conditions = {p.name: _open_conditions(p, constant) for p in ask.space.visited if p.name in ask.flat}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        if param_name not in self._drawn:
            mine = self._conditions[param_name]
            group = {name: self.ask.flat[name] for name, conditions in self._conditions.items() if conditions == mine}
            self._drawn |= self._inner.sample_relative(study, trial, group)
        if param_name not in self._drawn:  # the first ones are random
            return self._inner.sample_independent(study, trial, param_name, param_distribution)
        return self._drawn[param_name]


def _open_conditions(parameter: Parameter, constant: dict[str, Any]) -> tuple[Any, ...]:
    """Its conditions, but for those that a constant fulfils."""
    return tuple((name, wanted) for name, wanted in parameter.conditions if name not in constant or not common([constant[name]], wanted))


@samplers.register("tpe")
def tpe(seed: int, *, n_startup_trials: int = 10, n_ei_candidates: int = 24) -> BaseSampler:
    """Learns from what was trained which values are found among the best; the default.

    The constant liar makes asks that are open at the same time differ: trials that still run count as bad.
    Source: Bergstra et al., NeurIPS 2011; Watanabe, arXiv 2304.11127.

    Args:
        n_startup_trials: this many are drawn at random first.
        n_ei_candidates: the best of so many draws from the model of good trials is taken.
    """
    check("n_startup_trials", n_startup_trials, 0)
    check("n_ei_candidates", n_ei_candidates, 1)
    return Tpe(seed, n_startup_trials, n_ei_candidates)
