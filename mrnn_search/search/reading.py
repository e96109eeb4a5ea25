"""The ``parameters`` of a search space: from plain data to `Parameter`, every mistake found and pointed at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ParamSpec, TypeVar

from .._registry import InputError, UnknownNameError
from ..cells.rules.base import rules
from .files import Place, shown
from .parameter import Choices, Constant, Domain, Parameter, Range, Target, Value, common, same

P = ParamSpec("P")
T = TypeVar("T")

KEYS = ("choices", "low", "high", "log", "step", "value", "when")
FORMS = "one value, or choices, or low and high"


def read_parameters(data: object, place: Place) -> tuple[Parameter, ...]:
    """Parameters in the order of ``data``, each checked on its own; ``rule`` is added (plain) if it is not there.

    Raises:
        InputError: what is wrong, and where.
    """
    if not isinstance(data, Mapping) or not data:
        raise place.error(f"found {shown(data)}, allowed: a mapping of at least one parameter")
    targets = {name: Target.of(name, str(place.at(name))) for name in data}
    if "base" not in targets:
        raise place.error(f"base is missing; found: {', '.join(data)}; write e.g. base: lstm")
    domains = {name: _domain(targets[name], data[name], place.at(name)) for name in data}
    if "rule" not in domains:
        items = [(name, domain) for name, domain in domains.items() if name != "base"]
        domains = {"base": domains["base"], "rule": Constant("plain"), **dict(items)}
    return tuple(Parameter(name, domain, _when(name, data.get(name), domains, place.at(name))) for name, domain in domains.items())


def check_parameters(parameters: Sequence[Parameter], place: Place) -> None:
    """What only shows when the parameters are seen together.

    Raises:
        InputError: a parameter that is never active, or a learned coefficient that can start on the edge of its range.
    """
    for parameter in parameters:
        impossible = never(parameter, parameters)
        if impossible:
            raise place.at(parameter.name).error(f"can never be used: {impossible}")
    check_learned(parameters, place)


def ordered(parameters: Sequence[Parameter], place: Place) -> tuple[Parameter, ...]:
    """Conditions before dependants, otherwise in the given order.

    Raises:
        InputError: conditions that go round in a circle.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    done: dict[str, Parameter] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise place.at(name).error(f"its conditions go round in a circle: {circle}")
        if name not in done:
            for other, _ in by_name[name].conditions:
                visit(other, (*path, name))
            done[name] = by_name[name]

    for parameter in parameters:
        visit(parameter.name, ())
    return tuple(done.values())


def requirements(parameter: Parameter, parameters: Sequence[Parameter]) -> dict[str, tuple[Value, ...]]:
    """What must hold for ``parameter`` to be active: other parameter -> its values that allow it.

    Conditions are "this one has one of these values", and so are the conditions of what they refer to; so all of them
    together are an intersection for each name, and no values left for a name means never.
    """
    by_name = {p.name: p for p in parameters}
    needed: dict[str, tuple[Value, ...]] = {}
    waiting = [parameter]
    while waiting:
        for name, values in waiting.pop().conditions:
            other = by_name.get(name)
            have = needed.get(name, () if other is None else domain_values(other.domain))
            if name not in needed and other is not None:
                waiting.append(other)
            needed[name] = common(have, values)
    return needed


def never(parameter: Parameter, parameters: Sequence[Parameter]) -> str:
    """Why ``parameter`` can never be active; empty if it can."""
    for name, values in requirements(parameter, parameters).items():
        if not values:
            own = [wanted for other, wanted in parameter.conditions if other == name]
            texts = [" or ".join(map(text, wanted)) for wanted in own]
            return f"{name} is never {' and '.join(texts)}" if texts else f"what it depends on needs two different values of {name}"
    return ""


def check_learned(parameters: Sequence[Parameter], place: Place) -> None:
    """Raises:
    InputError: a coefficient can be learned and start on the edge of its range, or cannot be learned at all.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    for parameter in parameters:
        target = parameter.target
        if target.role != "learned" or True not in domain_values(parameter.domain):
            continue
        coefficient = rules[target.owner].coefficients[target.key]
        start = by_name.get(f"{target.owner}.{target.key}")
        probes = [] if start is None else _ends(start.domain)
        if start is None or start.when:  # where it is inactive, the coefficient starts at its default
            probes.append(("", coefficient.default))
        for key, value in probes:
            if key and start is not None and not _together(parameter, start, parameters):
                continue
            at = place.at(parameter.name) if start is None or not key else _end(place.at(start.name), key)
            _pointing(at, f" (and {parameter.name} can be true)", coefficient.check_learnable, target.key, value)


def domain_values(domain: Domain) -> tuple[Value, ...]:
    """The values of a constant or of choices; none for a range, which no condition may refer to."""
    return () if isinstance(domain, Range) else domain.values


def text(value: Value) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else shown(value)


def _together(learned: Parameter, start: Parameter, parameters: Sequence[Parameter]) -> bool:
    """Can ``learned`` be true while ``start`` is active?"""
    a, b = requirements(learned, parameters), requirements(start, parameters)
    b[learned.name] = common((True,), b.get(learned.name, (True,)))
    return all(common(a.get(name, values), values) for name, values in b.items())


def _domain(target: Target, data: object, place: Place) -> Domain:
    if not isinstance(data, Mapping):
        if isinstance(data, list):
            raise place.error(f"found the list {shown(data)}, allowed: {FORMS}; write choices: {shown(data)}")
        return Constant(_pointing(place, "", target.check, data))
    place.check_keys(data, KEYS)
    if "value" in data:
        _only(data, ("value", "when"), place)
        return Constant(_pointing(place.at("value"), "", target.check, data["value"]))
    if "choices" in data:
        _only(data, ("choices", "when"), place)
        return _choices(target, data["choices"], place.at("choices"))
    missing = [key for key in ("low", "high") if key not in data]
    if missing:
        raise place.error(f"{' and '.join(missing)} missing; found: {', '.join(data) or 'nothing'}; allowed: {FORMS}")
    return _range(target, data, place)


def _only(data: Mapping[str, Any], allowed: tuple[str, ...], place: Place) -> None:
    for key in data:
        if key not in allowed:
            raise place.at(key).error(f"does not go with {allowed[0]}; allowed: {FORMS}")


def _choices(target: Target, data: object, place: Place) -> Choices:
    if not isinstance(data, list) or not data:
        raise place.error(f"found {shown(data)}, allowed: a list of at least one value")
    values: list[Value] = []
    for index, item in enumerate(data):
        value = _pointing(place.at(index), "", target.check, item)
        if common(values, [value]):
            raise place.at(index).error(f"{text(value)} is there twice")
        values.append(value)
    return Choices(tuple(values))


def _range(target: Target, data: Mapping[str, Any], place: Place) -> Range:
    if target.kind not in ("int", "whole", "float", "number"):
        raise place.error(f"{target.key} is no number: a range makes no sense; allowed: one value, or choices")
    low, high = (_number(target, key, data[key], place) for key in ("low", "high"))
    if low >= high:
        raise place.error(f"low = {low!r}, high = {high!r}, allowed: low < high; for one value write value: {low!r}")
    log = data.get("log", False)
    if not isinstance(log, bool):
        raise place.at("log").error(f"found {shown(log)}, allowed: true, false")
    if log and low <= 0:
        raise place.at("low").error(f"low = {low!r}, allowed with log: low > 0")
    integer = target.kind != "float"
    step = _step(target, data, low, high, place) if "step" in data else (1 if integer else None)
    if log and step is not None and not (integer and step == 1):
        raise place.at("step").error("does not go with log; leave one of them out")
    for key, value in (("low", low), ("high", high)):
        _pointing(place.at(key), "", target.check, value)
    return Range(low, high, log, step, integer)


def _number(target: Target, key: str, value: object, place: Place) -> float:
    if value is None or target.kind in ("whole", "number") and isinstance(value, str):  # the parameter may be this, the end of a range not
        raise place.at(key).error(f"found {shown(value)}, allowed: a number")
    return _pointing(place.at(key), "", target.typed, value)  # type: ignore[return-value]  # a range's target is a number


def _step(target: Target, data: Mapping[str, Any], low: float, high: float, place: Place) -> float:
    step = _number(target, "step", data["step"], place)
    if step <= 0:
        raise place.at("step").error(f"step = {step!r}, allowed: step > 0")
    left = (Decimal(repr(high)) - Decimal(repr(low))) % Decimal(repr(step))  # decimal: 0.1 * 3 is 0.3
    if left:
        raise place.at("step").error(f"step = {step!r} does not lead from low = {low!r} to high = {high!r}: {left} is left over")
    return step


def _when(name: str, data: object, domains: Mapping[str, Domain], place: Place) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    """The conditions written out in ``data["when"]``, each value checked against what the other parameter can be."""
    if not isinstance(data, Mapping) or "when" not in data:
        return ()
    place, found = place.at("when"), data["when"]
    if name == "base":
        raise place.error("base has no conditions: every cell has one")
    if not isinstance(found, Mapping) or not found:
        raise place.error(f"found {shown(found)}, allowed: a mapping from a parameter to the value or values that it must have")
    others = [other for other, domain in domains.items() if not isinstance(domain, Range)]
    out = []
    for other, wanted in found.items():
        if isinstance(domains.get(other), Range):
            raise place.at(other).error(f"{other} is a range; allowed: a parameter with choices or one value: {', '.join(others)}")
        if other not in domains:
            raise UnknownNameError("parameter", other, [known for known in others if known != name], str(place.at(other)))
        out.append((other, _wanted(other, wanted, domain_values(domains[other]), place.at(other))))
    return tuple(out)


def _wanted(other: str, wanted: object, can: tuple[Value, ...], place: Place) -> tuple[Value, ...]:
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values:
        raise place.error("found [], allowed: a value, or a list of values")
    out: list[Value] = []
    for value in values:
        if Target.of(other).kind in ("whole", "number") and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = f"{value:.12g}"  # as `Target.check` has it
        match = [known for known in can if isinstance(value, (str, bool, int, float, type(None))) and same(known, value)]
        if not match:
            allowed = ", ".join(map(text, can))
            raise place.error(f"{other} is never {shown(value)}; it can be: {allowed}")
        out += [known for known in match if not common(out, [known])]
    return tuple(out)


def _ends(domain: Domain) -> list[tuple[str, Any]]:
    """The values that a check must look at: all, or the two ends of a range; each with its key in the YAML file."""
    if isinstance(domain, Range):
        return [("low", domain.low), ("high", domain.high)]
    if isinstance(domain, Constant):
        return [("value", domain.value)]
    return [(f"choices.{index}", value) for index, value in enumerate(domain.values)]


def _end(place: Place, key: str) -> Place:
    head, _, index = key.partition(".")
    return place if head == "value" else place.at(head, int(index)) if index else place.at(head)


def _pointing(place: Place, more: str, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``check(…)``, its error pointing to ``place``."""
    try:
        return check(*args, **kwargs)
    except InputError as error:
        raise InputError(error.message + more, str(place)) from None
