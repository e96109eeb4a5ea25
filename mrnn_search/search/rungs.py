"""Where trials stand at a rung. Pure: numbers and values in, decisions out."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Literal


def quota(share: float, count: int) -> int:
    """How many are the best ``share`` of ``count``, rounded up."""
    return math.ceil(share * count - 1e-9)  # a share written as 0.1 keeps 1 of 10, not 2


class Standing:
    """Every trial that reached one rung, best first; of equal values the earlier trial goes first."""

    def __init__(self, direction: Literal["maximize", "minimize"]) -> None:
        self._sign = -1 if direction == "maximize" else 1
        self._order: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._order)

    def _key(self, number: int, value: float) -> tuple[float, int]:
        return self._sign * value, number

    def add(self, number: int, value: float) -> None:
        """Trial ``number`` reached the rung with ``value`` (finite)."""
        insort(self._order, self._key(number, value))

    def remove(self, number: int, value: float) -> None:
        """Take trial ``number`` out again."""
        del self._order[bisect_left(self._order, self._key(number, value))]

    def keeps(self, number: int, value: float, share: float) -> bool:
        """Is trial ``number``, which is here with ``value``, among the best ``share`` (at least one) of everything here?

        Everything: who trained beside whom does not matter. After Jamieson and Talwalkar, AISTATS 2016 (arXiv 1502.07943).
        """
        return bisect_left(self._order, self._key(number, value)) < quota(share, len(self._order))

    def value(self, rank: int) -> float:
        """The value at ``rank``, from 0."""
        return self._sign * self._order[rank][0]

    def among(self, count: int, other: Standing) -> list[int]:
        """The trials of this standing that are among the best ``count`` of ``other``, best first."""
        if not count:
            return []
        value, number = other._order[count - 1]
        return [number for _, number in self._order[: bisect_left(self._order, (value, number + 1))]]


def out_of_reach(curve: Sequence[tuple[int, float]], target: float, stop: int, direction: Literal["maximize", "minimize"]) -> bool:
    """Could a lane not get to ``target`` even if it went on improving at its recent rate?

    Learning curves flatten: from their best value so far, a straight line through the second half of them is above (below, for a
    metric to minimise) what follows. An empirical rule, no bound: what it costs is measured in docs/search.md. Of the idea:
    Domhan, Springenberg and Hutter, IJCAI 2015, who fit families of curves.

    Args:
        curve: (epoch, validation metric), epochs rising.
        target: the value to reach by epoch ``stop``.

    Returns:
        False for a curve of fewer than 4 epochs: too short to tell.
    """
    if len(curve) < 4:
        return False
    sign = 1 if direction == "maximize" else -1
    best: list[float] = []
    for _, value in curve:
        best.append(max(sign * value, best[-1] if best else -math.inf))
    last, half = len(best) - 1, (len(best) - 1) // 2
    rate = (best[last] - best[half]) / (curve[last][0] - curve[half][0])
    return best[last] + rate * (stop - curve[last][0]) < sign * target
