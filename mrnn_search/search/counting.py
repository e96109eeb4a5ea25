"""How many different cells a search space has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ..cells.algebra import Form, form_of, place_part, rule_part
from ..cells.spec import canonical_json
from .parameter import Parameter, Range, Value, active, candidate, cell

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


def distinct_points(space: Space, most: int) -> list[Point] | None:
    """Of a space without continuous parameters every different candidate, as its first point.

    None: there are more than ``most`` combinations of values to look at.
    """
    points = list(islice(_points(space.visited, _discrete), most + 1))
    if len(points) > most:
        return None
    identity, first = _Identity(space.visited), dict[tuple[tuple[str, ...], Point], Point]()
    for point in points:
        first.setdefault(identity(point), point)
    return list(first.values())


class _Identity:
    """Point -> what its candidate's identity is made of.

    The normal form of a cell is that of its rule and that of where the rule acts, side by side. Few points differ in one of
    the two, so both are remembered, and most points are only looked up.
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        roles = {p.name: p.target.role for p in parameters}
        self._fields = {name for name, role in roles.items() if role == "field"}
        self._of_rule = {name for name, role in roles.items() if role in ("rule", "coefficient", "learned")}
        self._defaults = {key: value for key, value in candidate({"base": "rnn"}).to_dict().items() if key != "spec"}
        self._rules: dict[Point, tuple[bool, str, str]] = {}
        self._places: dict[tuple[bool, str, Point], tuple[str, str]] = {}

    def cell(self, point: Point) -> tuple[str, ...]:
        """Equal for points with equal cells."""
        rule = tuple(item for item in point if item[0] in self._of_rule)
        place = tuple(item for item in point if item[0] not in self._of_rule and item[0] not in self._fields)
        if rule not in self._rules:
            self._rules[rule] = _rule(rule)
        coupled, reads, rule_text = self._rules[rule]
        if (coupled, reads, place) not in self._places:
            self._places[coupled, reads, place] = _place(place, coupled, reads)
        base, place_text = self._places[coupled, reads, place]
        return (base, rule_text, place_text) if rule_text else (base,)

    def __call__(self, point: Point) -> tuple[tuple[str, ...], Point]:
        fields = {**self._defaults, **{name: value for name, value in point if name in self._fields}}
        return self.cell(point), tuple(sorted(fields.items()))


def _rule(point: Point) -> tuple[bool, str, str]:
    """Is the rule coupled, what its normal form reads, and that as text; empty: it does nothing."""
    spec = cell({"base": "rnn", **dict(point)})  # a base that takes every rule: the form does not depend on it
    form = form_of(spec)
    return spec.rule_type.program.coupled, form.reads, "" if form.plain else canonical_json(rule_part(spec, form))


def _place(point: Point, coupled: bool, reads: str) -> tuple[str, str]:
    """The base and where a rule acts as texts; ``coupled`` decides which scope is the default."""
    spec = cell({**dict(point), "rule": "r + u" if coupled else "plain"})
    form = {"base": spec.base, "options": spec.to_dict()["options"]}
    return canonical_json(form), canonical_json(place_part(spec, Form("", reads, False)))


def _examples(space: Space) -> tuple[tuple[str, str], ...]:
    """Pairs of points with equal canonical cells, found among the ends (and 0 and 1) of every continuous range.

    One for each pair of rules: a space in which plain has gates has many that say the same.
    """
    identity = _Identity(space.visited)
    first: dict[tuple[str, ...], Point] = {}
    pairs: dict[tuple[Value, Value], tuple[str, str]] = {}
    for point in islice(_points(_of_cells(space), _special), PROBES):
        known = first.setdefault(identity.cell(point), point)
        rules = dict(known).get("rule"), dict(point).get("rule")
        if known is not point and rules not in pairs:
            names = cell(dict(known)).name, cell(dict(point)).name
            if names[0] != names[1]:
                pairs[rules] = names
        if len(pairs) == EXAMPLES:
            break
    return tuple(pairs.values())


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
        while index < len(order):
            if active(order[index], chosen):
                first = tuple(islice(values(order[index]), 2))  # there may be more than fit into memory
                if len(first) > 1:
                    break
                chosen = {**chosen, order[index].name: first[0]}  # no generator of its own: most parameters are continuous
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
