"""Layers on the fused CPU kernels against the reference in float64.

What float32 costs depends on the rule: adam divides by a root of means, and multiplies every rounding. So a tensor may be off by
8 times what the step-by-step loop is off in float32, and by 1e-5 of its largest entry (at least of 1) where the loop happens to be
luckier: the gradient of a coefficient is the sum of hundreds of terms that cancel, off by 4e-6 at most as seen here. A wrong term
shows at 1e-2 and more.
"""

import copy

import pytest
import torch

from mrnn_search.cells import CellSpec
from mrnn_search.cells.rules.base import rules
from mrnn_search.engine.native.build import Native, native
from mrnn_search.engine.recurrent import Recurrent, State

from ..cells.by_hand import LEARNABLE, VALUES
from ..cells.strategies import LINEAR

pytestmark = pytest.mark.skipif(not isinstance(native(), Native), reason=f"no kernels: {native()}")
BASES = ("rnn", "lstm", "gru", "orthogonal", "orthogonal_lstm")
RULES = sorted(name for name in rules if not rules[name].program.coupled)
CURVED = ("rmsprop", "adam", "nadam", "lion")
FUSED = "fused cpu: "


def layer_of(spec, layers=2, both=True, inputs=5, hidden=7, **options):
    torch.manual_seed(3)
    layer = Recurrent(spec, inputs, hidden, layers, bidirectional=both, init="torch", **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return layer


def tensors(state):
    return [*(state if isinstance(state, tuple) else [state]), *getattr(state, "rule", ())]


def outcome(layer, x, hx=None):
    """Outputs, states and every gradient, by name, in float64."""
    x = x.clone().requires_grad_()
    y, state = layer(x, hx)
    g = torch.Generator().manual_seed(5)
    found = {"y": y, **{f"state {n}": s for n, s in enumerate(tensors(state))}}
    total = sum((f * torch.randn(f.shape, generator=g).to(f.dtype)).sum() for f in found.values())
    leaves = {"x": x, **dict(layer.named_parameters())}
    slopes = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    found |= {f"gradient of {n}": s for n, s in zip(leaves, slopes, strict=True)}
    return {n: f.detach().double() for n, f in found.items()}


def wide(hx):
    return hx.map(torch.Tensor.double) if isinstance(hx, State) else None if hx is None else tuple(h.double() for h in hx)


def check(layer, x, hx=None):
    """``layer`` as it is, against itself in float64; the loop says what float32 costs."""
    exact = outcome(copy.deepcopy(layer).double().reference(), x.double(), wide(hx))
    loop = copy.deepcopy(layer)
    loop._execution = "loop"
    ours, theirs = outcome(layer, x, hx), outcome(loop, x, hx)
    for name, want in exact.items():
        scale = max(1.0, float(want.abs().max()))
        gap, usual = (float((found[name] - want).abs().max()) for found in (ours, theirs))
        assert gap <= 8 * usual + 1e-5 * scale, f"{name}: {gap}, the loop's {usual}, at scale {scale}"


def data(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("base", BASES)
def test_every_rule_on_every_base(base, rule):
    """Two layers, both directions, and learned scalar coefficients."""
    layer = layer_of(CellSpec(base, rule, VALUES[rule], LEARNABLE[rule]))
    why = "plain rule" if rule == "plain" else "linear rule on filtered input" if rule in LINEAR else "rule on the drive for all t"
    assert layer.execution.startswith(FUSED + why)
    check(layer, data(6, 3, 5))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("base", ["lstm", "gru", "rnn"])
def test_chunks_with_carried_state_are_one_pass(base, rule):
    """2e-6, and 2e-5 where the rule divides by a root of means: in chunks a linear rule acts on the drive, not on the input."""
    layer, x = layer_of(CellSpec(base, rule, VALUES[rule]), both=False), data(12, 3, 5)
    whole, end = layer(x)
    state, parts = None, []
    for chunk in x.split([1, 4, 7]):
        chosen = layer.plan_for(chunk, state)
        assert chosen.kernel == "fused" and chosen.filters == (rule in LINEAR and rule != "plain" and state is None)
        y, state = layer(chunk, state)
        parts.append(y)
    gap = 2e-6 if rule in LINEAR else 2e-5
    torch.testing.assert_close(torch.cat(parts), whole, rtol=gap, atol=gap)
    for ours, theirs in zip(tensors(state), tensors(end), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=gap, atol=gap)


@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "adam", "nesterov"])
@pytest.mark.parametrize("base", ["lstm", "gru", "rnn", "orthogonal"])
def test_from_a_given_state(base, rule):
    layer = layer_of(CellSpec(base, rule, VALUES[rule]), both=False)
    _, state = layer(data(4, 3, 5))
    start = state.detach() if isinstance(state, State) else tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
    assert layer.plan_for(data(6, 3, 5), start).kernel == "fused"
    if isinstance(start, torch.Tensor):
        start = (start,)
    check(layer, data(6, 3, 5), start)


@pytest.mark.parametrize("kind", ["unit", "input"])
@pytest.mark.parametrize("rule", [*(r for r in LINEAR if LEARNABLE[r]), *CURVED])
@pytest.mark.parametrize("base", ["lstm", "gru", "rnn"])
def test_coefficients_of_each_channel_or_of_the_input(base, rule, kind):
    """They do not commute with W, so that the rule is on the drive."""
    layer = layer_of(CellSpec(base, rule, VALUES[rule], dict.fromkeys(LEARNABLE[rule], kind)), both=False)
    assert layer.execution.startswith(FUSED + "rule on the drive for all t (")
    check(layer, data(6, 3, 5))


@pytest.mark.parametrize("where", [{"gates": "f"}, {"gates": "go"}, {"drive_bias": "outside"}, {"gates": "ig", "drive_bias": "outside"}])
@pytest.mark.parametrize("rule", [*LINEAR, *CURVED])
def test_some_gates_and_biases_outside(rule, where):
    layer = layer_of(CellSpec("lstm", rule, VALUES[rule], LEARNABLE[rule], **where), both=False)
    filters = rule in LINEAR and "gates" not in where
    assert layer.execution.startswith(FUSED)
    assert layer.plan_for().filters == (filters and rule != "plain")
    check(layer, data(6, 3, 5))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "adam"])
def test_without_biases_and_in_awkward_sizes(base, rule):
    layer = layer_of(CellSpec(base, rule, VALUES[rule]), inputs=1, hidden=33, bias=False)
    check(layer, data(3, 67, 1))


def test_relu():
    layer = layer_of(CellSpec("rnn", "heavy_ball", VALUES["heavy_ball"], options={"activation": "relu"}))
    assert layer.execution.startswith(FUSED)
    check(layer, data(6, 3, 5))


@pytest.mark.parametrize(
    ("spec", "kernel"),
    [
        (CellSpec("lstm", "adam", scope="preactivation"), "loop"),
        (CellSpec("gru", "heavy_ball", scope="hidden"), "loop"),
        (CellSpec("mgu"), "loop"),
        (CellSpec("indrnn", "adam"), "loop"),
        (CellSpec("linear"), "loop"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_is_not_fused(spec, kernel):
    assert layer_of(spec).plan_for(data(6, 3, 5)).kernel == kernel


def test_where_it_is_not_fused():
    layer, x = layer_of(CellSpec("lstm", "heavy_ball")), data(6, 3, 5)
    assert layer.execution == FUSED + "linear rule on filtered input"
    assert copy.deepcopy(layer).double().execution == "vendor: linear rule on filtered input"
    assert layer.plan_for(torch.nn.utils.rnn.pack_sequence([x[:, 0], x[:4, 1]])).kernel == "vendor"
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.plan_for(x).kernel == "vendor"
    seen = []
    torch.func.vmap(lambda one: seen.append(layer.plan_for(one).kernel) or one)(x)
    with torch.autograd.forward_ad.dual_level():
        seen.append(layer.plan_for(x).kernel)
    assert seen == ["vendor", "vendor"] and layer.plan_for(x).kernel == "fused"


def test_forward_mode_differentiation_by_the_loop():
    layer, x = layer_of(CellSpec("lstm", "adam", VALUES["adam"])), data(4, 2, 5)
    with torch.autograd.forward_ad.dual_level():
        y = layer(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))[0]
        slope = torch.autograd.forward_ad.unpack_dual(y).tangent
    step = 1e-6
    wide_layer = copy.deepcopy(layer).double()
    by_hand = (wide_layer(x.double() + step)[0] - wide_layer(x.double() - step)[0]) / (2 * step)
    torch.testing.assert_close(slope.double(), by_hand, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "adam"])
@pytest.mark.parametrize("base", ["lstm", "gru", "rnn", "orthogonal"])
def test_an_empty_batch(base, rule):
    layer, x = layer_of(CellSpec(base, rule)), torch.zeros(4, 0, 5, requires_grad=True)
    y, _ = layer(x)
    y.sum().backward()
    assert y.shape == (4, 0, 14) and x.grad.shape == x.shape
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "adam"])
def test_fake_tensors_have_shapes_and_no_addresses(rule):
    with torch._subclasses.FakeTensorMode():
        layer = Recurrent(CellSpec("lstm", rule), 5, 7)
        y, (_, c) = layer(torch.zeros(4, 2, 5))
        assert layer.execution.startswith(FUSED) and y.shape == (4, 2, 7) and c.shape == (1, 2, 7)
        y.sum().backward()
        assert layer.weight_hh_l0.grad.shape == (28, 7)


def test_tensors_that_do_not_fit_are_refused_not_read():
    layer = Recurrent(CellSpec("lstm"), 5, 7)
    with pytest.raises(ValueError, match="z is .* on meta"):
        layer(torch.zeros(4, 2, 5, device="meta"))
    layer.weight_hh_l0 = torch.nn.Parameter(layer.weight_hh_l0.detach().double())
    with pytest.raises(ValueError, match=r"u is \(28, 7\), torch.float64, on cpu; allowed"):
        layer(torch.zeros(4, 2, 5))
    layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros(20, 7))
    with pytest.raises(ValueError, match=r"u is \(20, 7\)"):
        layer(torch.zeros(4, 2, 5))


@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "adam"])
def test_one_graph_for_lengths_that_change(rule):
    """Operators inside a graph are the same kernels: bit for bit."""
    torch.compiler.reset()
    layer = Recurrent(CellSpec("lstm", rule, VALUES[rule]), 5, 7, init="torch")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for steps, batch in ((4, 2), (6, 2), (7, 3), (9, 70)):
        x = data(steps, batch, 5).requires_grad_()
        pairs = []
        for run in (compiled, layer):
            y, (_, c) = run(x)
            pairs.append([y, c, *torch.autograd.grad(y.square().sum() + c.sum(), [x, *layer.parameters()])])
        assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
