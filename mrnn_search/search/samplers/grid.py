"""Every candidate of a finite space, once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from ..._registry import InputError
from ..counting import distinct_points
from ..parameter import Range
from .base import OnSpace, samplers

if TYPE_CHECKING:
    from ..space import Space

LIMIT = 50_000  # combinations: more than a study trains, and looked at in seconds


class Grid(OnSpace):
    """Combinations of the active parameters in an order that the study's seed shuffles; after the last it begins again."""

    memory = 0

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        points = grid_of(self.ask.space, self.ask.seed)
        point = points[self.ask.index % len(points)]
        return {name: value for name, value in point.items() if name in search_space}


@lru_cache(maxsize=8)
def grid_of(space: Space, seed: int) -> tuple[Mapping[str, Any], ...]:
    """Every different candidate of a space, as the values of its active parameters, shuffled.

    Raises:
        InputError: there are infinitely many, or too many.
    """
    check_finite(space)
    points = distinct_points(space, LIMIT)
    if points is None:
        raise InputError(f'a grid over space "{space.name}" has more than {LIMIT} combinations; allowed: fewer, or another sampler')
    random.Random(seed).shuffle(points)
    return tuple(dict(point) for point in points)


def check_finite(space: Space) -> None:
    """Raises:
    InputError: a parameter that has infinitely many values.
    """
    endless = [p.name for p in space.parameters if isinstance(p.domain, Range) and p.domain.continuous]
    if endless:
        more = f" (and {len(endless) - 1} more)" if len(endless) > 1 else ""
        raise InputError(f"a grid needs a finite space, and {endless[0]}{more} is a range; give it choices, or a step")


@samplers.register("grid")
def grid(seed: int) -> BaseSampler:
    """Exhaustive; for small finite spaces."""
    return Grid(seed)
