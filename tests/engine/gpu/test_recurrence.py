"""The Triton recurrences against torch's own layers and the cells' steps: outputs, last states and all gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import SpecError, UnknownNameError
from mrnn_search.cells.bases.base import add, bases
from mrnn_search.engine.gpu import persistent
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
        for d in drive[k].double() if family != "modrelu" or bias_hh is None else drive[k].double() + bias_hh[k].double():
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
    given = inputs(family, k, t, b, h, bias and family != "modrelu", seed)
    if family == "rnn_relu":
        given["weight_hh"].data.mul_(0.5)  # so that outputs stay of order one
    compare(results(lambda **v: lanes_recurrence(family, **v, how=HOWS[how]), given), results(lambda **v: naive(family, **v), given))
