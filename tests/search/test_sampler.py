"""Proposals: the same seed and trials give the same candidate, in this process or the next; nothing that is shown is changed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from mrnn_search._registry import InputError, UnknownNameError
from mrnn_search.search.recipe import Recipe, Search, load_recipe
from mrnn_search.search.sampler import Proposal, Proposer
from mrnn_search.search.samplers import make_sampler, samplers
from mrnn_search.search.space import Space, load_space

SPACE = load_space("optimizer_cells")
SMOKE = load_space("smoke")
FINITE = Space.from_dict(
    {
        "name": "finite",
        "parameters": {
            "base": {"choices": ["rnn", "gru"]},
            "rule": {"choices": ["plain", "heavy_ball"]},
            "heavy_ball.mu": {"low": 0.2, "high": 0.8, "step": 0.2},
            "heavy_ball.mu.learned": {"choices": [False, True]},
            "hidden_size": {"low": 8, "high": 24, "step": 8},
        },
    }
)
NAMES = list(samplers)
LEARNERS = ["evolution", "nsga2", "tpe"]
FEW = {"evolution": {"population_size": 8, "tournament_size": 4}, "nsga2": {"population_size": 6}, "gp": {"n_startup_trials": 4}}


SPACES = {"grid": FINITE, "gp": SMOKE}  # a process takes a second an ask on the large one
ASKS = {"gp": 7}


def space_for(name: str) -> Space:
    return SPACES.get(name, SPACE)


def proposer(name: str, seen: list[FrozenTrial] | None = None, **more: Any) -> Proposer:
    return Proposer(Search(sampler=name, options=FEW.get(name, {})), "maximize", seen or [], seed=5, **more)


def after(proposal: Proposal, state: TrialState, value: float = 0.0, epochs: int = 0) -> FrozenTrial:
    """The trial that a ledger would have of a proposal; through JSON, as every storage does."""
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=json.loads(json.dumps(dict(proposal.params))),
        distributions=dict(proposal.distributions),
        system_attrs=json.loads(json.dumps(dict(proposal.system_attrs))),
        intermediate_values={epoch: value * epoch / 8 for epoch in range(1, epochs + 1)},
    )


def lived(
    name: str, seed: int, asks: int, quality: Callable[[Proposal], float], batch: int = 1
) -> tuple[Proposer, list[FrozenTrial], list[Proposal]]:
    """A proposer that went through a study: trials run, wait, go on, fail, are dropped and completed, out of order."""
    rng, asked = random.Random(seed), proposer(name)
    trials: list[FrozenTrial] = []
    proposals: list[Proposal] = []
    for number in range(asks):
        proposals.append(asked.propose(space_for(name), seed * 1000 + number))
        if rng.random() < 0.1:
            asked.reject()
            trials.append(after(proposals[-1], TrialState.FAIL))
            continue
        trials.append(after(proposals[-1], TrialState.RUNNING))
        running = [n for n, t in enumerate(trials) if t.state in (TrialState.RUNNING, TrialState.PRUNED)]
        while len(running) > batch:
            old = running.pop(rng.randrange(len(running)))
            state = rng.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])
            trials[old] = after(proposals[old], state, quality(proposals[old]), 0 if state == TrialState.FAIL else rng.randint(1, 8))
            asked.learn(old, trials[old])
    return asked, trials, proposals


def lr(proposal: Proposal) -> float:
    return proposal.candidate.lr


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_proposer_proposes_what_the_one_that_lived_does(name: str) -> None:
    alive, trials, _ = lived(name, 0, ASKS.get(name, 40), lr, batch=2)
    fresh = proposer(name, trials)
    for n in range(1 if name == "gp" else 8):
        a, b = (each.propose(space_for(name), 77 + n) for each in (alive, fresh))
        assert (a.candidate, a.params, a.distributions, a.system_attrs) == (b.candidate, b.params, b.distributions, b.system_attrs)
        if n % 3 == 2:
            alive.reject()
            fresh.reject()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_not_changed(name: str) -> None:
    _, trials, _ = lived(name, 1, ASKS.get(name, 30), lr)
    before = copy.deepcopy(trials)
    asked = proposer(name, trials)
    asked.propose(space_for(name), 0)
    asked.learn(len(trials), trials[0])
    asked.reject()
    assert trials == before


@settings(max_examples=8)
@given(
    st.sampled_from(["evolution", "grid", "nsga2", "random", "sobol", "tpe"]), st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6)
)
def test_any_history(name: str, seed: int, asks: int, batch: int) -> None:
    alive, trials, _ = lived(name, seed, asks, lr, batch)
    assert alive.propose(space_for(name), 1).candidate == proposer(name, trials).propose(space_for(name), 1).candidate


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gp", "grid")])
@pytest.mark.parametrize("space", ["optimizer_cells", "optimizers_everywhere"])
def test_200_asks(name: str, space: str) -> None:
    """Every proposal is of the space: the same parameters are active, with values that it has."""
    asked, made = proposer(name), load_space(space)
    for number in range(200):
        proposal = asked.propose(made, number)
        asked.learn(number, after(proposal, TrialState.COMPLETE if number % 3 else TrialState.PRUNED, random.Random(number).random(), 2))
        assert made.suggest(Replay(proposal)) == proposal.candidate


class Replay:
    """A trial whose answers are a proposal's, checked against what is asked."""

    def __init__(self, proposal: Proposal) -> None:
        self._params = dict(proposal.params)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        assert self._params[name] in choices
        return self._params[name]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        assert low <= self._params[name] <= high
        return float(self._params[name])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self._params[name]
        assert isinstance(value, int) and low <= value <= high and (value - low) % step == 0
        return value


def test_gp_asks() -> None:
    asked, made = proposer("gp"), load_space("optimizers_everywhere")
    for number in range(6):
        proposal = asked.propose(made, number)
        asked.learn(number, after(proposal, TrialState.COMPLETE if number % 3 else TrialState.PRUNED, proposal.candidate.lr, 2))
        assert made.suggest(Replay(proposal)) == proposal.candidate


@pytest.mark.parametrize("name", LEARNERS)
def test_learning(name: str) -> None:
    """Maximising the learning rate: proposals after 80 trials lie above what random search draws."""
    asked = proposer(name)
    for number in range(80):
        proposal = asked.propose(SPACE, number)
        asked.learn(number, after(proposal, TrialState.COMPLETE, proposal.candidate.lr))
    late = [asked.propose(SPACE, 1000 + n).candidate.lr for n in range(10)]
    uniform = [c.lr for c in SPACE.draw(200, seed=1)]
    assert sorted(late)[5] > sorted(uniform)[150]


def test_gp_learns() -> None:
    asked = Proposer(Search(sampler="gp", options={"n_startup_trials": 8}), "maximize", [])
    for number in range(12):
        proposal = asked.propose(SMOKE, number)
        asked.learn(number, after(proposal, TrialState.COMPLETE, proposal.candidate.lr))
    uniform = [c.lr for c in SMOKE.draw(200, seed=1)]
    assert sorted(asked.propose(SMOKE, 100 + n).candidate.lr for n in range(3))[1] > sorted(uniform)[150]


@pytest.mark.parametrize("name", NAMES)
def test_proposals_of_one_batch_differ(name: str) -> None:
    alive, _, _ = lived(name, 0, ASKS.get(name, 30), lr)
    count = 2 if name == "gp" else 8
    different = len({alive.propose(space_for(name), 100 + n).candidate.candidate_id for n in range(count)})
    assert different == count or (name == "nsga2" and different >= count - 2)  # one parent's values may all be inherited


def test_what_was_dropped_is_learned_from() -> None:
    """A rung drops whatever has a low learning rate; nothing is ever completed."""
    asked = proposer("tpe")
    for number in range(60):
        proposal = asked.propose(SPACE, number)
        asked.learn(number, after(proposal, TrialState.PRUNED, proposal.candidate.lr, 3))
    late = sorted(asked.propose(SPACE, 1000 + n).candidate.lr for n in range(10))
    assert late[5] > sorted(c.lr for c in SPACE.draw(200, seed=1))[150]


def test_a_trial_that_is_promoted_is_shown_as_it_is_then() -> None:
    """PRUNED, running again, complete: each time the proposal is that of a proposer that has seen only this."""
    alive, trials, proposals = lived("evolution", 3, 20, lr)
    for state, epochs in ((TrialState.PRUNED, 2), (TrialState.RUNNING, 2), (TrialState.PRUNED, 5), (TrialState.COMPLETE, 8)):
        trials[7] = after(proposals[7], state, 9.0, epochs)
        alive.learn(7, trials[7])
        assert alive.propose(SPACE, 1).candidate == proposer("evolution", trials).propose(SPACE, 1).candidate
        alive.reject()
        trials.append(after(Proposal(proposals[0].candidate, {}, {}, {}), TrialState.FAIL))


def test_the_memory_has_the_best_and_the_latest() -> None:
    proposals = [SPACE_PROPOSER.propose(SPACE, n) for n in range(3)]
    trials = [after(proposals[n % 3], TrialState.COMPLETE, 1.0 if n == 17 else 0.0) for n in range(700)]
    shown = proposer("tpe", trials)._trials.chosen(500)
    numbers = [trials.index(t) for t in shown if t.value == 1.0]
    assert len(shown) == 500 and numbers == [17]
    assert sum(t is s for t, s in zip(trials[-440:], shown[-440:], strict=True)) == 440


SPACE_PROPOSER = proposer("random")


# Names and options


def test_an_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match='did you mean "tpe"'):
        make_sampler("tpee", 0)
    with pytest.raises(UnknownNameError, match='unknown sampler of Optuna "TPESample".*did you mean "TPESampler"'):
        make_sampler("optuna:TPESample", 0)


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("tpe", {"n_startup": 3}, 'unknown option of sampler tpe "n_startup"; allowed: n_ei_candidates, n_startup_trials'),
        ("tpe", {"n_startup_trials": "many"}, "n_startup_trials = 'many', allowed: a whole number"),
        ("tpe", {"n_startup_trials": True}, "n_startup_trials = true, allowed: a whole number"),
        ("tpe", {"n_ei_candidates": 0}, "n_ei_candidates = 0, allowed: >= 1"),
        ("random", {"seed": 3}, 'unknown option of sampler random "seed"'),
        ("evolution", {"tournament_size": 50}, "tournament_size = 50, allowed: 1 to 20"),
        ("evolution", {"redraw": 2}, "redraw = 2, allowed: 0 to 1"),
        ("nsga2", {"mutation_prob": "x"}, "mutation_prob = 'x', allowed: a number or null"),
        ("optuna:TPESampler", {"seed": 3}, 'unknown option of sampler optuna:TPESampler "seed"'),
        ("optuna:NSGAIISampler", {"population_size": 1}, "population_size"),
        ("optuna:NSGAIISampler", {"crossover": "uniform"}, "crossover"),
        ("optuna:GridSampler", {}, "needs the option search_space"),
        ("optuna:CmaEsSampler", {}, "pickle"),
        ("optuna:QMCSampler", {}, "use sobol"),
        ("optuna:PartialFixedSampler", {}, "fix parameters in the space"),
        ("optuna:BaseSampler", {}, "unknown sampler of Optuna"),
    ],
)
def test_what_is_wrong_with_a_sampler(sampler: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as error:
        make_sampler(sampler, 0, options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["TPESampler", "RandomSampler", "NSGAIISampler", "NSGAIIISampler", "BruteForceSampler", "GPSampler"])
def test_optunas_own(name: str) -> None:
    """Each is seeded, resumed exactly, and right on a conditional space."""
    options = {"n_startup_trials": 5} if name in ("TPESampler", "GPSampler") else {"population_size": 4} if name.startswith("NSGA") else {}
    search = Search(sampler=f"optuna:{name}", options=options)
    alive, trials = Proposer(search, "maximize", []), []
    for number in range(12):
        proposal = alive.propose(FINITE, number)
        trials.append(after(proposal, TrialState.COMPLETE, random.Random(number).random()))
        alive.learn(number, trials[-1])
        assert FINITE.suggest(Replay(proposal)) == proposal.candidate
    assert alive.propose(FINITE, 99).candidate == Proposer(search, "maximize", trials).propose(FINITE, 99).candidate


def test_what_optunas_sampler_says_of_a_space_is_an_input_error() -> None:
    with pytest.raises(InputError, match="sampler optuna:BruteForceSampler: .*step"):
        Proposer(Search(sampler="optuna:BruteForceSampler"), "maximize", []).propose(SPACE, 0)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"sampler": "tpe", "options": {"n_startup": 3}}, 'search.options: unknown option of sampler tpe "n_startup"'),
        ({"sampler": "optuna:GridSampler"}, "search.options: sampler optuna:GridSampler needs the option search_space"),
        ({"sampler": "optuna:CmaEs"}, 'search.sampler: unknown sampler of Optuna "CmaEs"'),
        ({"sampler": "evolution", "options": {"step": float("nan")}}, "search.options: found .*, allowed: a mapping"),
        ({"options": [1]}, "search.options: found .1., allowed: a mapping from the sampler's options to their values"),
        ({"options": {"n_startup_trials": {"x": object()}}}, "search.options"),
    ],
)
def test_what_is_wrong_in_a_recipe(search: dict[str, Any], message: str) -> None:
    data = load_recipe("smoke").to_dict()
    with pytest.raises(InputError, match=message) as error:
        Recipe.from_dict({**data, "search": search}, "a.yaml")
    assert str(error.value).startswith("a.yaml: search.")


def test_options_reach_the_sampler() -> None:
    """With two random trials first, TPE is no longer random at the third."""
    data = load_recipe("smoke").to_dict()
    recipe = Recipe.from_dict({**data, "search": {"sampler": "tpe", "options": {"n_startup_trials": 2}}})
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    ids = []
    for search in (recipe.search, Search()):
        asked = Proposer(search, "maximize", [])
        for number in range(3):
            proposal = asked.propose(SMOKE, number)
            asked.learn(number, after(proposal, TrialState.COMPLETE, proposal.candidate.lr))
        ids.append([t.params["lr"] for t in asked._trials.chosen(None)])
    assert ids[0][:2] == ids[1][:2] and ids[0][2] != ids[1][2]
