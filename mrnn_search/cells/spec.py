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
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .._registry import SpecError, UnknownNameError
from .bases.base import WordsOrWhole, bases
from .rules.base import rules

OPTIMIZERS = ("rmsprop", "adam", "sgd")
INITS = ("paper", "torch")


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
        rule: name of a rule (`mrnn_search.cells.rules`), e.g. "heavy_ball".
        coefficients: the rule's coefficients; those left out take the rule's default.
        learned: names of coefficients that are trained; each starts at its value in ``coefficients``.
        options: the base's options, e.g. ``{"activation": "relu"}`` for "rnn"; those left out take the base's default. A number
            may be given as a number (``{"rebase": 100}``); it is kept as text.

    Raises:
        UnknownNameError: a name that does not exist.
        SpecError: a value outside its range.
    """

    base: str
    rule: str
    _coefficients: tuple[tuple[str, float], ...]
    learned: tuple[str, ...]
    _options: tuple[tuple[str, str], ...]

    def __init__(
        self,
        base: str,
        rule: str = "plain",
        coefficients: Mapping[str, float] | None = None,
        learned: Iterable[str] = (),
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        rule_type, base_type = rules[rule], bases[base]
        full = rule_type.complete(dict(coefficients or {}))
        names = tuple(sorted({learned} if isinstance(learned, str) else set(learned)))
        for name in names:
            if name not in rule_type.coefficients:
                raise UnknownNameError(f'learned coefficient of rule "{rule}"', name, rule_type.coefficients)
            rule_type.coefficients[name].check_learnable(name, full[name])
        chosen = base_type.complete(dict(options or {}))
        put = object.__setattr__  # frozen from here on; dataclass needs one place that fills it
        put(self, "base", base)
        put(self, "rule", rule)
        put(self, "_coefficients", tuple(sorted(full.items())))
        put(self, "learned", names)
        put(self, "_options", tuple(sorted(chosen.items())))

    @property
    def coefficients(self) -> Mapping[str, float]:
        """Every coefficient of the rule, read-only."""
        return MappingProxyType(dict(self._coefficients))

    @property
    def options(self) -> Mapping[str, str]:
        """Every option of the base, read-only."""
        return MappingProxyType(dict(self._options))

    def canonical(self) -> CellSpec:
        """The normal form: specs that compute the same function for the same parameters have the same one."""
        from .algebra import canonical  # algebra builds specs

        return canonical(self)

    @property
    def cell_id(self) -> str:
        """SHA-256 (64 hex digits) of the canonical form: equal exactly for cells known to be the same function."""
        return identity(self.canonical().to_dict())

    @property
    def name(self) -> str:
        """One line for tables, e.g. ``heavy_ball(epsilon=0.6, mu=0.6)-lstm``; learned coefficients carry a ``*``."""
        known = rules[self.rule].coefficients
        told = [(k, v) for k, v in self._coefficients if not (known[k].guard and v == known[k].default)]
        parts = [f"{k}{'*' if k in self.learned else ''}={v:.3g}" for k, v in told]
        allowed = bases[self.base].options
        chosen = [f"{k}={v}" if isinstance(allowed[k], WordsOrWhole) else v for k, v in self._options if v != allowed[k][0]]
        rule = f"{self.rule}({', '.join(parts)})-" if self.rule != "plain" else ""
        return rule + self.base + (f"[{', '.join(chosen)}]" if chosen else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back to an equal spec. Options that came later are left out at their default."""
        base = bases[self.base]
        return {
            "base": self.base,
            "rule": self.rule,
            "coefficients": dict(self._coefficients),
            "learned": list(self.learned),
            "options": {k: v for k, v in self._options if k not in base.later_options or v != base.options[k][0]},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CellSpec:
        """Inverse of `to_dict`.

        Raises:
            UnknownNameError: a key that a spec does not have.
            SpecError: a bad value.
        """
        fields = ("base", "rule", "coefficients", "learned", "options")
        for key in data:
            if key not in fields:
                raise UnknownNameError("field of a cell spec", key, fields)
        return cls(**data)

    def to_json(self) -> str:
        """Canonical JSON text."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> CellSpec:
        """Inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    def __str__(self) -> str:
        return self.name


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
        return identity({**self.to_dict(), "spec": self.spec.canonical().to_dict()})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back to an equal candidate."""
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        out["spec"] = self.spec.to_dict()
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_dict`."""
        return cls(**{**data, "spec": CellSpec.from_dict(data["spec"])})
