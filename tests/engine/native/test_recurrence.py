"""The fused recurrences against a plain loop in float64, and against themselves in other company.

float32 carries 6e-8 of a number. A sum of n products of either sign is off by about sqrt(n) of that, and over T steps errors
add up where the recurrence forgets nothing; relu and modReLU are the worst as nothing bounds them. 2e-5 of a tensor's largest
entry is ten times the largest error that was seen over these shapes, and far below what a wrong term would make.
"""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search.cells import CellSpec
from mrnn_search.engine.native.build import Native, native
from mrnn_search.engine.native.recurrence import FAMILIES, LaneInput, recurrence
from mrnn_search.engine.recurrent import Recurrent

pytestmark = pytest.mark.skipif(not isinstance(native(), Native), reason=f"no kernels: {native()}")
GATES = {"lstm": 4, "gru": 3}
TOLERANCE = 2e-5


def by_steps(family, lane):
    """The same in any dtype, written out."""
    z, w, b, d, u, bu, m, h, c = lane
    drive = sum(part for part in (None if z is None else z @ w.T, b, d) if part is not None)
    outputs = []
    for a in drive.unbind(0):
        r = h @ u.T + (0 if bu is None else bu)
        if family == "lstm":
            i, f, g, o = (a + r).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif family == "gru":
            (a_r, a_z, a_n), (r_r, r_z, r_n) = a.chunk(3, -1), r.chunk(3, -1)
            keep = (a_z + r_z).sigmoid()
            n = (a_n + (a_r + r_r).sigmoid() * r_n).tanh()
            h = n + keep * (h - n)
        elif family == "modrelu":
            h = (a + r).sign() * ((a + r).abs() + m).relu()
        else:
            h = (a + r).tanh() if family == "rnn_tanh" else (a + r).relu()
        outputs.append(h)
    return torch.stack(outputs), c


def lane_of(family, t, b, i, h, drive="z", bias=True, seed=0):
    """A random lane in float64; ``drive``: "z", "d" or "both"."""
    g, rows = torch.Generator().manual_seed(seed), GATES.get(family, 1) * h

    def make(*shape, scale=1.0):
        return scale * torch.randn(*shape, dtype=torch.float64, generator=g)

    z, w = (None, None) if drive == "d" else (make(t, b, i), make(rows, i, scale=i**-0.5))
    d = None if drive == "z" else make(t, b, rows)
    biases = (make(rows), make(rows)) if bias else (None, None)
    m = make(h, scale=0.1) if family == "modrelu" else None
    u = make(rows, h, scale=0.7 * h**-0.5)
    return LaneInput(z, w, biases[0], d, u, biases[1], m, make(b, h), make(b, h) if family == "lstm" else None)


def single(lane):
    return LaneInput._make(None if t is None else t.float().requires_grad_() for t in lane)


def gradients(found, weights, lane):
    loss = sum((x * w.to(x.dtype)).sum() for x, w in zip(found, weights, strict=False) if x is not None)
    return torch.autograd.grad(loss, [t for t in lane if t is not None])


def close(ours, theirs):
    assert (ours.double() - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.detach().abs().max()))


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    sizes=st.tuples(st.integers(1, 40), st.sampled_from([1, 2, 5, 13, 64, 65, 130]), st.integers(1, 35), st.integers(1, 50)),
    drive=st.sampled_from(["z", "d", "both"]),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_outputs_and_every_gradient(family, sizes, drive, bias, seed):
    exact = lane_of(family, *sizes, drive, bias, seed)
    exact = LaneInput._make(None if t is None else t.requires_grad_() for t in exact)
    ours = single(LaneInput._make(None if t is None else t.detach() for t in exact))
    want, found = by_steps(family, exact), recurrence(family, [ours])[0]
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) for x in want if x is not None]
    for a, b in zip(found, want, strict=True):
        if a is not None:
            close(a, b)
    slack = 1.0
    for a, b in zip(gradients(found, weights, ours), gradients(want, weights, exact), strict=True):
        if family in ("rnn_relu", "modrelu"):  # a unit at its kink goes one way in float32, the other in float64
            slack = 50.0
        assert (a.double() - b).abs().max() <= slack * TOLERANCE * max(1.0, float(b.detach().abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lane_alone_or_among_others_and_on_any_number_of_threads_bit_for_bit(family):
    lanes = [single(lane_of(family, 9, 70, 5, 20, seed=seed)) for seed in range(5)]
    before, results = torch.get_num_threads(), []
    try:
        for threads, order in ((1, [0, 1, 2, 3, 4]), (2, [4, 2, 0, 1, 3]), (1, [2]), (2, [2])):
            torch.set_num_threads(threads)
            found = recurrence(family, [lanes[k] for k in order])[order.index(2)]
            results.append([*[x.detach() for x in found if x is not None], *gradients(found, [torch.ones(1)] * 2, lanes[2])])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    with torch.no_grad():
        assert torch.equal(recurrence(family, [lanes[2]])[0][0], results[0][0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_a_number_stays_in_its_row_and_lane(family, poison):
    lanes = [single(lane_of(family, 6, 9, 3, 7, seed=seed)) for seed in range(2)]
    clean = recurrence(family, lanes)
    with torch.no_grad():
        lanes[0].z[2, 4, 1] = poison
    found = recurrence(family, lanes)
    rows = [r for r in range(9) if r != 4]
    assert torch.equal(found[1][0], clean[1][0]) and torch.equal(found[0][0][:, rows], clean[0][0][:, rows])
    assert torch.equal(found[0][0][:2], clean[0][0][:2])
    if poison != poison:
        assert found[0][0][2, 4].isnan().all()


def test_as_operators_of_torch():
    lane = single(lane_of("lstm", 4, 3, 2, 5))
    flat, there = [t for t in lane if t is not None], [t is not None for t in lane]
    torch.library.opcheck(torch.ops.mrnn_search.recurrence, ("lstm", True, there, flat), test_utils=("test_schema", "test_faketensor"))


def test_layers_pickle_and_refuse_a_second_derivative():
    layer, x = Recurrent(CellSpec("lstm", "heavy_ball"), 3, 5, init="torch"), torch.randn(6, 2, 3)
    assert layer.execution.startswith("fused cpu")
    y = layer(x)[0]
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x)[0], y)
    (g,) = torch.autograd.grad(y.square().sum(), layer.weight_hh_l0, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(g.sum(), layer.weight_hh_l0)
