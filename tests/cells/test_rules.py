"""Each rule against its formula, written here once more with plain numbers and no part of the package."""

import math

import pytest
import torch

from mrnn_search.cells import CellSpec
from mrnn_search.engine.recurrent import Recurrent

DELTA = 1e-16


def plain(u, c):
    return list(u)


def heavy_ball(u, c):
    v, out = 0.0, []
    for x in u:
        v = c["mu"] * v + c["epsilon"] * x
        out.append(v)
    return out


def rmsprop(u, c):
    s, out = 0.0, []
    for x in u:
        s = c["beta"] * s + (1 - c["beta"]) * x * x
        out.append(c["epsilon"] * x / math.sqrt(s + DELTA))
    return out


def adam(u, c):
    v, s, out = 0.0, 0.0, []
    for x in u:
        v = c["mu"] * v + c["epsilon"] * x
        s = c["beta"] * s + (1 - c["beta"]) * x * x
        out.append(v / math.sqrt(s + DELTA))
    return out


def nesterov(u, c):
    v, k, out = 0.0, 0, []
    for x in u:
        k += 1
        v = (k - 1) / (k + 2) * v + c["epsilon"] * x
        out.append(v)
        if k == c["restart"]:
            k = 0
    return out


CASES = [
    (plain, {}),
    (heavy_ball, {"mu": 0.6, "epsilon": 0.6}),
    (heavy_ball, {"mu": 0.999, "epsilon": 0.6}),
    (rmsprop, {"epsilon": 0.6, "beta": 0.9}),
    (rmsprop, {"epsilon": 1.0, "beta": 0.01}),
    (adam, {"mu": 0.6, "epsilon": 0.6, "beta": 0.1}),
    (adam, {"mu": 0.3, "epsilon": 0.1, "beta": 0.999}),
    *[(nesterov, {"epsilon": 0.9, "restart": f}) for f in (1, 2, 6, 40)],
]


@pytest.mark.parametrize("execution", ["reference", "loop"])
@pytest.mark.parametrize(("formula", "c"), CASES, ids=[f"{f.__name__}-{i}" for i, (f, _) in enumerate(CASES)])
def test_rule_equals_its_formula(formula, c, execution):
    """A relu rnn of one unit with U = 0 and positive drive shows d_t itself."""
    spec = CellSpec("rnn", formula.__name__, c, options={"activation": "relu"})
    layer = Recurrent(spec, 1, 1, execution=execution).double()
    with torch.no_grad():
        for name, value in (("weight_ih", 0.7), ("weight_hh", 0.0), ("bias_ih", 0.2), ("bias_hh", 0.0)):
            getattr(layer, f"{name}_l0").fill_(value)
    x = torch.rand(90, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = formula([0.7 * v + 0.2 for v in x.flatten().tolist()], c)
    torch.testing.assert_close(layer(x)[0].flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_restart_coefficients():
    """γ is 0 at k = 1 and (F - 1)/(F + 2) at k = F."""
    from mrnn_search.cells.rules.nesterov import momentum_at

    for restart in (1, 2, 6, 40):
        gammas = [momentum_at({"restart": restart}, t) for t in range(1, 2 * restart + 1)]
        assert gammas[0] == gammas[restart] == 0
        assert gammas[restart - 1] == (restart - 1) / (restart + 2)


@pytest.mark.parametrize("rule", ["rmsprop", "adam"])
def test_black_leading_pixels_survive(rule):
    """At u = 0 the released form's local derivative is 1e8 ε: large, but finite, in float32."""
    layer = Recurrent(CellSpec("lstm", rule), 1, 8)
    with torch.no_grad():
        layer.bias_ih_l0.zero_()
    x = torch.zeros(20, 4, 1)
    x[10:] = torch.rand(10, 4, 1)
    layer(x)[0].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_learned_coefficients_start_at_their_value_and_move():
    layer = Recurrent(CellSpec("lstm", "adam", {"mu": 0.3, "beta": 0.8, "epsilon": 0.4}, learned=["mu", "beta", "epsilon"]), 3, 4)
    assert layer.coefficients() == pytest.approx({"mu": 0.3, "beta": 0.8, "epsilon": 0.4, "delta": 1e-16}, rel=1e-6)
    layer(torch.randn(6, 2, 3))[0].square().sum().backward()
    for name in ("mu", "beta", "epsilon"):
        assert getattr(layer, f"rule_{name}_l0").grad.abs() > 0
