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
from mrnn_search.engine import planner
from mrnn_search.engine.gpu import device, path
from mrnn_search.engine.gpu.buffers import How
from mrnn_search.engine.gpu.recurrence import lanes_recurrence
from mrnn_search.engine.gpu.rules import drives
from mrnn_search.engine.lane_layers import forward_lanes
from mrnn_search.engine.paths import LayerCall
from mrnn_search.engine.planner import plan
from mrnn_search.engine.recurrent import Recurrent

from ...cells.strategies import COUPLED, LINEAR, RULES, specs
from .device import DEVICE
from .test_recurrence import compare

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the interpreter
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


def call(arguments, filters=None):
    """The lane as the plan has it: a linear rule that starts from zero filters the input."""
    spec = arguments[0]
    if filters is None:
        filters = plan(spec).filters
    return LayerCall(*arguments, 0, filters)


def run(arguments, how=None):
    return path.run_triton_lanes([call(arguments, False)], how)[0]


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
        kinds=("scalar", "unit", "input"),
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
    compare_layer(results(run(arguments, how), leaves), results(run_reference(*arguments), leaves))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("rule", sorted(LINEAR))
def test_a_filter_of_the_input_is_the_rule_on_the_drive(rule, where, batched):
    """From a state of zero; learned coefficients get their gradients."""
    learned = [] if rule == "plain" else [name for name in CellSpec("gru", rule).coefficients if name in ("mu", "nu", "epsilon")]
    spec = CellSpec("gru", rule, learned=learned, **({} if rule == "plain" else {"drive_bias": where}))
    arguments, leaves = lane(spec, 5, 3, 2, 4, True, 0)
    arguments = (*arguments[:-1], [torch.zeros_like(m) for m in arguments[-1]])
    assert plan(spec).filters == (rule != "plain")
    ours = path.run_triton_lanes([call(arguments)], How("persistent", batched=batched))[0]
    compare_layer(results(ours, leaves), results(run_reference(*arguments), leaves))


RULES_OF_A_PACK = ["heavy_ball", "plain", "adam", "heavy_ball", "nesterov", "adam"]


@pytest.mark.parametrize(("base", "options"), [("lstm", {}), ("gru", {}), ("rnn", {"activation": "relu"}), ("orthogonal", {})])
def test_a_lane_in_a_pack_is_that_lane_alone(base, options):
    """Outputs and gradients, bit for bit."""
    t, b, i, h = 4, 3, 3, 5
    lanes = [
        lane(CellSpec(base, rule, learned=["mu"] if seed == 3 else [], options=options, **where), t, b, i, h, True, seed)
        for seed, rule in enumerate(RULES_OF_A_PACK)
        for where in [{"drive_bias": "outside"} if rule == "adam" else {}]
    ]
    calls = [call(arguments) for arguments, _ in lanes]
    outputs, totals = zip(*map(weighted, path.run_triton_lanes(calls)), strict=True)
    packed = gradients(sum(totals), {(k, name): leaf for k, (_, leaves) in enumerate(lanes) for name, leaf in leaves.items()})
    for k, (_, leaves) in enumerate(lanes):
        alone, total = weighted(path.run_triton_lanes(calls[k : k + 1])[0])
        for name, value in alone.items():
            assert torch.equal(outputs[k][name], value), name
        for name, value in gradients(total, {(k, name): leaf for name, leaf in leaves.items()}).items():
            assert torch.equal(packed[name], value), name


def test_one_batched_gemm_gives_the_same():
    lanes = [lane(CellSpec("lstm", rule), 4, 3, 3, 5, True, seed) for seed, rule in enumerate(RULES_OF_A_PACK)]
    leaves = {(k, name): leaf for k, (_, some) in enumerate(lanes) for name, leaf in some.items()}
    found = []
    for batched in (False, True):
        named, totals = zip(
            *map(weighted, path.run_triton_lanes([call(arguments) for arguments, _ in lanes], How("step", batched=batched))), strict=True
        )
        outputs = {(k, name): value for k, some in enumerate(named) for name, value in some.items()}
        found.append(outputs | gradients(sum(totals), leaves))
    compare_layer(*found)


def test_recurrences_of_a_pack_may_differ():
    specs_ = [CellSpec("rnn", options={"activation": kind}) for kind in ("tanh", "relu", "tanh")] + [CellSpec("rnn")]
    lanes = [lane(spec, 3, 2, 2, 4, seed < 3, seed)[0] for seed, spec in enumerate(specs_)]
    for arguments, (y, _, _) in zip(lanes, path.run_triton_lanes([call(arguments) for arguments in lanes]), strict=True):
        assert torch.equal(y, run(arguments)[0])


@pytest.fixture
def on_any_device(monkeypatch):
    monkeypatch.setattr(planner, "available", lambda device: (True, ""))


def test_layers_of_lanes_run_together(on_any_device, monkeypatch):
    """Two layers, each in one call of the recurrence and one of each rule, as every layer gives alone."""
    calls, ruled = [], []
    monkeypatch.setattr(path, "lanes_recurrence", lambda *a: calls.append(len(a[1])) or lanes_recurrence(*a))
    monkeypatch.setattr(path.rules, "drives", lambda *a: ruled.append(len(a[1])) or drives(*a))
    torch.manual_seed(0)
    layers = [Recurrent(CellSpec("lstm", rule), 3, 4, 2, execution="triton").to(DEVICE) for rule in ("adam", "ema", "adam")]
    assert [layer.plan_for().filters for layer in layers] == [False, True, False]
    x = [torch.randn(4, 2, 3, device=DEVICE) for _ in layers]
    together, _ = forward_lanes(layers, x, [None] * 3)
    assert calls == [3, 3] and ruled == [2, 1, 2, 1]
    for layer, rows, y in zip(layers, x, together, strict=True):
        assert torch.equal(layer(rows)[0], y)
        compare_layer({"y": y}, {"y": layer.reference()(rows)[0]})


def test_a_carried_rule_state_is_no_filter(on_any_device):
    layer = Recurrent(CellSpec("gru", "heavy_ball"), 3, 4, execution="triton").to(DEVICE)
    x = torch.randn(6, 2, 3, device=DEVICE)
    whole, _ = layer(x)
    first, state = layer(x[:2])
    assert not layer.plan_for(x, state).filters
    compare_layer({"y": torch.cat([first, layer(x[2:], state)[0]])}, {"y": whole})


def test_every_preset_runs_or_has_an_obstacle():
    assert device.obstacle(preset("momentum_lstm")) == device.obstacle(preset("exprnn")) == ""
    assert "scope" in device.obstacle(CellSpec("lstm", "heavy_ball", scope="hidden"))
    assert "base mgu" in device.obstacle(CellSpec("mgu"))
    assert "float64" in device.obstacle(preset("lstm"), torch.float64)


def test_what_it_cannot_run_is_refused(on_any_device):
    def refused(spec):
        run(lane(spec, 2, 2, 2, 3, True, 0)[0])

    with pytest.raises(SpecError, match="scope is hidden"):
        refused(CellSpec("rnn", "heavy_ball", scope="hidden"))
    with pytest.raises(SpecError, match="autocast"), torch.autocast(DEVICE, torch.bfloat16):
        refused(preset("lstm"))
    layer = Recurrent(preset("lstm"), 2, 3, execution="triton").to(DEVICE)
    with pytest.raises(SpecError, match="packed"):
        layer(torch.nn.utils.rnn.pack_sequence([torch.zeros(2, 2, device=DEVICE)]))


def test_without_a_cuda_device_it_is_not_available():
    able, reason = device.available("cpu")
    assert not able and "CUDA" in reason
    if DEVICE == "cpu":
        assert not device.available("cuda")[0]


def test_the_package_does_not_need_triton():
    code = "import sys; sys.modules['triton'] = None; from mrnn_search.engine.gpu import device, path; print(device.available('cuda')[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
