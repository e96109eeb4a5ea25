"""Cells in words and formulas."""

import re

import pytest

from mrnn_search.cells import CellSpec, preset, presets
from mrnn_search.cells.bases.base import bases
from mrnn_search.cells.rules import rules
from mrnn_search.engine.recurrent import Recurrent


def test_momentum_lstm():
    described = preset("momentum_lstm").describe(28, 128)
    assert described.name == "heavy_ball(epsilon=0.6, mu=0.6)-lstm"
    assert described.equations == (
        "u_t = W x_t + b",
        "v_t = mu v_{t-1} + epsilon u_t",
        "d_t = v_t",
        "[i, f, g, o] = d_t + U h_{t-1} + b_u",
        "c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)",
        "h_t = sigmoid(o) tanh(c_t)",
    )
    assert described.latex[1] == r"v_t = \mu \, v_{t-1} + \epsilon \, u_t"
    assert described.parameters == 80_896 and "80,896 parameters" in str(described)
    assert described.coefficients == ("epsilon = 0.6", "mu = 0.6")


def test_scopes_gates_and_bias():
    g = CellSpec("lstm", "heavy_ball", gates="g", drive_bias="outside").describe()
    assert g.name == "heavy_ball(epsilon=0.6, mu=0.6)@g+b-lstm"
    assert "u_t = W x_t" in g.equations and "[i, f, g, o] = d_t + b + U h_{t-1} + b_u" in g.equations
    assert "d_t = v_t  for g; the other gates see u_t" in g.equations
    coupled = CellSpec("gru", "heavy_ball", scope="preactivation").describe()
    assert {"p_t = u_t + r_t", "v_t = mu v_{t-1} + epsilon p_t", "a_t = v_t"} <= set(coupled.equations)
    assert "n = tanh(a_n [r_n = r N])" in coupled.equations
    hidden = CellSpec("rnn", "heavy_ball", scope="hidden").describe()
    assert hidden.equations[-1] == "h_t = h_{t-1} + d_t" and "e_t = h~_t - h_{t-1}" in hidden.equations
    released = preset("nesterov_lstm_released").describe()
    assert "a_t = q_t + gamma (q_t - q_{t-1})" in released.equations and released.name.startswith("nesterov_released(")


def test_orthogonal_cells_have_no_drive_bias():
    assert preset("exprnn").describe().equations[0] == "u_t = W x_t"


@pytest.mark.parametrize("base", list(bases))
@pytest.mark.parametrize("scope", ["drive", "preactivation", "hidden"])
def test_every_rule_everywhere(base, scope):
    """No marker is left in the text, braces balance, the count is the layer's, and the formula is the rule."""
    for rule in rules:
        if rules[rule].program.coupled and scope != "preactivation":
            continue
        spec = CellSpec(base, rule, scope=scope)
        described = spec.describe(3, 4)
        for line in (*described.equations, *described.latex):
            assert "<" not in line and ">" not in line, line
            assert line.count("{") == line.count("}") and line.count("\\left") == line.count("\\right"), line
            assert not re.search(r"\bNone\b|Node", line)
        assert described.parameters == Recurrent(spec, 3, 4).num_parameters()
        assert CellSpec(base, described.formula, options=spec.options, scope=scope).cell_id == spec.cell_id
        assert described.to_dict()["equations"] == list(described.equations)


def test_presets_all_describe_themselves():
    for name in presets():
        assert preset(name).describe(2, 3).parameters == Recurrent(preset(name), 2, 3).num_parameters()
