"""Equal functions have equal identities (identities 1 and 4), shown by running both."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrnn_search.cells import CellSpec
from mrnn_search.engine.recurrent import Recurrent

from .strategies import BASES, specs


def outputs(spec, seed=0):
    torch.manual_seed(seed)
    layer = Recurrent(spec, 3, 4, init="torch").double().reference()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    return layer(x)[0].detach()


@given(specs())
def test_canonical_is_a_fixed_point_and_the_same_function(spec):
    once = spec.canonical()
    assert once.canonical() == once
    assert once.cell_id == spec.cell_id
    torch.testing.assert_close(outputs(once), outputs(spec), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("base", BASES)
@given(epsilon=st.floats(0.1, 2.0), beta=st.floats(0.0, 0.95))
def test_specs_that_collapse(base, epsilon, beta):
    pairs = [
        (CellSpec(base, "heavy_ball", {"mu": 0.0, "epsilon": 1.0}), CellSpec(base)),
        (CellSpec(base, "nesterov", {"restart": 1, "epsilon": 1.0}), CellSpec(base)),
        (CellSpec(base, "nesterov", {"restart": 1, "epsilon": epsilon}), CellSpec(base, "heavy_ball", {"mu": 0.0, "epsilon": epsilon})),
        (
            CellSpec(base, "adam", {"mu": 0.0, "epsilon": epsilon, "beta": beta}),
            CellSpec(base, "rmsprop", {"epsilon": epsilon, "beta": beta}),
        ),
    ]
    for a, b in pairs:
        assert a.cell_id == b.cell_id
        torch.testing.assert_close(outputs(a), outputs(b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("base", BASES)
def test_specs_that_must_not_collapse(base):
    different = [
        CellSpec(base),
        CellSpec(base, "heavy_ball", {"mu": 0.0, "epsilon": 0.5}),
        CellSpec(base, "heavy_ball", {"mu": 0.5, "epsilon": 1.0}),
        CellSpec(base, "heavy_ball", {"mu": 0.5, "epsilon": 1.0}, learned=["mu"]),
        CellSpec(base, "nesterov", {"restart": 2, "epsilon": 1.0}),
        CellSpec(base, "nesterov", {"restart": 3, "epsilon": 1.0}),
        CellSpec(base, "rmsprop", {"epsilon": 1.0, "beta": 0.0}),
        CellSpec(base, "adam", {"mu": 0.5, "epsilon": 1.0, "beta": 0.0}),
    ]
    assert len({s.cell_id for s in different}) == len(different)
