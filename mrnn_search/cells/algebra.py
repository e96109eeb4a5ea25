"""Which specs are the same function: one normal form, one identity.

Two specs that compute the same function of the same parameters have one `cell_id` (identities 1 and 4 of the cell
algebra), so a search never trains the same cell twice. ε is *not* folded into W: it changes the function at given weights,
and how optimizers of the weights see them. Whatever the rule is called, its normal form is that of its formula with the
fixed coefficients put in (`mrnn_search.cells.formula.normal`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .._registry import InputError, SpecError
from .formula.node import Node, R, U, make
from .formula.normal import Poly, normal_form, to_node
from .formula.program import Program
from .formula.program import with_values as program_with_values
from .formula.text import show
from .rules.base import STANDARD, Symbolic
from .spec import CellSpec, identity

_PLAIN = normal_form(U)
_R = normal_form(R)
_SUM = normal_form(make("add", R, U))


def with_values(spec: CellSpec) -> Node:
    """The rule's formula with the fixed coefficients' values put in."""
    return program_with_values(spec.rule_type.program, _fixed(spec))


def _fixed(spec: CellSpec) -> tuple[tuple[str, float], ...]:
    return tuple((k, v) for k, v in spec.coefficients.items() if k not in spec.learned)


@dataclass(frozen=True)
class Form:
    """The normal form of a rule, wherever it acts.

    Attributes:
        text: of the polynomial.
        reads: "u" (the drive), "p" (the whole pre-activation u + r, or whatever the scope says) or "u, r".
        plain: the rule changes nothing.
        poly: the polynomial; None where there is none (a number overflows).
    """

    text: str
    reads: str
    plain: bool
    poly: Poly | None = None


@lru_cache(maxsize=8192)
def _form(program: Program, fixed: tuple[tuple[str, float], ...], varying: frozenset[str], signed: frozenset[str]) -> Form:
    """Cells of a search differ in much that leaves the rule's formula as it is: remembered.

    A coupled rule may be an ordinary one in disguise: ``r + f(u)`` is f on the drive, ``f(u + r)`` is f on the pre-activation.
    """
    try:
        root = program_with_values(program, fixed)
        form = normal_form(root, varying, signed)
        if not program.coupled:
            return Form(repr(form), "p", form == _PLAIN, form)
        if form == _SUM:
            return Form(repr(form), "p", True, _PLAIN)
        rest = tuple(term for term in form if term != _R[0])
        if len(rest) < len(form) and "('r',)" not in repr(rest):
            return Form(repr(rest), "u", False, rest)
        joined = normal_form(_replaced(root, U, make("sub", U, R)), varying, signed)  # u is what was u + r
        if "('r',)" not in repr(joined):
            return Form(repr(joined), "p", False, joined)
        return Form(repr(form), "u, r", False, form)
    except SpecError:  # a number overflows on the way, or the form is too long: such a rule equals itself alone
        coefficients = tuple(("coef", name) for name in program.root.coefficients)
        return Form(repr((program.text, fixed, coefficients)), "u, r" if program.coupled else "p", False)


def _replaced(root: Node, leaf: Node, by: Node) -> Node:
    made: dict[Node, Node] = {}
    for node in root.walk():
        made[node] = by if node == leaf else Node(node.op, tuple(made[a] for a in node.args), node.value)
    return made[root]


def form_of(spec: CellSpec) -> Form:
    """The normal form of the rule with its fixed coefficients put in."""
    varying = frozenset(name for name, kind in spec.learned_kinds.items() if kind == "input")
    signed = frozenset(name for name in spec.learned if spec.rule_type.coefficients[name].low < 0)
    return _form(spec.rule_type.program, _fixed(spec), varying, signed)


def normal(spec: CellSpec) -> dict[str, Any]:
    """The normal form as JSON data: what `cell_id` is the hash of.

    * A rule that does nothing (``d = u``, or ``a = u + r``) is plain, whatever its scope, gates and bias.
    * Coefficients count only if the formula keeps them: learned ones by name, kind, initial value and, where it is not that
      of every rule of this package, range: the map of the trained number depends on it.
    * ``drive_bias`` counts only where the base has a bias on the drive.
    """
    out: dict[str, Any] = {"base": spec.base, "options": dict(spec.to_dict()["options"])}
    form = form_of(spec)
    return out if form.plain else {**out, **place_part(spec, form), **rule_part(spec, form)}


def rule_part(spec: CellSpec, form: Form) -> dict[str, Any]:
    """What `normal` has of the rule and its coefficients alone."""
    left = {name for name in spec.learned if f"('coef', '{name}'" in form.text}
    learned = {name: [spec.learned_kinds[name], float(f"{spec.coefficients[name]:.11e}"), *_range(spec, name)] for name in sorted(left)}
    return {"rule": form.text, **({"reads": "u, r"} if form.reads == "u, r" else {}), **({"learned": learned} if learned else {})}


def _range(spec: CellSpec, name: str) -> list[Any]:
    """The bounds between which a coefficient is learned (null: none), if they are its own."""
    c = spec.rule_type.coefficients[name]
    if name in STANDARD and (c.low, c.high) == (STANDARD[name].low, STANDARD[name].high):
        return []
    return [c.low, None if math.isinf(c.high) else c.high]


def place_part(spec: CellSpec, form: Form) -> dict[str, Any]:
    """What `normal` has of where the rule acts; of the form only what it reads."""
    out: dict[str, Any] = {"scope": "drive" if form.reads == "u" else spec.scope, "gates": spec.gates}
    if spec.drive_bias == "outside" and spec_has_drive_bias(spec):
        out["drive_bias"] = "outside"
    return out


def spec_has_drive_bias(spec: CellSpec) -> bool:
    """Does the base add ``bias_ih`` to the drive (when it has biases at all)?"""
    from .bases.base import bases

    return "bias_ih" in bases[spec.base].shapes(1, 1, True)


@lru_cache(maxsize=200_000)
def cell_id(spec: CellSpec) -> str:
    """SHA-256 (hex) of the normal form."""
    return identity(normal(spec))


def canonical(spec: CellSpec) -> CellSpec:
    """A plainer spec with the same `cell_id`, where one is known; else ``spec`` itself. A fixed point of itself.

    Named rules that are a special case of a simpler one become that (adam with mu = 0: rmsprop); a formula becomes a named
    rule if it is one that is linear in u, or its own normal form if that is shorter.
    """
    here = spec
    while True:
        for plainer in _plainer(here):
            if plainer is not None and plainer != here and cell_id(plainer) == cell_id(spec):
                here = plainer
                break
        else:
            return here


def _plainer(spec: CellSpec) -> list[CellSpec | None]:
    """Candidates for a simpler spec of the same function; each is checked by its identity."""
    c, options = spec.coefficients, spec.options
    where: dict[str, Any] = {"options": options, "gates": spec.gates, "drive_bias": spec.drive_bias}

    def made(rule: str, scope: str = spec.scope, /, **values: float) -> CellSpec | None:
        learned = {name: kind for name, kind in spec.learned_kinds.items() if name in values}
        try:
            return CellSpec(spec.base, rule, values, learned, scope=scope, **where)
        except InputError:
            return None

    out: list[CellSpec | None] = [CellSpec(spec.base, options=options)]
    if spec.drive_bias == "outside":
        out.append(CellSpec.from_dict({**spec.to_dict(), "drive_bias": "inside"}))
    kept = {k: c[k] for k in ("epsilon", "mu", "beta", "delta") if k in c}
    match spec.rule:
        case "nesterov":
            out.append(made("heavy_ball", mu=0.0, epsilon=c["epsilon"]))
        case "ema":
            out.append(made("heavy_ball", mu=c["mu"], epsilon=1 - c["mu"]))
        case "nesterov_lookahead":
            out.append(made("heavy_ball", mu=0.0, epsilon=c["epsilon"]))
        case "qhm":
            out.append(made("heavy_ball", mu=0.0, epsilon=c["epsilon"]))
            out.append(made("heavy_ball", mu=c["mu"], epsilon=c["epsilon"] * (1 - c["mu"])))
        case "adam" | "rmsprop_momentum":
            out.append(made("rmsprop", **{k: v for k, v in kept.items() if k != "mu"}))
    if issubclass(spec.rule_type, Symbolic):
        out += _simpler_formula(spec, made)
    return out


def _simpler_formula(spec: CellSpec, made: Callable[..., CellSpec | None]) -> list[CellSpec | None]:
    form = form_of(spec)
    if form.poly is None:
        return []
    poly, out = form.poly, list[CellSpec | None]()
    scope = "drive" if form.reads == "u" else spec.scope
    if not spec.learned and form.reads != "u, r" and len(poly) == 1 and len(poly[0][0]) == 1 and poly[0][1] > 0:
        (atom, exponent), factor = poly[0][0][0], poly[0][1]
        if atom == ("u",) and exponent == 1:
            out.append(made("heavy_ball", scope, mu=0.0, epsilon=factor))
        if atom[0] == "lti" and exponent == 1 and atom[1] == ((("u",), 1.0),) and not atom[2] and len(atom[3]) == 1:
            out.append(made("heavy_ball", scope, mu=atom[3][0][0][1], epsilon=factor))
    try:
        node = to_node(poly)
        if node.is_signal and node.size < spec.rule_type.program.root.size:
            out.append(made(show(node), scope, **{name: spec.coefficients[name] for name in node.coefficients}))
    except SpecError:  # longer than a formula may be
        pass
    return out
