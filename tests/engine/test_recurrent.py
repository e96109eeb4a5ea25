"""`Recurrent`: every fast path equals the reference, and it behaves like torch.nn's layers."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import InputError
from mrnn_search.cells import CellSpec, preset
from mrnn_search.engine.recurrent import Recurrent, State

from ..cells.strategies import LINEAR, specs

shapes = st.tuples(st.integers(1, 70), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9))


def run(layer, x):
    leaf = x.clone().requires_grad_()
    y, state = layer(leaf)
    total = y.square().mean() + sum(s.square().mean() for s in (state if isinstance(state, tuple) else [state]))
    total = total + 0.0 * leaf.sum()  # where a rule looks at the step before only, T = 1 does not depend on x
    names = ["x", *(n for n, _ in layer.named_parameters())]
    grads = torch.autograd.grad(total, [leaf, *layer.parameters()], materialize_grads=True)
    return y, state, dict(zip(names, grads, strict=True))


@settings(max_examples=150, deadline=None)
@given(
    spec=specs(), shape=shapes, layers=st.integers(1, 2), both=st.booleans(), bias=st.booleans(), init=st.sampled_from(["paper", "torch"])
)
def test_fast_path_equals_reference(spec, shape, layers, both, bias, init):
    """Float64, so that a wrong term cannot hide in rounding: 1e-9 of each tensor's largest entry."""
    t, b, i, h = shape
    torch.manual_seed(h)
    layer = Recurrent(spec, i, h, layers, bias=bias, bidirectional=both, init=init).double()
    assert not layer.execution.startswith("reference")
    x = torch.randn(t, b, i, dtype=torch.float64)
    fast, slow = run(layer, x), run(layer.reference(), x)
    tensors = [("y", fast[0], slow[0]), *((n, fast[2][n], slow[2][n]) for n in slow[2])]
    tensors += [(f"state {n}", a, c) for n, (a, c) in enumerate(zip(fast[1], slow[1], strict=True))]
    if isinstance(fast[1], State):
        assert fast[1].t == slow[1].t == t
        tensors += [(f"moment {n}", a, c) for n, (a, c) in enumerate(zip(fast[1].rule, slow[1].rule, strict=True))]
    for name, ours, theirs in tensors:
        assert ours.shape == theirs.shape, name
        scale = max(1.0, float(theirs.detach().abs().max()))
        gap = float((ours - theirs).detach().abs().max())
        assert gap <= 1e-9 * scale, f"{name}: {gap} at scale {scale}"


@settings(max_examples=60, deadline=None)
@given(spec=specs(("rnn", "lstm", "gru"), LINEAR, ("drive",), written=False, kinds=("scalar",)), shape=shapes)
def test_vendor_path_in_float32(spec, shape):
    """1e-6, the rounding of a few float32 operations on gates of order one; torch init keeps the drive of that order."""
    t, b, i, h = shape
    torch.manual_seed(i)
    layer = Recurrent(spec, i, h, init="torch", execution="vendor")
    if spec.options.get("activation") == "relu":
        return  # unbounded outputs: covered in float64
    x = torch.rand(t, b, i)
    (y, _, grads), (y2, _, grads2) = run(layer, x), run(layer.reference(), x)
    torch.testing.assert_close(y, y2, rtol=2e-6, atol=2e-6)
    for name, grad in grads.items():
        scale = max(1.0, float(grads2[name].abs().max()))
        torch.testing.assert_close(grad / scale, grads2[name] / scale, rtol=1e-5, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")


@settings(max_examples=60, deadline=None)
@given(spec=specs(), cut=st.integers(1, 39), layers=st.integers(1, 2))
def test_chunks_with_carried_state_equal_one_pass(spec, cut, layers):
    torch.manual_seed(cut)
    layer = Recurrent(spec, 3, 4, layers).double()
    x = torch.randn(40, 2, 3, dtype=torch.float64)
    whole, end = layer(x)
    first, state = layer(x[:cut])
    second, end2 = layer(x[cut:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-9, atol=1e-9)
    for a, b in zip(end, end2, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    if isinstance(end, State):
        assert end.t == end2.t == 40


def test_state_unpacks_like_torchs():
    x = torch.randn(5, 2, 3)
    _, (h, c) = Recurrent(preset("momentum_lstm"), 3, 4, 2)(x)
    assert h.shape == c.shape == (2, 2, 4)
    _, h = Recurrent(preset("gru"), 3, 4)(x)
    assert isinstance(h, torch.Tensor) and h.shape == (1, 2, 4)
    _, (h,) = Recurrent(preset("momentum_gru"), 3, 4)(x)
    assert h.shape == (1, 2, 4)


def test_reference_shares_parameters():
    layer = Recurrent(preset("exprnn"), 3, 4)
    twin = layer.reference()
    assert {id(p) for p in twin.parameters()} == {id(p) for p in layer.parameters()}
    assert twin.execution.startswith("reference") and not layer.execution.startswith("reference")
    assert {id(p) for p in copy.deepcopy(layer).parameters()}.isdisjoint({id(p) for p in layer.parameters()})


def test_unbatched_and_batch_first():
    layer = Recurrent(preset("adam_lstm"), 3, 4)
    x = torch.randn(6, 3)
    y, (h, _) = layer(x)
    assert y.shape == (6, 4) and h.shape == (1, 4)
    torch.testing.assert_close(layer(x.unsqueeze(1))[0].squeeze(1), y)
    first = Recurrent(preset("adam_lstm"), 3, 4, batch_first=True)
    first.load_state_dict(layer.state_dict())
    torch.testing.assert_close(first(x.unsqueeze(0))[0].squeeze(0), y)


def test_dropout_acts_between_layers_in_training_only():
    x = torch.ones(4, 2, 3)
    one = Recurrent(preset("lstm"), 3, 8, 1, dropout=0.9, init="torch")
    torch.testing.assert_close(one(x)[0], one(x)[0])
    two = Recurrent(preset("lstm"), 3, 8, 2, dropout=0.9, init="torch")
    assert not torch.equal(two(x)[0], two(x)[0])
    two.eval()
    torch.testing.assert_close(two(x)[0], two(x)[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Recurrent(preset("lstm"), 0, 4), "input_size = 0"),
        (lambda: Recurrent(preset("lstm"), 3, 4, dropout=1.0), "dropout = 1.0"),
        (lambda: Recurrent(preset("lstm"), 3, 4, init="kaiming"), 'unknown init "kaiming"'),
        (lambda: Recurrent(preset("adam_lstm"), 3, 4, execution="vendor"), "cannot run"),
        (lambda: Recurrent(preset("lstm"), 3, 4)(torch.zeros(5, 2, 4)), r"input has shape \(5, 2, 4\)"),
        (lambda: Recurrent(preset("lstm"), 3, 4)(torch.zeros(0, 2, 3)), "no time steps"),
        (lambda: Recurrent(preset("lstm"), 3, 4)(torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)), "state has shapes"),
    ],
)
def test_errors_say_what_is_allowed(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_plain_state_dict_has_torchs_names():
    spec = CellSpec("gru")
    ours, theirs = Recurrent(spec, 3, 4, 2, bidirectional=True).state_dict(), torch.nn.GRU(3, 4, 2, bidirectional=True).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
