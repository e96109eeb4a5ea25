"""A candidate as the text of `cell.py`: one readable module that needs torch and nothing else.

The rule's function is written from its formula (`formula_code`), the base's own code is taken over (`embed`), and around
them is `cell.py.j2`: a layer with torch.nn.LSTM's call. What a cell does not need is not in its file.
"""

from __future__ import annotations

import json
import keyword
import math
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from .. import __version__
from ..cells.bases.base import Base, add, bases
from ..cells.describe import equations
from ..cells.reference import chosen_gates
from ..cells.spec import Candidate, CellSpec
from .embed import Embedded
from .formula_code import HELPERS, RuleCode, from_raw, rule_code, signature

TEMPLATES = Environment(  # Python and Markdown: nothing is escaped
    loader=PackageLoader("mrnn_search", "results"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

# What `cell.py.j2` binds at its top: its imports, and names that nothing embedded may take.
IMPORTS: dict[str, object] = {"torch": torch, "Tensor": torch.Tensor, "nn": torch.nn, "F": torch.nn.functional, "Any": Any}
OWN_NAMES = "COEFFICIENTS DTYPES Join LEARNED OPTIONS Path State from_input json load on_gates read_tensors rule run shapes step".split()
STEP_DOC = "One time step: what the gates see (B, G*H) and the state, each (B, H) -> the next state; h is its first."
JOIN_DOC = "One time step: the drive (B, G*H) and the state, each (B, H) -> the next state; join gives what the gates see."
RULE_DOCS = {
    "drive": "One step of the rule: the drive u_t -> what the gates see of it",
    "preactivation": "One step of the rule: the pre-activation -> what the gates see of it",
    "hidden": "One step of the rule: how the plain cell would change h -> how h changes",
}
COUPLED_DOC = "One step of the rule: drive and recurrent term -> the pre-activation"
TENSORS = "tuple[Tensor, ...]"


def class_name(spec: CellSpec) -> str:
    """Name of the layer's class: the rule's and the base's, e.g. ``HeavyBallLSTM`` or, for a formula, ``SymbolicLSTM``."""
    words = spec.rule_type.__name__ + bases[spec.base].__name__
    name = "".join(letter for letter in words if letter.isalnum())
    return name if name.isidentifier() and not keyword.iskeyword(name) and name not in OWN_NAMES and name not in IMPORTS else f"Cell{name}"


def learned_kinds(spec: CellSpec) -> dict[str, str]:
    """Learned coefficients that the rule's formula reads -> "scalar", "unit" or "input"."""
    read = spec.rule_type.program.root.coefficients
    return {name: kind for name, kind in spec.learned_kinds.items() if name in read}


def sources(spec: CellSpec) -> list[str]:
    """Where the rule and the base come from, a line each."""
    rule, base = spec.rule_type, bases[spec.base]
    return [f"Rule {spec.rule}{': ' if rule.source else ''}{rule.source}.", f"Base {spec.base}: {base.source}."]


def equation_lines(spec: CellSpec, *, bias: bool) -> list[str]:
    """What one time step computes, one line each; ``bias``: the layer has the base's biases."""
    lines = list(equations(spec))
    lines[0] += "    (the drive)"
    if not bias and bases[spec.base].biases:
        lines.append("without biases: b = 0, b_u = 0")
    return lines


@dataclass(frozen=True)
class _Rule:
    """What `source` makes of the rule.

    Attributes:
        scope: the spec's, or "plain" where the rule does nothing.
        code: its function.
        kinds: see `learned_kinds`.
        gates: how many blocks of H channels it acts on.
        chosen: their positions; None: all.
        outside: the drive's bias is added after it.
    """

    spec: CellSpec
    scope: str
    code: RuleCode
    kinds: dict[str, str]
    gates: int
    chosen: tuple[int, ...] | None
    outside: bool

    @classmethod
    def of(cls, spec: CellSpec, bias: bool) -> _Rule:
        base, program = bases[spec.base], spec.rule_type.program
        plain = program.plain
        chosen = None if plain else chosen_gates(spec)
        gates = 1 if spec.scope == "hidden" else len(chosen or base.gate_names)
        outside = spec.drive_bias == "outside" and bias and not plain
        kinds = learned_kinds(spec)
        return cls(spec, "plain" if plain else spec.scope, rule_code(program, kinds), kinds, gates, chosen, outside)

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, own in self.kinds.items() if own == kind]

    @property
    def by_step(self) -> bool:
        """A coefficient depends on the input."""
        return "input" in self.kinds.values()

    @property
    def drive(self) -> str:
        """What `step` is given in the place of the drive."""
        if self.scope != "drive":
            return "u"
        return 'd + w["bias_ih"]' if self.outside else "d"

    def functions(self) -> list[str]:
        """What `run` calls, but for the base's step."""
        if self.scope == "plain":
            return []
        parts = [*(HELPERS[name] for name in self.code.helpers), self._rule()]
        if self.scope == "drive" and self.chosen is not None:
            parts.append(self._on_gates(self.chosen))
        if self.scope == "preactivation":
            parts.append(self._join())
        return parts + ([self._from_input()] if self.by_step else [])

    def _result(self) -> str:
        return f"tuple[Tensor, {TENSORS}]" if self.code.states else "Tensor"

    def _rule(self) -> str:
        doc = COUPLED_DOC if self.spec.rule_type.program.coupled else RULE_DOCS[self.scope]
        doc += "; and its states. Each (B, C)." if self.code.states else ", (B, C)."
        return _function(signature("rule", self.code.arguments, self._result()), doc, self.code.body)

    def _on_gates(self, chosen: tuple[int, ...]) -> str:
        """The rule on some gates of the drive."""
        names, code = bases[self.spec.base].gate_names, self.code
        given = [(name if name != "states" else "moments", text) for name, text in code.arguments]
        blocks = ", ".join(f"gates[{i}]" for i in chosen)
        targets, moments = (blocks if len(chosen) == 1 else "d"), ", moments" if code.states else ""
        seen = blocks if len(chosen) == 1 else f"torch.cat([{blocks}], -1)"
        body = [
            f"gates = list(u.chunk({len(names)}, -1))  # {', '.join(names)}",
            f"{targets}{moments} = {code.call('rule', u=seen, states='moments')}",
            *([] if len(chosen) == 1 else [f"{blocks} = d.chunk({len(chosen)}, -1)"]),
            f"return torch.cat(gates, -1){moments}",
        ]
        several = "gates " + ", ".join(names[i] for i in chosen) if len(chosen) > 1 else f"gate {names[chosen[0]]}"
        return _function(signature("on_gates", given, self._result()), f"The rule on the drive of {several} alone.", body)

    def _join(self) -> str:
        """The rule on the pre-activation, for the base's step."""
        code, units = self.code, self.of_kind("unit")
        parts = bool(code.states or units)
        coupled = self.spec.rule_type.program.coupled
        u = {"u": "d", "r": "r"} if coupled else {"u": "d + r"}
        own = {"c": "self.c", "t": "self.t"}
        inner = code.call("rule", **own | u | ({"c": "c"} if units else {}), states="tuple(m[:, here] for m in self.moments)")
        return (
            TEMPLATES.get_template("join.py.j2")
            .render(
                init=signature("__init__", [("self", ""), *self._join_arguments()], "None", "    "),
                attributes=", ".join(f"self.{name}" for name, _ in self._join_arguments()),
                arguments=", ".join(name for name, _ in self._join_arguments()),
                call="self.on_channels(d, r)" if parts else code.call("rule", **own | u),
                inner=inner,
                states=code.states,
                units=_items(f'"{name}"' for name in units),
                chosen=_items(map(str, self.chosen or ())),
                outside=self.outside,
            )
            .rstrip()
        )

    def _join_arguments(self) -> list[tuple[str, str]]:
        there = {
            "c": "c" in self.code.uses,
            "t": "t" in self.code.uses,
            "moments": bool(self.code.states),
            "size": self.chosen is not None or self.outside,
            "bias": self.outside,
        }
        types = {"c": "dict[str, Any]", "t": "int", "moments": TENSORS, "size": "int", "bias": "Tensor"}
        return [(name, types[name]) for name, needed in there.items() if needed]

    def _from_input(self) -> str:
        """The coefficients at every step, where some depend on the input."""
        known = self.spec.rule_type.coefficients
        raws = {n: f'c["{n}_raw"] + x @ c["{n}_ih"]' for n in self.of_kind("input")}
        values = [f'    "{n}": {from_raw(known[n].low, known[n].high, raw)},' for n, raw in raws.items()]
        body = [
            "changing = {",
            *values,
            "}",
            "steps = zip(*(values[..., None].unbind(0) for values in changing.values()), strict=True)",
            "return [c | dict(zip(changing, now, strict=True)) for now in steps]",
        ]
        head = signature("from_input", [("c", "dict[str, Any]"), ("x", "Tensor")], "list[dict[str, Any]]")
        return _function(head, "The coefficients of each step: some depend on the input x (T, B, I), one number (B, 1) a sequence.", body)

    def loop(self, step: str) -> list[str]:
        """The statements of a time step."""
        code, lines = self.code, ["t += 1"] if "t" in self.code.uses else []
        result = "d, moments" if code.states else "d"
        match self.scope:
            case "drive":
                called = code.call("rule" if self.chosen is None else "on_gates", states="moments")
                return [*lines, f"{result} = {called}", f"state = {step}"]
            case "hidden":
                new, then = ("(new,)", "(h + d,)") if bases[self.spec.base].states == 1 else ("new, *rest", "(h + d, *rest)")
                called = code.call("rule", u="new - h", states="moments")
                return [*lines, "h = state[0]", f"{new} = {step}", f"{result} = {called}", f"state = {then}"]
            case "preactivation":
                texts = {"size": "state[0].shape[-1]", "bias": 'w["bias_ih"]'}
                given = ", ".join(texts.get(name, name) for name, _ in self._join_arguments())
                lines += [f"join = Join({given})", f"state = {step}"]
                return lines + (["moments = join.moments_after()"] if code.states else [])
        return [f"state = {step}"]

    def rows(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        """Name, value and meaning of the fixed coefficients, and of the learned ones' buffers."""
        known = self.spec.rule_type.coefficients
        fixed, learned = [], []
        for name, value in self.spec.coefficients.items():
            meaning = " ".join(known[name].meaning.split())
            if name not in self.kinds and name in self.spec.rule_type.program.root.coefficients:
                fixed.append((name, repr(value), meaning))
            elif self.kinds.get(name) == "input":
                learned.append((f"{name}_raw", repr(known[name].to_raw(value)), meaning))
                learned.append((f"{name}_ih", "0.0", f"how {name} depends on the input"))
            elif name in self.kinds:
                learned.append((name, repr(value), meaning))
        return fixed, learned

    def sizes(self) -> str:
        """Shape of the learned coefficients that are no single numbers, as the inside of a dict."""
        channels = _times(self.gates, "hidden_size")
        inputs = "input_size if layer == 0 else hidden_size"
        return ", ".join(
            [f'"{name}": {channels}' for name in self.of_kind("unit")] + [f'"{name}_ih": {inputs}' for name in self.of_kind("input")]
        )


def source(candidate: Candidate, input_size: int, *, bias: bool = True) -> str:
    """The text of ``cell.py`` for a candidate: a layer with torch.nn.LSTM's call that needs torch only.

    Args:
        candidate: cell and sizes; the latter become the layer's defaults.
        input_size: I, the default too.
        bias: with ``bias_ih`` and ``bias_hh`` where the base has them.

    Raises:
        TypeError: the code of the base needs more than torch and math, its class, or enclosing variables.
    """
    spec = candidate.spec
    base, name = bases[spec.base], class_name(spec)
    shapes = _shapes(base, bias)
    rule = _Rule.of(spec, any(key == "bias_ih" for key, _ in shapes))
    joined = rule.scope == "preactivation"
    own = dict.fromkeys([*OWN_NAMES, *HELPERS, name], object())  # equal to nothing that a plug-in may mean
    code = Embedded(IMPORTS | own, {"Join": "Join"} if joined else {})
    written = rule.functions()
    if any("math." in text for text in written):
        code.names["math"] = math
        code.imports.append("import math")
    arguments = ("w", rule.drive, "state", "OPTIONS", "join" if joined else add)
    step = code.method(base.step, "step", arguments, f'base "{spec.base}"', JOIN_DOC if joined else STEP_DOC, sums=None if joined else 4)
    fixed, learned = rule.rows()
    states, timed = rule.code.states, "t" in rule.code.uses
    size = _times(rule.gates, "h")
    channels = "G*H" if rule.chosen is None and rule.scope != "hidden" else "H" if rule.gates == 1 else f"{rule.gates}*H"
    return TEMPLATES.get_template("cell.py.j2").render(
        name=name,
        title=_wrap(spec.name),
        version=__version__,
        cell_id=spec.cell_id,
        equations=[part for line in equation_lines(spec, bias=bias) for part in _wrap(line, 112, " " * 8).split("\n")],
        sources=[_wrap(line) for line in sources(spec)],
        imports=sorted(code.imports),
        constants=code.constants,
        functions=[*written, *code.functions],
        coefficients=fixed,
        learned=learned,
        learned_sizes=rule.sizes(),
        options=json.dumps(dict(spec.options)) if "OPTIONS" in step else "",
        shapes=shapes,
        moments=", ".join(states),
        carried=bool(states) or timed,
        rule_doc=_wrap(f"one tensor (num_layers, B, {channels}) for each state of the rule: {', '.join(states)}.", 105, " " * 12),
        sizes=", ".join(["h"] * base.states + ([size] * len(states) if len(states) < 5 else [f"*[{size}] * {len(states)}"])),
        timed=timed,
        run_c="c" in rule.code.uses,
        run=_run(rule),
        outside=rule.outside,
        by_step=rule.by_step,
        loop=rule.loop(step),
        states=base.states,
        state_text="``(h, c)``, each" if base.states == 2 else "``h``",
        gates=base.gates,
        orthogonal=base.orthogonal,
        input_size=input_size,
        hidden_size=candidate.hidden_size,
        num_layers=candidate.num_layers,
        dropout=repr(candidate.dropout),
    )


def _run(rule: _Rule) -> str:
    """The ``def`` of `run`."""
    arguments = [("w", "dict[str, Tensor]"), ("x", "Tensor"), ("state", TENSORS)]
    if "c" in rule.code.uses:
        arguments.insert(0, ("c", "dict[str, Any]"))
    if rule.code.states:
        arguments.append(("moments", TENSORS))
    if "t" in rule.code.uses:
        arguments.append(("t", "int"))
    return signature("run", arguments, f"tuple[Tensor, {TENSORS}{', ' + TENSORS if rule.code.states else ''}]")


def _function(head: str, doc: str, body: Collection[str]) -> str:
    return "\n".join([head, *textwrap.indent("\n".join([f'"""{doc}"""', *body]), "    ").split("\n")])


def _items(texts: Iterable[str]) -> str:
    """The inside of a tuple."""
    texts = list(texts)
    return ", ".join(texts) + "," * (len(texts) == 1)


def _times(count: int, size: str) -> str:
    return size if count == 1 else f"{count} * {size}"


def _shapes(base: type[Base], bias: bool) -> list[tuple[str, str]]:
    """Parameter name -> shape as an expression of ``input_size`` and ``hidden_size``, read off a few sizes.

    Raises:
        TypeError: a shape that is not linear in them.
    """
    sizes = ((5, 7), (11, 7), (5, 13), (17, 29))  # three that determine a linear form, one that checks it
    probes = [base.shapes(i, h, bias) for i, h in sizes]
    out = []
    for name in probes[0]:
        dimensions = []
        for values in zip(*(p[name] for p in probes), strict=True):
            per_input, per_hidden = (values[1] - values[0]) // 6, (values[2] - values[0]) // 6
            rest = values[0] - 5 * per_input - 7 * per_hidden
            if [per_input * i + per_hidden * h + rest for i, h in sizes] != list(values):
                raise TypeError(f"base {base.__name__}: the shape of {name} is not linear in input_size and hidden_size")
            terms = [(per_input, "input_size"), (per_hidden, "hidden_size")]
            written = [_times(n, size) for n, size in terms if n] + ([str(rest)] if rest else [])
            dimensions.append(" + ".join(written) or "0")
        out.append((name, f"({', '.join(dimensions)}{',' if len(dimensions) == 1 else ''})"))
    return out


def _doc(line: str) -> str:
    """Text that may stand inside a docstring."""
    return line.replace("\\", "\\\\").replace('"', "'")


def _wrap(line: str, width: int = 118, indent: str = "") -> str:
    return textwrap.fill(_doc(line), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
