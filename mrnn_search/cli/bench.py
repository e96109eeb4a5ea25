"""``bench``: the project's own measurements. Ratios to people, every round to programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._registry import InputError, UnknownNameError
from .exits import guarded, say
from .tables import finite, listing, show, write_json

if TYPE_CHECKING:
    from ..bench.engine import Comparison, Report, Settings
    from ..bench.rounds import Spread
    from ..bench.search import Report as SearchReport

SHAPES, RULES, BASES = "A,C,D,E", "heavy_ball,adam", "lstm,gru,orthogonal"
LANES, ALL_LANES = "1,8", "1,2,8,32"
SIZES, ALL_SIZES, SAMPLERS = "100,1000,10000", "100,1000,10000,100000", "random,tpe"

JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout in place of the tables.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Also write the JSON to this file.")]

bench = typer.Typer(name="bench", help="Measure this package on this machine.", no_args_is_help=True)


@bench.callback()
def _bench() -> None:
    """Measure this package on this machine."""


def engine(
    shapes: Annotated[str | None, typer.Option(help=f"Of A, B, C, D, E. Default: {SHAPES}.", show_default=False)] = None,
    rules: Annotated[str | None, typer.Option(help=f"Rules on the drive, or all. Default: {RULES}.", show_default=False)] = None,
    bases: Annotated[str | None, typer.Option(help=f"Of lstm, gru, orthogonal, rnn. Default: {BASES}.", show_default=False)] = None,
    lanes: Annotated[str | None, typer.Option(help=f"Candidates in lockstep. Default: {LANES}.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every shape, rule and base: takes hours.")] = False,
    seconds: Annotated[float, typer.Option(help="For each comparison; at least five rounds are made.", min=0.0)] = 3.0,
    loss: Annotated[str, typer.Option(help="last: of the last step's output; sequence: of every step's.")] = "last",
    threads: Annotated[int, typer.Option(help="Of every side.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda:0.")] = "cpu",
    processes: Annotated[
        int | None, typer.Option(help="Also compare so many processes with so many threads; 0: do not. Default: the cores.", min=0)
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Only print which execution the planner picks, and why.")] = False,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """The engine beside the per-step loop, torch.nn and the bare matrix products: time per candidate and update, as ratios."""
    from ..bench.engine import Settings, run
    from ..bench.engine import explain as explained
    from ..bench.loop_rules import LOOP_RULES
    from ..bench.machine import cores
    from ..bench.setting import BASES as ALL_BASES
    from ..bench.setting import LOSSES
    from ..bench.setting import SHAPES as ALL_SHAPES

    settings = Settings(
        shapes=_names("shape", shapes, ALL_SHAPES, SHAPES, everything),
        rules=_names("rule", rules, LOOP_RULES, RULES, everything),
        bases=_names("base", bases, ALL_BASES, BASES, everything),
        lanes=_counts(lanes or (ALL_LANES if everything else LANES)),
        seconds=seconds,
        threads=threads,
        device=_device(device),
        loss=_names("loss", loss, LOSSES, loss, False)[0],
        processes=cores() if processes is None else processes,
        crews_everywhere=everything,
    )
    _check_folder(out)
    if explain:
        rows = explained(settings)
        texts = [tuple("" if v is None else str(v) for v in r.values()) for r in rows]
        write_json(rows) if as_json else listing("Executions", texts, tuple(rows[0]))
        return
    report = run(settings, say)
    _give(report.to_dict(), out, as_json, lambda: _print(report, settings))


def search(
    sizes: Annotated[str | None, typer.Option(help=f"Trials in the ledger. Default: {SIZES}.", show_default=False)] = None,
    samplers: Annotated[str | None, typer.Option(help=f"Names, or all. Default: {SAMPLERS}.", show_default=False)] = None,
    storages: Annotated[str, typer.Option(help="Of journal, sqlite.")] = "journal,sqlite",
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="URL", help="Also this database; what is written there goes again.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Sizes {ALL_SIZES} and every sampler: takes hours.")] = False,
    trials: Annotated[int, typer.Option(help="So many are asked for, reported and told at each size.", min=1)] = 32,
    executors: Annotated[str, typer.Option(help="Of local, ray: packs a second; or none.")] = "local",
    packs: Annotated[int, typer.Option(help="So many, of no work.", min=1)] = 200,
    study: Annotated[str | None, typer.Option(help="Only tell how busy this study kept its devices.")] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """What a search costs beside the training: asking, writing down, telling; packs a second; how busy a study kept its devices."""
    _check_folder(out)
    if study is not None:
        busy = _utilisation(study, storage)
        _give(busy, out, as_json, lambda: show({key: f"{value:.3g}" if value is not None else "–" for key, value in busy.items()}))
        return
    from ..bench.search import STORAGES, Settings, run
    from ..search.executors import executors as known_executors
    from ..search.samplers import samplers as known_samplers

    settings = Settings(
        sizes=tuple(sorted(_counts(sizes or (ALL_SIZES if everything else SIZES), "--sizes"))),
        samplers=_names("sampler", samplers, known_samplers, SAMPLERS, everything),
        storages=(*_names("storage", storages, STORAGES[:2], storages, False), *STORAGES[2:][: storage is not None]),
        url=storage,
        trials=trials,
        executors=() if executors == "none" else _names("executor", executors, known_executors, executors, False),
        packs=packs,
    )
    report = run(settings, say)
    _give(report.to_dict(), out, as_json, lambda: _print_search(report))


bench.command()(guarded(engine))
bench.command()(guarded(search))


def _check_folder(out: Path | None) -> None:
    """Raises:
    InputError: there is no folder to write to; said before anything is measured.
    """
    if out is not None and not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent}", "--out")


def _give(data: Mapping[str, Any], out: Path | None, as_json: bool, tell: Callable[[], None]) -> None:
    """What was measured: to the file, and to the screen."""
    if out is not None:
        out.write_text(json.dumps(finite(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    write_json(data) if as_json else tell()


def _utilisation(study: str, storage: str | None) -> dict[str, float | None]:
    """Seconds training and held, and their ratio."""
    from ..results.study import load_study

    found = load_study(study, storage=storage).utilisation()
    return {"training_s": found.training, "held_s": found.held, "utilisation": found.share}


def _names(kind: str, given: str | None, known: Iterable[str], usual: str, everything: bool) -> tuple[str, ...]:
    """The chosen ones of ``known``; "all", or ``everything`` where none are given, is every one.

    Raises:
        UnknownNameError: there is no such one.
    """
    allowed = tuple(known)
    if given == "all" or (given is None and everything):
        return allowed
    names = [name.strip() for name in (given or usual).split(",")]
    for name in names:
        if name not in allowed:
            raise UnknownNameError(kind, name, allowed, f"--{kind}" if kind == "loss" else f"--{kind}s")
    return tuple(dict.fromkeys(names))


def _counts(text: str, option: str = "--lanes") -> tuple[int, ...]:
    """``1,8`` as numbers.

    Raises:
        InputError: not whole numbers of at least 1.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) >= 1 for part in parts):
        raise InputError(f"{text!r}, allowed: whole numbers >= 1, separated by commas", option)
    return tuple(dict.fromkeys(map(int, parts)))


def _device(name: str) -> str:
    """Raises:
    InputError: this machine has no such device.
    """
    import torch

    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    name = "cuda:0" if name == "cuda" else name
    if name not in there:
        raise InputError(f'no device "{name}"; found: {", ".join(there)}', "--device")
    return name


def _print(report: Report, settings: Settings) -> None:
    """Tables of ratios."""
    m = report.machine
    where = m["device_name"] or f"{m['cpu']} ({', '.join(m['flags'])})"
    load = "" if m["load"] is None else f", load at the start {m['load']:.1f}"
    print(f"{where}; torch {m['torch']}; threads {settings.threads}; loss {settings.loss}{load}")
    print("Times are per candidate and update. Ratios: how many times less than the loop takes; median (interquartile range).\n")
    packs = [f"engine K={k}" for k in settings.lanes]
    headings = ("", "base", "rule", "loop, ms", *packs, "torch.nn, plain", "products only", "execution")
    listing("Engine", [_row(c, settings.lanes) for c in report.comparisons], headings)
    for crews in report.crews:
        title = f"Candidates per hour, {crews.shape} {crews.setting.base} {crews.setting.rule}"
        rows = [(h.crew.side, str(h.crew), f"{h.crew.lanes}", _hourly(h.per_hour)) for h in crews.harvests]
        listing(title, rows, ("side", "", "lanes each", "candidates an hour"))
    verdicts = [
        (
            "reached" if v.passed else "missed",
            f"{v.what}, {v.shape} {v.base} {v.rule}",
            f"{v.measured:.2f}",
            f">= {v.low:.2f}" if v.high is None else f"{v.low:.2f} to {v.high:.2f}",
            f"{v.lanes}",
        )
        for v in report.verdicts()
    ]
    if verdicts:
        listing("Targets", verdicts, ("", "what", "measured", "target", "K"))


def _row(c: Comparison, lanes: Sequence[int]) -> tuple[str, ...]:
    from ..bench.rounds import Spread

    engines = {t.lanes: t for t in c.of("engine")}
    ratio = [_ratio(c.speedup(engines[k])) for k in lanes]
    ratio += [_ratio(c.speedup(t)) if t else "–" for t in (next(iter(c.of(name)), None) for name in ("torch.nn", "gemm"))]
    loop = Spread.of(c.of("loop")[0].wall_ms).median
    return (c.shape, c.setting.base, c.setting.rule, f"{loop:.1f}", *ratio, c.execution.split(":")[0])


def _ratio(s: Spread) -> str:
    return f"{s.median:.2f} ({s.low:.2f}–{s.high:.2f})"


def _hourly(values: Sequence[float]) -> str:
    from ..bench.rounds import Spread

    s = Spread.of(values)
    return f"{s.median:,.0f} ({s.low:,.0f}–{s.high:,.0f})"


def _print_search(report: SearchReport) -> None:
    """Tables of milliseconds."""
    from ..bench.rounds import Spread

    m = report.machine
    print(f"{m['cpu']}, {m['cores']} cores" + ("" if m["load"] is None else f", load at the start {m['load']:.1f}"))
    print("Milliseconds of the head, median of each step (and the quartiles of all together); one rung of three epochs a trial.\n")
    rows = []
    for o in report.overheads:
        steps = [f"{Spread.of(values).median:.2f}" for values in (o.propose_ms, o.add_ms, o.report_ms, o.tell_ms)]
        all_of_it = Spread.of(o.together_ms)
        told = f"{all_of_it.median:.2f} ({all_of_it.low:.2f}–{all_of_it.high:.2f})"
        rows.append((o.storage, o.sampler, f"{o.size:,}", *steps, told, f"{o.start_s:.2f}"))
    listing("Overhead", rows, ("storage", "sampler", "trials", "propose", "add", "report", "tell", "together", "sampler's start, s"))
    packs = [(t.executor, f"{t.workers}", f"{t.packs_per_s:.1f}", f"{t.start_s:.1f}") for t in report.throughputs]
    if packs:
        listing("Packs of no work", packs, ("executor", "workers", "packs a second", "start, s"))
