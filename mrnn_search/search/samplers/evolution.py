"""Regularised evolution: children of the best of a few, and the oldest die."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from ..flat import fits, only_value, position_of, value_at
from ..parameter import active
from ..shown import standing
from .base import OnSpace, check, samplers

KINDS = {"rule": "rule", "base": "base", "field": "training"}  # role of a parameter -> kind of mutation; all others: "cell"


class Evolution(OnSpace):
    """Mutates specs: one child differs from its parent in one parameter, and in what that parameter brings or takes with it.

    Which kind is mutated is drawn first (the rule, the base, the rest of the cell, how it is trained), then one parameter of
    that kind: a cell with many coefficients changes its rule as often as one with few.
    """

    several = False

    def __init__(self, seed: int, population_size: int, tournament_size: int, step: float, redraw: float) -> None:
        super().__init__(seed)
        self._rng = random.Random(seed)
        self._population_size, self._tournament_size = population_size, tournament_size
        self._step, self._redraw = step, redraw

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        maximize = study.direction == StudyDirection.MAXIMIZE
        population: list[tuple[tuple[int, float, float], int, FrozenTrial]] = []
        for known in reversed(study.get_trials(deepcopy=False)):  # the youngest first: age is the number
            rank = standing(known, maximize)
            if rank is not None:
                population.append((rank, known.number, known))
            if len(population) == self._population_size:
                break
        if len(population) < self._population_size:
            return {}
        _, _, parent = min(self._rng.sample(population, self._tournament_size))
        return self._child(parent.params)

    def _child(self, parent: Mapping[str, Any]) -> dict[str, Any]:
        """The parent's values, one of them mutated; of parameters that it had not, new ones."""
        flat, changed = self.ask.flat, self._mutation(parent)
        values: dict[str, Any] = {}
        for parameter in self.ask.space.visited:
            if not active(parameter, values):
                continue
            name = parameter.name
            if name not in flat:
                values[name] = only_value(parameter.domain)
            elif name in changed:
                values[name] = changed[name]
            elif name in parent and fits(flat[name], parent[name]):
                values[name] = parent[name]
            else:
                values[name] = value_at(flat[name], self._rng.random())
        return {name: value for name, value in values.items() if name in flat}

    def _mutation(self, parent: Mapping[str, Any]) -> dict[str, Any]:
        """One parameter of the parent's and its new value."""
        kinds: dict[str, list[str]] = {}
        for parameter in self.ask.space.visited:
            name = parameter.name
            if name in parent and name in self.ask.flat and fits(self.ask.flat[name], parent[name]):
                kinds.setdefault(KINDS.get(parameter.target.role, "cell"), []).append(name)
        if not kinds:
            return {}
        name = self._rng.choice(kinds[self._rng.choice(list(kinds))])
        return {name: self._mutated(self.ask.flat[name], parent[name])}

    def _mutated(self, distribution: BaseDistribution, value: Any) -> Any:
        """Another value: of a list any, of a range mostly a near one."""
        for _ in range(100):  # of a range with few steps a near one is often the same
            if isinstance(distribution, CategoricalDistribution) or self._rng.random() < self._redraw:
                new = value_at(distribution, self._rng.random())
            else:
                new = value_at(distribution, _reflected(position_of(distribution, value) + self._rng.gauss(0, self._step)))
            if new != value:
                return new
        return value


def _reflected(position: float) -> float:
    """Into [0, 1], as by mirrors at its ends."""
    position = abs(position) % 2
    return 2 - position if position > 1 else position


@samplers.register("evolution")
def evolution(seed: int, *, population_size: int = 20, tournament_size: int = 8, step: float = 0.2, redraw: float = 0.2) -> BaseSampler:
    """The best of a few, drawn from the latest trials, has a child.

    Source: Real et al., Regularized evolution for image classifier architecture search, AAAI 2019 (arXiv 1802.01548). There
    populations have 100 for 20,000 models; ours are smaller, as our studies are.

    Args:
        population_size: the latest so many trials with a value are alive; before there are so many, they are drawn at random.
        tournament_size: so many of them are drawn; the best is the parent.
        step: standard deviation of a number's mutation, as a share of its (logarithmic) range.
        redraw: share of numbers' mutations that are drawn anew from all of the range.
    """
    check("population_size", population_size, 2)
    check("tournament_size", tournament_size, 1, population_size)
    check("step", step, 0, 1)
    check("redraw", redraw, 0, 1)
    return Evolution(seed, population_size, tournament_size, step, redraw)
