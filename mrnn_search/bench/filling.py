"""Ledgers of any length, quickly: records as a search writes them, of trainings that never were."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage

from ..benchmarks import load_benchmark
from ..cells.presets import preset
from ..cells.spec import Candidate
from ..results.launch import FACTS
from ..search.ledger import CONFIRMATION, SEARCH, Ledger, Reading, Rung
from ..search.recipe import Recipe, Search, load_recipe
from ..search.sampler import Proposal, Proposer
from ..search.space import Space

POOL = 200  # points of the space; what is asked for beyond them differs in the learning rate
BLOCK = 1000  # trials that are flushed together
EPOCHS = (1, 3)  # rungs
SECONDS = 1.5  # an epoch
SEEDS = 5
SESSION = {"started": "2026-01-01T00:00:00+00:00", "command": "mrnn-search bench search", "versions": {}, "machine": {}}


def new_ledger(storage: BaseStorage, name: str, space: Space) -> Ledger:
    """An empty one."""
    recipe = Recipe.from_dict({**load_recipe("quickstart").to_dict(), "name": name, "space": space.to_dict()})
    benchmark = load_benchmark(recipe.benchmark)
    meta = {"benchmark": {fact: getattr(benchmark, fact) for fact in FACTS}, "sessions": [SESSION]}
    return Ledger.create(storage, name, recipe.to_dict(), meta, benchmark.direction)


def rung(stop: int, start: int, value: float) -> Rung:
    """What a lane might have done from epoch ``start`` to ``stop``."""
    rows = tuple((epoch, 55 * epoch, 2.0 / epoch, value - 0.01 * (stop - epoch), SECONDS) for epoch in range(start + 1, stop + 1))
    return Rung(stop, rows, value, stop, SECONDS * len(rows), 14_000, "fused: one pass a layer", "host:1", "cpu", checkpoint="0" * 64)


def _proposals(space: Space, seed: int) -> Iterator[Proposal]:
    """Without end; no two candidates are the same."""
    proposer = Proposer(Search(sampler="random"), "maximize", [])
    pool = [proposer.propose(space, seed + n) for n in range(POOL)]
    yield from pool
    luck = random.Random(seed)
    while True:
        for known in pool:
            rates = known.distributions["lr"]
            assert isinstance(rates, FloatDistribution)
            lr = luck.uniform(rates.low, rates.high)
            yield dataclasses.replace(known, candidate=dataclasses.replace(known.candidate, lr=lr), params={**known.params, "lr": lr})


def fill(ledger: Ledger, space: Space, trials: int, seed: int = 0) -> None:
    """Add ``trials`` screened candidates, two of three dropped at the first rung: every record that a search would have written."""
    proposals, luck = _proposals(space, seed), random.Random(seed)
    for start in range(0, trials, BLOCK):
        numbers = range(start, min(start + BLOCK, trials))
        with ledger.together():
            drawn = [(number, next(proposals)) for number in numbers]
            made = [ledger.add(SEARCH, proposal.candidate, number, proposal=proposal) for number, proposal in drawn]
        with ledger.together():
            for number, trial in zip(numbers, made, strict=True):
                for stop, before in zip(EPOCHS if number % 3 == 0 else EPOCHS[:1], (0, *EPOCHS), strict=False):
                    trial = ledger.record(trial, rung(stop, before, luck.random()))
                ledger.finish(trial) if number % 3 == 0 else ledger.drop(trial)


def confirm(ledger: Ledger) -> None:
    """Add a confirmation of two cells and two baselines, and complete the study."""
    chosen = [("finalist", Candidate(preset(name))) for name in ("momentum_lstm", "momentum_gru")]
    chosen += [(name, Candidate(preset(name))) for name in ("lstm", "gru")]
    luck = random.Random(0)
    with ledger.together():
        made = [ledger.add(CONFIRMATION, candidate, seed, role=role) for seed in range(SEEDS) for role, candidate in chosen]
    reading = Reading("2026-01-01T00:00:00.000+00:00", "1", "0" * 64)
    with ledger.together():
        for trial in made:
            value = 0.9 + 0.05 * luck.random()
            last = dataclasses.replace(rung(EPOCHS[-1], 0, value), test_value=value - 0.01, reading=reading)
            ledger.finish(ledger.record(trial, last))
    ledger.set_complete()
