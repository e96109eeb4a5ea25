"""Layers and packs on the Triton recurrences against the reference."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import SpecError
from mrnn_search.cells import CellSpec, preset
from mrnn_search.cells.reference import run_reference
from mrnn_search.engine.gpu import device, path
from mrnn_search.engine.gpu.buffers import How
from mrnn_search.engine.packing import Packing
from mrnn_search.engine.recurrent import Recurrent

from ...cells.strategies import COUPLED, RULES, specs
from .device import DEVICE
from .test_recurrence import compare

HOWS = (How("step"), How("persistent"))
shapes = st.tuples(st.sampled_from([1, 2, 6]), st.sampled_from([1, 3, 17]), st.integers(1, 4), st.sampled_from([1, 5, 17]))


def lane(spec, t, b, i, h, bias, seed):
    """A layer's coefficients, weights, input, state and moments; torch init keeps everything of order one."""
    torch.manual_seed(seed)
    layer = Recurrent(spec, i, h, bias=bias, init="torch").to(DEVICE)
    channels = len(spec.gates or layer._base.gate_names) * h
    state = tuple(torch.randn(b, h, device=DEVICE, requires_grad=True) for _ in range(layer._base.states))
    moments = [torch.rand(b, channels, device=DEVICE, requires_grad=True) for _ in spec.rule_type.program.states]
    x = torch.randn(t, b, i, device=DEVICE, requires_grad=True)
    leaves = {"x": x, **dict(layer.named_parameters()), **{f"state {n}": s for n, s in enumerate(state)}}
    return (spec, layer._coefficients("_l0"), layer._weights("_l0"), x, state, moments), leaves


def weighted(outputs, seed=1):
    """Outputs by name, and a random weighting of y and the last states."""
    y, state, held = outputs
    named = {"y": y, **{f"last state {n}": s for n, s in enumerate(state)}, **{f"moment {n}": m for n, m in enumerate(held)}}
    g = torch.Generator().manual_seed(seed)
    return named, sum((v * torch.randn(v.shape, generator=g).to(v)).sum() for n, v in named.items() if "moment" not in n)


def results(outputs, leaves):
    """Outputs and the gradients of a random weighting of them, by name."""
    named, total = weighted(outputs)
    return named | gradients(total, leaves)


def gradients(total, leaves):
    """By name; what comes before the layer (an orthogonal matrix, a learned coefficient) is shared by several layers and so kept."""
    grads = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True, allow_unused=True, retain_graph=True)
    return {f"gradient of {name}": v for name, v in zip(leaves, grads, strict=True)}


def compare_layer(ours, theirs):
    """1e-3 of the largest entry: the drive is summed in another order than the reference's, and Adam-like rules divide by roots of
    float32 sums, whose derivatives amplify that rounding. The recurrence alone has a fiftieth of it in its own test.
    """
    compare(ours, theirs, 1e-3)


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.kernel)
@settings(max_examples=12)
@given(
    spec=specs(
        ("lstm", "orthogonal_lstm", "gru", "rnn", "orthogonal"),
        [rule for rule in RULES if rule not in COUPLED],
        ("drive",),
        written=False,
        kinds=("scalar", "unit"),
    ),
    where=st.sampled_from(("inside", "outside")),
    shape=shapes,
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_layer_equals_reference(how, spec, where, shape, bias, seed):
    if spec.rule != "plain":
        spec = CellSpec(spec.base, spec.rule, spec.coefficients, spec.learned_kinds, spec.options, "drive", drive_bias=where)
    arguments, leaves = lane(spec, *shape, bias, seed)
    compare_layer(results(path.run_triton(*arguments, how=how), leaves), results(run_reference(*arguments), leaves))


@pytest.mark.parametrize(
    ("base", "rules", "options"),
    [
        ("lstm", ["plain", "heavy_ball", "adam"], {}),
        ("gru", ["heavy_ball", "rmsprop", "heavy_ball"], {}),
        ("rnn", ["adam", "plain", "nesterov"], {"activation": "relu"}),
        ("orthogonal", ["heavy_ball", "adam", "plain"], {}),
    ],
)
def test_a_lane_in_a_pack_is_that_lane_alone(base, rules, options):
    """Outputs and gradients, bit for bit."""
    t, b, i, h = 4, 5, 3, 9
    lanes = [lane(CellSpec(base, rule, options=options), t, b, i, h, True, seed) for seed, rule in enumerate(rules)]
    specs_, coefficients, weights, xs, states, moments = zip(*(arguments for arguments, _ in lanes), strict=True)
    together = [torch.stack(s) for s in zip(*states, strict=True)]
    y, last, held = path.lanes_triton(specs_, coefficients, weights, torch.stack(xs).transpose(1, 2), tuple(together), moments)
    assert y.shape == (3, b, t, h) and all(s.shape == (3, b, h) for s in last)
    outputs, totals = zip(*(weighted((y[k].transpose(0, 1), tuple(s[k] for s in last), held[k])) for k in range(3)), strict=True)
    packed = gradients(sum(totals), {(k, name): leaf for k, (_, leaves) in enumerate(lanes) for name, leaf in leaves.items()})
    for k, (arguments, leaves) in enumerate(lanes):
        alone, total = weighted(path.run_triton(*arguments))
        for name, value in alone.items():
            assert torch.equal(outputs[k][name], value), name
        for name, value in gradients(total, {(k, name): leaf for name, leaf in leaves.items()}).items():
            assert torch.equal(packed[name], value), name


def test_every_preset_runs_or_has_an_obstacle():
    assert device.obstacle(preset("momentum_lstm")) == device.obstacle(preset("exprnn")) == ""
    assert "scope" in device.obstacle(CellSpec("lstm", "heavy_ball", scope="hidden"))
    assert "base mgu" in device.obstacle(CellSpec("mgu"))
    assert "float64" in device.obstacle(preset("lstm"), torch.float64)


def refused(spec, **changes):
    (spec, c, w, x, state, moments), _ = lane(spec, 2, 2, 2, 3, True, 0)
    path.run_triton(spec, c, w, changes.pop("x", x), state, moments, **changes)


def test_what_it_cannot_run_is_refused():
    packing = Packing.of(torch.nn.utils.rnn.pack_sequence([torch.zeros(2, 2), torch.zeros(1, 2)]))
    with pytest.raises(SpecError, match="one length"):
        refused(preset("lstm"), packing=packing)
    with pytest.raises(SpecError, match="scope is hidden"):
        refused(CellSpec("rnn", "heavy_ball", scope="hidden"))
    with pytest.raises(SpecError, match="autocast"), torch.autocast(DEVICE, torch.bfloat16):
        refused(preset("lstm"))
    lanes = [lane(CellSpec("rnn", options={"activation": kind}), 2, 2, 2, 3, True, 0)[0] for kind in ("tanh", "relu")]
    columns = list(zip(*lanes, strict=True))
    zeros = (torch.zeros(2, 2, 3, device=DEVICE),)
    with pytest.raises(SpecError, match="recurrences rnn_relu, rnn_tanh, allowed: one"):
        path.lanes_triton(*columns[:3], torch.stack(columns[3]).transpose(1, 2), zeros, columns[5])


def test_without_a_cuda_device_it_is_not_available():
    able, reason = device.available("cpu")
    assert not able and "CUDA" in reason
    if DEVICE == "cpu":
        assert not device.available("cuda")[0]


def test_the_package_does_not_need_triton():
    code = "import sys; sys.modules['triton'] = None; from mrnn_search.engine.gpu import device, path; print(device.available('cuda')[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
