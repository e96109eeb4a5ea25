"""The recipe of a study: from YAML and --set to frozen data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mrnn_search import InputError, presets
from mrnn_search.search.files import names
from mrnn_search.search.recipe import Recipe, diff, load_recipe, parse_set
from mrnn_search.search.space import load_space
from mrnn_search.search.suite import SuiteRecipe, load_recipes

from .broken import BROKEN, write
from .test_space import spaces

LEAST = {"name": "a", "space": "smoke", "benchmark": "digits-rows", "budget": {"trials": 1}, "rungs": {"epochs": [1, 4]}}


@st.composite
def recipes(draw):
    """Any valid recipe, as YAML data, with and without what may be left out."""
    whole = st.integers(1, 10**6)
    cells = st.lists(st.sampled_from(sorted(presets())), unique=True, max_size=3)
    optional = {
        "description": st.text(max_size=5),
        "data": st.none() | st.text(min_size=1, max_size=5),
        "seed": st.integers(0, 2**63 - 1),
        "controls": st.booleans(),
        "search": st.fixed_dictionaries({}, optional={"sampler": st.sampled_from(["tpe", "random"]), "cohort": whole}),
        "baselines": st.fixed_dictionaries({}, optional={"cells": cells, "trials": whole | st.just("equal")}),
        "confirmation": st.fixed_dictionaries({}, optional={"top": whole, "seeds": st.integers(2, 99), "epochs": whole}),
        "limits": st.fixed_dictionaries({}, optional={"lane_seconds": st.none() | st.floats(1e-3, 1e9)}),
    }
    rungs = st.fixed_dictionaries(
        {"epochs": st.lists(whole, min_size=1, max_size=4, unique=True).map(sorted)},
        optional={"keep": st.floats(0, 1, exclude_min=True) | st.just(1)},
    )
    needed = {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True),
        "space": st.sampled_from(["smoke", "optimizer_cells"]) | spaces(),
        "benchmark": st.just("digits-rows"),
        "budget": st.fixed_dictionaries({"trials": whole}),
        "rungs": rungs,
    }
    return draw(st.fixed_dictionaries(needed, optional=optional))


@given(recipes())
def test_round_trip(data):
    recipe = Recipe.from_dict(data)
    text = json.dumps(recipe.to_dict(), allow_nan=False)
    again = Recipe.from_dict(json.loads(text))
    assert again == recipe
    assert json.dumps(again.to_dict()) == text
    assert diff(recipe.to_dict(), again.to_dict()) == []


def test_defaults():
    recipe = Recipe.from_dict(LEAST)
    assert recipe.space == load_space("smoke")
    assert (recipe.description, recipe.data, recipe.seed, recipe.limits.lane_seconds) == ("", None, 0, None)
    assert (recipe.search.sampler, recipe.search.cohort, recipe.rungs.keep) == ("tpe", 12, 1 / 3)
    assert (recipe.baselines.cells, recipe.baselines.trials) == (("lstm", "gru"), "equal")
    assert (recipe.confirmation.top, recipe.confirmation.seeds, recipe.confirmation.epochs) == (3, 5, 4)
    assert Recipe.from_dict({**LEAST, "confirmation": {"top": 1}}).confirmation.epochs == 4
    assert Recipe.from_dict({**LEAST, "confirmation": {"epochs": 9}}).confirmation.epochs == 9


def test_frozen():
    recipe = Recipe.from_dict(LEAST)
    for part, field in ((recipe, "seed"), (recipe.budget, "trials"), (recipe.rungs, "epochs")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, field, 1)


def test_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("trials/quickstart.yaml", {"budget": {"trials": 64}})
    assert (recipe.name, recipe.space.name, recipe.benchmark, recipe.seed) == ("quickstart", "optimizer_cells", "digits-rows", 0)
    assert (recipe.budget.trials, recipe.search.sampler, recipe.search.cohort) == (64, "tpe", 12)
    assert (recipe.rungs.epochs, recipe.baselines.cells, recipe.baselines.trials) == ((3, 8), ("lstm", "gru"), 8)
    assert (recipe.confirmation.top, recipe.confirmation.seeds, recipe.confirmation.epochs) == (3, 5, 8)
    assert load_recipe("quickstart").budget.trials == 48


@pytest.mark.parametrize("name", names("trials"))
def test_shipped_recipes(name):
    recipe = load_recipes(name, {})
    assert recipe.name == name
    assert all(member.description for member in (recipe.members if isinstance(recipe, SuiteRecipe) else [recipe]))


def test_parse_set():
    given = ["budget.trials=500", "search.sampler=random", "rungs.epochs=[1, 4]", "rungs.keep=1e-1", "data=", "name=a=b", "x.y.z={a: 1}"]
    assert parse_set(given) == {
        "budget": {"trials": 500},
        "search": {"sampler": "random"},
        "rungs": {"epochs": [1, 4], "keep": 0.1},
        "data": None,
        "name": "a=b",
        "x": {"y": {"z": {"a": 1}}},
    }
    assert parse_set([]) == {}


@pytest.mark.parametrize(
    "texts, words",
    [
        (["budget.trials"], ["--set budget.trials: ", 'no "="']),
        (["=3"], ["--set =3: ", '""', "dots"]),
        (["budget..trials=3"], ['"budget..trials"', "dots"]),
        (["rungs.epochs=[1"], ["--set rungs.epochs=[1: ", "line 1"]),
        (["seed=1", "seed=2"], ["--set seed=2: ", "twice"]),
        (["budget=1", "budget.trials=2"], ["--set budget.trials=2: ", "as a whole"]),
        (["budget.trials=2", "budget=1"], ["--set budget=1: ", "twice"]),
    ],
)
def test_parse_set_refuses(texts, words):
    with pytest.raises(InputError) as caught:
        parse_set(texts)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@given(st.text(max_size=30))
def test_parse_set_never_breaks(text):
    try:
        parse_set([text])
    except InputError as error:
        assert str(error).startswith(f"--set {text}: ")


@pytest.mark.parametrize(
    "given, words",
    [
        ("budget.trials=-3", ["--set budget.trials: found -3, allowed: a whole number >= 1"]),
        ("budget.trails=3", ['--set budget.trails: unknown key "trails"', 'did you mean "trials"?']),
        ("budget=3", ["--set budget: found 3, allowed: a mapping with trials"]),
        ("space=smok", ['--set space: there is no search space "smok"', 'did you mean "smoke"?']),
        ("space.parameters.lr.high=1e-4", ["--set space.parameters.lr.high", "low = 0.003", "high = 0.0001"]),
        ("space.parameters.heavy_ball.mu.high=2", ["--set space.parameters.heavy_ball.mu.high: mu = 2.0, allowed 0 <= mu < 1"]),
        ("seed.x=2", ["--set seed.x: seed is 0, which has no x"]),
    ],
)
def test_messages_name_the_override(given, words):
    with pytest.raises(InputError) as caught:
        load_recipe("smoke", parse_set([given]))
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "smoke.yaml" not in message


def test_an_override_leaves_the_files_own_mistakes_to_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("space: smoke\nbenchmark: digits-rows\nbudget: {trials: 0}\nrungs: {epochs: [1]}\n")
    with pytest.raises(InputError) as caught:
        load_recipe(str(path), {"seed": 2})
    assert str(caught.value) == f"{path}: budget.trials: found 0, allowed: a whole number >= 1"


def test_overrides_reach_into_the_space():
    recipe = load_recipe("smoke", parse_set(["space.parameters.heavy_ball.mu.high=0.5", "space.parameters.hidden_size=4"]))
    assert recipe.space.name == "smoke"
    assert recipe.space.to_dict()["parameters"]["heavy_ball.mu"] == {"low": 0.1, "high": 0.5}
    assert recipe.space.to_dict()["parameters"]["hidden_size"] == 4
    assert load_recipe("smoke", {"space": "optimizer_cells"}).space == load_space("optimizer_cells")
    assert load_recipe("smoke", {"space": load_space("optimizer_cells")}).space == load_space("optimizer_cells")


def test_an_inline_space_has_no_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("space: {parameters: {base: gru}}\nbenchmark: digits-rows\nbudget: {trials: 1}\nrungs: {epochs: [1]}\n")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.space.name, len(recipe.space.parameters)) == ("a", "inline", 2)


def test_diff():
    old = load_recipe("smoke").to_dict()
    new = load_recipe("smoke", parse_set(["rungs.epochs=[1, 4]", "space.parameters.lr.high=0.1", "space.parameters.init=paper"])).to_dict()
    assert diff(old, new) == [
        "rungs.epochs: [1, 2] -> [1, 4]",
        "space.parameters.init: torch -> paper",
        "space.parameters.lr.high: 0.01 -> 0.1",
    ]
    assert diff({"a": {"b": 1, "c": None}, "e": 1}, {"a": {"c": "x", "d": ""}, "e": 1.0}) == [
        "a.b: 1 -> (nothing)",
        "a.c: null -> x",
        "e: 1 -> 1.0",
        'a.d: (nothing) -> ""',
    ]


def test_many_problems_are_cut():
    with pytest.raises(InputError) as caught:
        Recipe.from_dict({f"x{n}": 1 for n in range(9)})
    assert len(str(caught.value).splitlines()) == 6 and str(caught.value).endswith("more")


@pytest.mark.parametrize("case", [c for c in BROKEN if c.kind == "recipe"], ids=lambda c: c.id)
def test_broken(case, tmp_path):
    path = write(case, tmp_path)
    with pytest.raises(InputError) as caught:
        load_recipe(str(path))
    message = str(caught.value)
    assert [word for word in [path.name, *case.words] if word not in message] == [], message
    assert "pydantic" not in message and (case.id == "several" or "\n" not in message)
