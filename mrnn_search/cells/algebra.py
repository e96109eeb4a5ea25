"""Which specs are the same function: one normal form, one identity.

Two specs that compute the same function of the same parameters have one `cell_id` (identities 1 and 4 of the cell
algebra), so a search never trains the same cell twice. ε is *not* folded into W: it changes the function at given weights,
and how optimizers of the weights see them. Whatever the rule is called, its normal form is that of its formula with the
fixed coefficients put in (`mrnn_search.cells.formula.normal`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .._registry import InputError, SpecError
from .formula.node import Node, make
from .formula.normal import normal_form, to_node
from .formula.program import Program
from .formula.text import show
from .spec import CellSpec, identity

_PLAIN = ((((("u",), 1.0),), 1.0),)
_SUM = (*_PLAIN, (((("r",), 1.0),), 1.0))


def with_values(spec: CellSpec) -> Node:
    """The rule's formula with the fixed coefficients' values put in."""
    return _with_values(spec.rule_type.program, tuple((k, v) for k, v in spec.coefficients.items() if k not in spec.learned))


@lru_cache(maxsize=8192)
def _with_values(program: Program, fixed: tuple[tuple[str, float], ...]) -> Node:
    values = dict(fixed)
    made: dict[Node, Node] = {}
    for node in program.root.walk():
        if node.op == "coef" and node.value in values:
            made[node] = Node("num", (), values[str(node.value)] + 0.0)  # its own range allows more than a number in a text
        elif not node.args:
            made[node] = node
        else:
            made[node] = make(node.op, *(made[a] for a in node.args))
    return made[program.root]


def normal(spec: CellSpec) -> dict[str, Any]:
    """The normal form as JSON data: what `cell_id` is the hash of.

    * A rule that does nothing (``d = u``, or ``a = u + r``) is plain, whatever its scope, gates and bias.
    * Coefficients count only if the formula keeps them: learned ones by name, kind and initial value.
    * ``drive_bias`` counts only where the base has a bias on the drive.
    """
    varying = [name for name, kind in spec.learned_kinds.items() if kind == "input"]
    try:
        form: Any = normal_form(with_values(spec), varying)
    except SpecError:  # a number overflows on the way: such a cell equals itself alone
        form = (spec.rule, tuple(spec.coefficients.items()), *(("coef", name) for name in spec.learned))
    text = repr(form)
    out: dict[str, Any] = {"base": spec.base, "options": dict(spec.to_dict()["options"])}
    if form in (_PLAIN, _SUM):
        return out
    out["rule"] = text
    out["scope"], out["gates"] = spec.scope, spec.gates
    if spec.drive_bias == "outside" and spec_has_drive_bias(spec):
        out["drive_bias"] = "outside"
    left = {name for name in spec.learned if f"('coef', '{name}')" in text}
    learned = {name: [spec.learned_kinds[name], float(f"{spec.coefficients[name]:.11e}")] for name in sorted(left)}
    if learned:
        out["learned"] = learned
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
    where: dict[str, Any] = {"options": options, "scope": spec.scope, "gates": spec.gates, "drive_bias": spec.drive_bias}

    def made(rule: str, **values: float) -> CellSpec | None:
        learned = {name: kind for name, kind in spec.learned_kinds.items() if name in values}
        try:
            return CellSpec(spec.base, rule, values, learned, **where)
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
    if spec.rule_type.__name__ == "Symbolic":
        out += _simpler_formula(spec, made)
    return out


def _simpler_formula(spec: CellSpec, made: Any) -> list[CellSpec | None]:
    form = normal_form(with_values(spec), [n for n, kind in spec.learned_kinds.items() if kind == "input"])
    out: list[CellSpec | None] = []
    if not spec.learned and len(form) == 1 and len(form[0][0]) == 1 and form[0][1] > 0:
        (atom, exponent), factor = form[0][0][0], form[0][1]
        if atom == ("u",) and exponent == 1:
            out.append(made("heavy_ball", mu=0.0, epsilon=factor))
        if atom[0] == "lti" and exponent == 1 and atom[1] == ((("u",), 1.0),) and not atom[2] and len(atom[3]) == 1:
            out.append(made("heavy_ball", mu=atom[3][0][0][1], epsilon=factor))
    try:
        node = to_node(form)
        if node.is_signal and node.size < spec.rule_type.program.root.size:
            out.append(made(show(node), **{name: spec.coefficients[name] for name in node.coefficients}))
    except SpecError:  # longer than a formula may be
        pass
    return out
