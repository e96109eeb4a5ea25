"""The search space: from YAML to candidates."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import time

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search import Candidate, CellSpec, InputError, preset, presets
from mrnn_search.cells.formula.node import MAX_NODES
from mrnn_search.cells.rules.base import find_rule
from mrnn_search.search import counting
from mrnn_search.search.files import names
from mrnn_search.search.formulas import expand
from mrnn_search.search.parameter import Range, Target, gates_of, gates_text
from mrnn_search.search.space import RandomTrial, Space, load_space

from .broken import BROKEN, write

RULES = ("plain", "heavy_ball", "rmsprop", "adam", "nesterov")
BASES = ("rnn", "lstm", "gru", "orthogonal")
FORMULAS = ("m(0.9) / sqrt(n(0.99) + 1e-8)", "u", "ema(u, mu)", "r + momentum(u, 0.5)", "r + u")
COUPLED = ("nesterov_released", "r + momentum(u, 0.5)", "r + u")
GATES = {"lstm": ("all", "g", "ifo", "of"), "gru": ("all", "n", "rz")}


def space(**parameters):
    """A space with ``__`` for the dots of names."""
    return Space.from_dict({"parameters": {name.replace("__", "."): value for name, value in parameters.items()}})


@st.composite
def domains(draw, values, floats, discrete):
    """A constant, choices or (if not ``discrete``) a range of one parameter, in YAML's form."""
    some = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
    kind = draw(st.sampled_from(["constant", "value", "choices", "range"]))
    if kind == "range" and floats and not discrete:
        low = draw(st.floats(floats[0], floats[1] / 2))
        high = draw(st.floats(low, floats[1], exclude_min=True))
        return {"low": low, "high": high} | ({"log": True} if draw(st.booleans()) else {})
    return some[0] if kind == "constant" else {"value": some[0]} if kind == "value" else {"choices": some}


@st.composite
def spaces(draw, discrete=False):
    """Any valid space, as YAML data: conditions of every kind."""
    bases = draw(st.lists(st.sampled_from(BASES), min_size=1, max_size=4, unique=True))
    rules = draw(st.lists(st.sampled_from((*RULES, "nesterov_released", *FORMULAS)), min_size=1, max_size=5, unique=True))
    data = {"base": {"choices": bases}, "rule": {"choices": rules}}
    if draw(st.booleans()):
        data["rule"] |= {"formulas": draw(st.integers(1, 4)), "size": 8, "seed": draw(st.integers(0, 3))}
    coefficients = {"mu": ((0.1, 0.5), (0.05, 0.9)), "epsilon": ((0.5, 1.0, 2), (0.1, 3.0)), "restart": ((1, 2, 5), None)}
    kinds = (True, False, "unit", "input")
    uses = {
        "ema(u, mu)": ("mu",),
        "heavy_ball": ("mu", "epsilon"),
        "rmsprop": ("epsilon",),
        "adam": ("mu", "epsilon"),
        "nesterov": ("epsilon", "restart"),
    }
    for rule in rules:
        for name in uses.get(rule, ()):
            if draw(st.booleans()):
                data[f"{rule}.{name}"] = draw(domains(*coefficients[name], discrete))
            if name != "restart" and draw(st.integers(0, 3)) == 0:
                data[f"{rule}.{name}.learned"] = draw(domains(kinds, None, discrete))
    if "rnn" in bases and draw(st.booleans()):
        data["rnn.activation"] = draw(domains(("tanh", "relu"), None, discrete))
    _draw_parts(draw, data, bases, rules, discrete)
    data["hidden_size"] = draw(domains((8, 16), None, discrete))
    data["lr"] = draw(domains((1e-3, 1e-2), (1e-4, 0.1), discrete))
    if draw(st.booleans()):
        condition = draw(st.sampled_from([{"base": bases[0]}, {"rule": rules[:2]}, {"base": bases, "rule": rules[-1]}]))
        data["lr_orthogonal"] = {**_mapping(draw(domains((1e-3, None), (1e-4, 0.1), discrete))), "when": condition}
    keys = draw(st.permutations(list(data)))
    return {"description": draw(st.text(max_size=5)), "parameters": {key: data[key] for key in keys}}


def _draw_parts(draw, data, bases, rules, discrete):
    """Scope, gates and bias, with the conditions that they need."""
    coupled = [rule for rule in rules if rule in COUPLED]
    if draw(st.booleans()) and (len(coupled) < len(rules) or "formulas" in data["rule"]):
        scope = _mapping(draw(domains(("drive", "preactivation", "hidden"), None, discrete)))
        data["scope"] = scope | ({"when": {"rule": {"not": coupled}}} if coupled else {})
    scopes = data.get("scope", {})
    drawn = scopes.get("choices", [scopes.get("value")])
    apart = {"when": {"scope": [value for value in drawn if value != "hidden"]}} if "hidden" in drawn else {}
    if apart and not apart["when"]["scope"]:
        return
    for base in ("lstm", "gru"):
        if base in bases and draw(st.booleans()):
            data[f"{base}.gates"] = _mapping(draw(domains(GATES[base], None, discrete))) | apart
    if draw(st.booleans()):
        data["drive_bias"] = _mapping(draw(domains(("inside", "outside"), None, discrete))) | apart


def _mapping(domain):
    return domain if isinstance(domain, dict) else {"value": domain}


@given(spaces())
def test_round_trip(data):
    first = Space.from_dict(data, "a")
    text = json.dumps(first.to_dict(), allow_nan=False)
    again = Space.from_dict(json.loads(text))
    assert again == first
    assert json.dumps(again.to_dict()) == text
    kept = [name for name in (p.name for p in first.parameters) if name in data["parameters"] and name != "base"]
    assert kept == [name for name in data["parameters"] if name != "base"]


@given(spaces(), st.integers(0, 2**31))
def test_every_draw_is_a_candidate_of_the_space(data, seed):
    made = Space.from_dict(data)
    by_name = {p.name: p for p in made.parameters}
    for candidate in made.draw(5, seed):
        spec = candidate.spec
        assert spec.base in by_name["base"].domain.values and spec.rule in by_name["rule"].domain.values
        for name, value in spec.coefficients.items():
            known = by_name.get(f"{spec.rule}.{name}")
            if known is None:
                assert value == CellSpec(spec.base, spec.rule).coefficients[name]
            elif isinstance(known.domain, Range):
                assert known.domain.low <= value <= known.domain.high
            else:
                assert value in known.domain.values
            learned = by_name.get(f"{spec.rule}.{name}.learned")
            assert spec.learned_kinds.get(name, False) in [
                "scalar" if value is True else value for value in ((False,) if learned is None else learned.domain.values)
            ]
        for name, value in (
            ("scope", spec.scope),
            ("drive_bias", spec.drive_bias),
            (f"{spec.base}.gates", gates_text(spec.base, spec.gates)),
        ):
            assert value in ("drive", "preactivation", "inside", "all") or value in by_name[name].domain.values
        assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate


@given(spaces(discrete=True))
def test_count_is_what_brute_force_finds(data):
    made = Space.from_dict(data)
    found = set()
    for values in itertools.product(*(p.domain.values for p in made.parameters)):
        params = dict(zip((p.name for p in made.parameters), values, strict=True))
        found.add(made.suggest(optuna.trial.FixedTrial(params)).candidate_id)
    count = made.count()
    assert count.candidates == count.structures == len(found)
    assert not count.capped and not count.continuous


@settings(max_examples=30)
@given(spaces(), st.sampled_from(sorted(presets())))
def test_a_baseline_is_one_cell_and_every_way_to_train_it(data, name):
    made, spec = Space.from_dict(data), preset(name)
    tuned = made.for_cell(spec)
    assert Space.from_dict(tuned.to_dict()) == tuned
    assert {candidate.spec for candidate in tuned.draw(5, 0)} == {spec}
    assert {"hidden_size", "lr"} <= {p.name for p in tuned.parameters}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from((*RULES, *FORMULAS, "nesterov_released")), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(("drive", "preactivation", "hidden")), min_size=1, max_size=3, unique=True),
    st.sampled_from(({}, {"rule": 0}, {"rule": 1}, {"drive_bias": 0}, {"base": 0})),
    st.sampled_from(({}, {"scope": 0}, {"scope": 1}, {"rule": 1}, {"base": 0}, {"scope": 0, "rule": 0})),
    st.booleans(),
)
def test_what_is_read_can_be_drawn_and_the_rest_is_refused_with_a_condition(rules, scopes, of_scope, of_others, bias):
    """Conditions at random: a space is refused just when one of its draws would be no cell."""
    values = {"rule": rules, "scope": scopes, "base": ["lstm", "gru"], "drive_bias": ["inside", "outside"]}

    def when(conditions):
        chosen = {name: values[name][min(at, len(values[name]) - 1)] for name, at in conditions.items() if name != "drive_bias" or bias}
        return {"when": {name: find_rule(v).program.text if v in FORMULAS else v for name, v in chosen.items()}} if chosen else {}

    data = {"base": {"choices": values["base"]}, "rule": {"choices": rules}, "scope": {"choices": scopes, **when(of_scope)}}
    data["lstm.gates"] = {"choices": ["all", "g"], **when(of_others)}
    if bias:
        data["drive_bias"] = {"choices": values["drive_bias"], **({} if "drive_bias" in of_scope else when(of_others))}
    try:
        made = Space.from_dict({"parameters": data})
    except InputError as error:
        if "can never be used" in str(error):
            return
        assert "add when: {" in str(error) or "allowed: " in str(error)
        assert any(not _is_a_cell(data, point) for point in itertools.product(*(p["choices"] for p in data.values())))
    else:
        assert len(made.draw(60, 0)) == 60


def _is_a_cell(data, point):
    chosen = dict(zip(data, point, strict=True))
    for name in list(chosen):
        if name == "lstm.gates" and chosen["base"] != "lstm":
            del chosen[name]
    for _ in data:
        for name in list(chosen):
            if any(o not in chosen or not _same_rule(chosen[o], v) for o, v in data[name].get("when", {}).items()):
                del chosen[name]
    try:
        gates = gates_of("lstm", chosen["lstm.gates"]) if "lstm.gates" in chosen else None
        CellSpec(chosen["base"], chosen["rule"], scope=chosen.get("scope"), gates=gates, drive_bias=chosen.get("drive_bias", "inside"))
    except InputError:
        return False
    return True


def _same_rule(a, b):
    return a == b or (a in FORMULAS and find_rule(a).program.text == b)


def test_suggest_asks_for_active_parameters_only():
    made = space(
        heavy_ball__mu={"low": 0.1, "high": 0.9},
        rnn__activation={"choices": ["tanh", "relu"]},
        lr_orthogonal={"low": 1e-4, "high": 1e-3, "when": {"base": ["orthogonal", "lstm"]}},
        nesterov__restart={"low": 2, "high": 40, "log": True},
        rule={"choices": ["heavy_ball", "nesterov"]},
        base={"choices": ["rnn", "lstm", "orthogonal"]},
        hidden_size=32,
        dropout=0,
    )
    assert [p.name for p in made.visited][:4] == ["rule", "heavy_ball.mu", "base", "rnn.activation"]
    trial = optuna.trial.FixedTrial({"base": "rnn", "rule": "heavy_ball", "heavy_ball.mu": 0.25, "rnn.activation": "relu"})
    assert made.suggest(trial) == Candidate(CellSpec("rnn", "heavy_ball", {"mu": 0.25}, (), {"activation": "relu"}), hidden_size=32)
    trial = optuna.trial.FixedTrial({"base": "lstm", "rule": "nesterov", "lr_orthogonal": 5e-4, "nesterov.restart": 7})
    assert made.suggest(trial) == Candidate(CellSpec("lstm", "nesterov", {"restart": 7}), hidden_size=32, lr_orthogonal=5e-4)


def test_a_chain_of_conditions():
    made = space(
        base="lstm",
        rule={"choices": ["plain", "heavy_ball"]},
        heavy_ball__mu__learned={"choices": [True, False]},
        clip={"choices": [0.5, None], "when": {"heavy_ball.mu.learned": True}},
    )
    for candidate in made.draw(60, 1):
        assert "mu" in candidate.spec.learned or candidate.clip == 1.0
    assert {c.clip for c in made.draw(60, 1)} == {0.5, None, 1.0}


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler(seed=0), optuna.samplers.TPESampler(seed=0, n_startup_trials=3)])
def test_optuna_studies(sampler):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, made = optuna.create_study(sampler=sampler), load_space("optimizer_cells")
    for number in range(12):
        trial = study.ask()
        candidate = made.suggest(trial)
        assert made.suggest(optuna.trial.FixedTrial(trial.params)) == candidate
        assert all(name.split(".")[0] in (candidate.spec.rule, candidate.spec.base) for name in trial.params if "." in name)
        study.tell(trial, number % 5)


def test_500_of_the_shipped_space():
    drawn = load_space("optimizer_cells").draw(500, 0)
    assert {c.spec.base for c in drawn} == set(BASES)
    assert {c.spec.rule for c in drawn} == set(RULES)
    assert {c.hidden_size for c in drawn} == {32, 48} and {c.init for c in drawn} == {"paper", "torch"}
    assert {c.spec.learned for c in drawn} == {(), ("mu",)}
    assert all((c.lr_orthogonal is not None) == (c.spec.base == "orthogonal") for c in drawn)
    assert len({c.candidate_id for c in drawn}) > 490
    below = sum(c.lr < math.sqrt(2e-3 * 2e-2) for c in drawn)  # the middle of a log scale
    assert 200 < below < 300  # 250, standard deviation 11
    assert load_space("optimizer_cells").draw(500, 0) == drawn != load_space("optimizer_cells").draw(500, 1)


@pytest.mark.parametrize("name", names("search_spaces"))
def test_shipped_spaces(name):
    made = load_space(name)
    assert made.name == name and made.description
    assert Space.from_dict(made.to_dict()) == made


def test_500_of_the_largest_space():
    made = load_space("optimizers_everywhere")
    rule = next(p for p in made.parameters if p.name == "rule")
    drawn = made.draw(500, 0)
    assert {c.spec.base for c in drawn} == {"rnn", "lstm", "gru", "mgu", "indrnn", "linear", "orthogonal"}
    assert len({c.spec.rule for c in drawn}) > 70 and {c.spec.rule for c in drawn} <= set(rule.domain.values)
    assert {c.spec.scope for c in drawn} == {"drive", "preactivation", "hidden"}
    assert {c.spec.drive_bias for c in drawn} == {"inside", "outside"}
    assert {c.spec.gates for c in drawn} >= {None, ("g",), ("i", "f", "o"), ("r", "z"), ("n",)}
    assert all(c.spec.gates is None and c.spec.drive_bias == "inside" for c in drawn if c.spec.scope == "hidden")
    more = made.fixed(rule="adam").draw(200, 1)
    assert {kind for c in more for kind in c.spec.learned_kinds.values()} == {"scalar", "unit", "input"}
    assert all(Candidate.from_dict(json.loads(json.dumps(c.to_dict()))) == c for c in [*drawn, *more])
    assert len({c.candidate_id for c in drawn}) > 495


@pytest.mark.parametrize("name", ["momentum_lstm", "exprnn"])
def test_baselines_of_the_largest_space(name):
    tuned = load_space("optimizers_everywhere").for_cell(preset(name))
    assert {c.spec for c in tuned.draw(20, 0)} == {preset(name)}
    assert Space.from_dict(tuned.to_dict()) == tuned


def test_every_part_of_a_cell_can_be_a_baseline():
    specs = [
        CellSpec("lstm", "adam", {"mu": 0.5}, {"mu": "unit", "beta": "input", "epsilon": "scalar"}, gates="gi", drive_bias="outside"),
        CellSpec("gru", "heavy_ball", scope="hidden"),
        CellSpec("gru", "nesterov_released", gates="n"),
        CellSpec("rnn", "epsilon * ema(u,mu)", {"mu": 0.25}, ["mu"], {"activation": "relu"}, "preactivation"),
    ]
    for made in (load_space("optimizers_everywhere"), load_space("smoke")):
        for spec in specs:
            tuned = made.for_cell(spec)
            assert {c.spec for c in tuned.draw(10, 0)} == {spec}
            assert Space.from_dict(json.loads(json.dumps(tuned.to_dict()))) == tuned


def test_formulas_are_a_fixed_list_of_different_rules():
    data = {"choices": ["adam", "plain", "m(0.7)"], "formulas": 40, "size": 9, "seed": 3}
    made = space(base="lstm", rule=data)
    assert made.to_dict()["parameters"]["rule"] == {**data, "choices": ["adam", "plain", "ema(u, 0.7)"]}
    values = made.parameters[1].domain.values
    assert values[:3] == ("adam", "plain", "ema(u, 0.7)") and len(set(values)) == 43
    assert len({CellSpec("lstm", rule).cell_id for rule in values}) == 43 == made.count().candidates
    assert all(find_rule(rule).program.text == rule and find_rule(rule).program.root.size <= 9 for rule in values[3:])
    assert space(base="lstm", rule={**data, "formulas": 60}).parameters[1].domain.values[:43] == values
    assert space(base="lstm", rule={**data, "seed": 4}).parameters[1].domain.values != values
    assert {c.spec.rule for c in made.draw(1000, 0)} == set(values)


def test_formulas_are_the_same_in_every_process():
    expand.cache_clear()
    assert expand(3, 7, 0) == ("u - prev(u)", "tanh(prev(u)) - ema(u, 0.7)", "0.6 * momentum(u, 0.7, 3)")
    assert len(expand(100, 40, 0)) == 100  # some of this size are more than a rule may be
    assert all(find_rule(rule).program.root.size <= MAX_NODES for rule in expand(100, 40, 0))


def test_optuna_sees_formulas_as_choices():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = space(base="lstm", rule={"choices": ["plain"], "formulas": 5}, lr={"low": 0.1, "high": 0.2})
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=3))
    for number in range(8):
        trial = study.ask()
        assert made.suggest(trial).spec.rule == trial.params["rule"]
        assert trial.distributions["rule"].choices == made.parameters[1].domain.values
        study.tell(trial, number)


def test_a_formula_has_one_text_and_its_coefficients_are_parameters():
    written = {"rule": {"choices": ["plain", "ema(u,mu)*1.0"]}, "ema(u, mu)*1.mu": {"choices": [0.5, 0.25]}}
    made = space(base="gru", **written, **{"ema(u,mu) * 1.mu.learned": "unit", "clip": {"value": 2, "when": {"rule": "ema( u,mu )*1"}}})
    assert [p.name for p in made.parameters] == ["base", "rule", "ema(u, mu) * 1.mu", "ema(u, mu) * 1.mu.learned", "clip"]
    assert Space.from_dict(made.to_dict()) == made
    rule = "ema(u, mu) * 1"
    spec = {CellSpec("gru"), *(CellSpec("gru", rule, {"mu": mu}, {"mu": "unit"}) for mu in (0.5, 0.25))}
    assert {c.spec for c in made.draw(50, 0)} == spec and all((c.clip == 2) == (c.spec.rule == rule) for c in made.draw(50, 0))
    assert {c.spec for c in made.fixed({"ema(u, mu)*1.0.mu": 0.75}, rule="ema(u,mu) * 1").draw(3, 0)} == {
        CellSpec("gru", rule, {"mu": 0.75}, {"mu": "unit"})
    }


def test_gates_and_kinds_have_one_form():
    one = space(base="lstm", rule="adam", lstm__gates={"choices": ["ofi", "all"]}, adam__mu__learned={"choices": ["scalar", False]})
    other = space(base="lstm", rule="adam", lstm__gates={"choices": ["ifo", "gfio"]}, adam__mu__learned={"choices": [True, False]})
    assert one == other
    assert {c.spec.gates for c in one.draw(20, 0)} == {None, ("i", "f", "o")}
    assert Target.of("lstm.gates").name == "lstm.gates" and Target.of("adam.mu.learned").name == "adam.mu.learned"


def test_conditions_that_exclude():
    made = space(
        base="lstm",
        rule={"choices": ["plain", "adam", "nesterov_released"]},
        scope={"choices": ["drive", "hidden"], "when": {"rule": {"not": "nesterov_released"}}},
        clip={"value": 3, "when": {"rule": {"not": ["plain", "adam"]}, "base": "lstm"}},
    )
    conditions = made.to_dict()["parameters"]
    assert conditions["scope"]["when"] == {"rule": {"not": "nesterov_released"}}
    assert conditions["clip"]["when"] == {"rule": {"not": ["plain", "adam"]}, "base": "lstm"}
    assert Space.from_dict(made.to_dict()) == made
    assert all((c.clip == 3) == (c.spec.rule == "nesterov_released") for c in made.draw(60, 0))
    # what is fixed to a rule that is not in the space is not excluded, either
    lion = made.fixed(rule="lion")
    assert {(c.spec.rule, c.spec.scope, c.clip) for c in lion.draw(30, 0)} == {("lion", "drive", 3.0), ("lion", "hidden", 3.0)}
    assert Space.from_dict(lion.to_dict()) == lion
    assert {c.spec.scope for c in made.fixed(rule="nesterov_released").draw(9, 0)} == {"preactivation"}
    with pytest.raises(InputError, match="scope: can be drive while rule is nesterov_released"):
        space(base="lstm", rule={"choices": ["adam", "lion"]}, scope="drive").fixed(rule="nesterov_released")


def test_fixed():
    made = load_space("optimizer_cells")
    tuned = made.fixed(base="lstm", rule="plain")
    assert [p.name for p in tuned.parameters] == ["base", "rule", "hidden_size", "init", "optimizer", "lr"]
    assert {c.spec for c in tuned.draw(20, 0)} == {CellSpec("lstm")}
    assert made.fixed({"base": "orthogonal", "heavy_ball.mu": 0.5}, rule="heavy_ball", lr=1).draw(1, 0)[0].spec.coefficients["mu"] == 0.5


def test_fixed_to_what_is_not_in_the_space():
    made = space(base={"choices": ["rnn", "lstm"]}, rule="adam", clip={"value": 2, "when": {"base": ["rnn", "lstm"]}}, lr=0.1)
    assert made.fixed(base="gru", rule="plain", num_layers=2).draw(1, 0) == [Candidate(CellSpec("gru"), num_layers=2, lr=0.1)]
    assert made.fixed(base="gru", clip=0.5).draw(1, 0)[0].clip == 0.5
    narrowed = made.fixed(base="rnn")
    assert narrowed.draw(1, 0)[0].clip == 2.0
    assert Space.from_dict(narrowed.to_dict()) == narrowed


@pytest.mark.parametrize(
    "values, message",
    [
        ({"base": "lstmm"}, 'space "inline": parameters.base: unknown base "lstmm"'),
        ({"bass": "lstm"}, 'unknown parameter "bass"'),
        ({"heavy_ball.mu": 1.5}, "mu = 1.5, allowed 0 <= mu < 1"),
        ({"heavy_ball.mu.learned": True}, "strictly inside"),
    ],
)
def test_fixed_refuses(values, message):
    made = space(base="lstm", rule="heavy_ball", heavy_ball__mu={"low": 0, "high": 0.5})
    with pytest.raises(InputError, match=message):
        made.fixed(values)


def test_baselines_keep_conditions_on_whether_a_coefficient_is_learned():
    made = space(
        base="gru",
        rule="heavy_ball",
        heavy_ball__mu={"choices": [0.1, 0.2], "when": {"init": "torch"}},
        heavy_ball__mu__learned={"choices": [True, False]},
        init={"choices": ["paper", "torch"]},
        clip={"value": 3, "when": {"heavy_ball.mu.learned": False}},
    )
    tuned = made.for_cell(preset("momentum_lstm"))
    assert {(c.spec, c.clip, c.init) for c in tuned.draw(40, 0)} == {(preset("momentum_lstm"), 3.0, init) for init in ("paper", "torch")}


def test_a_learned_coefficient_may_be_fixed_where_its_range_has_an_edge():
    space(
        base="lstm",
        rule="heavy_ball",
        heavy_ball__mu__learned={"choices": [True, False]},
        heavy_ball__mu={"low": 0, "high": 0.5, "when": {"heavy_ball.mu.learned": False}},
    )


def test_steps():
    made = space(base="lstm", dropout={"low": 0, "high": 0.3, "step": 0.1}, hidden_size={"low": 8, "high": 24, "step": 8})
    assert made.count().candidates == 12
    drawn = made.draw(200, 0)
    assert {c.hidden_size for c in drawn} == {8, 16, 24}
    assert sorted({c.dropout for c in drawn}) == list(made.parameters[2].domain) == pytest.approx([0, 0.1, 0.2, 0.3])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert {made.suggest(study.ask()).dropout for _ in range(60)} == {c.dropout for c in drawn}


def test_numbers_have_one_form():
    one, other = space(base="lstm", dropout=0, clip=1), space(base="lstm", dropout=-0.0, clip=1.0)
    assert one == other and one.draw(1, 0)[0].candidate_id == other.draw(1, 0)[0].candidate_id


def test_an_option_that_may_be_a_number():
    """YAML has numbers, a spec has text: choices, one value, a range and conditions read both as one."""
    made = space(
        base="orthogonal",
        orthogonal__rebase={"choices": ["never", 1, "100"]},
        lr={"value": 0.5, "when": {"orthogonal.rebase": [1, 100]}},
        clip={"value": 3, "when": {"orthogonal.rebase": "1"}},
    )
    assert {(c.spec.options["rebase"], c.lr, c.clip) for c in made.draw(40, 0)} == {("never", 1e-3, 1), ("1", 0.5, 3), ("100", 0.5, 1)}
    assert Space.from_dict(made.to_dict()) == made and made.count().candidates == 3
    for value in (7, "7"):
        assert made.fixed({"orthogonal.rebase": value}).draw(1, 0)[0].spec == CellSpec("orthogonal", options={"rebase": 7})
    assert made.for_cell(preset("dtriv")).draw(1, 0)[0] == Candidate(preset("dtriv"), lr=0.5, clip=3)
    drawn = space(base="orthogonal_lstm", orthogonal_lstm__rebase={"low": 1, "high": 8, "log": True}).draw(200, 0)
    assert {c.spec.options["rebase"] for c in drawn} == set("12345678")
    bare = space(base={"choices": ["orthogonal", "gru"]}, orthogonal__rebase=100)
    assert {c.spec for c in bare.draw(20, 0)} == {preset("gru"), preset("dtriv", rebase=100)}


@pytest.mark.parametrize(
    ("rebase", "message"),
    [
        (0, 'rebase: unknown rebase "0"; allowed: a whole number >= 1, never, once'),
        (1.5, "rebase: rebase = 1.5, allowed: a whole number or text"),
        (True, "rebase: rebase = true, allowed: a whole number or text"),
        ({"choices": [1, "1"]}, "rebase.choices[1]: 1 is there twice"),
        ({"low": "never", "high": 5}, "rebase.low: found 'never', allowed: a number"),
        ({"low": 0, "high": 5}, 'rebase.low: unknown rebase "0"'),
        ({"low": 1.5, "high": 5}, "rebase.low: rebase = 1.5, allowed: a whole number or text"),
    ],
)
def test_an_option_that_may_be_a_number_but_not_this(rebase, message):
    with pytest.raises(InputError, match=re.escape("parameters.orthogonal." + message)):
        space(base="orthogonal", orthogonal__rebase=rebase)


def test_a_log_range_of_whole_numbers():
    trial = RandomTrial(0)
    drawn = [trial.suggest_int("n", 1, 16, log=True) for _ in range(3000)]
    assert set(drawn) == set(range(1, 17))
    assert abs(sum(n <= 4 for n in drawn) / 3000 - math.log(4.5 / 0.5) / math.log(16.5 / 0.5)) < 0.04  # over four deviations


def test_collapsed_cells_are_counted_once_and_shown():
    made = space(base="lstm", rule={"choices": ["plain", "nesterov"]}, nesterov__restart={"choices": [1, 2]})
    count = made.count()  # nesterov's default epsilon is 1, and restart 1 is no momentum: plain
    assert (count.structures, count.candidates) == (2, 2)
    assert count.collapsed == (("lstm", "nesterov(epsilon=1, restart=1)-lstm"),)


def test_collapsed_cells_of_continuous_ranges_are_found_by_probing():
    made = space(
        base="lstm",
        rule={"choices": ["plain", "heavy_ball"]},
        heavy_ball__mu={"low": 0, "high": 0.9},
        heavy_ball__epsilon={"low": 0.5, "high": 2},
        lr={"low": 0.1, "high": 1},
    )
    count = made.count()
    assert count.structures == 2 and count.candidates is None
    assert count.continuous == ("heavy_ball.mu", "heavy_ball.epsilon", "lr")
    assert count.collapsed == (("lstm", "heavy_ball(epsilon=1, mu=0)-lstm"),)


def test_equal_families_of_cells_count_once():
    same = {"low": 0.5, "high": 2}
    rules = {"rule": {"choices": ["heavy_ball", "nesterov"]}, "heavy_ball__mu": 0, "nesterov__restart": 1, "heavy_ball__epsilon": same}
    assert space(base="lstm", **rules, nesterov__epsilon=same).count().structures == 1
    assert space(base="lstm", **rules, nesterov__epsilon={"low": 0.5, "high": 3}).count().structures == 2


def test_a_rule_that_does_nothing_is_one_cell_wherever_it_acts():
    made = space(
        base="lstm",
        rule={"choices": ["plain", "u", "prev(u) + u - prev(u)"]},
        lstm__gates={"choices": ["all", "g"]},
        drive_bias={"choices": ["inside", "outside"]},
    )
    count = made.count()
    assert count.structures == 1
    assert count.collapsed == (("lstm", "[u]-lstm"), ("lstm", "[prev(u) + u - prev(u)]-lstm"))


def test_fifty_thousand_cells_are_counted_in_seconds():
    steps = {"low": 0.05, "high": 0.95, "step": 0.05}
    made = space(
        base={"choices": ["lstm", "gru"]},
        rule={"choices": ["plain", "heavy_ball", "adam"], "formulas": 64},
        scope={"choices": ["drive", "preactivation"]},
        lstm__gates={"choices": ["all", "i", "f", "g", "o", "ifo"]},
        gru__gates={"choices": ["all", "r", "z", "n", "rz"]},
        drive_bias={"choices": ["inside", "outside"]},
        heavy_ball__mu=steps,
        heavy_ball__mu__learned={"choices": [False, True, "unit", "input"]},
        adam__mu=steps,
        adam__beta={"low": 0.1, "high": 0.8, "step": 0.05},
        adam__mu__learned={"choices": [False, True, "unit", "input"]},
    )
    started = time.process_time()
    count = made.count()
    points = 2 + 11 * 2 * 2 * (64 + 19 * 4 + 19 * 15 * 4)  # a few formulas are heavy balls
    assert points > 50_000 and 0.99 * points < count.structures == count.candidates <= points
    assert time.process_time() - started < 10  # about one second


def test_count_says_when_it_stopped(monkeypatch):
    monkeypatch.setattr(counting, "CAP", 10)
    made = space(base="lstm", hidden_size={"low": 1, "high": 2**40})
    assert dataclasses.astuple(made.count())[:4] == (10, True, (), None)
    assert not space(base="lstm", hidden_size={"low": 1, "high": 10}).count().capped


@pytest.mark.parametrize("case", [c for c in BROKEN if c.kind == "space"], ids=lambda c: c.id)
def test_broken(case, tmp_path):
    path = write(case, tmp_path)
    with pytest.raises(InputError) as caught:
        load_space(str(path))
    message = str(caught.value)
    assert [word for word in [path.name, *case.words] if word not in message] == [], message
    assert "\n" not in message and "pydantic" not in message
