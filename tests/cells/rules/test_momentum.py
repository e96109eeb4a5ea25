"""Plain, and every kind of momentum, against its formula: see `by_hand`."""

import pytest
import torch

from mrnn_search.cells import CellSpec
from mrnn_search.cells.rules.base import rules
from mrnn_search.engine.recurrent import Recurrent

from ..by_hand import COUPLED, LEARNABLE, MOMENTUM, VALUES, assert_same, by_hand, counted, moved

NAMES = [rule.__name__ for rule in MOMENTUM]
CASES = [(r, s) for r in NAMES for s in ("drive", "preactivation", "hidden") if s == "preactivation" or r not in COUPLED]


def test_every_rule_of_the_module_is_here():
    assert sorted(name for name in rules if rules[name].__module__.endswith(".momentum")) == sorted(NAMES)


def check(rule, scope, kind, execution, values=None, steps=9, base="lstm"):
    """Outputs and every gradient to 1e-10 of the largest entry, at least of 1, in float64: rounding of a few hundred operations."""
    learned = {} if kind == "fixed" else dict.fromkeys(LEARNABLE[rule], kind)
    spec = CellSpec(base, rule, values or VALUES[rule], learned, scope=scope)
    layer = moved(Recurrent(spec, 3, 5, init="torch", execution=execution), seed=1)
    x = torch.randn(steps, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert_same(layer, x, lambda x: by_hand(layer, x))


@pytest.mark.parametrize("execution", ["auto", "loop", "reference"])
@pytest.mark.parametrize("kind", ["fixed", "scalar", "unit", "input"])
@pytest.mark.parametrize(("rule", "scope"), CASES)
def test_rule_equals_its_formula(rule, scope, kind, execution):
    check(rule, scope, kind, execution)


@pytest.mark.parametrize("execution", ["auto", "loop", "reference"])
@pytest.mark.parametrize("restart", [1, 2, 6, 40])
@pytest.mark.parametrize("rule", ["nesterov", "nesterov_released"])
def test_restarts(rule, restart, execution):
    check(rule, None, "scalar", execution, {"epsilon": 0.9, "restart": restart}, steps=83)


@pytest.mark.parametrize("mu", [0.0, 0.001, 0.999])
@pytest.mark.parametrize("execution", ["auto", "loop", "reference"])
def test_momentum_at_the_ends_of_its_range(mu, execution):
    for rule in ("heavy_ball", "ema", "nesterov_lookahead", "qhm"):
        check(rule, None, "fixed", execution, {**VALUES[rule], "mu": mu}, steps=70)


def test_schedule_of_the_restarts():
    """γ is 0 at k = 1 and (F - 1)/(F + 2) at k = F: an impulse one step before shows it. (rnn, U = 0: d_t is seen itself.)"""
    for restart in (1, 2, 6, 40):
        layer = Recurrent(CellSpec("rnn", "nesterov", {"restart": restart}, options={"activation": "relu"}), 1, 1, bias=False).double()
        with torch.no_grad():
            layer.weight_ih_l0.fill_(1.0)
            layer.weight_hh_l0.zero_()
        for t in range(2, 2 * restart + 2):
            x = torch.zeros(t, 1, 1, dtype=torch.float64)
            x[t - 2] = 1
            gamma = float(layer(x)[0][t - 1].detach())
            assert gamma == pytest.approx(counted(t, restart), abs=1e-15)
            assert (t - 1) % restart or gamma == 0
        assert counted(restart, restart) == (restart - 1) / (restart + 2)
