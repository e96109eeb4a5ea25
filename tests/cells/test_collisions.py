"""Specs against functions on random probes: `analysis/02_collisions.py`, in a short and a long form."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "analysis" / "02_collisions.py"


@pytest.mark.parametrize("count", [250, 2_000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_equal_identity_is_equal_function(count):
    """Every spec builds, runs, differentiates and survives its round trips (`check` asserts it).

    Of specs with different identities and equal outputs only some on the linear base are left: the base's own algebra
    (a rule on its pre-activation is a rule on h) is not part of a rule's normal form.
    """
    figures = runpy.run_path(str(SCRIPT))["run"](count, seed=1)
    assert figures["equal_identity_different_function"] == []
    missed = [pair for pair in figures["different_identity_equal_function"] if not all("linear" in name for name in pair)]
    assert missed == []
    assert figures["cells"] > 0.5 * count
