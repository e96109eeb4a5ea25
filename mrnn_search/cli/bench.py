"""``bench``: the project's own measurements. Ratios to people, every round to programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._registry import InputError, UnknownNameError
from .exits import guarded, say
from .tables import finite, listing, write_json

if TYPE_CHECKING:
    from ..bench.engine import Comparison, Report, Settings
    from ..bench.rounds import Spread

SHAPES, RULES, BASES = "A,C,D,E", "heavy_ball,adam", "lstm,gru,orthogonal"
LANES, ALL_LANES = "1,8", "1,2,8,32"

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
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout in place of the tables.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the JSON to this file.")] = None,
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
    if out is not None and not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent}", "--out")
    if explain:
        rows = explained(settings)
        texts = [tuple("" if v is None else str(v) for v in r.values()) for r in rows]
        write_json(rows) if as_json else listing("Executions", texts, tuple(rows[0]))
        return
    report = run(settings, say)
    data = report.to_dict()
    if out is not None:
        out.write_text(json.dumps(finite(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    write_json(data) if as_json else _print(report, settings)


bench.command()(guarded(engine))


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


def _counts(text: str) -> tuple[int, ...]:
    """``1,8`` as numbers.

    Raises:
        InputError: not whole numbers of at least 1.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) >= 1 for part in parts):
        raise InputError(f"{text!r}, allowed: whole numbers >= 1, separated by commas", "--lanes")
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
