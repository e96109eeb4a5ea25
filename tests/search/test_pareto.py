"""Several objectives: the non-dominated set, and samplers that see it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from mrnn_search._registry import InputError
from mrnn_search.search.finalists import FINALIST, finalists
from mrnn_search.search.ledger import CONFIRMATION, SEARCH
from mrnn_search.search.pareto import non_dominated, with_costs
from mrnn_search.search.recipe import Recipe, Search, load_recipe
from mrnn_search.search.sampler import Proposal, Proposer

from ..inprocess import InProcess, fake
from .test_driver import SETTINGS, run
from .test_finalists import trial
from .test_sampler import SMOKE, SPACE, after

POINTS = st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, 6)] * n), max_size=25))


def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(POINTS)
def test_exactly_those_that_nothing_beats(points: list[tuple[int, ...]]) -> None:
    assert non_dominated(points) == [k for k, p in enumerate(points) if not any(beats(other, p) for other in points)]


@given(POINTS, st.randoms())
def test_the_order_does_not_matter(points: list[tuple[int, ...]], rng) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(points)
    rng.shuffle(shuffled)
    assert sorted(points[k] for k in non_dominated(points)) == sorted(shuffled[k] for k in non_dominated(shuffled))


def reached(proposal: Proposal, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """What a ledger has of a trial: the quality rises with the learning rate and the units, and units cost parameters."""
    out = after(proposal, state, proposal.candidate.lr)
    rung = {"value": proposal.candidate.lr * proposal.candidate.hidden_size, "params": proposal.candidate.hidden_size, "stop_epoch": 2}
    out.user_attrs.update({"rung/0": {**rung, "seconds": 5.0, "stop_epoch": 1}, "rung/1": {**rung, "seconds": 1.0}})
    return out


def test_costs_of_a_trial() -> None:
    proposal = Proposer(Search(), "maximize", []).propose(SMOKE, 0)
    shown = with_costs(reached(proposal, TrialState.PRUNED), ("quality", "parameters", "seconds"))
    size = proposal.candidate.hidden_size
    assert shown.state == TrialState.COMPLETE and shown.values == [proposal.candidate.lr * size, size, 3.0]
    running = after(proposal, TrialState.RUNNING)
    assert with_costs(running, ("quality", "seconds")) is running


@pytest.mark.parametrize("name", ["nsga2", "tpe", "random", "sobol", "gp", "optuna:TPESampler", "optuna:NSGAIISampler"])
def test_samplers_with_several_objectives(name: str) -> None:
    """They run, resume exactly, and (those that learn) find small and good ones."""
    space, asks = (SMOKE, 6) if name == "gp" else (SPACE, 40)
    options = {"n_startup_trials": 5} if name == "gp" else {"population_size": 8} if "nsga" in name.lower() else {}
    search = Search(sampler=name, options=options, objectives=("quality", "parameters"))
    alive, trials = Proposer(search, "maximize", []), []
    for number in range(asks):
        trials.append(reached(alive.propose(space, number), TrialState.COMPLETE if number % 3 else TrialState.PRUNED))
        alive.learn(number, trials[-1])
    fresh = Proposer(search, "maximize", trials)
    for seed in range(100, 101 if name == "gp" else 103):
        assert alive.propose(space, seed).candidate == fresh.propose(space, seed).candidate


def test_nsga2_keeps_both_ends() -> None:
    alive = Proposer(Search(sampler="nsga2", options={"population_size": 12}, objectives=("quality", "parameters")), "maximize", [])
    late = []
    for number in range(150):
        proposal = alive.propose(SPACE, number)
        alive.learn(number, reached(proposal))
        late += [proposal.candidate] if number >= 100 else []
    assert {c.hidden_size for c in late} == {32, 48}
    uniform = sorted(c.lr for c in SPACE.draw(200, seed=1))
    assert sorted(c.lr for c in late)[25] > uniform[150]


def test_finalists_are_the_best_and_the_front() -> None:
    trials = [trial(n, 0.9 - n / 10) for n in range(4)]
    costs = [9, 5, 5, 2]
    trials = [dataclasses.replace(t, rungs=(dataclasses.replace(t.rungs[0], params=cost),)) for t, cost in zip(trials, costs, strict=True)]
    dropped = dataclasses.replace(trials[3], number=4, state="PRUNED", cell_id="other")
    chosen = finalists([*trials, dropped], {}, {}, 1, "maximize", ("quality", "parameters"))
    assert chosen == [(FINALIST, trials[n].candidate) for n in (0, 1, 3)]
    assert finalists(trials, {}, {}, 1, "maximize") == chosen[:1]


def test_a_whole_study(tmp_path: Path) -> None:
    search = {"sampler": "nsga2", "options": {"population_size": 4}, "objectives": ["quality", "parameters", "seconds"], "cohort": 4}
    recipe = load_recipe("quickstart", {**SETTINGS, "search": search})
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    ledger = run(tmp_path, InProcess(train=fake), recipe)
    assert ledger.complete and len(ledger.trials(SEARCH)) >= 10 and ledger.trials(CONFIRMATION)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"objectives": ["parameters"]}, "objectives: found .'parameters'., allowed: a list that begins with quality"),
        ({"objectives": ["quality", "speed"]}, "objectives.*parameters, seconds, each once"),
        (
            {"sampler": "evolution", "objectives": ["quality", "parameters"]},
            "sampler evolution has one objective, found quality, parameters",
        ),
    ],
)
def test_what_is_refused(search: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("smoke", {"search": search})
