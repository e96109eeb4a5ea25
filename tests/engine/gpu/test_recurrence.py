"""The Triton recurrences against torch's own layers and the cells' steps: outputs, last states and all gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import SpecError, UnknownNameError
from mrnn_search.cells.bases.base import add, bases
from mrnn_search.engine.gpu.buffers import FAMILIES, How
from mrnn_search.engine.gpu.recurrence import choose, lanes_recurrence

from .device import DEVICE, needs_cuda

STEP = How("step")
HOWS = {
    "step": STEP,
    "step, one batched GEMM": replace(STEP, batched=True),
    "persistent": How("persistent"),
    "persistent, weights read at every step": How("persistent", resident=False),
}
BASES = {
    "lstm": ("lstm", {}),
    "gru": ("gru", {}),
    "rnn_tanh": ("rnn", {"activation": "tanh"}),
    "rnn_relu": ("rnn", {"activation": "relu"}),
    "modrelu": ("orthogonal", {}),
}


def inputs(family, k, t, b, h, bias=True, seed=0):
    """Arguments of `lanes_recurrence` by name, of order one; modReLU's bias has both signs."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    width = FAMILIES[family] * h
    out = {
        "drive": rand(k, t, b, width),
        "weight_hh": rand(k, width, h) / h**0.5,
        "bias_hh": rand(k, width) if bias else None,
        "modrelu_bias": rand(k, h) / 4 if family == "modrelu" else None,
        "h0": rand(k, b, h),
        "c0": rand(k, b, h) if family == "lstm" else None,
    }
    return {name: None if v is None else v.to(DEVICE).requires_grad_() for name, v in out.items()}


def naive(family, drive, weight_hh, bias_hh, modrelu_bias, h0, c0):
    """One lane after the other, with `Base.step`, as the reference has it; float64."""
    name, options = BASES[family]
    ys, cs = [], []
    for k in range(len(drive)):
        w = {"weight_hh": weight_hh[k].double()}
        w |= {} if bias_hh is None else {"bias_hh": bias_hh[k].double()}
        w |= {} if modrelu_bias is None else {"modrelu_bias": modrelu_bias[k].double()}
        state = (h0[k].double(),) if c0 is None else (h0[k].double(), c0[k].double())
        out = []
        extra = bias_hh[k].double() if family == "modrelu" and bias_hh is not None else 0.0  # its base has no bias of its own
        for d in drive[k].double() + extra:
            state = bases[name].step(w, d, state, options, add)
            out.append(state[0])
        ys.append(torch.stack(out))
        cs.append(state[-1])
    return torch.stack(ys), torch.stack(cs) if c0 is not None else None


def results(run, given, seed=1):
    """y, c_last and the gradients of a random weighting of both, by name."""
    y, c = run(**given)
    g = torch.Generator().manual_seed(seed)
    total = sum((v * torch.randn(v.shape, generator=g).to(v)).sum() for v in (y, c) if v is not None)
    leaves = {name: v for name, v in given.items() if v is not None}
    grads = torch.autograd.grad(total, list(leaves.values()))
    out = {"y": y, "c": c} if c is not None else {"y": y}
    return out | {f"gradient of {name}": v for name, v in zip(leaves, grads, strict=True)}


def compare(ours, theirs, tolerance=2e-5):
    """To ``tolerance`` of each tensor's largest entry."""
    assert ours.keys() == theirs.keys()
    for name, b in theirs.items():
        a = ours[name]
        assert a.shape == b.shape, name
        scale = max(1.0, float(b.detach().abs().max()))
        gap = float((a - b).detach().abs().max())
        assert gap <= tolerance * scale, f"{name}: {gap} at scale {scale}"


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=4)
@given(
    k=st.sampled_from([1, 3]),
    t=st.sampled_from([1, 2, 5]),
    b=st.sampled_from([1, 3, 17]),
    h=st.sampled_from([1, 5, 17]),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_the_cells_steps(family, how, k, t, b, h, bias, seed):
    """2e-5 of the largest entry: a few steps of float32 (6e-8), each with sums of up to 85 terms of order one, grown by a relu
    rnn's weights; a wrong term is off by its own order, 1. B is no multiple of a block of 16 rows, H no power of two.
    """
    given = inputs(family, k, t, b, h, bias, seed)
    if family == "rnn_relu":
        given["weight_hh"].data.mul_(0.5)  # so that outputs stay of order one
    compare(results(lambda **v: lanes_recurrence(family, **v, how=HOWS[how]), given), results(lambda **v: naive(family, **v), given))


@pytest.mark.parametrize(("family", "layer"), [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU), ("rnn_tanh", torch.nn.RNN)])
def test_equals_torchs_layers(family, layer):
    """With the same tolerance, of torch's own float32 layers."""
    torch.manual_seed(0)
    theirs = layer(3, 9).to(DEVICE)
    x, h0, c0 = torch.randn(6, 4, 3, device=DEVICE), torch.randn(1, 4, 9, device=DEVICE), torch.randn(1, 4, 9, device=DEVICE)
    y, _ = theirs(x, (h0, c0) if family == "lstm" else h0)
    drive = torch.nn.functional.linear(x, theirs.weight_ih_l0, theirs.bias_ih_l0)[None]
    given = (drive, theirs.weight_hh_l0[None], theirs.bias_hh_l0[None], None, h0, c0 if family == "lstm" else None)
    parameters = list(theirs.parameters())
    for kernel in ("step", "persistent"):
        ours, _ = lanes_recurrence(family, *given, how=How(kernel))
        compare({"y": ours[0]}, {"y": y})
        grads = [torch.autograd.grad(v.square().sum(), parameters, retain_graph=True) for v in (ours, y)]
        for a, b in zip(*grads, strict=True):
            compare({"gradient": a}, {"gradient": b})


@pytest.mark.parametrize("how", [STEP, HOWS["persistent"]], ids=lambda how: how.kernel)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lane_does_not_see_the_others(family, how):
    given = inputs(family, 3, 3, 17, 5)
    together = results(lambda **v: lanes_recurrence(family, **v, how=how), given)
    for k in range(3):
        alone = {name: None if v is None else v.detach()[k : k + 1].requires_grad_() for name, v in given.items()}
        y, c = lanes_recurrence(family, **alone, how=how)
        assert torch.equal(y[0], together["y"][k])
        assert c is None or torch.equal(c[0], together["c"][k])


def test_gates_are_differentiated_once():
    given = inputs("lstm", 1, 2, 2, 3)
    y, _ = lanes_recurrence("lstm", **given)
    torch.autograd.grad(y.sum(), given["h0"], retain_graph=True)
    with pytest.raises(RuntimeError, match="already differentiated"):
        torch.autograd.grad(y.sum(), given["h0"])


def test_errors_say_what_is_allowed():
    given = inputs("gru", 1, 2, 2, 3)
    with pytest.raises(UnknownNameError, match="lstmm"):
        lanes_recurrence("lstmm", **given)
    with pytest.raises(SpecError, match="c0 is missing"):
        lanes_recurrence("lstm", **{**inputs("lstm", 1, 2, 2, 3), "c0": None})
    with pytest.raises(SpecError, match=r"h0 has shape \(1, 2, 3\) and dtype torch.float64"):
        lanes_recurrence("gru", **{**given, "h0": given["h0"].double()})
    with pytest.raises(SpecError, match="hidden_size = 129"):
        lanes_recurrence("gru", **inputs("gru", 1, 1, 1, 129), how=How("persistent"))


def test_choice_by_size():
    assert choose("lstm", 64) == How("persistent") and choose("rnn_tanh", 128) == How("persistent")
    assert choose("lstm", 128) == How("persistent", resident=False)
    assert choose("lstm", 129) == How("step")


@needs_cuda
@pytest.mark.parametrize("family", FAMILIES)
def test_captured_equals_uncaptured(family):
    """Two passes at a time, so that the second needs a graph of its own; the first call of a shape is not captured."""
    plain = [
        results(lambda **v: lanes_recurrence(family, **v, how=replace(STEP, captured=False)), inputs(family, 2, 9, 20, 24, seed=s))
        for s in (0, 1)
    ]
    for _ in range(3):
        given = [inputs(family, 2, 9, 20, 24, seed=s) for s in (0, 1)]
        both = [lanes_recurrence(family, **v, how=STEP) for v in given]
        for k in (0, 1):
            again = results(lambda outputs=both[k], **_: outputs, given[k])
            for name, value in plain[k].items():
                assert torch.equal(again[name], value), name


@needs_cuda
@pytest.mark.parametrize("hidden_size", [17, 64, 128])
@pytest.mark.parametrize("family", FAMILIES)
def test_persistent_equals_step_on_the_device(family, hidden_size):
    given = inputs(family, 3, 20, 33, hidden_size)
    if family == "rnn_relu":
        given["weight_hh"].data.mul_(0.5)
    step = results(lambda **v: lanes_recurrence(family, **v, how=STEP), given)
    compare(results(lambda **v: lanes_recurrence(family, **v), given), step, 1e-4)  # 20 steps of sums of 512 terms
