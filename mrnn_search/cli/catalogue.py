"""Verbs that list what there is: spaces, benchmarks, cells, rules. With a NAME, one of them in full."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._registry import InputError
from .tables import JsonOption, lines, listing, panel, show, write_json

if TYPE_CHECKING:
    from ..benchmarks import Benchmark

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one in full.")]


def spaces(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """Search spaces: what may be searched."""
    from ..search.files import names, resolve
    from ..search.space import load_space

    if name is not None:
        space = load_space(name)
        if as_json:
            write_json(space.to_dict())
        else:
            print(resolve("search_spaces", name).read_text(encoding="utf-8"), end="")
        return
    rows = []
    for known in names("search_spaces"):
        space = load_space(known)
        rows.append({"name": known, "description": space.description, "parameters": len(space.parameters)})
    lines(rows, as_json) if as_json else lines([{"name": r["name"], "description": r["description"]} for r in rows], False)


DataOption = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Look for its data in this folder.")]
FACTS = (
    "description",
    "metric",
    "direction",
    "reads",
    "vocabulary",
    "window",
    "input_size",
    "output_size",
    "licence",
    "source",
    "citation",
)


def benchmarks(name: NameArgument = None, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Benchmarks: tasks with real data, on which cells are compared; which data is there, and how to get what is missing."""
    from ..benchmarks import benchmarks as registry
    from ..benchmarks import load_benchmark
    from ..benchmarks.data import MissingDataError

    if name is None:
        _all_benchmarks(as_json, data)
        return
    kind = registry[name.partition(":")[0]]
    facts: dict[str, Any] = {"name": name, **{field: getattr(kind, field) for field in FACTS}, "sizes": kind.published}
    try:
        if name in registry and _needs_argument(kind):
            facts |= {"name": _shown_name(kind), "data": kind.locate(data)}
        else:
            loaded = load_benchmark(name, data)
            facts |= {field: getattr(loaded, field) for field in FACTS} | {"sizes": loaded.sizes, "shape": list(loaded.train.x.shape[1:])}
            facts |= {"to hold against": dict(loaded.figures), "data": kind.locate(data), "fingerprint": loaded.fingerprint}
    except MissingDataError as error:
        facts["data"] = f"missing: {error}"
    show({key: value for key, value in facts.items() if as_json or value not in (None, {}, "")}, as_json)


def _needs_argument(kind: type[Benchmark]) -> bool:
    """Is the bare name no benchmark yet?"""
    try:
        kind.check_argument(None)
    except InputError:
        return True
    return False


def _shown_name(kind: type[Benchmark]) -> str:
    """``ucr:NAME``, ``copying[:T]``: what may be written."""
    if kind.parameter is None:
        return kind.name
    return f"{kind.name}:{kind.parameter}" if _needs_argument(kind) else f"{kind.name}[:{kind.parameter}]"


def _all_benchmarks(as_json: bool, data: Path | None) -> None:
    """A row a benchmark; below the table what is missing, and how to get it."""
    from ..benchmarks import benchmarks as registry

    rows: list[dict[str, Any]] = []
    for known in registry:
        kind = registry[known]
        row = {
            "name": known,
            "write": _shown_name(kind),
            "description": kind.description,
            "metric": kind.metric,
            "direction": kind.direction,
        }
        row |= {"sizes": kind.published, "licence": kind.licence}
        try:
            rows.append(row | {"found": True, "data": kind.locate(data)})
        except InputError as error:
            rows.append(row | {"found": False, "data": str(error)})
    if as_json:
        write_json(rows)
        return
    shown = ("write", "description", "metric", "sizes", "licence")
    cells = [(*(str(row[key]) for key in shown), row["data"] if row["found"] else "missing") for row in rows]
    listing("Benchmarks", cells, ("benchmark", "what it is", "metric", "train / validation / test", "licence", "data"))
    missing: dict[str, list[str]] = {}
    for row in rows:
        if not row["found"]:
            missing.setdefault(row["data"], []).append(row["name"])
    for why, names in missing.items():
        print(f"{', '.join(names)}: {why}")
    print("mrnn-search benchmarks NAME shows one in full.")


ValueArguments = Annotated[list[str] | None, typer.Argument(metavar="ARG=VALUE", help="Arguments of the cell, e.g. mu=0.9.")]
LatexOption = Annotated[bool, typer.Option("--latex", help="Equations in LaTeX.")]


def cells(
    name: NameArgument = None,
    values: ValueArguments = None,
    latex: LatexOption = False,
    input_size: Annotated[int, typer.Option(help="I, for the number of parameters.", min=1)] = 28,
    hidden_size: Annotated[int, typer.Option(help="H, for the number of parameters.", min=1)] = 128,
    as_json: JsonOption = False,
) -> None:
    """Named cells (presets): the plain ones, the paper's, and controls; and the bases that cells are built on."""
    from ..cells.presets import arguments, preset, presets

    if name is None:
        _all_cells(as_json)
        return
    spec = preset(name, **_arguments(name, values or []))
    described = spec.describe(input_size, hidden_size)
    facts: dict[str, Any] = {"name": name, "description": presets()[name], "arguments": arguments(name), "cell": spec.name}
    facts |= {"cell_id": spec.cell_id, **spec.to_dict()}
    facts |= {"equations": list(described.equations), "latex": list(described.latex), "formula": described.formula}
    facts |= {"parameters": described.parameters, "input_size": input_size, "hidden_size": hidden_size}
    facts |= {"sources": list(described.sources), "controls": {key: control.name for key, control in spec.controls().items()}}
    if as_json:
        write_json(facts)
        return
    shown: dict[str, Any] = {"": f"{presets()[name]}", "cell": spec.name, "equations": facts["latex" if latex else "equations"]}
    shown |= {"coefficients": _coefficients(spec.rule_type.coefficients, spec.coefficients)} if spec.coefficients else {}
    shown |= {"options": dict(spec.options)} if spec.options else {}
    shown |= {"parameters": f"{described.parameters:,} in a layer of {hidden_size} units on {input_size} inputs"}
    shown |= {"controls": facts["controls"]} if facts["controls"] else {}
    shown |= {"sources": facts["sources"], "arguments": ", ".join(f"{k}={v}" for k, v in arguments(name).items()) or "none"}
    shown |= {"cell_id": spec.cell_id}
    panel(name, shown)


def _arguments(name: str, given: list[str]) -> dict[str, Any]:
    """``mu=0.9`` as arguments of a preset.

    Raises:
        InputError: no ``=`` in it.
    """
    out: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text!r} is no argument of {name}, allowed: ARG=VALUE, e.g. mu=0.9")
        try:
            out[key] = int(value) if value.strip().isdigit() else float(value)
        except ValueError:
            out[key] = value
    return out


def _all_cells(as_json: bool) -> None:
    from ..cells.bases.base import bases
    from ..cells.presets import preset, presets

    rows = [{"name": known, "description": line, "cell": preset(known).name} for known, line in presets().items()]
    if as_json:
        lines(rows, True)
        return

    def kind(row: dict[str, str]) -> str:
        if row["description"].startswith("Control"):
            return "Controls: what to compare with"
        return "Plain" if preset(row["name"]).rule == "plain" else "Derived from an optimizer"

    headings = ("cell", "what it is", "base and rule")
    for title in ("Plain", "Derived from an optimizer", "Controls: what to compare with"):
        listing(title, [(r["name"], r["description"], r["cell"]) for r in rows if kind(r) == title], headings)
    what = [(known, _first_line(bases[known]), " ".join(bases[known].gate_names)) for known in bases]
    listing("Bases", what, ("base", "one step", "gates"))
    print("mrnn-search cells NAME [mu=0.9 …] shows one in full; mrnn-search rules has the rules that go on any base.")


def rules(name: NameArgument = None, latex: LatexOption = False, as_json: JsonOption = False) -> None:
    """Rules: optimizer-derived updates that turn the drive into what the gates see. NAME may be a formula."""
    from ..cells import presets as _  # noqa: F401  registers the built-in rules
    from ..cells.formula.node import ELEMENTWISE, SHORT, TEMPORAL
    from ..cells.rules.base import find_rule
    from ..cells.rules.base import rules as registry

    if name is None:
        known = {rule: registry[rule] for rule in registry}
        if as_json:
            lines([{"name": n, "description": r.summary(), "formula": r.program.text} for n, r in known.items()], True)
            return
        listing("Rules", [(n, r.summary(), ", ".join(r.coefficients)) for n, r in known.items()], ("rule", "", "coefficients"))
        language = [(word, meaning) for word, (*_, meaning) in {**TEMPORAL, **ELEMENTWISE}.items()]
        language += [(f"{word}(beta)", meaning) for word, meaning in SHORT.items()]
        language += [("cycle(F)", "1 to F, starting over"), ("t", "number of the step, from 1")]
        listing('A formula is a rule too: "m(0.9) / sqrt(n(0.99) + 1e-8)"', language, ("in a formula", "means"))
        print('mrnn-search rules NAME shows one in full, mrnn-search rules "FORMULA" what a formula computes.')
        return
    rule = find_rule(name)
    program = rule.program
    facts: dict[str, Any] = {
        "name": name,
        "description": rule.summary().replace("``", ""),
        "formula": program.text,
        "equations": list(program.equations()),
        "latex": list(program.equations(latex=True)),
        "coefficients": {
            known: {"default": c.default, "allowed": c.allowed(known), "learnable": c.learnable, "meaning": c.meaning}
            for known, c in rule.coefficients.items()
        },
        "states": len(program.states),
        "linear": program.linear,
        "scopes": ["preactivation"] if program.coupled else ["drive", "preactivation", "hidden"],
        "source": rule.source,
    }
    if as_json:
        write_json(facts)
        return
    shown: dict[str, Any] = {"": facts["description"], "equations": facts["latex" if latex else "equations"], "formula": program.text}
    shown |= {"coefficients": _coefficients(rule.coefficients)} if rule.coefficients else {}
    shown |= {"state": f"{len(program.states)} tensor{'s' * (len(program.states) != 1)} beside the cell's own"}
    shown |= {"acts on": " or ".join(facts["scopes"]) + (" (linear: runs on torch's own kernels)" if program.linear else "")}
    panel(name, shown | ({"source": rule.source} if rule.source else {}))


def _coefficients(known: Any, values: Any = None) -> dict[str, str]:
    """Coefficient -> value (or default), range, and meaning."""
    rows = {}
    for name, c in known.items():
        value = (values or {}).get(name, c.default)
        rows[name] = f"{value:<8g}  {c.allowed(name)}; {c.meaning}{'' if c.learnable else ' (not learnable)'}"
    return rows


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0].replace("``", "")
