"""A cell in words and formulas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .algebra import spec_has_drive_bias, with_values
from .bases.base import bases
from .formula.text import show
from .spec import CellSpec

_JOIN = re.compile(r"<(d_\w) \+ ([^>]*)>")


@dataclass(frozen=True)
class Description:
    """What `CellSpec.describe` gives.

    Attributes:
        name: one line.
        formula: the rule as text with its fixed coefficients put in: as a spec's rule it gives the same cell.
        equations, latex: what one time step computes, one line each.
        coefficients: lines like ``mu = 0.6, learned (one number a layer)``.
        parameters: how many numbers train in a layer of the given sizes; None: no sizes were given.
        sources: of the rule and of the base.
        cell_id: identity of the cell.
    """

    name: str
    formula: str
    equations: tuple[str, ...]
    latex: tuple[str, ...]
    coefficients: tuple[str, ...]
    parameters: int | None
    sources: tuple[str, str]
    cell_id: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    def __str__(self) -> str:
        count = [] if self.parameters is None else [f"{self.parameters:,} parameters"]
        return "\n".join([self.name, *("    " + line for line in (*self.equations, *self.coefficients, *count))])


def describe(spec: CellSpec, input_size: int | None = None, hidden_size: int | None = None, *, bias: bool = True) -> Description:
    """See `Description`.

    Args:
        input_size, hidden_size: I and H of the layer whose parameters are counted.
        bias: with the base's biases.
    """
    base, rule = bases[spec.base], spec.rule_type
    count = None
    if input_size is not None and hidden_size is not None:
        count = num_parameters(spec, input_size, hidden_size, bias=bias)
    return Description(
        name=spec.name,
        formula=show(with_values(spec)),
        equations=equations(spec),
        latex=equations(spec, latex=True),
        coefficients=tuple(_value(spec, name) for name in spec.coefficients),
        parameters=count,
        sources=(f"rule {spec.rule}: {rule.source}", f"base {spec.base}: {base.source}"),
        cell_id=spec.cell_id,
    )


def num_parameters(spec: CellSpec, input_size: int, hidden_size: int, *, bias: bool = True) -> int:
    """How many numbers train in one layer of one direction: an orthogonal matrix counts H(H - 1)/2."""
    from .reference import rule_channels

    total = bases[spec.base].num_parameters(input_size, hidden_size, bias)
    sizes = {"scalar": 1, "unit": rule_channels(spec, hidden_size), "input": 1 + input_size}
    return total + sum(sizes[kind] for kind in spec.learned_kinds.values())


_KINDS = {
    "scalar": "one number a layer",
    "unit": "one number a channel",
    "input": "a function of the input, one number for each step and sequence",
}


def _value(spec: CellSpec, name: str) -> str:
    text = f"{name} = {spec.coefficients[name]:.6g}"
    kind = spec.learned_kinds.get(name)
    return text if kind is None else f"{text} at first, learned ({_KINDS[kind]})"


def equations(spec: CellSpec, *, latex: bool = False) -> tuple[str, ...]:
    """What one time step computes, one line each, coefficients by name."""
    base, program = bases[spec.base], spec.rule_type.program
    lines = list(base.latex if latex and base.latex else base.equations)
    has_bias = spec_has_drive_bias(spec)
    inside = " + b" if has_bias and spec.drive_bias == "inside" else ""
    drive = f"u_t = W x_t{inside}"
    outside = " + b" if has_bias and spec.drive_bias == "outside" else ""
    only = "" if spec.gates is None else _only(spec, latex)
    if spec.scope == "hidden":
        plain = [_join(line, "u", outside, False) for line in lines]
        plain = [line.replace("h_t =", r"\hat h_t =" if latex else "h~_t =") for line in plain]
        hat = r"\hat h_t" if latex else "h~_t"
        return (drive, *plain, *_rule(program, "e", latex, f"e_t = {hat} - h_{{t-1}}"), "h_t = h_{t-1} + d_t")
    if spec.scope == "preactivation":
        rule = program.equations(latex=latex) if program.coupled else _rule(program, "p", latex, "p_t = u_t + r_t", "a")
        return (drive, *_with(rule, only), *(_join(line, "u", outside, True) for line in lines))
    return (drive, *_with(program.equations(latex=latex), only), *(_join(line, "d", outside, False) for line in lines))


def _only(spec: CellSpec, latex: bool) -> str:
    gates = ", ".join(spec.gates or ())
    others = "u_t" if spec.scope == "drive" else "u_t + r_t"
    if latex:
        return rf" \quad \text{{for {gates}; the other gates see }} {others}"
    return f"  for {gates}; the other gates see {others}"


def _rule(program: Any, letter: str, latex: bool, first: str, result: str = "d") -> tuple[str, ...]:
    return (first, *program.equations(letter, result, latex=latex))


def _with(lines: tuple[str, ...], remark: str) -> tuple[str, ...]:
    return (*lines[:-1], lines[-1] + remark)


def _join(line: str, letter: str, bias: str, coupled: bool) -> str:
    """What the gates see: ``d + r``, or the rule's result with r told apart."""

    def write(found: re.Match[str]) -> str:
        index = found[1][1:]
        if coupled:
            return f"a{index}{bias} [r{index} = {found[2]}]"
        return f"{letter}{index}{bias} + {found[2]}"

    return _JOIN.sub(write, line)
