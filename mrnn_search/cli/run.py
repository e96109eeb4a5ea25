"""The verbs that start something: ``run`` a study (or go on with it), ``check`` a file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._registry import InputError
from .exits import FAILED, INTERRUPTED, say
from .study import LEADERBOARD, for_people, shown_of
from .tables import Format, FormatOption, JsonOption, chosen, show, write, write_json

if TYPE_CHECKING:
    from ..results.study import Study
    from ..results.suite import Suite
    from ..search.recipe import Recipe

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the recipe; repeatable.")]


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or file.")],
    changes: SetOption = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="URL", help="Database for the ledger.  [default: a journal file]")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study.  [default: the recipe's]")] = None,
    fork: Annotated[
        str | None, typer.Option("--fork", metavar="NEWNAME", help="Begin a new study with what still counts of this one's trials.")
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help="Who trains: local (processes) or ray (Ray Tune).")] = "local",
    devices: Annotated[
        str | None, typer.Option("--devices", metavar="LIST", help="One worker for each, e.g. cuda:0,cuda:1.  [default: one a processor]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="How many.  [default: one a device; on a cluster as many as fit]")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus-per-worker", metavar="X", help="Processors that each is given.  [default: the recipe's, or 1]")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option("--gpus-per-worker", metavar="X", help="Share of a GPU that each is given, e.g. 0.25.")
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", metavar="HOST:PORT", help="Ray cluster to join, or auto.  [default: $RAY_ADDRESS, or a local one]"),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option("--retries", metavar="N", help="Workers that a pack may lose before its lanes fail.  [default: the recipe's, or 2]"),
    ] = None,
    format: FormatOption = Format.table,
    as_json: JsonOption = False,
) -> None:
    """Run a study, or go on with it where it was left; ends with its leaderboard."""
    format = chosen(format, as_json)
    from ..results.launch import search
    from ..results.study import runs_folder
    from ..results.suite import Suite
    from ..search.overrides import parse_set
    from .progress import Bar

    told = {
        "--name": name,
        "--fork": fork,
        "--executor": executor if executor != "local" else None,
        "--devices": devices,
        "--workers": workers,
        "--cpus-per-worker": cpus,
        "--gpus-per-worker": gpus,
        "--ray-address": ray_address,
        "--retries": retries,
    }
    command = _command(recipe, changes, {"--storage": storage, **told})
    _say_if_slow(devices)
    worked = False
    with Bar() as bar:

        def show(now: Any) -> None:
            nonlocal worked
            worked = True
            bar(now)

        try:
            study = search(
                recipe,
                name=name,
                storage=storage,
                executor=executor,
                devices=devices,
                workers=workers,
                cpus_per_worker=cpus,
                gpus_per_worker=gpus,
                ray_address=ray_address,
                retries=retries,
                on_progress=show,
                command=_command(recipe, changes, told),
                fork=fork,
                on_fork=lambda forked: say(str(forked)),
                overrides=parse_set(changes or []),
            )
        except KeyboardInterrupt:  # the head's own `Interrupted` too
            say(f"stopped; everything that finished is saved in {runs_folder()}. To go on: {command}")
            raise typer.Exit(INTERRUPTED) from None
    if isinstance(study, Suite):
        _finish_suite(study, worked, format)
    else:
        _finish(study, worked, format)


def _say_if_slow(devices: str | None) -> None:
    """Build the kernels before the workers want them; once, and here, the user hears of it if that cannot be done."""
    from ..engine.native.build import Native, native

    if devices is None or "cpu" in devices:
        found = native()
        if not isinstance(found, Native):
            say(f"no fused CPU kernels: {found}. Cells train on torch's kernels or step by step, a few times slower")


def _command(recipe: str, changes: list[str] | None, options: Mapping[str, str | float | None]) -> str:
    """What to type to run this again, the storage's password left out."""
    from ..search.storage import shown

    words = ["mrnn-search", "run", recipe]
    for change in changes or ():
        words += ["--set", change]
    for option, value in options.items():
        if value is not None:
            words += [option, shown(str(value)) if option == "--storage" else str(value)]
    return shlex.join(words)


def _finish(study: Study, worked: bool, format: Format) -> None:
    """Leaderboard on stdout; verdict, files and what to do next for people on stderr."""
    board = study.leaderboard()
    say(f"study {study.name} is complete" + ("" if worked else "; nothing was left to do"))
    if board.empty:
        say(f"no cell could be confirmed; `mrnn-search trials {study.name}` says why")
        raise typer.Exit(FAILED)
    write(for_people(board, format), format, None, LEADERBOARD)
    if format is Format.table:
        from ..results.controls import controls_verdicts

        print("\n".join(["", study.verdict(), *controls_verdicts(study.controls())]), flush=True)
        say(f"\nthis is a {study.label}")
    report, cell = study.folder / "report.html", study.folder / "best_cell"
    if study.is_newer_than(report):
        study.report()
    try:
        if study.is_newer_than(cell / "cell.json"):
            study.export(cell)
        say(f"\nthe best cell   {cell}{os.sep}  (cell.py, weights, card)")
    except InputError as error:  # the results are whole all the same: the weights lie elsewhere, or are lost
        say(f"\nthe best cell is not exported: {error}")
    say(f"the report      {report}")
    say(f"next            mrnn-search trials {study.name} --top 10\n                mrnn-search compare {study.name} 1 lstm")


def _finish_suite(suite: Suite, worked: bool, format: Format) -> None:
    """The ranking over the benchmarks on stdout, with what it allows one to say; the report on stderr."""
    board = suite.leaderboard()
    say(f"study {suite.name} is complete" + ("" if worked else "; nothing was left to do"))
    if board.empty:
        say(f"no cell could be confirmed on every benchmark; `mrnn-search trials {suite.name}` says why")
        raise typer.Exit(FAILED)
    write(for_people(board, format), format, None, shown_of(suite, "leaderboard", LEADERBOARD))
    if format is Format.table:
        print(f"\n{suite.verdict()}", flush=True)
    say(f"\nthis is a {suite.label}")
    say(f"the report      {suite.report()}")
    say(f"next            mrnn-search leaderboard {next(iter(suite.studies.values())).name}")


def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recipe or a space: name or file.")],
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a recipe or a space, count its distinct cells, estimate its cost; trains nothing."""
    from ..search.overrides import parse_set
    from ..search.space import load_space
    from ..search.suite import SuiteRecipe, load_recipes

    if _is_space(file) and not changes:
        space = load_space(file)
        facts: dict[str, Any] = {"space": space.name}
    else:
        recipe = load_recipes(file, parse_set(changes or []))
        members = recipe.members if isinstance(recipe, SuiteRecipe) else (recipe,)
        space = members[0].space
        facts = {"recipe": recipe.name, "space": space.name}
        for member in members:
            told = {"benchmark": member.benchmark, **_cost(member)}
            facts |= told if len(members) == 1 else {f"{key} of {member.benchmark}": told[key] for key in told if key != "benchmark"}
    facts |= asdict(space.count())
    if as_json:
        write_json(facts)
        return
    at_least = "more than " if facts.pop("capped") else ""
    facts["structures"] = f"{at_least}{facts['structures']:,} different ones, each a family over the continuous parameters"
    facts["continuous"] = ", ".join(facts["continuous"]) or "none"
    facts["candidates"] = "infinitely many, or too many to count" if facts["candidates"] is None else f"{facts['candidates']:,}"
    facts["collapsed"] = [f"{a}  is  {b}" for a, b in facts["collapsed"]] or "none found"
    show(facts)


def _is_space(file: str) -> bool:
    """Is it a space, and no recipe? A name that is both is the recipe's; what cannot be read is left to the recipe's reader."""
    from ..search.files import read_yaml, resolve

    for kind in ("trials", "search_spaces"):
        try:
            path = resolve(kind, file)
        except InputError:
            continue
        try:
            data = read_yaml(path)
        except InputError:
            return kind == "search_spaces" or path.parent.name == "search_spaces"
        return not {"space", "benchmark", "benchmarks"} & set(data)
    return False


def _cost(recipe: Recipe) -> dict[str, Any]:
    """What the recipe trains, in epochs and sequences; seconds depend on the machine and on what the search finds."""
    from ..benchmarks import load_benchmark
    from ..search.driver import expected_epochs

    benchmark = load_benchmark(recipe.benchmark, Path(recipe.data) if recipe.data else None)
    baselines, confirmation = recipe.baselines, recipe.confirmation
    epochs = expected_epochs(recipe)
    recipe = recipe.matched({name: getattr(benchmark, name) for name in ("input_size", "output_size", "vocabulary")})
    names = ", ".join(baselines.cells) or "no baseline"
    confirmed = f"{confirmation.top} found, {len(baselines.cells)} baselines"
    return {
        "search": f"{recipe.budget.trials} candidates; {recipe.baseline_trials} more for each of {names}",
        "confirmation": f"{confirmed}; {confirmation.seeds} seeds, {confirmation.epochs} epochs each",
        "cost": f"about {epochs:,} epochs, {epochs * benchmark.sizes['train']:,} training sequences",
        **_matched(recipe),
    }


def _matched(recipe: Recipe) -> dict[str, Any]:
    """Hidden sizes and numbers of parameters of the baselines and of some of the space's bases, where the recipe matches them."""
    from ..cells.presets import preset
    from ..cells.spec import Candidate, CellSpec
    from ..search.recipe import MATCHED_DRAWS

    matching = recipe.space.matching
    if matching is None:
        return {}
    cells = [preset(name) for name in recipe.baselines.cells]
    cells += [CellSpec(candidate.spec.base) for candidate in recipe.space.draw(MATCHED_DRAWS, 0)]
    fitted = {candidate.spec.name: candidate for candidate in map(matching, map(Candidate, cells))}
    texts = [f"{n}: hidden {c.hidden_size}, {matching.count(c):,} ({matching.deviation(c):+.1%})" for n, c in fitted.items()]
    return {"match_parameters": [f"{matching.target:,} wanted", *texts]}
