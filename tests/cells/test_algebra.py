"""Equal functions have equal identities (identity 4), shown by running both; special cases are in `test_identities`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import InputError
from mrnn_search.cells import CellSpec
from mrnn_search.engine.recurrent import Recurrent

from .by_hand import assert_near
from .strategies import BASES, specs


def outputs(spec, seed=0):
    torch.manual_seed(seed)
    layer = Recurrent(spec, 3, 4, init="torch").double().reference()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    return layer(x)[0].detach()


@settings(max_examples=200)
@given(specs())
def test_canonical_is_a_fixed_point_and_the_same_function(spec):
    """1e-9 of the largest entry: a written formula's normal form adds up in another order."""
    once = spec.canonical()
    assert once.canonical() == once
    assert once.cell_id == spec.cell_id
    assert_near(outputs(once), outputs(spec), str(spec), 1e-9)


@pytest.mark.parametrize("base", BASES)
@settings(max_examples=15)
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
        assert a.canonical() == b.canonical()
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


@pytest.mark.parametrize(
    ("rule", "coefficients", "learned"),
    [
        ("rmsprop", {"beta": 5e-324}, ()),
        ("rmsprop", {"delta": 1e-300}, ()),
        ("heavy_ball", {"epsilon": 1e308}, ()),
        ("adam", {"epsilon": 1e300, "delta": 1e-300}, ()),
        ("adam", {"delta": 5e-324}, ["mu", "beta"]),
        ("lion", {"tau": 1e-300}, ()),
        ("adam_corrected", {"mu": 1 - 2**-53, "beta": 1 - 2**-53}, ()),
        ("ema(u, 2 * mu)", {}, ()),
        ("u / (mu - mu)", {}, ()),
        ("u / relu(-mu)", {}, ()),
        ("log(-mu) * u", {}, ()),
        ("(-mu)^0.5 * u", {}, ()),
        ("u / 0", {}, ()),
    ],
)
def test_a_spec_has_an_identity_or_is_refused(rule, coefficients, learned):
    """What can be made can be looked up, described and run: no error from deep inside, and never complex numbers."""
    try:
        spec = CellSpec("rnn", rule, coefficients, learned)
    except InputError:
        return
    assert len(spec.cell_id) == 64 and spec.canonical().cell_id == spec.cell_id
    assert spec.describe().equations and spec.name
    layer = Recurrent(spec, 2, 3)
    x = torch.randn(3, 1, 2)
    for y in (layer(x)[0], layer.reference()(x)[0]):
        assert y.shape == (3, 1, 3) and y.dtype == torch.float32
