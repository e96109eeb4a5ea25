"""How many different cells a search space has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from .parameter import Parameter, Range, Value, active, candidate

if TYPE_CHECKING:
    from .space import Space

Point = tuple[tuple[str, Value], ...]  # the values of the active parameters, in visiting order

CAP = 200_000  # combinations that are looked at; a few seconds
PROBES = 20_000  # points that are looked at for examples of equal cells
EXAMPLES = 5
# Where in a range the stand-in for all of its values lies: no round number, so that it is none of the special values
# (0, 1) at which cells become equal.
GENERIC = 0.381966011


@dataclass(frozen=True)
class Count:
    """What `Space.count` found.

    Attributes:
        structures: different combinations of the values of all discrete parameters; those that are the same cell,
            trained in the same way, count once. Each continuous parameter is held at one value inside its range.
        capped: there are more combinations than were looked at: ``structures`` is a lower bound.
        continuous: names of the continuous parameters.
        candidates: how many different candidates there are; None: infinitely many, or too many to count.
        collapsed: examples of two points of the space that are the same cell, by name.
    """

    structures: int
    capped: bool
    continuous: tuple[str, ...]
    candidates: int | None
    collapsed: tuple[tuple[str, str], ...]


def count_space(space: Space) -> Count:
    """See `Space.count`."""
    continuous = tuple(p.name for p in space.parameters if isinstance(p.domain, Range) and p.domain.continuous)
    points = _points(space.visited, _discrete)
    identity = _Identity(space.visited)
    seen = {identity(point) for point in islice(points, CAP)}
    capped = next(points, None) is not None
    return Count(len(seen), capped, continuous, None if capped or continuous else len(seen), _examples(space))


class _Identity:
    """Point -> what its candidate's identity is made of. Few points differ in their cells, so these are remembered."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self._fields = {p.name for p in parameters if p.target.role == "field"}
        self._defaults = {key: value for key, value in candidate({"base": "rnn"}).to_dict().items() if key != "spec"}
        self._cells: dict[Point, str] = {}

    def __call__(self, point: Point) -> tuple[str, Point]:
        cell = tuple(item for item in point if item[0] not in self._fields)
        if cell not in self._cells:
            self._cells[cell] = candidate(dict(cell)).spec.cell_id
        fields = {**self._defaults, **{name: value for name, value in point if name in self._fields}}
        return self._cells[cell], tuple(sorted(fields.items()))


def _examples(space: Space) -> tuple[tuple[str, str], ...]:
    """Pairs of points with equal canonical cells, found among the ends (and 0 and 1) of every continuous range."""
    first: dict[str, str] = {}
    pairs: dict[tuple[str, str], None] = {}
    for point in islice(_points(_of_cells(space), _special), PROBES):
        spec = candidate(dict(point)).spec
        known = first.setdefault(spec.cell_id, spec.name)
        if known != spec.name:
            pairs[known, spec.name] = None
    return tuple(islice(pairs, EXAMPLES))


def _of_cells(space: Space) -> list[Parameter]:
    """The parameters that change the cell, and those that decide whether these are active, in visiting order."""
    needed = {p.name for p in space.parameters if p.target.role != "field"}
    for parameter in reversed(space.visited):
        if parameter.name in needed:
            needed |= {name for name, _ in parameter.conditions}
    return [parameter for parameter in space.visited if parameter.name in needed]


def _points(order: Sequence[Parameter], values: Callable[[Parameter], Iterable[Value]]) -> Iterator[Point]:
    """Every combination of ``values`` of the active parameters, one after the other."""

    def walk(index: int, chosen: dict[str, Value]) -> Iterator[Point]:
        while index < len(order) and not active(order[index], chosen):
            index += 1
        if index == len(order):
            yield tuple(chosen.items())
            return
        for value in values(order[index]):
            yield from walk(index + 1, {**chosen, order[index].name: value})

    return walk(0, {})


def _discrete(parameter: Parameter) -> Iterable[Value]:
    domain = parameter.domain
    if not isinstance(domain, Range):
        return domain.values
    return (domain.low + GENERIC * (domain.high - domain.low),) if domain.continuous else domain


def _special(parameter: Parameter) -> Iterable[Value]:
    domain = parameter.domain
    if not isinstance(domain, Range):
        return domain.values
    kind = int if domain.integer else float
    inside = [kind(x) for x in (0, 1) if domain.low < x < domain.high]
    return sorted({kind(domain.low), *inside, kind(domain.high)})
