"""The named cells."""

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


def test_unknown_preset_and_argument_name_the_nearest():
    with pytest.raises(UnknownNameError, match='did you mean "momentum_lstm"'):
        preset("momentun_lstm")
    with pytest.raises(UnknownNameError, match='did you mean "epsilon"'):
        preset("momentum_lstm", epsilo=1.0)
