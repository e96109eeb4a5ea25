"""One parameter of a search space: what it sets, which values it takes, and when it is active."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from .._registry import InputError, SpecError, UnknownNameError, nearest
from ..cells import Candidate, CellSpec
from ..cells.bases.base import OpenOption, WordsOrWhole, bases
from ..cells.rules.base import find_rule, rule_name, rules
from ..cells.spec import BIASES, SCOPES
from ..cells.spec import KINDS as LEARNED
from .files import shown
from .formulas import expand

Value = str | bool | int | float | None

# Fields of a candidate that a parameter can set, and their types as written there ("float | None").
FIELDS = {field.name: str(field.type) for field in dataclasses.fields(Candidate) if field.name != "spec"}
KINDS = {
    "str": "text",
    "int": "a whole number",
    "whole": "a whole number or text",
    "number": "a number",
    "float": "a number",
    "bool": "true or false",
    "learned": f"true or false, or how: {', '.join(LEARNED)}",
}
LEARNED_SUFFIX = ".learned"
PARTS = {"scope": SCOPES, "drive_bias": BIASES}  # parts of a cell that have one name for every base and rule
ALL = "all"  # gates: every one of them
_NAMES = re.compile(r"[\w.]*", re.ASCII)  # names with dots; a parameter of a formula has other characters, too
LARGEST = 2**63  # no number of a space is that large; what is larger need not fit into a float or a storage's integer


class Trial(Protocol):
    """What a space asks values of; Optuna's trials are such."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Constant:
    """One value; it is never suggested."""

    value: Value

    @property
    def values(self) -> tuple[Value, ...]:
        return (self.value,)

    def suggest(self, name: str, trial: Trial) -> Value:
        del name, trial
        return self.value

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


@dataclass(frozen=True)
class Choices:
    """A list of values without an order."""

    values: tuple[Value, ...]

    def suggest(self, name: str, trial: Trial) -> Value:
        value: Value = trial.suggest_categorical(name, self.values)
        return value

    def to_dict(self) -> dict[str, Any]:
        return {"choices": list(self.values)}


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        log: uniform in the logarithm.
        step: only ``low``, ``low + step`` …; None: every number.
        integer: whole numbers; then ``step`` is one, too.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    @property
    def continuous(self) -> bool:
        return self.step is None

    @property
    def steps(self) -> int:
        """How many steps fit between ``low`` and ``high``."""
        return 0 if self.step is None else round((self.high - self.low) / self.step)

    def __iter__(self) -> Iterator[float]:
        """Every value of a range with steps, computed as Optuna does: same value, same identity."""
        for k in range(self.steps + 1):
            yield min(k * (self.step or 0) + self.low, self.high)

    def suggest(self, name: str, trial: Trial) -> Value:
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return float(trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log))

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.log:
            out["log"] = True
        if self.step is not None and not (self.integer and self.step == 1):
            out["step"] = self.step
        return out


@dataclass(frozen=True)
class Formulas:
    """Rules: those that are listed, and random formulas, the same in every process for the same numbers.

    Attributes:
        count: how many formulas.
        size: largest number of nodes of each.
        seed: of the stream that they are the first ``count`` of.
        listed: rules besides them; no formula is one of these at its defaults.
    """

    count: int
    size: int
    seed: int
    listed: tuple[Value, ...] = ()

    @property
    def values(self) -> tuple[Value, ...]:
        return (*self.listed, *expand(self.count, self.size, self.seed, tuple(map(str, self.listed))))

    def suggest(self, name: str, trial: Trial) -> Value:
        value: Value = trial.suggest_categorical(name, self.values)
        return value

    def to_dict(self) -> dict[str, Any]:
        listed = {"choices": list(self.listed)} if self.listed else {}
        return {**listed, "formulas": self.count, "size": self.size, "seed": self.seed}


Domain = Constant | Choices | Range | Formulas


@dataclass(frozen=True)
class Target:
    """What a parameter sets, read off its name.

    Attributes:
        role: "base", "rule", "field" (of a candidate), "coefficient", "learned" (is the coefficient trained, and how?),
            "option", "part" (a key of `PARTS`) or "gates".
        owner: the rule or base that the coefficient, option or gates are of; empty for the other roles.
        key: the field's, coefficient's, option's or part's own name.
        kind: "str", "int", "float", "bool", "learned", and for options only "whole", a whole number or a word, and "number".
        optional: may be null.
    """

    role: str
    owner: str
    key: str
    kind: str
    optional: bool = False

    @classmethod
    def of(cls, name: str, where: str = "") -> Target:
        """The target that ``name`` means.

        Raises:
            InputError: there is no such thing.
        """
        if name in ("base", "rule"):
            return cls(name, "", name, "str")
        if name in FIELDS:
            kind, *rest = FIELDS[name].split(" | ")
            return cls("field", "", name, kind, bool(rest))
        if name in PARTS:
            return cls("part", "", name, "str")
        owner, _, key = name.partition(".")
        if not _NAMES.fullmatch(name):  # a formula has dots of its own: the coefficient is after the last one
            owner, _, key = name.removesuffix(LEARNED_SUFFIX).rpartition(".")
            key += LEARNED_SUFFIX if name.endswith(LEARNED_SUFFIX) else ""
            try:
                owner = rule_name(owner) if owner else owner
            except InputError as error:
                raise InputError(f'unknown parameter "{name}": {error.message}', where) from None
        if key and (owner in rules or not _NAMES.fullmatch(owner)):
            coefficients = find_rule(owner).coefficients
            if key in coefficients:
                return cls("coefficient", owner, key, "int" if coefficients[key].integer else "float")
            if key.removesuffix(LEARNED_SUFFIX) in coefficients:
                return cls("learned", owner, key.removesuffix(LEARNED_SUFFIX), "learned")
        if key and owner in bases:
            if key in bases[owner].options:
                allowed = bases[owner].options[key]
                kind = "whole" if isinstance(allowed, WordsOrWhole) else "number" if isinstance(allowed, OpenOption) else "str"
                return cls("option", owner, key, kind)
            if key == "gates":
                return cls("gates", owner, key, "str")
        raise _unknown(name, owner, key, where)

    @property
    def name(self) -> str:
        """The parameter's one name: formulas can be written in several ways."""
        dotted = f"{self.owner}.{self.key}" if self.owner else self.key
        return dotted + (LEARNED_SUFFIX if self.role == "learned" else "")

    @property
    def implied(self) -> tuple[str, str] | None:
        """The condition that the name alone implies: ("rule", "adam") for ``adam.mu``."""
        if self.role in ("coefficient", "learned"):
            return "rule", self.owner
        return ("base", self.owner) if self.role in ("option", "gates") else None

    def typed(self, value: object) -> Value:
        """``value`` if its type is right.

        Raises:
            SpecError: it is not.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, bool) and self.kind in ("bool", "learned"):
            return value
        if isinstance(value, str) and self.kind in ("str", "whole", "number"):
            return value
        if isinstance(value, str) and self.kind == "learned" and value in LEARNED:
            return True if value == "scalar" else value  # spaces from before there were kinds have true
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST:  # NaN is not
            if self.kind in ("int", "whole") and isinstance(value, int):
                return value
            if self.kind in ("float", "number"):
                return float(value) + 0.0  # -0.0 and 0.0 have one form
        name = f"{self.key}.learned" if self.role == "learned" else self.key
        raise SpecError(f"{name} = {shown(value)}, allowed: {KINDS[self.kind]}{' or null' if self.optional else ''}")

    def check(self, value: object) -> Value:
        """``value``, normalised: equal values have one form (1 is 1.0 where numbers are floats, "1" where they are options; a
        formula has one text).

        Raises:
            SpecError, UnknownNameError: the wrong type, an unknown name, or outside the range.
        """
        normal: Any = self.typed(value)
        match self.role:
            case "base":
                bases[normal]
            case "rule":
                return rule_name(normal)
            case "coefficient":
                return find_rule(self.owner).coefficients[self.key].check(self.key, normal)
            case "option":
                return bases[self.owner].complete({self.key: normal})[self.key]
            case "part":
                if normal not in PARTS[self.key]:
                    raise UnknownNameError(self.key, normal, PARTS[self.key])
            case "gates":
                return _gates_text(self.owner, normal)
            case "field":
                Candidate(CellSpec("rnn"), **{self.key: normal})
        checked: Value = normal
        return checked


@dataclass(frozen=True)
class Parameter:
    """One parameter: active, and only then suggested, when every condition holds.

    Attributes:
        name: its key in the YAML file, and its name in Optuna.
        domain: the values that it takes.
        when: the conditions that are written out: (other parameter, the values that it must have).
        unless: those of ``when`` that are written as ``not``: (other parameter, the values that it must not have).
    """

    name: str
    domain: Domain
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    unless: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    @cached_property
    def target(self) -> Target:
        """What it sets."""
        return Target.of(self.name)

    @cached_property
    def conditions(self) -> tuple[tuple[str, tuple[Value, ...]], ...]:
        """Those that its name implies, and those written out."""
        implied = self.target.implied
        return self.when if implied is None else ((implied[0], (implied[1],)), *self.when)

    def to_dict(self) -> Any:
        """As in the YAML file: a bare constant is its value."""
        out = self.domain.to_dict()
        if self.when:
            excluded = dict(self.unless)
            out["when"] = {name: {"not": _short(excluded[name])} if name in excluded else _short(values) for name, values in self.when}
        return out["value"] if list(out) == ["value"] else out


def same(a: Value, b: Value) -> bool:
    """Equal, and both or neither a truth value (Python's ``True == 1``)."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def common(a: Iterable[Value], b: Iterable[Value]) -> tuple[Value, ...]:
    """The values of ``a`` that are in ``b``, in ``a``'s order."""
    others = list(b)
    return tuple(x for x in a if any(same(x, y) for y in others))


def active(parameter: Parameter, values: Mapping[str, Value]) -> bool:
    """Do all of its conditions hold? ``values``: of the active parameters visited before."""
    for name, wanted in parameter.conditions:  # plain loops: counting comes here a million times
        if name not in values:
            return False
        value = values[name]
        for v in wanted:
            if same(value, v):
                break
        else:
            return False
    return True


def cell(values: Mapping[str, Value]) -> CellSpec:
    """The cell that the values of the active parameters describe; the rest has defaults."""
    coefficients: dict[str, Any] = {}
    learned: dict[str, str] = {}
    options: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for name, value in values.items():
        target = _target(name)
        match target.role:
            case "coefficient":
                coefficients[target.key] = value
            case "learned":
                if value is not False:
                    learned[target.key] = "scalar" if value is True else str(value)
            case "option":
                options[target.key] = value
            case "part":
                parts[target.key] = value
            case "gates":
                parts["gates"] = gates_of(target.owner, str(value))
    return CellSpec(str(values["base"]), str(values.get("rule", "plain")), coefficients, learned, options, **parts)


def candidate(values: Mapping[str, Value]) -> Candidate:
    """The candidate that the values of the active parameters describe; the rest has defaults."""
    fields: dict[str, Any] = {name: value for name, value in values.items() if name in FIELDS}
    return Candidate(cell(values), **fields)


def gates_of(base: str, text: str) -> tuple[str, ...] | None:
    """Gates as a spec has them, from their text: "all", or letters ("ifo"; names that are longer are joined by "+").

    Raises:
        SpecError: a gate that the base does not have.
    """
    known = bases[base].gate_names
    if text == ALL:
        return None
    one_letter = all(len(name) == 1 for name in known)
    names = tuple(text) if one_letter else tuple(text.split("+"))
    if not names or not set(names) <= set(known):
        form = f"letters of {''.join(known)}" if one_letter else f'names of {", ".join(known)}, joined by "+"'
        raise SpecError(f'gates = {shown(text)}, allowed: {ALL}, or {form} (the gates of "{base}")')
    return names


def gates_text(base: str, gates: tuple[str, ...] | None) -> str:
    """Inverse of `gates_of`."""
    if gates is None:
        return ALL
    return ("" if all(len(name) == 1 for name in bases[base].gate_names) else "+").join(gates)


def _gates_text(base: str, text: str) -> str:
    """The one text of the same gates: in the base's order, "all" where none is missing."""
    return gates_text(base, CellSpec(base, gates=gates_of(base, text)).gates)


@lru_cache(maxsize=4096)
def _target(name: str) -> Target:
    """`Target.of`, remembered: counting asks for the same few names ten thousands of times."""
    return Target.of(name)


def _short(values: tuple[Value, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _unknown(name: str, owner: str, key: str, where: str) -> InputError:
    """What to say of a parameter's name that means nothing."""
    if key and (owner in rules or not _NAMES.fullmatch(owner)):
        known = [known for c in find_rule(owner).coefficients for known in (c, f"{c}{LEARNED_SUFFIX}")]
        return UnknownNameError(f"coefficient of {owner}", key, known, where)
    if key and owner in bases:
        return UnknownNameError(f"option of {owner}", key, ["gates", *bases[owner].options], where)
    fields = ["base", "rule", *PARTS, *FIELDS]
    dotted = [f"{rule}.{c}" for rule in rules for c in rules[rule].coefficients] + [f"{b}.{o}" for b in bases for o in bases[b].options]
    near = nearest(name, [*fields, *dotted])
    hint = f'; did you mean "{near}"?' if near else ""
    forms = "RULE.COEFFICIENT, RULE.COEFFICIENT.learned, BASE.OPTION, BASE.gates"
    return InputError(f'unknown parameter "{name}"; allowed: {", ".join(fields)}, {forms}{hint}', where)
