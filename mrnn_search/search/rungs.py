"""Successive halving over the whole study: who goes on at a rung. Pure: tables in, decisions out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping


def keep(table: Mapping[int, float], members: Iterable[int], share: float, direction: str) -> set[int]:
    """The members whose value is among the best ``share`` of everything that reached this rung.

    Compared are all trials of the study so far, not the pack and not the cohort alone: who trained beside whom does
    not matter. After Jamieson and Talwalkar, AISTATS 2016 (arXiv 1502.07943); unlike there, cohorts that come later are
    held against the earlier ones as well, which are not called back.

    Args:
        table: trial number -> value at this rung (finite), for every trial that reached it, the members included.
        members: trial numbers to decide on; those without a value are dropped.
        share: in (0, 1]; at least one of the table is always among the best.
        direction: "maximize" or "minimize".

    Returns:
        Trial numbers; of equal values the earlier trial goes first.
    """
    sign = -1 if direction == "maximize" else 1
    order = sorted(table, key=lambda number: (sign * table[number], number))
    best = set(order[: math.ceil(share * len(order) - 1e-9)])  # 1e-9: a share written as 0.1 keeps 1 of 10, not 2
    return best.intersection(members)
