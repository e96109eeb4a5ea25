"""A warm start: the first candidates are named cells, and the rest is the sampler's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

import mrnn_search as ms
from mrnn_search import preset
from mrnn_search._registry import InputError
from mrnn_search.search.recipe import Recipe, Search, load_recipe
from mrnn_search.search.sampler import Proposer
from mrnn_search.search.space import Space, load_space
from mrnn_search.search.warm import PAPERS_CELLS, best_trials, prior_trials, start_points

from .test_sampler import after

SPACE = load_space("optimizer_cells")
CELLS = ["momentum_lstm", "adam_lstm", "gru", "exprnn"]


def test_the_first_candidates_are_the_cells() -> None:
    asked = Proposer(Search(sampler="tpe"), "maximize", [], start=start_points(SPACE, CELLS))
    first = [asked.propose(SPACE, seed).candidate for seed in range(6)]
    assert [c.spec.cell_id for c in first[:4]] == [preset(name).cell_id for name in CELLS]
    assert len({c.lr for c in first}) == 6 and all(2e-3 <= c.lr <= 2e-2 for c in first)


def test_a_resumed_start_is_the_unbroken_one() -> None:
    start = start_points(SPACE, CELLS)
    alive = Proposer(Search(), "maximize", [], start=start)
    for seed in range(2):
        alive.propose(SPACE, seed)
    fresh = Proposer(Search(), "maximize", alive._trials.chosen(None), start=start)
    for seed in range(2, 7):
        assert alive.propose(SPACE, seed).candidate == fresh.propose(SPACE, seed).candidate


@pytest.mark.parametrize("space", ["optimizer_cells", "optimizers_everywhere"])
def test_the_papers_cells(space: str) -> None:
    made = load_space(space)
    points = start_points(made, ["paper"])
    asked = Proposer(Search(), "maximize", [], start=points)
    found = {asked.propose(made, seed).candidate.spec.cell_id for seed in range(len(points))}
    assert len(found) == len(points) >= 4 and found <= {preset(name).cell_id for name in PAPERS_CELLS}
    assert len(start_points(made, ["momentum_lstm", "paper"])) == len(points)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("input_gain_lstm", 'cell "input_gain_lstm" is not in the space: it has heavy_ball.mu = 0.0, the space'),
        ("dtriv", 'cell "dtriv" is not in the space: it is .*rebase.*, the nearest there is '),
        ("nesterov_lstm_released", "it has rule = 'nesterov_released', the space"),
    ],
)
def test_a_cell_that_the_space_does_not_have(cell: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        start_points(SPACE, [cell])


def test_recipe() -> None:
    recipe = load_recipe("quickstart", {"search": {"start": {"cells": "paper"}}})
    assert recipe.search.start.cells == ("paper",) and Recipe.from_dict(recipe.to_dict()) == recipe
    assert load_recipe("quickstart").search.start.cells == ()
    for cells, message in (
        (["momentum_lst"], 'search.start.cells: unknown cell "momentum_lst".*did you mean "momentum_lstm"'),
        ("papers", "search.start.cells.*found 'papers', allowed: paper, or a list of names of cells, each once"),
        (["gru", "gru"], "search.start.cells.*allowed: paper, or a list"),
        (["dtriv"], 'search.start.cells.*cell "dtriv" is not in the space'),
    ):
        with pytest.raises(InputError, match=message):
            load_recipe("quickstart", {"search": {"start": {"cells": cells}}})


def test_none_of_the_papers() -> None:
    space = Space.from_dict({"parameters": {"base": "indrnn"}})
    with pytest.raises(InputError, match="none of the paper's cells is in the space"):
        start_points(space, ["paper"])


# Other studies


def lived(n: int, space: Space = SPACE) -> list[FrozenTrial]:
    asked, out = Proposer(Search(sampler="random"), "maximize", []), []
    for number in range(n):
        proposal = asked.propose(space, number)
        out.append(after(proposal, TrialState.COMPLETE if number % 4 else TrialState.PRUNED, proposal.candidate.lr, 8))
        out[-1].user_attrs["candidate_id"] = proposal.candidate.candidate_id
        out[-1].number = number
    return out


def test_the_best_are_handed_on() -> None:
    told = best_trials(lived(300), "maximize")
    rates = sorted((t.params["lr"] for t in lived(300) if t.state == TrialState.COMPLETE), reverse=True)
    assert [t["value"] for t in told] == rates[:100]
    assert [t["value"] for t in best_trials(lived(300), "minimize")] == rates[::-1][:100]
    prior = prior_trials(json.loads(json.dumps(told)), SPACE)
    assert [t.value for t in prior] == rates[:100][::-1] and [t.number for t in prior] == list(range(-100, 0))


def test_a_sampler_learns_from_another_study() -> None:
    """Its first proposal already is one that random search seldom makes."""
    prior = prior_trials(best_trials(lived(300), "maximize"), SPACE)
    uniform = sorted(c.lr for c in SPACE.draw(200, seed=1))
    for sampler in ("tpe", "evolution", "nsga2"):
        first = [Proposer(Search(sampler=sampler), "maximize", [], prior=prior).propose(SPACE, seed).candidate.lr for seed in range(9)]
        assert sorted(first)[4] > uniform[130], sampler


def test_what_the_space_does_not_have_is_left_out() -> None:
    told = best_trials(lived(100), "maximize")
    narrow = SPACE.fixed({"base": "lstm", "hidden_size": 32})
    prior = prior_trials(told, narrow)
    assert 0 < len(prior) < len(told)
    assert len(prior) == sum(t["params"]["base"] == "lstm" and t["params"]["hidden_size"] == 32 for t in told)
    assert all("base" not in t.params for t in prior)
    assert prior_trials(told, load_space("smoke")) == []


def test_a_study_that_starts_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was handed is its own: it goes on without the other."""
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    first = ms.search("quickstart", name="first", executor="fake", budget={"trials": 24})
    alike = {"options": {"n_startup_trials": 5}, "start": {"cells": ["gru"]}}
    start = {"search": {**alike, "start": {"cells": ["gru"], "studies": ["first"]}}, "baselines": {"cells": []}}
    second = ms.search("quickstart", name="second", executor="fake", budget={"trials": 6}, **start)
    alone = ms.search("quickstart", name="alone", executor="fake", budget={"trials": 6}, search=alike, baselines={"cells": []})
    assert len(second.meta["prior"]) == (first.trials().query("group == 'search'").state == "COMPLETE").sum() > 0
    ids, others = (list(study.trials().query("group == 'search'").candidate_id) for study in (second, alone))
    assert ids[0] == others[0] and not set(ids[1:]) & set(others[1:])
    shutil.rmtree(tmp_path / "first")
    longer = ms.search("quickstart", name="second", executor="fake", budget={"trials": 9}, **start)
    assert len(longer.trials().query("group == 'search'")) >= 9


def test_studies_that_do_not_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    ms.search("quickstart", name="first", executor="fake", budget={"trials": 3})
    search = {"start": {"studies": ["first"]}}
    for parts, message in (
        ({"rungs": {"epochs": [3, 9]}}, 'search.start.studies: study "first" trained 8 epochs, this one 9'),
        ({"space": "smoke"}, 'none of the . best trials of study "first" is in the space'),
        ({"search": {"start": {"studies": ["frist"]}}}, 'unknown study "frist"; allowed: .*did you mean "first"'),
        ({"search": {"start": {"studies": ["../x"]}}}, "search.start.studies.*allowed: a list of names of studies"),
        ({"search": {**search, "objectives": ["quality", "parameters"]}}, "hand on their quality alone"),
    ):
        with pytest.raises(InputError, match=message):
            ms.search("quickstart", name="second", executor="fake", **{"search": search, **parts})
    assert not (tmp_path / "second" / "ledger.log").exists() or not (tmp_path / "second" / "ledger.log").read_text()
