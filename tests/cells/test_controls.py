"""What a cell is compared with."""

import pytest
import torch

from mrnn_search._registry import SpecError
from mrnn_search.cells import CellSpec, preset
from mrnn_search.cells.controls import matched_forget_bias, steady_gain
from mrnn_search.cells.rules import rules
from mrnn_search.engine.recurrent import Recurrent


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_steady_gain_of_heavy_ball(mu):
    gain = steady_gain(CellSpec("lstm", "heavy_ball", {"mu": mu, "epsilon": 0.6}))
    assert gain == pytest.approx(0.6 / (1 - mu), rel=5e-4 if mu > 0.99 else 1e-9)


def test_steady_gain_of_others():
    """On a steady drive of 1 and of 3: a mean is the drive, what is divided by its own size is epsilon."""
    for drive in (1.0, 3.0):
        assert steady_gain(CellSpec("lstm", "ema", {"mu": 0.8}), drive) == pytest.approx(1.0)
        assert steady_gain(CellSpec("lstm", "qhm", {"epsilon": 0.5}), drive) == pytest.approx(0.5)
        assert steady_gain(CellSpec("lstm", "rmsprop", {"epsilon": 0.5}), drive) == pytest.approx(0.5 / drive)
        assert steady_gain(CellSpec("lstm", "adam", {"mu": 0.5, "epsilon": 0.5}), drive) == pytest.approx(1.0 / drive)
        v, total = 0.0, 0.0  # F = 2: gamma is 0 and 1/4 by turns
        for t in range(1, 2001):
            v = (0.0 if t % 2 else 0.25) * v + drive
            total += v if t > 1000 else 0.0
        assert steady_gain(CellSpec("lstm", "nesterov", {"restart": 2}), drive) == pytest.approx(total / 1000 / drive)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.6, 0.6), (0.6, 1.0), (0.3, 0.1), (0.0, 1.0)])
def test_bias_matched_lstm(mu, epsilon):
    """The sum of both forget biases is where momentum_lstm's effective one goes: b_hh + b_ih epsilon / (1 - mu)."""
    momentum = Recurrent(preset("momentum_lstm", mu=mu, epsilon=epsilon), 3, 4)
    matched = Recurrent(preset("bias_matched_lstm", mu=mu, epsilon=epsilon), 3, 4)
    drive = torch.zeros(4000, 1, 3)
    _, state = momentum(drive)
    settled = (state.rule[0][0, 0] if momentum.spec.rule_type.program.states else momentum.bias_ih_l0) + momentum.bias_hh_l0
    found = (matched.bias_ih_l0 + matched.bias_hh_l0).detach()
    assert found[4:8].tolist() == pytest.approx(settled[4:8].tolist(), rel=1e-5)
    assert float(found[:4].abs().max()) == float(found[8:].abs().max()) == 0
    assert matched.spec.rule == "plain"


def test_paper_figures_of_the_bias():
    """MNIST: 2.5 for (0.6, 0.6); PMNIST: 3.5 for (0.6, 1); TIMIT's -4 in both: -4.571 for (0.3, 0.1)."""
    assert 2 * matched_forget_bias(preset("momentum_lstm")) == pytest.approx(2.5)
    assert 2 * matched_forget_bias(preset("momentum_lstm", mu=0.6, epsilon=1.0)) == pytest.approx(3.5)
    timit = CellSpec("lstm", "heavy_ball", {"mu": 0.3, "epsilon": 0.1}, options={"forget_bias": -4})
    assert 2 * matched_forget_bias(timit) == pytest.approx(-4.571428571)


def test_controls_of_momentum():
    found = preset("momentum_lstm", mu=0.6, epsilon=1.0).controls()
    assert list(found) == ["plain", "input_gain", "ema", "bias_matched"]
    assert found["plain"].cell_id == preset("lstm").cell_id
    assert found["input_gain"].cell_id == preset("input_gain_lstm", epsilon=2.5).cell_id
    assert found["ema"].cell_id == preset("ema_lstm", mu=0.6).cell_id
    assert found["bias_matched"].cell_id == preset("bias_matched_lstm", mu=0.6, epsilon=1.0).cell_id


def test_a_control_is_never_the_cell_itself():
    assert preset("lstm").controls() == {} == CellSpec("gru", "heavy_ball", {"mu": 0.0, "epsilon": 1.0}).controls()
    assert "input_gain" not in preset("input_gain_lstm", epsilon=0.3).controls()
    assert "ema" not in preset("ema_lstm").controls()
    assert "bias_matched" not in preset("momentum_gru").controls()
    assert "bias_matched" not in CellSpec("lstm", "heavy_ball", drive_bias="outside").controls()
    assert list(CellSpec("lstm", "heavy_ball", scope="hidden").controls()) == ["plain"]


@pytest.mark.parametrize("rule", list(rules))
def test_every_rule_has_controls_that_run(rule):
    spec = CellSpec("lstm", rule)
    for control in spec.controls().values():
        assert control.cell_id != spec.cell_id
        assert Recurrent(control, 2, 3)(torch.randn(4, 1, 2))[0].isfinite().all()


@pytest.mark.parametrize("rule", ["u / (u - prev(u))", "log(u - 1)", "sqrt(-u)", "(-u)^0.5", "max((-u)^0.5, u)", "exp(900 * u)"])
def test_a_rule_without_a_gain_has_the_plain_control(rule):
    assert list(CellSpec("lstm", rule).controls()) == ["plain"]


def test_gains_have_no_digits_that_are_not_settled():
    assert steady_gain(CellSpec("lstm", "heavy_ball", {"mu": 0.9, "epsilon": 0.6})) == 6.0
    assert preset("bias_matched_lstm", mu=0.9).name == "lstm[forget_bias=3.5]"


@pytest.mark.parametrize("mu", ["a", None, 1.0])
def test_a_wrong_mu_of_ema_lstm_is_refused(mu):
    with pytest.raises(SpecError, match="mu = "):
        preset("ema_lstm", mu=mu)
