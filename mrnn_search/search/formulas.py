"""Random formulas for a search space: a few numbers in the file, the same list of rules in every process."""

from __future__ import annotations

from functools import lru_cache

from ..cells import CellSpec
from ..cells.algebra import with_values
from ..cells.formula import normal_form
from ..cells.formula.sample import Grammar

COUNTS = (1, 2000)  # a list of 2,000 is 100 kB in each of a study's trials
SIZES = (3, 40)  # nodes; adam's formula has 13
SIZE = 15


@lru_cache(maxsize=64)
def expand(count: int, size: int, seed: int, listed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The first ``count`` formulas of the stream of ``seed``; a larger ``count`` only adds to them.

    Different as functions from each other, from the plain rule and from the ``listed`` rules at their defaults.

    Raises:
        SpecError: there are not that many of this size.
    """
    besides = [normal_form(with_values(CellSpec("rnn", name))) for name in ("plain", *listed)]
    return tuple(Grammar(size, seed).distinct(count, besides))
