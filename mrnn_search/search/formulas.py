"""Random formulas for a search space: a few numbers in the file, the same list of rules in every process."""

from __future__ import annotations

from functools import lru_cache

from .._registry import SpecError
from ..cells import CellSpec
from ..cells.algebra import with_values
from ..cells.formula import Node, normal_form, show
from ..cells.formula.sample import Grammar
from ..cells.rules.base import rule_name

COUNTS = (1, 2000)  # a list of 2,000 is 100 kB in each of a study's trials
SIZES = (3, 40)  # nodes; adam's formula has 13
SIZE = 15
PATIENCE = 2000  # draws in a row without a new formula, after which there are no more


@lru_cache(maxsize=64)
def expand(count: int, size: int, seed: int, listed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The first ``count`` formulas of the stream of ``seed``; a larger ``count`` only adds to them.

    Different as functions from each other, from the plain rule and from the ``listed`` rules at their defaults.

    Raises:
        SpecError: there are not that many of this size.
    """
    seen: set[object] = {normal_form(with_values(CellSpec("rnn", name))) for name in ("plain", *listed)}
    grammar, tried, out, idle = Grammar(size, seed), set[Node](), list[str](), 0
    while len(out) < count:
        node = grammar.draw()
        idle += 1
        if idle > PATIENCE:
            raise SpecError(f"there are fewer than {count} formulas of size {size}: {len(out)} were found")
        if node in tried:
            continue
        tried.add(node)
        try:
            form, name = normal_form(node), rule_name(show(node))
        except SpecError:  # more states, or a longer normal form, than a rule may have
            continue
        if form not in seen and "('u',)" in repr(form):  # u - u does not depend on u
            seen.add(form)
            out.append(name)
            idle = 0
    return tuple(out)
