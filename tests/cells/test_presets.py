"""The named cells."""

import math

import pytest

from mrnn_search._registry import UnknownNameError
from mrnn_search.cells import CellSpec, preset, presets


def test_every_preset_builds_and_has_one_line():
    for name, line in presets().items():
        assert isinstance(preset(name), CellSpec)
        assert line


def test_the_papers_cells():
    assert preset("momentum_lstm", mu=0.3, epsilon=0.1) == CellSpec("lstm", "heavy_ball", {"mu": 0.3, "epsilon": 0.1})
    assert preset("nesterov_lstm").coefficients == {"epsilon": 1.0, "restart": 2}
    assert preset("ema_lstm", mu=0.75).coefficients == {"mu": 0.75, "epsilon": 0.25}
    assert preset("input_gain_lstm", epsilon=2.0).coefficients["mu"] == 0


def test_the_orthogonal_cells():
    assert preset("dtriv") == CellSpec("orthogonal", options={"rebase": 1})
    assert preset("momentum_dtriv") == CellSpec("orthogonal", "heavy_ball", {"mu": 0.6, "epsilon": 0.9}, options={"rebase": "1"})
    assert preset("rmsprop_dtriv") == CellSpec("orthogonal", "rmsprop", {"epsilon": 0.3, "beta": 0.9}, options={"rebase": 1})
    adam = preset("adam_dtriv", mu=0.3, epsilon=0.3, beta=0.8, rebase="once")
    assert adam == CellSpec("orthogonal", "adam", {"mu": 0.3, "epsilon": 0.3, "beta": 0.8}, options={"rebase": "once"})
    assert preset("adam_dtriv").coefficients == adam.coefficients
    assert preset("nesterov_dtriv", rebase=100) == CellSpec(
        "orthogonal", "nesterov", {"epsilon": 0.3, "restart": 2}, options={"rebase": 100}
    )
    for never in ("never", None, math.inf):
        assert preset("dtriv", rebase=never) == preset("exprnn")
    for wrong in (0, -1, 1.5, True, "often", math.nan):
        with pytest.raises(UnknownNameError, match='unknown rebase ".*"; allowed: a whole number >= 1, never, once'):
            preset("dtriv", rebase=wrong)


def test_unknown_preset_and_argument_name_the_nearest():
    with pytest.raises(UnknownNameError, match='did you mean "momentum_lstm"'):
        preset("momentun_lstm")
    with pytest.raises(UnknownNameError, match='did you mean "epsilon"'):
        preset("momentum_lstm", epsilo=1.0)
