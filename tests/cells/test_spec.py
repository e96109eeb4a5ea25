"""CellSpec and Candidate: validation, canonical JSON, identity."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given

from mrnn_search._registry import InputError
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.cells.rules.base import rules

from .strategies import specs


@given(specs())
def test_json_round_trip_keeps_equality_hash_and_identity(spec):
    twin = CellSpec.from_json(spec.to_json())
    assert twin == spec
    assert hash(twin) == hash(spec)
    assert twin.cell_id == spec.cell_id
    assert len(spec.cell_id) == 64


@given(specs())
def test_candidate_round_trip(spec):
    candidate = Candidate(spec, hidden_size=17, lr=3e-4)
    assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate


def test_names_leave_out_a_guard_at_its_default():
    assert CellSpec("gru", "rmsprop").name == "rmsprop(beta=0.9, epsilon=0.6)-gru"
    assert "delta=1e-08" in CellSpec("gru", "rmsprop", {"delta": 1e-8}).name
    assert CellSpec("lstm", "nesterov").name == "nesterov(epsilon=1, restart=2)-lstm"


def test_frozen_and_read_only():
    spec = preset("momentum_lstm")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.base = "gru"
    with pytest.raises(TypeError):
        spec.coefficients["mu"] = 0.1


def test_equal_meaning_is_equal_identity():
    a = CellSpec("lstm", "heavy_ball", {"mu": 0, "epsilon": 0.5})
    b = CellSpec("lstm", "heavy_ball", {"epsilon": 0.5, "mu": -0.0})
    assert a == b and a.cell_id == b.cell_id
    assert CellSpec("lstm", "heavy_ball", {"mu": 0.6}, learned="mu") == CellSpec("lstm", "heavy_ball", {"mu": 0.6}, learned=["mu", "mu"])


def test_identity_is_the_same_in_another_process():
    """A hash that depended on the process (PYTHONHASHSEED, set order) could not key a ledger."""
    code = "from mrnn_search.cells import *; print(preset('adam_lstm').cell_id, Candidate(preset('adam_lstm')).candidate_id)"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s, "PYTHONPATH": p}
        ).stdout
        for s in ("1", "2")
        for p in [":".join(sys.path)]
    }
    assert len(seen) == 1
    assert seen.pop().split() == [preset("adam_lstm").cell_id, Candidate(preset("adam_lstm")).candidate_id]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base": ["lstm"]}, ["allowed: text"]),
        ({"base": "lstm", "rule": ["u"]}, ["allowed: text"]),
        ({"base": "lstm", "rule": {"u": 1}}, ["allowed: text"]),
        ({"base": "lstm", "rule": None}, ["allowed: text"]),
        ({"base": "lstm", "rule": "u +"}, ["formula 'u +', character 4", "ends too early"]),
        ({"base": "lstm", "scope": "hiden"}, ['unknown scope "hiden"', 'did you mean "hidden"']),
        ({"base": "lstm", "rule": "nesterov_released", "scope": "drive"}, ["reads the recurrent term", 'allowed: "preactivation"']),
        ({"base": "lstm", "rule": "u + r", "scope": "hidden"}, ["reads the recurrent term"]),
        ({"base": "lstm", "rule": "adam", "gates": "x"}, ['unknown gate of lstm "x"', "allowed: f, g, i, o"]),
        ({"base": "lstm", "rule": "adam", "gates": []}, ["gates is empty"]),
        ({"base": "lstm", "rule": "adam", "gates": "f", "scope": "hidden"}, ["the whole step", "gates = None"]),
        ({"base": "lstm", "rule": "adam", "drive_bias": "outside", "scope": "hidden"}, ["the whole step"]),
        ({"base": "lstm", "rule": "adam", "drive_bias": "out"}, ['unknown drive_bias "out"', "inside, outside"]),
        ({"base": "lstm", "rule": "adam", "learned": {"mu": "row"}}, ['unknown kind of learned mu "row"', "input, scalar, unit"]),
        ({"base": "lstm", "rule": "adam", "learned": ["delta"]}, ["delta cannot be learned"]),
        ({"base": "lstn"}, ['unknown base "lstn"', 'did you mean "lstm"']),
        ({"base": "lstm", "rule": "heavyball"}, ['unknown rule "heavyball"', 'did you mean "heavy_ball"']),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"nu": 0.1}}, ['"nu"', "epsilon, mu"]),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"mu": 1.0}}, ["mu = 1.0", "0 <= mu < 1"]),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"mu": True}}, ["mu = True"]),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"mu": "0.6"}}, ["mu = '0.6'"]),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"mu": math.nan}}, ["mu = nan"]),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"epsilon": 0}}, ["epsilon = 0", "0 < epsilon"]),
        ({"base": "lstm", "rule": "heavy_ball", "coefficients": {"mu": 0.0}, "learned": ["mu"]}, ["strictly inside"]),
        ({"base": "lstm", "rule": "heavy_ball", "learned": ["beta"]}, ['"beta"']),
        ({"base": "lstm", "rule": "nesterov", "coefficients": {"restart": 2.5}}, ["restart = 2.5", "whole number"]),
        ({"base": "lstm", "rule": "nesterov", "learned": ["restart"]}, ["restart cannot be learned"]),
        ({"base": "rnn", "options": {"activation": "relux"}}, ['"relux"', 'did you mean "relu"']),
        ({"base": "lstm", "options": {"activation": "relu"}}, ['option of LSTM "activation"']),
        ({"base": "rnn", "options": {"activation": 1}}, ['unknown activation "1"', "allowed: relu, tanh"]),
        ({"base": "orthogonal", "options": {"rebase": "onse"}}, ['unknown rebase "onse"', "a whole number >= 1, never, once", '"once"?']),
        *(({"base": "orthogonal", "options": {"rebase": k}}, [f'unknown rebase "{k}"']) for k in (0, "0", "01", "", "+1", "²", 1.0, True)),
        ({"base": "orthogonal_lstm", "options": {"rebase": 2**63}}, ["unknown rebase"]),
        ({"base": "orthogonal_lstm", "options": {"rebase": "9" * 5000}}, ["unknown rebase"]),
    ],
)
def test_wrong_specs_say_what_is_allowed(arguments, words):
    with pytest.raises(InputError) as caught:
        CellSpec(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_a_number_among_the_options_is_one_cell_however_it_is_written():
    number, text = (CellSpec("orthogonal", options={"rebase": k}) for k in (100, "100"))
    assert number == text and hash(number) == hash(text) and number.cell_id == text.cell_id
    assert number.options["rebase"] == "100" and number.to_dict()["options"] == {"rebase": "100"}
    assert number.name == "orthogonal[rebase=100]"
    assert CellSpec.from_json(number.to_json()) == number == CellSpec.from_dict({**number.to_dict(), "options": {"rebase": 100}})
    ids = {CellSpec("orthogonal", options={"rebase": k}).cell_id for k in ("never", "once", 1, 2, 100, 2**63 - 1)}
    assert len(ids) == 6 and preset("exprnn").cell_id in ids


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 0},
        {"hidden_size": 8.0},
        {"hidden_size": True},
        {"lr": 0.0},
        {"lr": math.inf},
        {"dropout": 1.0},
        {"clip": -1.0},
        {"init": "kaiming"},
        {"optimizer": "adamw"},
    ],
)
def test_wrong_candidates_are_refused(change):
    with pytest.raises(InputError):
        Candidate(preset("lstm"), **change)


def test_a_duplicate_registration_is_refused():
    with pytest.raises(ValueError, match="already registered by mrnn_search.cells.rules.momentum"):
        rules.register("heavy_ball")(rules["plain"])


@pytest.mark.parametrize(
    ("rule", "values", "words"),
    [
        ("u / mu", {"mu": 0.0}, r"formula u / mu with mu = 0: a divisor in a formula is 0"),
        ("sqrt(mu - 1) * u", {}, r"sqrt\(-0.4\) in a formula is not a finite number"),
        ("momentum(u, 2 * mu)", {"mu": 0.6}, r"with mu = 0.6: decay 1.2 in momentum, allowed 0 <= decay <= 1"),
        ("u * cycle(mu)", {"mu": 0.6}, "the argument of cycle is not a period"),
    ],
)
@pytest.mark.parametrize("learned", [[], ["mu"]])
def test_a_formula_must_make_sense_with_its_coefficients(rule, values, words, learned):
    if values.get("mu") == 0 and learned:
        words = "a learned coefficient starts strictly inside"
    with pytest.raises(InputError, match=words):
        CellSpec("rnn", rule, values, learned)


def test_a_period_is_not_learned():
    with pytest.raises(InputError, match="epsilon is a period in the formula, which cannot be learned"):
        CellSpec("rnn", "u * cycle(epsilon)", {"epsilon": 2.0}, ["epsilon"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"base": ["lstm"]}, r"base = \['lstm'\], allowed: text"),
        ({"rule": None}, "rule = None, allowed: text"),
        ({"coefficients": 0.6}, "coefficients = 0.6, allowed: a mapping"),
        ({"options": ["relu"]}, r"options = \['relu'\], allowed: a mapping"),
        ({"learned": 1}, "learned = 1, allowed: a list of names"),
        ({"gates": 1}, "gates = 1, allowed: a list of names"),
        ({"coefficients": {"nu": 1}}, 'unknown coefficient of rule "heavy_ball" "nu"; allowed: epsilon, mu'),
    ],
)
def test_wrong_types_are_refused_in_words(given, words):
    with pytest.raises(InputError, match=words):
        CellSpec(**{"base": "lstm", "rule": "heavy_ball", **given})


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3"])
def test_json_that_is_no_spec_is_refused(text):
    with pytest.raises(InputError, match="a cell spec is"):
        CellSpec.from_json(text)
