"""``bench search``: what a search costs beside the training: the ledger's writes, the sampler, the way of a pack to its worker."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna

from .._registry import InputError
from ..cells.spec import Candidate, CellSpec
from ..results.study import quiet
from ..search.executors import Executor, Resources, executors
from ..search.ledger import SEARCH, Ledger, TrialView
from ..search.packs import Lane, Pack
from ..search.recipe import Search
from ..search.sampler import Proposer
from ..search.space import Space, load_space
from ..search.storage import open_storage, shown
from .filling import EPOCHS, fill, new_ledger, rung
from .machine import describe
from .rounds import Spread

SCHEMA = 1  # of the JSON
COHORT = 16  # asked for together
PATIENCE_S = 300.0  # for packs that do nothing
STORAGES = ("journal", "sqlite", "database")


@dataclass(frozen=True)
class Settings:
    """What a run measures.

    Attributes:
        sizes: trials that are in the ledger when it is measured.
        samplers: names; every one on every storage and size.
        storages: "journal" and "sqlite" in a folder of their own, "database" at ``url``.
        trials: so many are asked for, reported and told at each size.
        executors: names; empty: packs are not measured.
        packs: so many, each of them nothing to do.
    """

    sizes: tuple[int, ...]
    samplers: tuple[str, ...]
    storages: tuple[str, ...] = ("journal", "sqlite")
    url: str | None = None
    trials: int = 32
    space: str = "optimizer_cells"
    executors: tuple[str, ...] = ()
    packs: int = 200


@dataclass(frozen=True)
class Overhead:
    """What one trial costs the head, trial by trial, in milliseconds; one rung of three epochs each.

    Attributes:
        size: trials that were there.
        start_s: of the sampler, once: reading every trial of the ledger.
        propose_ms: the sampler; add_ms: the new trial in the ledger; the two together are an ask.
        report_ms: a rung in the ledger, and its epochs for Optuna's readers; tell_ms: the trial's end. What a cohort writes at once is
            shared by its trials.
    """

    storage: str
    sampler: str
    size: int
    start_s: float
    propose_ms: tuple[float, ...]
    add_ms: tuple[float, ...]
    report_ms: tuple[float, ...]
    tell_ms: tuple[float, ...]

    @property
    def together_ms(self) -> tuple[float, ...]:
        """Ask, report and tell of each trial."""
        return tuple(map(sum, zip(self.propose_ms, self.add_ms, self.report_ms, self.tell_ms, strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: every trial, and the medians."""
        steps = {name: getattr(self, name) for name in ("propose_ms", "add_ms", "report_ms", "tell_ms", "together_ms")}
        return asdict(self) | steps | {"median": {name: asdict(Spread.of(values)) for name, values in steps.items()}}


@dataclass(frozen=True)
class Throughput:
    """Packs of no work through an executor.

    Attributes:
        start_s: until every worker had done its first pack.
    """

    executor: str
    workers: int
    packs: int
    start_s: float
    packs_per_s: float


@dataclass
class Report:
    """Everything that a run found."""

    settings: Settings
    machine: dict[str, Any]
    overheads: list[Overhead] = field(default_factory=list)
    throughputs: list[Throughput] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; no password."""
        url = None if self.settings.url is None else shown(self.settings.url)
        return {
            "schema": SCHEMA,
            "bench": "search",
            "machine": self.machine,
            "settings": asdict(self.settings) | {"url": url},
            "overhead": [o.to_dict() for o in self.overheads],
            "packs": [asdict(t) for t in self.throughputs],
        }


def run(settings: Settings, say: Callable[[str], None]) -> Report:
    """Measure.

    Args:
        say: takes one line of progress at a time.

    Raises:
        InputError: the database cannot be reached, or an executor is not installed.
    """
    quiet()
    report, space = Report(settings, describe("cpu", 1)), load_space(settings.space)
    for storage in settings.storages:
        with _ledger(storage, settings.url, space) as ledger:
            for size in settings.sizes:
                there = len(ledger.frozen(SEARCH))
                if there < size:
                    say(f"{storage}: {size:,} trials are written")
                    fill(ledger, space, size - there, seed=there)
                for sampler in settings.samplers:
                    found = overhead(ledger, space, storage, sampler, size, settings.trials)
                    report.overheads.append(found)
                    say(f"{storage}, {sampler}, {size:,} trials: {Spread.of(found.together_ms).median:.1f} ms a trial")
    for name in settings.executors:
        report.throughputs.append(throughput(name, settings.packs))
        say(f"{name}: {report.throughputs[-1].packs_per_s:.0f} packs a second")
    return report


@contextmanager
def _ledger(storage: str, url: str | None, space: Space) -> Iterator[Ledger]:
    """A new one, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mrnn-search-bench-") as folder:
        if storage == "database" and url is None:
            raise InputError("no URL is given", "--storage")
        address = {"journal": None, "sqlite": f"sqlite:///{folder}/ledger.db", "database": url}[storage]
        name = f"bench-{uuid.uuid4().hex[:12]}"
        opened = open_storage(Path(folder), address)
        try:
            yield new_ledger(opened, name, space)
        finally:
            if storage == "database":
                optuna.delete_study(study_name=name, storage=opened)


def overhead(ledger: Ledger, space: Space, storage: str, sampler: str, size: int, trials: int) -> Overhead:
    """Ask, report and tell, cohort by cohort as a study does, of a sampler that knows every trial of the ledger."""
    last = rung(EPOCHS[-1], 0, 0.5)
    propose, add, report, tell = (list[float]() for _ in range(4))
    begun = time.perf_counter()
    proposer = Proposer(Search(sampler=sampler), "maximize", ledger.frozen(SEARCH))
    start_s, number = time.perf_counter() - begun, len(ledger.frozen(SEARCH))
    ledger.add(SEARCH, Candidate(CellSpec("rnn"), lr=0.01 / (1 + number)), number)  # the first write reads the ledger
    while len(tell) < trials:
        cohort: list[TrialView] = []
        drawn = 0.0
        wanted = min(COHORT, trials - len(tell))
        with _each(add, wanted, lambda: drawn), ledger.together():  # noqa: B023
            while len(cohort) < wanted:
                number += 1
                start = time.perf_counter()
                proposal = proposer.propose(space, 2**31 + number)
                took = time.perf_counter() - start
                drawn += took
                trial = ledger.add(SEARCH, proposal.candidate, number, proposal=proposal, cohort=number)
                if trial.duplicate_of is None:
                    cohort.append(trial)
                    propose.append(1000 * took)
                else:
                    proposer.reject()
        with _each(report, wanted), ledger.together():
            reached = [ledger.record(trial, last) for trial in cohort]
        with _each(tell, wanted), ledger.together():
            for trial in reached:
                ledger.finish(trial)
    return Overhead(storage, sampler, size, start_s, tuple(propose), tuple(add), tuple(report), tuple(tell))


@contextmanager
def _each(times: list[float], count: int, other: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
    """Give each of ``count`` trials its part of the time inside, in milliseconds, less the ``other`` seconds."""
    start = time.perf_counter()
    yield
    times += [1000 * (time.perf_counter() - start - other()) / count] * count


def _nothing(number: int) -> Pack:
    """A pack that a worker has to build and to hand back, without an epoch to train."""
    lane = Lane(f"search/{number}", Candidate(CellSpec("rnn"), 4), seed=number)
    return Pack(f"{number}", "digits-rows", (lane,), start_epoch=0, stop_epoch=0)


def throughput(name: str, packs: int) -> Throughput:
    """Packs a second, all workers of this machine busy.

    Raises:
        InputError: the executor is not installed.
    """
    begun = time.perf_counter()
    executor = executors[name](Resources())
    try:
        _through(executor, range(executor.slots))  # whoever has done one has loaded everything
        start_s = time.perf_counter() - begun
        begun = time.perf_counter()
        _through(executor, range(executor.slots, executor.slots + packs))
        return Throughput(name, executor.slots, packs, start_s, packs / (time.perf_counter() - begun))
    finally:
        executor.close()


def _through(executor: Executor, numbers: Sequence[int]) -> None:
    for number in numbers:
        executor.submit(_nothing(number))
    left, until = len(numbers), time.perf_counter() + PATIENCE_S
    while left:
        left -= len(executor.collect(1.0))
        if time.perf_counter() > until:
            raise RuntimeError(f"{left} packs did not come back within {PATIENCE_S:.0f} s")
