"""What a cell is, as data: `CellSpec` (the function) and `Candidate` (the function and how it is trained).

Both are frozen, validated when made, and have one canonical JSON text whose SHA-256 is their identity. Floats are
written with ``repr`` (the shortest text that reads back as the same float64), keys are sorted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .._registry import SpecError, UnknownNameError
from .bases.base import OpenOption, bases
from .rules.base import Rule, Symbolic, define, definition, find_rule, rule_name

if TYPE_CHECKING:
    from .describe import Description

OPTIMIZERS = ("rmsprop", "adam", "sgd")
INITS = ("paper", "torch")
SCOPES = ("drive", "preactivation", "hidden")
KINDS = ("scalar", "unit", "input")
BIASES = ("inside", "outside")


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, no spaces, shortest float repr, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, init=False)
class CellSpec:
    """One recurrent cell: a base, and the rule that turns its drive into what the gates see.

    Args:
        base: name of a base (`mrnn_search.cells.bases`), e.g. "lstm".
        rule: name of a rule (`mrnn_search.cells.rules`), e.g. "heavy_ball", or a formula, e.g.
            "m(0.9) / sqrt(n(0.99) + 1e-8)" (`mrnn_search.cells.formula`).
        coefficients: the rule's coefficients; those left out take the rule's default.
        learned: names of coefficients that are trained; each starts at its value in ``coefficients``. A mapping says how:
            "scalar" (one number a layer), "unit" (one for each channel) or "input" (one for each step and sequence,
            ``map(raw + w · x_t)``, with w starting at 0).
        options: the base's options, e.g. ``{"activation": "relu"}`` for "rnn"; those left out take the base's default. A number
            may be given as a number (``{"rebase": 100}``); it is kept as text.
        scope: what the rule acts on: "drive" (u_t, the default), "preactivation" (u_t + r_t; the only one of rules that read
            r, and their default) or "hidden" (the plain cell's step: ``h_t = h_{t-1} + rule(f(x_t, h_{t-1}) - h_{t-1})``).
        gates: names of the gates whose drive or pre-activation the rule acts on, e.g. "g" of an lstm; None: all.
        drive_bias: is the drive's bias "inside" the rule (as released) or added "outside", after it?

    Attributes:
        rule_type: the rule itself.

    Raises:
        UnknownNameError: a name that does not exist.
        SpecError: a value outside its range, or parts that do not go together.
    """

    base: str
    rule: str
    _coefficients: tuple[tuple[str, float], ...]
    _learned: tuple[tuple[str, str], ...]
    _options: tuple[tuple[str, str], ...]
    scope: str
    gates: tuple[str, ...] | None
    drive_bias: str
    rule_type: type[Rule] = field(compare=False, repr=False)

    def __init__(
        self,
        base: str,
        rule: str = "plain",
        coefficients: Mapping[str, float] | None = None,
        learned: Iterable[str] | Mapping[str, str] = (),
        options: Mapping[str, str | int | float] | None = None,
        scope: str | None = None,
        gates: Iterable[str] | None = None,
        drive_bias: str = "inside",
    ) -> None:
        _check_types(base, rule, coefficients, learned, options, gates)
        rule_type, base_type = find_rule(rule), bases[base]
        for name in coefficients or {}:
            if name not in rule_type.coefficients:
                raise UnknownNameError(f'coefficient of rule "{rule}"', name, rule_type.coefficients)
        full = rule_type.complete(dict(coefficients or {}))
        kinds = _kinds(learned)
        for name, kind in kinds.items():
            if name not in rule_type.coefficients:
                raise UnknownNameError(f'learned coefficient of rule "{rule}"', name, rule_type.coefficients)
            if kind not in KINDS:
                raise UnknownNameError(f"kind of learned {name}", kind, KINDS)
            rule_type.coefficients[name].check_learnable(name, full[name])
        rule_type.check_values(full)
        for name in rule_type.program.periods & kinds.keys():
            raise SpecError(f"{name} is a period in the formula, which cannot be learned")
        coupled = rule_type.program.coupled
        scope = scope or rule_type.program.scope
        if scope not in SCOPES:
            raise UnknownNameError("scope", scope, SCOPES)
        if coupled and scope != "preactivation":
            raise SpecError(f'rule "{rule}" reads the recurrent term; its scope is "{scope}", allowed: "preactivation"')
        if drive_bias not in BIASES:
            raise UnknownNameError("drive_bias", drive_bias, BIASES)
        if scope == "hidden" and (gates is not None or drive_bias != "inside"):
            raise SpecError('scope "hidden" is the whole step of the cell, allowed: gates = None and drive_bias = "inside"')
        put = object.__setattr__  # frozen from here on; dataclass needs one place that fills it
        put(self, "base", base)
        put(self, "rule", rule_name(rule))
        put(self, "rule_type", rule_type)  # kept: a compiler that traces a layer would follow the look-up into the parser
        put(self, "_coefficients", tuple(sorted(full.items())))
        put(self, "_learned", tuple(sorted(kinds.items())))
        put(self, "_options", tuple(sorted(base_type.complete(dict(options or {})).items())))
        put(self, "scope", scope)
        put(self, "gates", _gates(gates, base, base_type.gate_names))
        put(self, "drive_bias", drive_bias)

    @property
    def coefficients(self) -> Mapping[str, float]:
        """Every coefficient of the rule, read-only."""
        return MappingProxyType(dict(self._coefficients))

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the coefficients that are trained, sorted."""
        return tuple(name for name, _ in self._learned)

    @property
    def learned_kinds(self) -> Mapping[str, str]:
        """Learned coefficient -> "scalar", "unit" or "input"."""
        return MappingProxyType(dict(self._learned))

    @property
    def options(self) -> Mapping[str, str]:
        """Every option of the base, read-only."""
        return MappingProxyType(dict(self._options))

    def canonical(self) -> CellSpec:
        """A plainer spec of the same cell, where one is known; it has the same `cell_id`."""
        from .algebra import canonical  # algebra builds specs

        return canonical(self)

    @property
    def cell_id(self) -> str:
        """SHA-256 (64 hex digits) of the normal form: equal for specs that compute the same function of the same parameters."""
        from .algebra import cell_id

        return cell_id(self)

    def controls(self) -> dict[str, CellSpec]:
        """What this cell must be compared with before its rule gets the credit; see `mrnn_search.cells.controls`."""
        from .controls import controls

        return controls(self)

    def describe(self, input_size: int | None = None, hidden_size: int | None = None) -> Description:
        """Name, formulas (text and LaTeX) and, for given sizes, the number of parameters; see `mrnn_search.cells.describe`."""
        from .describe import describe

        return describe(self, input_size, hidden_size)

    @property
    def name(self) -> str:
        """One line for tables: ``heavy_ball(epsilon=0.6, mu*=0.6)@g-lstm``.

        A learned coefficient carries ``*`` (a scalar), ``*unit`` or ``*input``; after ``@`` is what the rule acts on, if
        not the whole drive; ``+b``: the drive's bias is outside; in brackets the base's options.
        """
        if self.rule == "plain":
            rule = ""
        else:
            known = self.rule_type.coefficients
            told = [(k, v) for k, v in self._coefficients if not (known[k].guard and v == known[k].default)]
            marks = {k: "*" if kind == "scalar" else f"*{kind}" for k, kind in self._learned}
            parts = [f"{k}{marks.get(k, '')}={v:.3g}" for k, v in told]
            text = self.rule if not issubclass(self.rule_type, Symbolic) else f"[{self.rule}]"
            rule = text + (f"({', '.join(parts)})" if parts else "")
        where = [self.scope] if self.scope != self.rule_type.program.scope else []
        where += ["".join(self.gates) if all(len(g) == 1 for g in self.gates) else "+".join(self.gates)] if self.gates else []
        if rule:  # plain does nothing, wherever
            rule += f"@{':'.join(where)}" if where else ""
            rule += "+b" if self.drive_bias == "outside" else ""
        allowed = bases[self.base].options
        chosen = [f"{k}={v}" if isinstance(allowed[k], OpenOption) else v for k, v in self._options if v != allowed[k][0]]
        return (f"{rule}-" if rule else "") + self.base + (f"[{', '.join(chosen)}]" if chosen else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back to an equal spec. What came later is left out at its default."""
        base = bases[self.base]
        plain = all(kind == "scalar" for _, kind in self._learned)
        data: dict[str, Any] = {
            "base": self.base,
            "rule": self.rule,
            "coefficients": dict(self._coefficients),
            "learned": list(self.learned) if plain else dict(self._learned),
            "options": {k: v for k, v in self._options if k not in base.later_options or v != base.options[k][0]},
        }
        if self.scope != self.rule_type.program.scope:
            data["scope"] = self.scope
        if self.gates is not None:
            data["gates"] = list(self.gates)
        if self.drive_bias != "inside":
            data["drive_bias"] = self.drive_bias
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CellSpec:
        """Inverse of `to_dict`.

        Raises:
            UnknownNameError: a key that a spec does not have.
            SpecError: a bad value.
        """
        if not isinstance(data, Mapping) or "base" not in data:
            raise SpecError(f"a cell spec is {data!r}, allowed: a mapping with base, and what CellSpec takes besides")
        fields = ("base", "rule", "coefficients", "learned", "options", "scope", "gates", "drive_bias")
        for key in data:
            if key not in fields:
                raise UnknownNameError("field of a cell spec", key, fields)
        return cls(**data)

    def to_json(self) -> str:
        """Canonical JSON text."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> CellSpec:
        """Inverse of `to_json`. Raises as `from_dict`."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"a cell spec is not JSON: {error}") from None
        return cls.from_dict(data)

    def __reduce__(self) -> tuple[Any, ...]:
        """A rule of the user's goes along: another process, or a later one, need not have registered it."""
        return _revive, (self.to_dict(), definition(self.rule))

    def __str__(self) -> str:
        return self.name


def _revive(data: dict[str, Any], rule: dict[str, Any] | None) -> CellSpec:
    if rule is not None:
        define(data["rule"], rule)
    return CellSpec.from_dict(data)


def _check_types(base: object, rule: object, coefficients: object, learned: object, options: object, gates: object) -> None:
    for name, value in (("base", base), ("rule", rule)):
        if not isinstance(value, str):
            raise SpecError(f"{name} = {value!r}, allowed: text")
    for name, value in (("coefficients", coefficients), ("options", options)):
        if value is not None and not isinstance(value, Mapping):
            raise SpecError(f"{name} = {value!r}, allowed: a mapping from name to value")
    for name, value in (("learned", learned), ("gates", gates)):
        if not isinstance(value, Iterable) and (name == "learned" or value is not None):
            raise SpecError(f"{name} = {value!r}, allowed: a list of names")


def _kinds(learned: Iterable[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(learned, Mapping):
        return dict(learned)
    return dict.fromkeys([learned] if isinstance(learned, str) else learned, "scalar")


def _gates(given: Iterable[str] | None, base: str, known: tuple[str, ...]) -> tuple[str, ...] | None:
    """The chosen gates in the base's order; None for all of them."""
    if given is None:
        return None
    names = list(given)  # "ig" is i and g: gates have one letter
    for name in names:
        if name not in known:
            raise UnknownNameError(f"gate of {base}", name, known)
    if not names:
        raise SpecError(f"gates is empty, allowed: None, or some of {', '.join(known)}")
    chosen = tuple(gate for gate in known if gate in names)
    return None if chosen == known else chosen


@dataclass(frozen=True)
class Candidate:
    """A cell with its size and training hyper-parameters: what one trial of a search trains.

    Attributes:
        spec: the cell.
        hidden_size: H, units per layer.
        num_layers: stacked layers.
        init: "paper" (the released code's) or "torch" (uniform).
        dropout: between layers, in [0, 1).
        optimizer: "rmsprop", "adam" or "sgd".
        lr: learning rate.
        lr_orthogonal: learning rate of orthogonal parameters; None: a tenth of ``lr``.
        clip: largest global gradient norm; None: no clipping.
        batch_size: sequences per update.
    """

    spec: CellSpec
    hidden_size: int = 64
    num_layers: int = 1
    init: str = "paper"
    dropout: float = 0.0
    optimizer: str = "rmsprop"
    lr: float = 1e-3
    lr_orthogonal: float | None = None
    clip: float | None = 1.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SpecError(f"{name} = {value!r}, allowed: a whole number >= 1")
        for name in ("lr", "lr_orthogonal", "clip"):
            value = getattr(self, name)
            if value is None and name != "lr":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not (0 < value < math.inf):
                raise SpecError(f"{name} = {value!r}, allowed: {name} > 0")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise SpecError(f"dropout = {self.dropout!r}, allowed: 0 <= dropout < 1")
        if self.init not in INITS:
            raise UnknownNameError("init", self.init, INITS)
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.optimizer, OPTIMIZERS)

    @property
    def candidate_id(self) -> str:
        """SHA-256 of the canonical cell with every size and hyper-parameter: the key that stops a second training."""
        return identity({**self.to_dict(), "spec": self.spec.cell_id})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back to an equal candidate."""
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        out["spec"] = self.spec.to_dict()
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_dict`."""
        return cls(**{**data, "spec": CellSpec.from_dict(data["spec"])})
