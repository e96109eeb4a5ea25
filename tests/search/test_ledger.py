"""The ledger, on each kind of storage: what is written is read back, in order, by another process too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from mrnn_search._registry import InputError
from mrnn_search.cells import Candidate, preset
from mrnn_search.search.ledger import CONFIRMATION, SEARCH, Ledger, Rung
from mrnn_search.search.recipe import Search
from mrnn_search.search.sampler import Proposer
from mrnn_search.search.space import Space, load_space
from mrnn_search.search.storage import open_storage

RECIPE = {"name": "s", "budget": {"trials": 3}}
META = {"versions": {"torch": "2"}}
RUNG = Rung(2, ((1, 10, 0.5, 0.3, 1.5), (2, 20, 0.4, 0.6, 1.5)), 0.6, 2, 3.0, 99, "loop: …", "host:1", "cpu")
SPACE = load_space("optimizer_cells")


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return None if request.param == "journal" else f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def ledger(url: str | None, tmp_path: Path) -> Ledger:
    return Ledger.create(open_storage(tmp_path, url), name_in(tmp_path), RECIPE, META, "maximize")


def name_in(tmp_path: Path) -> str:
    """A study's name of its own for each test: they share one PostgreSQL database."""
    return tmp_path.name


@pytest.fixture
def reopened(url: str | None, tmp_path: Path) -> Callable[[], Ledger]:
    """The same ledger as another process would see it."""
    return lambda: Ledger(open_storage(tmp_path, url), name_in(tmp_path))


def asked(ledger: Ledger, space: Space, seed: int = 0, group: str = SEARCH):
    proposal = Proposer(Search(sampler="random"), "maximize", ledger.frozen(group)).propose(space, seed)
    return ledger.add(group, proposal.candidate, seed, proposal=proposal, cohort=4)


def test_a_new_ledger_reads_back(ledger: Ledger, reopened: Callable[[], Ledger]) -> None:
    twin = reopened()
    assert (twin.recipe, twin.meta, twin.direction, twin.complete) == (RECIPE, META, "maximize", False)
    assert twin.groups() == [SEARCH] and twin.trials(SEARCH) == [] and twin.trials("no such group") == []
    ledger.set_complete()
    assert reopened().complete
    ledger.set_recipe({**RECIPE, "budget": {"trials": 9}})
    assert not reopened().complete and reopened().recipe["budget"]["trials"] == 9


def test_the_life_of_trials(ledger: Ledger, reopened: Callable[[], Ledger]) -> None:
    trials = [asked(ledger, SPACE, seed) for seed in range(3)]
    assert [t.number for t in trials] == [0, 1, 2] and all(t.running and t.cohort == 4 for t in trials)
    trials = [ledger.record(t, RUNG) for t in trials]
    ledger.finish(trials[0])
    ledger.drop(trials[1])
    ledger.fail(trials[2], "loss is nan at epoch 3, step 21")
    seen = reopened().trials(SEARCH)
    assert [t.state for t in seen] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [t.error for t in seen] == [None, None, "loss is nan at epoch 3, step 21"]
    assert all(t.rungs == (RUNG,) and t.epochs == 2 and t.value == 0.6 for t in seen)
    assert [t.candidate for t in seen] == [t.candidate for t in trials]
    assert all(t.finished is not None and t.started is not None for t in seen)


def test_optunas_own_readers_see_params_curve_and_value(ledger: Ledger) -> None:
    trial = ledger.record(asked(ledger, SPACE), RUNG)
    ledger.finish(trial)
    (frozen,) = optuna.load_study(study_name=ledger.name, storage=ledger.storage).trials
    assert frozen.value == 0.6 and frozen.intermediate_values == {1: 0.3, 2: 0.6}
    assert SPACE.suggest(optuna.trial.FixedTrial(frozen.params)) == trial.candidate


def test_a_candidate_that_is_there_is_a_duplicate(ledger: Ledger) -> None:
    first, second = asked(ledger, SPACE, 7), asked(ledger, SPACE, 7)
    assert (second.state, second.duplicate_of) == ("FAIL", first.number)
    assert asked(ledger, SPACE, 7, group="lstm").duplicate_of is None  # another group is another search


def test_confirmation_holds_one_candidate_many_times(ledger: Ledger) -> None:
    candidate = Candidate(preset("lstm"))
    trials = [ledger.add(CONFIRMATION, candidate, seed, role="lstm") for seed in range(3)]
    assert [(t.seed, t.role, t.duplicate_of, t.running) for t in trials] == [(s, "lstm", None, True) for s in range(3)]
    assert ledger.groups() == [SEARCH, CONFIRMATION]


def test_a_curve_cut_short_by_a_kill_is_completed(ledger: Ledger) -> None:
    """Killed between the rung and its intermediate values: the rung counts, the values follow when the trial ends."""
    trial = asked(ledger, SPACE)
    number = ledger.frozen(SEARCH)[0]._trial_id
    ledger.storage.set_trial_user_attr(number, "rung/0", json.loads(json.dumps(RUNG.__dict__)))
    ledger.storage.set_trial_intermediate_value(number, 1, 0.3)
    (trial,) = ledger.trials(SEARCH)
    assert trial.rungs == (RUNG,)
    ledger.drop(trial)
    assert ledger.frozen(SEARCH)[0].intermediate_values == {1: 0.3, 2: 0.6}


def test_what_is_no_ledger_of_ours_is_refused(tmp_path: Path) -> None:
    storage = open_storage(tmp_path, None)
    with pytest.raises(InputError, match='there is no study "s"'):
        Ledger(storage, "s")
    optuna.create_study(storage=storage, study_name="s")
    with pytest.raises(InputError, match="no study of mrnn-search"):
        Ledger(storage, "s")
    optuna.load_study(storage=storage, study_name="s").set_user_attr("schema", 99)
    with pytest.raises(InputError, match="schema is 99, this version reads 1"):
        Ledger(storage, "s")


def test_another_tools_study_is_left_alone(url: str | None, tmp_path: Path) -> None:
    storage = open_storage(tmp_path, url)
    theirs = optuna.create_study(storage=storage, study_name=name_in(tmp_path), direction="maximize")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(InputError, match="not of mrnn-search"):
        Ledger.create(storage, name_in(tmp_path), RECIPE, META, "maximize")
    assert theirs.user_attrs == {}


@pytest.mark.parametrize("asked_before", [1, 4, 8])
def test_a_resumed_head_proposes_what_the_unbroken_one_does(ledger: Ledger, reopened: Callable[[], Ledger], asked_before: int) -> None:
    """Trials that still run count for TPE: what it needs to know of them must be in the ledger."""
    for seed in range(24):
        trial = ledger.record(asked(ledger, SPACE, seed), RUNG)
        ledger.drop(trial)

    def ask(proposer: Proposer, to: Ledger, seed: int) -> str:
        proposal = proposer.propose(SPACE, seed)
        to.add(SEARCH, proposal.candidate, seed, proposal=proposal, cohort=5)
        return proposal.candidate.candidate_id

    proposer = Proposer(Search(), "maximize", ledger.frozen(SEARCH))
    for seed in range(100, 100 + asked_before):
        ask(proposer, ledger, seed)
    resumed = reopened()
    copy = Proposer(Search(), "maximize", resumed.frozen(SEARCH))
    for seed in range(200, 204):
        assert proposer.propose(SPACE, seed).candidate == copy.propose(SPACE, seed).candidate
