"""Verbs that list what there is: spaces, benchmarks, cells, rules, studies. With a NAME, one of them in full."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from .._registry import InputError
from .tables import JsonOption, lines, show, write_json

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


def benchmarks(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """Benchmarks: tasks with real data, on which cells are compared."""
    from ..benchmarks import benchmarks as registry
    from ..benchmarks import load_benchmark

    if name is None:
        lines([{"name": known, "description": registry[known].description} for known in registry], as_json)
        return
    kind = registry[name]
    facts: dict[str, Any] = {
        field: getattr(kind, field)
        for field in ("name", "description", "metric", "direction", "input_size", "output_size", "licence", "source", "citation")
    }
    loaded = load_benchmark(name)
    facts |= {"sizes": loaded.sizes, "fingerprint": loaded.fingerprint}
    show(facts, as_json)


def cells(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """Named cells (presets): the plain ones, the paper's, and controls."""
    from ..cells.bases.base import bases
    from ..cells.presets import preset, presets
    from ..cells.rules.base import rules

    if name is None:
        lines([{"name": known, "description": line} for known, line in presets().items()], as_json)
        return
    spec = preset(name)
    facts: dict[str, Any] = {"name": name, "description": presets()[name], "cell": spec.name, "cell_id": spec.cell_id}
    facts |= spec.to_dict()
    facts["equations"] = [*rules[spec.rule].equations, *bases[spec.base].equations]
    facts["sources"] = [rules[spec.rule].source, bases[spec.base].source]
    show(facts, as_json)


def rules(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """Rules: optimizer-derived updates that turn the drive into what the gates see."""
    from ..cells import presets as _  # noqa: F401  registers the built-in rules
    from ..cells.rules.base import rules as registry

    if name is None:
        lines([{"name": known, "description": _first_line(registry[known])} for known in registry], as_json)
        return
    rule = registry[name]
    ranges = {
        known: {"default": c.default, "allowed": c.allowed(known), "learnable": c.learnable, "meaning": c.meaning}
        for known, c in rule.coefficients.items()
    }
    facts = {
        "name": name,
        "description": _first_line(rule),
        "equations": list(rule.equations),
        "coefficients": ranges,
        "source": rule.source,
    }
    show(facts, as_json)


def studies(
    name: NameArgument = None,
    as_json: JsonOption = False,
    storage: Annotated[str | None, typer.Option("--storage", metavar="URL", help="Where NAME's ledger is, if not in its folder.")] = None,
) -> None:
    """Studies in the runs folder ($MRNN_SEARCH_RUNS, or ./runs)."""
    from ..results.study import load_study, runs_folder

    if name is not None:
        study = load_study(name, storage=storage)
        show({"name": study.name, "folder": str(study.folder), "state": study.state, "recipe": study.recipe, **study.meta}, as_json)
        return
    rows = []
    for folder in sorted(Path(runs_folder()).glob("*/")):
        if not folder.is_dir() or not any(folder.iterdir()):
            continue
        try:
            study = load_study(str(folder))
            rows.append({"name": folder.name, "state": study.state, "trials": len(study.trials())})
        except InputError as error:  # one unreadable study must not hide the others
            rows.append({"name": folder.name, "state": f"unreadable: {error}", "trials": None})
    shown = rows if as_json else [{"name": r["name"], "line": f"{r['state']}, {r['trials']} trials"} for r in rows]
    lines(shown, as_json)


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0]
