"""``bench engine``: the engine beside the loop, torch.nn and the bare products of matrices, in one run.

What is measured is the time of one candidate's training update at one thread (or ``threads``): a pack of K lanes' time divided
by K. The user's alternative to a pack on c cores is c processes, so time per thread is the fair measure; `crews` then
measures both arrangements whole. Ratios are taken round by round, and their median and interquartile range are what is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import product
from multiprocessing import get_context
from typing import Any

import torch

from ..engine.heap import huge_pages, starting
from ..engine.memory import Sizes, pack_bytes
from ..engine.planner import Place, Plan, plan
from .crews import UPDATES_PER_CANDIDATE, Crew, Harvest, Teams, usual_crews
from .machine import describe
from .rounds import Spread, Timing, alternate, prepare, ratios
from .setting import CLASSES, SHAPES, Setting
from .sides import VENDOR, build
from .targets import EVEN, Verdict, target

SCHEMA = 1  # of the JSON


@dataclass(frozen=True)
class Settings:
    """What a run measures: every base on every rule on every shape, and for the first of them the crews.

    Attributes:
        lanes: the K of the engine.
        seconds: for each comparison.
        processes: c of the crews; 0: no crews.
        crews_everywhere: crews for every shape, not the first alone (with the first base and rule).
    """

    shapes: tuple[str, ...]
    rules: tuple[str, ...]
    bases: tuple[str, ...]
    lanes: tuple[int, ...]
    seconds: float
    threads: int = 1
    device: str = "cpu"
    loss: str = "last"
    processes: int = 0
    crews_everywhere: bool = False

    def each(self) -> Iterator[tuple[str, Setting]]:
        """(name of the shape, setting)."""
        for shape, base, rule in product(self.shapes, self.bases, self.rules):
            yield shape, Setting(base, rule, SHAPES[shape], self.loss, self.device)


@dataclass(frozen=True)
class Comparison:
    """One cell on one shape.

    Attributes:
        execution: the path that the planner picks, and why.
    """

    shape: str
    setting: Setting
    execution: str
    timings: tuple[Timing, ...]

    def of(self, side: str) -> list[Timing]:
        """Every timing of a side: one, or one for each K, or none."""
        return [t for t in self.timings if t.side == side]

    def speedup(self, timing: Timing) -> Spread:
        """How many times less time than the loop, per candidate and update."""
        (loop,) = self.of("loop")
        return Spread.of(ratios(loop.wall_ms, timing.wall_ms))

    @property
    def best(self) -> Timing:
        """The engine with the K at which it is fastest."""
        return max(self.of("engine"), key=lambda t: self.speedup(t).median)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: every round, and what follows from them."""
        sides = []
        for timing in self.timings:
            numbers = {"median_ms": asdict(Spread.of(timing.wall_ms)), "speedup": asdict(self.speedup(timing))}
            sides.append(asdict(timing) | numbers)
        return _told(self.shape, self.setting) | {"execution": self.execution, "best_lanes": self.best.lanes, "sides": sides}


@dataclass(frozen=True)
class Crews:
    """What the arrangements of one cell on one shape get done."""

    shape: str
    setting: Setting
    harvests: tuple[Harvest, ...]

    def threads_vs_processes(self, side: str) -> Spread | None:
        """One process of many threads, over many processes of one thread; None where the two were not both measured."""
        one = [h for h in self.harvests if h.crew.side == side and h.crew.processes == 1 and h.crew.threads > 1]
        many = [h for h in self.harvests if h.crew.side == side and h.crew.processes > 1]
        return Spread.of(ratios(one[0].per_hour, many[0].per_hour)) if one and many else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        rows = [asdict(h) | {"median_per_hour": asdict(Spread.of(h.per_hour))} for h in self.harvests]
        even = {side: self.threads_vs_processes(side) for side in ("loop", "engine")}
        told = {side: asdict(spread) for side, spread in even.items() if spread}
        return _told(self.shape, self.setting) | {"crews": rows, "threads_vs_processes": told}


@dataclass
class Report:
    """Everything that a run found."""

    settings: Settings
    machine: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    crews: list[Crews] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        """The targets that concern what was measured."""
        out = []
        for c in self.comparisons:
            low = target(c.setting, c.shape, self.settings.threads)
            if low is not None:
                best = c.best
                out.append(
                    Verdict("engine vs loop", c.setting.base, c.setting.rule, c.shape, best.lanes, low, None, c.speedup(best).median)
                )
        for crews in self.crews:
            even, s = crews.threads_vs_processes("engine"), crews.setting
            if even is not None:
                lanes = next(h.crew.lanes for h in crews.harvests if h.crew.side == "engine" and h.crew.processes > 1)
                out.append(Verdict("threads vs processes", s.base, s.rule, crews.shape, lanes, 1 - EVEN, 1 + EVEN, even.median))
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "schema": SCHEMA,
            "bench": "engine",
            "machine": self.machine,
            "settings": asdict(self.settings),
            "shapes": {name: asdict(SHAPES[name]) for name in self.settings.shapes},
            "updates_per_candidate": UPDATES_PER_CANDIDATE,
            "comparisons": [c.to_dict() for c in self.comparisons],
            "processes": [c.to_dict() for c in self.crews],
            "targets": [asdict(v) | {"passed": v.passed} for v in self.verdicts()],
        }


def _told(shape: str, setting: Setting) -> dict[str, Any]:
    """Which comparison it is, as JSON data."""
    return {"shape": shape, "base": setting.base, "rule": setting.rule, "loss": setting.loss, "device": setting.device}


def compare(setting: Setting, shape: str, lanes: Sequence[int], seconds: float) -> Comparison:
    """One cell on one shape: every side in turn."""
    sides = [build("engine", setting, k) for k in lanes]
    sides += [build(name, setting, 1) for name in ("loop", "gemm", "torch.nn") if name != "torch.nn" or setting.base in VENDOR]
    return Comparison(shape, setting, str(planned(setting)), tuple(alternate(sides, seconds, setting.device)))


def crew_up(setting: Setting, shape: str, cores: int, lanes: int, seconds: float) -> Crews:
    """One cell on one shape: every arrangement in turn. The time is twice a comparison's: a turn takes longer here."""
    crews: list[Crew] = usual_crews(cores, setting.device, lanes)
    with Teams(crews, setting) as teams:
        return Crews(shape, setting, tuple(teams.alternate(2 * seconds)))


def run(settings: Settings, say: Callable[[str], None]) -> Report:
    """Measure, in processes that are set up as a search's workers are.

    Args:
        say: takes one line of progress at a time.
    """
    report = Report(settings, describe(settings.device, settings.threads))
    every = list(settings.each())
    with starting(huge_pages()):
        with ProcessPoolExecutor(1, get_context("spawn"), prepare, (settings.threads,)) as measuring:
            for number, (shape, setting) in enumerate(every, start=1):
                found = measuring.submit(compare, setting, shape, settings.lanes, settings.seconds).result()
                report.comparisons.append(found)
                best = found.best
                told = f"{found.speedup(best).median:.2f} × the loop at K = {best.lanes}, {len(best.wall_ms)} rounds"
                say(f"[{number}/{len(every)}] {shape} {setting.base} {setting.rule}: {told}")
        if settings.processes:
            firsts = [c for c in report.comparisons if (c.setting.base, c.setting.rule) == (settings.bases[0], settings.rules[0])]
            for c in firsts if settings.crews_everywhere else firsts[:1]:
                say(f"processes and threads: {c.shape} {c.setting.base} {c.setting.rule}")
                report.crews.append(crew_up(c.setting, c.shape, settings.processes, c.best.lanes, settings.seconds))
    return report


def planned(setting: Setting) -> Plan:
    """What the planner picks for this cell, this size and this device."""
    return plan(setting.spec, place=Place(torch.device(setting.device).type, torch.float32, setting.shape.hidden))


def explain(settings: Settings) -> list[dict[str, Any]]:
    """The planner's choice for every base, rule and shape, and what a pack of each number of lanes needs (MiB); measures nothing.

    "…, recomputed": with the gates computed again in the backward pass; None where that saves nothing.
    """
    rows = []
    for shape, setting in settings.each():
        chosen, s = planned(setting), setting.shape
        row: dict[str, Any] = {"shape": shape, "base": setting.base, "rule": setting.rule, "execution": chosen.kernel, "why": chosen.reason}
        for lanes in settings.lanes:
            sizes = Sizes(s.steps, s.inputs, CLASSES, reads=1 if setting.loss == "last" else s.steps)
            kept, again = (
                round(pack_bytes(setting.candidates(lanes), sizes, setting.device, recompute) / 2**20) for recompute in (False, True)
            )
            row[f"MiB at K={lanes}"] = kept
            row[f"MiB at K={lanes}, recomputed"] = again if again < kept else None
        rows.append(row)
    return rows
