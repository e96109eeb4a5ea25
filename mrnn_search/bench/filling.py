"""Ledgers of any length, quickly: records as a search writes them, of trainings that never were."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from ..benchmarks import load_benchmark
from ..cells.presets import preset
from ..cells.spec import Candidate
from ..results.launch import FACTS
from ..search.journal import FileStorage
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
    """Add ``trials`` screened candidates, two of three dropped at the first rung.

    A journal gets every record that a search would have written, a database each trial in one piece: it reads the same.
    """
    proposals, luck = _proposals(space, seed), random.Random(seed)
    for start in range(0, trials, BLOCK):
        with ledger.together():
            for number in range(start, min(start + BLOCK, trials)):
                reached = [rung(stop, before, luck.random()) for before, stop in zip((0, *EPOCHS), EPOCHS, strict=False)]
                _add(ledger, next(proposals), number, reached if number % 3 == 0 else reached[:1])


def _add(ledger: Ledger, proposal: Proposal, number: int, reached: list[Rung]) -> None:
    if isinstance(ledger.storage, FileStorage):
        trial = ledger.add(SEARCH, proposal.candidate, number, proposal=proposal)
        for each in reached:
            trial = ledger.record(trial, each)
        ledger.finish(trial) if len(reached) == len(EPOCHS) else ledger.drop(trial)
        return
    attrs = {"candidate_id": proposal.candidate.candidate_id, "cell_id": proposal.candidate.spec.cell_id, "seed": number, "cohort": 0}
    template = create_trial(
        state=TrialState.COMPLETE if len(reached) == len(EPOCHS) else TrialState.PRUNED,
        value=reached[-1].rows[-1][3],
        params=dict(proposal.params),
        distributions=dict(proposal.distributions),
        user_attrs={
            **attrs,
            "candidate": proposal.candidate.to_dict(),
            **{f"rung/{n}": dataclasses.asdict(each) for n, each in enumerate(reached)},
        },
        intermediate_values={row[0]: row[3] for each in reached for row in each.rows},
    )
    template.datetime_start = datetime.now() - timedelta(seconds=SECONDS * reached[-1].stop_epoch)
    ledger.storage.create_new_trial(ledger.study_id(SEARCH), template)


def confirm(ledger: Ledger) -> None:
    """Add a confirmation of two cells and two baselines, and complete the study."""
    chosen = [("finalist", Candidate(preset(name))) for name in ("momentum_lstm", "momentum_gru")]
    chosen += [(name, Candidate(preset(name))) for name in ("lstm", "gru")]
    luck = random.Random(0)
    with ledger.together():
        for seed in range(SEEDS):
            for role, candidate in chosen:
                trial = ledger.add(CONFIRMATION, candidate, seed, role=role)
                value = 0.9 + 0.05 * luck.random()
                reading = Reading("2026-01-01T00:00:00.000+00:00", "1", "0" * 64)
                last = dataclasses.replace(rung(EPOCHS[-1], 0, value), test_value=value - 0.01, reading=reading)
                ledger.finish(ledger.record(trial, last))
        ledger.set_complete()
