"""A conditional space laid flat: the distribution of every parameter, active or not, and values as positions between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from .parameter import Domain, Range, Value

if TYPE_CHECKING:
    from .space import Space

Flat = Mapping[str, BaseDistribution]


class _Recorder:
    """A trial that writes down what it is asked for."""

    def __init__(self) -> None:
        self.found: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.found[name] = CategoricalDistribution(choices)
        return choices[0]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        self.found[name] = FloatDistribution(low, high, log=log, step=step)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.found[name] = IntDistribution(low, high, log=log, step=step)
        return low


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Of every parameter that has more than one value, in visiting order: as a trial has them where they are active."""
    recorder = _Recorder()
    for parameter in space.visited:
        parameter.domain.suggest(parameter.name, recorder)
    return {name: distribution for name, distribution in recorder.found.items() if not distribution.single()}


def only_value(domain: Domain) -> Value:
    """The value of a domain that has one."""
    return next(iter(domain)) if isinstance(domain, Range) else domain.values[0]


def value_at(distribution: BaseDistribution, position: float) -> Any:
    """The value at a position in [0, 1]; uniform positions give what a random draw gives."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[_cell(position, len(choices))]
        case IntDistribution(low=low, high=high, log=True):  # each whole number stands for the half-open interval around it
            start, stop = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(start + position * (stop - start))), low), high)
        case IntDistribution(low=low, high=high, step=step):
            return low + step * _cell(position, (high - low) // step + 1)
        case FloatDistribution(low=low, high=high, step=float(step)):
            return min(low + step * _cell(position, round((high - low) / step) + 1), high)
        case FloatDistribution(low=low, high=high, log=True):
            return min(max(math.exp(math.log(low) + position * (math.log(high) - math.log(low))), low), high)
        case FloatDistribution(low=low, high=high):
            return min(low + position * (high - low), high)
    raise TypeError(f"no positions in {distribution!r}")


def position_of(distribution: BaseDistribution, value: Any) -> float:
    """Where ``value`` lies; of a list's or steps' member, the middle of its share."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return float(distribution.to_internal_repr(value) + 0.5) / len(choices)
        case IntDistribution(low=low, high=high, log=True):
            start, stop = math.log(low - 0.5), math.log(high + 0.5)
            return (math.log(value) - start) / (stop - start)
        case IntDistribution(low=low, high=high, step=step):
            return float(((value - low) // step + 0.5) / ((high - low) // step + 1))
        case FloatDistribution(low=low, high=high, step=float(step)):
            return float((round((value - low) / step) + 0.5) / (round((high - low) / step) + 1))
        case FloatDistribution(low=low, high=high, log=True):
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        case FloatDistribution(low=low, high=high):
            return float((value - low) / (high - low))
    raise TypeError(f"no positions in {distribution!r}")


def fits(distribution: BaseDistribution, value: Any) -> bool:
    """Is ``value`` one of the distribution's?"""
    if isinstance(distribution, CategoricalDistribution):
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def _cell(position: float, count: int) -> int:
    return min(int(position * count), count - 1)
