"""Rules that divide by the drive's running size, and the smoothed sign, against their formulas: see `by_hand`."""

import math

import pytest
import torch

from mrnn_search.cells import CellSpec
from mrnn_search.cells.rules.base import rules
from mrnn_search.engine.recurrent import Recurrent

from ..by_hand import ADAPTIVE, VALUES
from .test_momentum import check

NAMES = [rule.__name__ for rule in ADAPTIVE]


def test_every_rule_of_the_module_is_here():
    assert sorted(name for name in rules if rules[name].__module__.endswith(".adaptive")) == sorted(NAMES)


@pytest.mark.parametrize("execution", ["loop", "reference"])
@pytest.mark.parametrize("kind", ["fixed", "scalar", "unit", "input"])
@pytest.mark.parametrize("scope", ["drive", "preactivation", "hidden"])
@pytest.mark.parametrize("rule", NAMES)
def test_rule_equals_its_formula(rule, scope, kind, execution):
    check(rule, scope, kind, execution)


@pytest.mark.parametrize("beta", [0.0, 0.01, 0.999])
@pytest.mark.parametrize("rule", [name for name in NAMES if name != "lion" and "beta" in VALUES[name]])
def test_second_moment_at_the_ends_of_its_range(rule, beta):
    check(rule, None, "fixed", "loop", {**VALUES[rule], "beta": beta}, steps=70)


@pytest.mark.parametrize("rule", NAMES)
def test_defaults(rule):
    """The shipped coefficients, δ of 1e-16 included."""
    check(rule, None, "fixed", "loop", {name: c.default for name, c in rules[rule].coefficients.items()}, steps=70)


@pytest.mark.parametrize("scope", ["drive", "preactivation", "hidden"])
@pytest.mark.parametrize("rule", NAMES)
def test_black_leading_pixels_survive(rule, scope):
    """At u = 0 the released form's local derivative is 1e8 ε: large, but finite, in float32.

    Inside the recurrence it is so at every step, and the true derivative over ten of them is more than float32 holds: there
    the outputs have to be finite only.
    """
    layer = Recurrent(CellSpec("lstm", rule, scope=scope), 1, 8)
    with torch.no_grad():
        layer.bias_ih_l0.zero_()
    x = torch.zeros(20, 4, 1)
    x[10:] = torch.rand(10, 4, 1, generator=torch.Generator().manual_seed(0))
    for execution in (layer, layer.reference()):
        layer.zero_grad()
        y = execution(x)[0]
        assert torch.isfinite(y).all()
        y.square().sum().backward()
        assert scope != "drive" or all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_derivative_at_a_drive_of_zero():
    """d d_1 / d u_1 at 0: ε / sqrt(δ) for rmsprop, ε / δ for the printed form, whose root has derivative 0 there."""
    for rule, expected in (("rmsprop", 0.6 / math.sqrt(1e-16)), ("adam", 0.6 / math.sqrt(1e-16)), ("adam_outside", 0.6 / 1e-8)):
        layer = Recurrent(CellSpec("linear", rule), 1, 1, bias=False).double()
        with torch.no_grad():
            layer.weight_ih_l0.fill_(1.0)
        for execution in (layer, layer.reference()):
            x = torch.zeros(1, 1, 1, dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(execution(x)[0].sum(), x)
            assert float(slope) == pytest.approx(expected, rel=1e-9)


def test_learned_coefficients_start_at_their_value_and_move():
    layer = Recurrent(CellSpec("lstm", "adam", {"mu": 0.3, "beta": 0.8, "epsilon": 0.4}, learned=["mu", "beta", "epsilon"]), 3, 4)
    assert layer.coefficients() == pytest.approx({"mu": 0.3, "beta": 0.8, "epsilon": 0.4, "delta": 1e-16}, rel=1e-6)
    layer(torch.randn(6, 2, 3))[0].square().sum().backward()
    for name in ("mu", "beta", "epsilon"):
        assert getattr(layer, f"rule_{name}_l0").grad.abs() > 0
