"""A candidate as the text of `cell.py`: one readable module that needs torch and nothing else.

The text holds the rule's and the base's own code (`embed`), and around it `cell.py.j2`: a layer with torch.nn.LSTM's call.
"""

from __future__ import annotations

import ast
import json
import keyword
import textwrap
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from .. import __version__
from ..cells.bases.base import Base, bases
from ..cells.rules.base import Moment, rules
from ..cells.spec import Candidate, CellSpec
from .embed import Embedded

TEMPLATES = Environment(  # Python and Markdown: nothing is escaped
    loader=PackageLoader("mrnn_search", "results"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

# What `cell.py.j2` binds at its top: its imports, and names that nothing embedded may take.
IMPORTS: dict[str, object] = {"torch": torch, "Tensor": torch.Tensor, "nn": torch.nn, "F": torch.nn.functional, "Any": Any}
OWN_NAMES = "c moments t u COEFFICIENTS DTYPES LEARNED OPTIONS Path State json load read read_tensors run shapes step update".split()
STEP_DOC = "One time step: what the gates see (B, G*H) and the state, each (B, H) -> the next state; h is its first."
READ_DOC = "What the gates see, d_t, from the drive u_t and the moments after their update; each (B, G*H)."


def class_name(spec: CellSpec) -> str:
    """Name of the layer's class: the rule's and the base's, e.g. ``HeavyBallLSTM``."""
    return f"{rules[spec.rule].__name__}{bases[spec.base].__name__}".replace("_", "")


def source(candidate: Candidate, input_size: int, *, bias: bool = True) -> str:
    """The text of ``cell.py`` for a candidate: a layer with torch.nn.LSTM's call that needs torch only.

    Args:
        candidate: cell and sizes; the latter become the layer's defaults.
        input_size: I, the default too.
        bias: with ``bias_ih`` and ``bias_hh`` where the base has them.

    Raises:
        TypeError: the code of the rule or of the base needs more than torch and math, its class, or enclosing variables.
    """
    spec = candidate.spec
    base, rule, name = bases[spec.base], rules[spec.rule], class_name(spec)
    code = Embedded(IMPORTS | dict.fromkeys([*OWN_NAMES, name], object()))  # equal to nothing that a plug-in may mean
    updates, moments = _updates(code, spec)
    read = code.method(rule.read, "read", ("c", "u", "moments"), f'rule "{spec.rule}"', READ_DOC)
    step = code.method(base.step, "step", ("w", "d", "state", "OPTIONS"), f'base "{spec.base}"', STEP_DOC)
    used = {n.id for line in updates for n in ast.walk(ast.parse(line)) if isinstance(n, ast.Name)}
    shapes = _shapes(base, bias)
    meanings = {key: " ".join(c.meaning.split()) for key, c in rule.coefficients.items()}
    rows = [(key, repr(value), meanings[key]) for key, value in spec.coefficients.items()]
    return TEMPLATES.get_template("cell.py.j2").render(
        name=name,
        title=_doc(spec.name),
        version=__version__,
        cell_id=spec.cell_id,
        equations=[_doc(line) for line in (*rule.equations, *base.equations)],
        sources=[_wrap(f"Rule {spec.rule}: {rule.source}."), _wrap(f"Base {spec.base}: {base.source}.")],
        drive_bias=any(key == "bias_ih" for key, _ in shapes),
        imports=sorted(code.imports),
        constants=code.constants,
        functions=code.functions,
        coefficients=[row for row in rows if row[0] not in spec.learned],
        learned=[row for row in rows if row[0] in spec.learned],
        options=json.dumps(dict(spec.options)) if "OPTIONS" in step else "",
        shapes=shapes,
        moments=moments,
        sizes=", ".join(["h"] * base.states + [f"{base.gates} * h" if base.gates > 1 else "h"] * len(rule.moments)),
        updates=updates,
        update_c="c" in used,
        update_t="t" in used,
        run_c="c" in used or read.startswith("read(c"),
        read=read,
        step=step,
        states=base.states,
        state_text="``(h, c)``, each" if base.states == 2 else "``h``",
        gates=base.gates,
        orthogonal=base.orthogonal,
        input_size=input_size,
        hidden_size=candidate.hidden_size,
        num_layers=candidate.num_layers,
        dropout=repr(candidate.dropout),
    )


def _updates(code: Embedded, spec: CellSpec) -> tuple[list[str], str]:
    """One assignment for each moment of the rule, and the moments' names as a tuple: ``v, s``."""
    moments = rules[spec.rule].moments
    scalars = []
    for m in moments:
        where = f'rule "{spec.rule}", {m.name}'
        scalars.append((code.scalar(m.decay, spec, f"{where}: decay"), code.scalar(m.gain, spec, f"{where}: gain")))
    taken = {"c", "t", "u", "moments", *code.names, *keyword.kwlist}
    names = [m.name for m in moments]
    if len(set(names)) < len(names) or any(not name.isidentifier() or name in taken for name in names):
        names = [f"moment_{i}" for i in range(len(names))]
    lines = [_update(n, m, *pair) for n, m, pair in zip(names, moments, scalars, strict=True)]
    return lines, f"({names[0]},)" if len(names) == 1 else ", ".join(names)


def _update(name: str, moment: Moment, decay: str, gain: str) -> str:
    return f"{name} = {decay} * {name} + {gain} * u" + (f"**{moment.power}" if moment.power != 1 else "")


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
            written = [size if n == 1 else f"{n} * {size}" for n, size in terms if n] + ([str(rest)] if rest else [])
            dimensions.append(" + ".join(written) or "0")
        out.append((name, f"({', '.join(dimensions)}{',' if len(dimensions) == 1 else ''})"))
    return out


def _doc(line: str) -> str:
    """Text that may stand inside a docstring."""
    return line.replace("\\", "\\\\").replace('"', "'")


def _wrap(line: str) -> str:
    return textwrap.fill(_doc(line), 118, break_long_words=False, break_on_hyphens=False)
