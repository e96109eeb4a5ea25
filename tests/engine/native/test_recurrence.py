"""The fused recurrences against a plain loop in float64, and against themselves in other company.

float32 carries 6e-8 of a number. A sum of n products of either sign is off by about sqrt(n) of that, and over T steps errors
add up where the recurrence forgets nothing; relu and modReLU are the worst as nothing bounds them. 2e-5 of a tensor's largest
entry is ten times the largest error that was seen over these shapes, and far below what a wrong term would make.
"""

import copy
import ctypes
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search.cells import CellSpec
from mrnn_search.engine.native.build import Native, native
from mrnn_search.engine.native.recurrence import FAMILIES, LaneInput, _functions, _Shape, recurrence, saved_floats
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


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    sizes=st.tuples(st.integers(1, 40), st.sampled_from([1, 2, 13, 64, 65, 130]), st.integers(1, 35), st.integers(1, 50)),
    drive=st.sampled_from(["z", "d", "both"]),
    bias=st.booleans(),
    count=st.integers(1, 3),
    threads=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
def test_computed_again_or_kept_bit_for_bit(family, sizes, drive, bias, count, threads, seed):
    lanes = [single(lane_of(family, *sizes, drive, bias, seed + k)) for k in range(count)]
    flat, before, results = [t for lane in lanes for t in values(lane)], torch.get_num_threads(), []
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(sizes[1], sizes[3], generator=generator) for _ in range(2 * count)]
    try:
        torch.set_num_threads(threads)
        for recompute in (False, True):
            ended = [t for found in recurrence(family, lanes, recompute) for t in values(found)]
            loss = sum((t * w).sum() for t, w in zip(ended, weights, strict=False))
            results.append([*ended, *torch.autograd.grad(loss, flat)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("family", "numbers"), [("lstm", 1), ("gru", 0), ("rnn_tanh", 0)])
def test_where_gates_are_computed_again_they_are_not_kept(family, numbers):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        recurrence(family, [single(lane_of(family, 6, 5, 4, 16))], recompute=True)
    inputs = len(values(lane_of(family, 6, 5, 4, 16)))
    assert sum(t.numel() for t in kept[inputs + 1 :]) == numbers * 6 * 5 * 16  # y lies between them


def values(lane):
    return [t for t in lane if t is not None]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("hidden", [5, 16, 19])
def test_gradients_of_other_rows_and_lanes_are_untouched(family, poison, hidden):
    """And as a saturated gate is no NaN, inf leaves the gradients of its own row as finite as the loop's, whatever H is."""
    clean, dirty = (([single(lane_of(family, 6, 9, 3, hidden, seed=seed)) for seed in range(2)]) for _ in range(2))
    with torch.no_grad():
        dirty[0].z[2, 4, 1] = poison
    slopes = []
    for lanes in (clean, dirty):
        total = sum(x.sum() for found in recurrence(family, lanes) for x in values(found))
        slopes.append([torch.autograd.grad(total, values(lane), retain_graph=True) for lane in lanes])
    assert all(torch.equal(a, b) for a, b in zip(slopes[0][1], slopes[1][1], strict=True))
    rows = [r for r in range(9) if r != 4]
    assert torch.equal(slopes[0][0][0][:, rows], slopes[1][0][0][:, rows])  # of z
    loop = gradients(by_steps(family, dirty[0]), [torch.ones(1)] * 2, dirty[0])
    for name, ours, theirs in zip(
        [n for n, t in zip(LaneInput._fields, dirty[0], strict=True) if t is not None], slopes[1][0], loop, strict=True
    ):
        if family in ("lstm", "gru"):
            assert torch.equal(ours.isfinite(), theirs.isfinite()), name


@pytest.mark.parametrize("family", FAMILIES)
def test_any_strides(family):
    """Transposed, every other element, expanded."""
    lane = lane_of(family, 6, 5, 4, 7, "both")
    odd = []
    for t in lane:
        if t is None:
            odd.append(None)
        elif t.dim() > 1:
            odd.append(t.float().transpose(0, 1).contiguous().transpose(0, 1))
        else:
            odd.append(t.float().repeat_interleave(2)[::2])
    odd[LaneInput._fields.index("h0")] = torch.zeros(1, 7).expand(5, 7)
    odd = LaneInput._make(None if t is None else t.requires_grad_() for t in odd)
    even = LaneInput._make(None if t is None else t.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for t in odd)
    assert not all(t.is_contiguous() for t in values(odd)) and all(t.is_contiguous() for t in values(even))
    pairs = []
    for one in (odd, even):
        y, c = recurrence(family, [one])[0]
        # slopes that are no block of memory either
        pairs.append([y, c if c is not None else y, *torch.autograd.grad(y.transpose(0, 2)[:, ::2].sum(), values(one))])
    assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_some_inputs_alone(family):
    lane = lane_of(family, 6, 5, 4, 7, "both")
    full = single(lane)
    expected = dict(
        zip(
            [n for n, t in zip(LaneInput._fields, lane, strict=True) if t is not None],
            gradients(recurrence(family, [full])[0], [torch.ones(1)] * 2, full),
            strict=True,
        )
    )
    for wanted in [*([name] for name in expected), ["z", "u"], ["d", "h0"]]:
        some = LaneInput._make(
            None if t is None else t.float().requires_grad_(n in wanted) for n, t in zip(LaneInput._fields, lane, strict=True)
        )
        found = recurrence(family, [some])[0]
        loss = sum(x.sum() for x in found if x is not None)
        for name, slope in zip(wanted, torch.autograd.grad(loss, [getattr(some, n) for n in wanted]), strict=True):
            assert torch.equal(slope, expected[name]), (name, wanted)


def test_a_loss_of_the_outputs_or_of_the_last_cell_alone():
    lane = lane_of("lstm", 6, 5, 4, 7)
    for pick in (0, 1):
        ours, exact = single(lane), LaneInput._make(None if t is None else t.clone().requires_grad_() for t in lane)
        slopes = [
            torch.autograd.grad(found[pick].square().sum(), values(one))
            for found, one in ((recurrence("lstm", [ours])[0], ours), (by_steps("lstm", exact), exact))
        ]
        for a, b in zip(*slopes, strict=True):
            close(a, b)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_lanes_in_any_order_bit_for_bit(family, count):
    lanes = [single(lane_of(family, 5, 66, 3, 17, seed=seed)) for seed in range(count)]
    alone = [[*values(found := recurrence(family, [lane])[0]), *gradients(found, [torch.ones(1)] * 2, lane)] for lane in lanes]
    for order in (list(range(count)), list(range(count))[::-1]):
        together = recurrence(family, [lanes[k] for k in order])
        # one backward pass for all lanes, too
        total = sum(x.sum() for found in together for x in values(found))
        slopes = iter(torch.autograd.grad(total, [t for k in order for t in values(lanes[k])]))
        for place, k in enumerate(order):
            ours = [*values(together[place]), *(next(slopes) for _ in values(lanes[k]))]
            assert all(torch.equal(a, b) for a, b in zip(ours, alone[k], strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_rows_and_no_steps(family):
    lane = single(lane_of(family, 3, 0, 4, 7, "both"))
    found = recurrence(family, [lane])[0]
    assert found[0].shape == (3, 0, 7)
    assert all(g.shape == t.shape and not g.any() for g, t in zip(gradients(found, [torch.ones(1)] * 2, lane), values(lane), strict=True))
    with pytest.raises(ValueError, match="T >= 1"):
        recurrence(family, [single(lane_of(family, 0, 2, 4, 7, "both"))])


def test_what_the_kernel_cannot_read_is_refused():
    lane = single(lane_of("gru", 4, 3, 2, 5))
    for wrong, words in (
        ({"u": lane.u[:, :4]}, r"u is \(15, 4\).*allowed in the fused recurrence: \(15, 5\)"),
        ({"h0": lane.h0.double()}, "h0 is .*float64"),
        ({"z": lane.z.to("meta")}, "z is .*on meta"),
        ({"bu": lane.bu[:-1]}, r"bu is \(14,\)"),
        ({"w": None, "d": torch.zeros(4, 3, 15)}, "z and w together"),
        ({"c0": lane.h0}, "c0 for lstm alone"),
    ):
        with pytest.raises(ValueError, match=words):
            recurrence("gru", [lane._replace(**wrong)])
    with pytest.raises(ValueError, match="z is"):  # of the second lane
        recurrence("gru", [lane, lane._replace(z=lane.z[:, :2])])


@given(family=st.sampled_from(FAMILIES), sizes=st.tuples(*[st.integers(0, 300)] * 4), recompute=st.booleans())
def test_what_is_kept_is_as_long_as_the_kernel_says(family, sizes, recompute):
    """The formula is told twice: graphs have symbols for sizes."""
    steps, batch, inputs, hidden = (size + 1 for size in sizes)
    shape = _Shape(FAMILIES.index(family), steps, batch, inputs, hidden, 1, 1, recompute)
    assert saved_floats(family, steps, batch, inputs, hidden, recompute) == _functions().mrnn_saved(ctypes.byref(shape))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("drive", ["z", "d"])
@pytest.mark.parametrize("family", FAMILIES)
def test_as_operators_of_torch(family, drive, recompute):
    lanes = [single(lane_of(family, 4, 3, 2, 5, drive, seed=seed)) for seed in range(2)]
    flat, there = [t for lane in lanes for t in values(lane)], [t is not None for t in lanes[0]]
    torch.library.opcheck(torch.ops.mrnn_search.recurrence.default, (family, True, recompute, there, flat))
    with torch.no_grad():
        found = torch.ops.mrnn_search.recurrence(family, True, recompute, there, flat)
        outputs = found[: 4 if family == "lstm" else 2]
    told = (
        family,
        recompute,
        there,
        [t.detach() for t in flat],
        outputs[:2],
        found[len(outputs) :],
        [torch.ones_like(y) for y in outputs],
        [True] * len(flat),
    )
    # no gradient of the gradient: autograd is none of this operator's tests
    torch.library.opcheck(torch.ops.mrnn_search.recurrence_backward.default, told, test_utils=("test_schema", "test_faketensor"))


def test_layers_copy_and_pickle():
    layer, x = Recurrent(CellSpec("lstm", "heavy_ball"), 3, 5, init="torch"), torch.randn(6, 2, 3)
    assert layer.execution.startswith("fused cpu")
    y = layer(x)[0]
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x)[0], y)
    assert torch.equal(copy.deepcopy(layer)(x)[0], y)


ASKED = {  # for a derivative of g, itself the gradient with respect to leaf, of a layer with the output y
    "backward": lambda y, g, leaf: g.sum().backward(),
    "grad": lambda y, g, leaf: torch.autograd.grad(g.sum(), leaf),
    "unused allowed": lambda y, g, leaf: torch.autograd.grad(g.sum(), leaf, allow_unused=True),
    "penalty": lambda y, g, leaf: torch.autograd.grad(y.sum() + g.square().sum(), leaf),
}


@pytest.mark.parametrize("how", ASKED)
@pytest.mark.parametrize("leaf", ["x", "weight_ih_l0", "weight_hh_l0", "bias_hh_l0"])
@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "adam"])
def test_a_second_derivative_is_refused_however_it_is_asked_for(rule, leaf, how):
    layer, x = Recurrent(CellSpec("lstm", rule), 3, 5, init="torch"), torch.randn(6, 2, 3, requires_grad=True)
    given = x if leaf == "x" else layer.get_parameter(leaf)
    y = layer(x)[0]
    (g,) = torch.autograd.grad(y.square().sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        ASKED[how](y, g, given)
