"""The ``parameters`` of a search space: from plain data to `Parameter`, every mistake found and pointed at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import islice, product
from typing import Any, ParamSpec, TypeVar

from .._registry import InputError, UnknownNameError
from ..cells.rules.base import find_rule
from .files import Place, shown
from .formulas import COUNTS, SIZE, SIZES, expand
from .parameter import ALL, LARGEST, Choices, Constant, Domain, Formulas, Parameter, Range, Target, Value, common

P = ParamSpec("P")
T = TypeVar("T")

KEYS = ("choices", "low", "high", "log", "step", "value", "formulas", "size", "seed", "when")
FORMS = "one value, or choices, or low and high, or (only for rule) formulas"
PROBES = 256  # combinations of coefficients of one rule that are looked at
SHOWN = 12  # values of a list in a message


def read_parameters(data: object, place: Place) -> tuple[Parameter, ...]:
    """Parameters in the order of ``data``, each checked on its own; ``rule`` is added (plain) if it is not there.

    Raises:
        InputError: what is wrong, and where.
    """
    if not isinstance(data, Mapping) or not data:
        raise place.error(f"found {shown(data)}, allowed: a mapping of at least one parameter")
    written: dict[str, str] = {}  # parameter -> its name as it is in the file: formulas can be written in several ways
    for name in data:
        target = Target.of(name, str(place.at(name)))
        if target.name in written:
            raise place.at(name).error(f"is the same parameter as {written[target.name]}")
        written[target.name] = name
    if "base" not in written:
        raise place.error(f"base is missing; found: {', '.join(data)}; write e.g. base: lstm")
    domains = {name: _domain(Target.of(name), data[key], place.at(key)) for name, key in written.items()}
    if "rule" not in domains:
        items = [(name, domain) for name, domain in domains.items() if name != "base"]
        domains = {"base": domains["base"], "rule": Constant("plain"), **dict(items)}
    out = []
    for name, domain in domains.items():
        key = written.get(name, name)
        out.append(Parameter(name, domain, *_when(name, data.get(key), domains, place.at(key))))
    return tuple(out)


def check_parameters(parameters: Sequence[Parameter], place: Place) -> None:
    """What only shows when the parameters are seen together.

    Raises:
        InputError: a parameter that is never active, or values that do not go together and can be drawn together.
    """
    for parameter in parameters:
        impossible = never(parameter, parameters)
        if impossible:
            raise place.at(parameter.name).error(f"can never be used: {impossible}")
    check_together(parameters, place)


def check_together(parameters: Sequence[Parameter], place: Place) -> None:
    """What the parameters can be must go together: then every draw is a cell.

    Raises:
        InputError: values that do not, and which condition keeps them apart.
    """
    check_values(parameters, place)
    check_learned(parameters, place)
    check_parts(parameters, place)


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


def check_values(parameters: Sequence[Parameter], place: Place) -> None:
    """Raises:
    InputError: a formula that makes no sense with the ends of the ranges of its coefficients.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    for rule in domain_values(by_name["rule"].domain) if "rule" in by_name else ():
        found = find_rule(str(rule))
        probes: dict[str, list[float]] = {}
        at = place.at("rule")
        for name in found.program.root.coefficients:
            own, default = by_name.get(f"{rule}.{name}"), found.coefficients[name].default
            probes[name] = [default] if own is None or own.when else []
            if own is not None:
                probes[name] += [value for _, value in _ends(own.domain)]
                at = place.at(own.name)
        for values in islice(product(*probes.values()), PROBES if probes else 0):
            _pointing(at, "", found.check_values, dict(zip(probes, values, strict=True)))


def check_learned(parameters: Sequence[Parameter], place: Place) -> None:
    """Raises:
    InputError: a coefficient can be learned and start on the edge of its range, or cannot be learned at all.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    for parameter in parameters:
        target = parameter.target
        kinds = [value for value in domain_values(parameter.domain) if value is not False]
        if target.role != "learned" or not kinds:
            continue
        coefficient = find_rule(target.owner).coefficients[target.key]
        start = by_name.get(f"{target.owner}.{target.key}")
        probes = [] if start is None else _ends(start.domain)
        if start is None or start.when:  # where it is inactive, the coefficient starts at its default
            probes.append(("", coefficient.default))
        for key, value in probes:
            if key and start is not None and not _together(parameters, (parameter, kinds), (start, None)):
                continue
            at = place.at(parameter.name) if start is None or not key else _end(place.at(start.name), key)
            _pointing(at, f" (and {parameter.name} can be {text(kinds[0])})", coefficient.check_learnable, target.key, value)


def check_parts(parameters: Sequence[Parameter], place: Place) -> None:
    """Raises:
    InputError: a scope that does not go with the rule, the gates or the place of the bias can be drawn with it.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    if "scope" not in by_name or "rule" not in by_name:
        return
    scope, rule = by_name["scope"], by_name["rule"]
    others = [value for value in domain_values(scope.domain) if value != "preactivation"]
    coupled = [value for value in domain_values(rule.domain) if find_rule(str(value)).program.coupled] if others else []
    _apart(parameters, (scope, others), (rule, coupled), "which reads r and has the scope preactivation", place)
    for parameter in parameters:
        neutral = {"gates": ALL, "drive_bias": "inside"}.get(parameter.target.key)
        if neutral is not None:
            chosen = [value for value in domain_values(parameter.domain) if value != neutral]
            _apart(parameters, (parameter, chosen), (scope, ["hidden"]), "which is the whole step of the cell", place)


def _apart(
    parameters: Sequence[Parameter], one: tuple[Parameter, list[Value]], two: tuple[Parameter, list[Value]], is_: str, place: Place
) -> None:
    """Raises:
    InputError: ``one`` and ``two`` (parameter, values) can be drawn together, and they must not.
    """
    (a, values), (b, others) = one, two
    for value, other in ((v, w) for v in values for w in others):
        if not _together(parameters, (a, [value]), (b, [other])):
            continue
        rest = [w for w in domain_values(b.domain) if w not in others]
        wanted = f"[{listed(rest)}]" if len(rest) <= len(others) + 1 else f"{{not: [{listed(others)}]}}"
        free = [v for v in domain_values(a.domain) if v not in values]
        advice = f"add when: {{{b.name}: {wanted}}}" if rest else f"allowed: {listed(free) or 'nothing; leave it out'}"
        raise place.at(a.name).error(f"can be {text(value)} while {b.name} is {text(other)}, {is_}; {advice}")


def listed(values: Sequence[Value]) -> str:
    """Values in a message: a few, and how many more."""
    more = f", … ({len(values) - SHOWN} more)" if len(values) > SHOWN else ""
    return ", ".join(map(text, values[:SHOWN])) + more


def domain_values(domain: Domain) -> tuple[Value, ...]:
    """The values of a constant or of choices; none for a range, which no condition may refer to."""
    return () if isinstance(domain, Range) else domain.values


def text(value: Value) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else shown(value)


def _together(parameters: Sequence[Parameter], *wanted: tuple[Parameter, Sequence[Value] | None]) -> bool:
    """Can all of the parameters be active at once, each with one of its values (None: any)?"""
    needed: dict[str, tuple[Value, ...]] = {}
    for parameter, values in wanted:
        own = {} if values is None else {parameter.name: common(values, domain_values(parameter.domain))}
        for name, allowed in (*requirements(parameter, parameters).items(), *own.items()):
            needed[name] = common(needed.get(name, allowed), allowed)
    return all(needed.values())


def _domain(target: Target, data: object, place: Place) -> Domain:
    if not isinstance(data, Mapping):
        if isinstance(data, list):
            raise place.error(f"found the list {shown(data)}, allowed: {FORMS}; write choices: {shown(data)}")
        return Constant(_pointing(place, "", target.check, data))
    place.check_keys(data, KEYS)
    if "value" in data:
        _only(data, ("value", "when"), place)
        return Constant(_pointing(place.at("value"), "", target.check, data["value"]))
    if "formulas" in data:
        return _formulas(target, data, place)
    if "choices" in data:
        _only(data, ("choices", "when"), place)
        return _choices(target, data["choices"], place.at("choices"))
    missing = [key for key in ("low", "high") if key not in data]
    if missing:
        raise place.error(f"{' and '.join(missing)} missing; found: {', '.join(data) or 'nothing'}; allowed: {FORMS}")
    _only(data, ("low", "high", "log", "step", "when"), place)
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
        value = _pointing(place.at(index), _quotes(target, item), target.check, item)
        if common(values, [value]):
            raise place.at(index).error(f"{text(value)} is there twice")
        values.append(value)
    return Choices(tuple(values))


def _formulas(target: Target, data: Mapping[str, Any], place: Place) -> Formulas:
    if target.role != "rule":
        raise place.at("formulas").error("only rule can be a formula; allowed: one value, or choices, or low and high")
    _only(data, ("formulas", "size", "seed", "choices", "when"), place)
    count = _whole("formulas", data["formulas"], *COUNTS, place)
    size = _whole("size", data.get("size", SIZE), *SIZES, place)
    seed = _whole("seed", data.get("seed", 0), 0, LARGEST - 1, place)
    named = _choices(target, data["choices"], place.at("choices")).values if "choices" in data else ()
    _pointing(place.at("formulas"), "", expand, count, size, seed, tuple(map(str, named)))
    return Formulas(count, size, seed, named)


def _whole(key: str, value: object, low: int, high: int, place: Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise place.at(key).error(f"found {shown(value)}, allowed: a whole number, {low} <= {key} <= {high}")
    return value


def _quotes(target: Target, item: object) -> str:
    """What to say of a part of a formula, as YAML makes them of ``[ema(u, 0.9)]``."""
    if target.role == "rule" and isinstance(item, str) and item.count("(") != item.count(")"):
        return "; a formula with a comma needs quotes"
    return ""


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


Conditions = tuple[tuple[str, tuple[Value, ...]], ...]


def _when(name: str, data: object, domains: Mapping[str, Domain], place: Place) -> tuple[Conditions, Conditions]:
    """The conditions written out in ``data["when"]``, each value checked against what the other parameter can be.

    The first of the two has all of them as values that are allowed, the second those that are written as ``not``.
    """
    if not isinstance(data, Mapping) or "when" not in data:
        return (), ()
    place, found = place.at("when"), data["when"]
    if name == "base":
        raise place.error("base has no conditions: every cell has one")
    if not isinstance(found, Mapping) or not found:
        raise place.error(f"found {shown(found)}, allowed: a mapping from a parameter to the value or values that it must have")
    others = [other for other, domain in domains.items() if not isinstance(domain, Range)]
    when, unless = [], []
    for key, wanted in found.items():
        other = _one_name(key)
        if isinstance(domains.get(other), Range):
            raise place.at(key).error(f"{other} is a range; allowed: a parameter with choices or one value: {', '.join(others)}")
        if other not in domains:
            raise UnknownNameError("parameter", other, [known for known in others if known != name], str(place.at(key)))
        can, at = domain_values(domains[other]), place.at(key)
        if isinstance(wanted, Mapping):
            at.check_keys(wanted, ("not",))
            if "not" not in wanted:
                raise at.error("found {}, allowed: a value, a list of values, or not: a value or a list of values")
            excluded = _wanted(other, wanted["not"], can, at.at("not"))
            left = tuple(value for value in can if not common([value], excluded))
            if not left:
                raise at.at("not").error(f"excludes everything that {other} can be: {listed(can)}")
            unless.append((other, excluded))
            when.append((other, left))
        else:
            when.append((other, _wanted(other, wanted, can, at)))
    return tuple(when), tuple(unless)


def _one_name(key: str) -> str:
    """The one name of a parameter; ``key`` itself if there is none such."""
    try:
        return Target.of(key).name
    except InputError:
        return key


def _wanted(other: str, wanted: object, can: tuple[Value, ...], place: Place) -> tuple[Value, ...]:
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values:
        raise place.error("found [], allowed: a value, or a list of values")
    out: list[Value] = []
    for value in values:
        match = common(can, _forms(other, value))
        if not match:
            raise place.error(f"{other} is never {shown(value)}; it can be: {listed(can)}")
        out += [known for known in match if not common(out, [known])]
    return tuple(out)


def _forms(name: str, value: object) -> list[Value]:
    """``value`` as it is written and as it is normalised, as far as it can be a value of the parameter at all."""
    out: list[Value] = [value] if isinstance(value, (str, bool, int, float, type(None))) else []
    try:
        return [*out, Target.of(name).check(value)]
    except InputError:
        return out


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
