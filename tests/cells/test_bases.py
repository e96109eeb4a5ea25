"""Bases: against torch.nn, and the orthogonal one against its formula; initial values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import SpecError
from mrnn_search.cells import CellSpec, preset
from mrnn_search.engine.recurrent import Recurrent, parameter_groups

VENDOR = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


@pytest.mark.parametrize("execution", ["auto", "loop", "reference"])
@pytest.mark.parametrize("base", VENDOR)
@settings(max_examples=25, deadline=None)
@given(
    t=st.integers(1, 40),
    b=st.integers(1, 5),
    i=st.integers(1, 9),
    h=st.integers(1, 17),
    layers=st.integers(1, 3),
    both=st.booleans(),
    bias=st.booleans(),
    batch_first=st.booleans(),
)
def test_plain_equals_torch_with_copied_weights(base, execution, t, b, i, h, layers, both, bias, batch_first):
    """Outputs, state and every gradient to 1e-6 (relative to the gradient's size), state_dict copied both ways."""
    torch.manual_seed(t)
    options = dict(num_layers=layers, bidirectional=both, bias=bias, batch_first=batch_first)
    theirs = VENDOR[base](i, h, **options)
    ours = Recurrent(CellSpec(base), i, h, **options, execution=execution)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn((b, t, i) if batch_first else (t, b, i))
    pairs = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y, state = layer(leaf)
        flat = [y, *(state if isinstance(state, tuple) else [state])]
        grads = torch.autograd.grad(sum(s.square().mean() for s in flat), [leaf, *layer.parameters()])
        pairs.append((flat, dict(zip(["x", *dict(layer.named_parameters())], grads, strict=True))))
    for mine, their in zip(pairs[0][0], pairs[1][0], strict=True):
        assert mine.shape == their.shape
        torch.testing.assert_close(mine, their, rtol=1e-6, atol=1e-6)
    assert pairs[0][1].keys() == pairs[1][1].keys()
    for name, grad in pairs[0][1].items():
        torch.testing.assert_close(grad, pairs[1][1][name], rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_relu_rnn_equals_torch():
    theirs = torch.nn.RNN(3, 5, nonlinearity="relu")
    ours = Recurrent(CellSpec("rnn", options={"activation": "relu"}), 3, 5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(7, 2, 3)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-6, atol=1e-6)


def test_orthogonal_equals_its_formula():
    torch.manual_seed(0)
    layer = Recurrent(preset("exprnn"), 3, 6).double()
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    q, h, out = layer.recurrent_matrix(), torch.zeros(2, 6, dtype=torch.float64), []
    for x_t in x:
        z = x_t @ layer.weight_ih_l0.T + h @ q
        h = torch.sign(z) * torch.clamp(z.abs() + layer.modrelu_bias_l0, min=0)
        out.append(h)
    torch.testing.assert_close(layer(x)[0], torch.stack(out), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("init", ["paper", "torch"])
@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_orthogonal_matrix_starts_and_stays_a_rotation(init, size):
    layer = Recurrent(preset("exprnn"), 4, size, init=init)
    optimizer = torch.optim.RMSprop(parameter_groups(layer, 1e-2, 1e-2))
    for _ in range(30):
        q = layer.recurrent_matrix()
        # torch's float32 matrix_exp is a Taylor series; 1.2e-5 was seen after 30 steps of this large rate.
        torch.testing.assert_close(q.T @ q, torch.eye(size), rtol=0, atol=5e-5)
        assert torch.linalg.det(q.double()) > 0.99
        optimizer.zero_grad()
        layer(torch.randn(5, 3, 4))[0].square().sum().backward()
        optimizer.step()


def test_set_recurrent_matrix():
    layer = Recurrent(preset("exprnn"), 4, 8)
    q = torch.linalg.qr(torch.randn(8, 8))[0]
    q[:, 0] *= torch.linalg.det(q).sign()
    layer.set_recurrent_matrix_(q)
    torch.testing.assert_close(layer.recurrent_matrix(), q)
    with pytest.raises(SpecError, match="not orthogonal"):
        layer.set_recurrent_matrix_(torch.ones(8, 8))
    with pytest.raises(SpecError, match="no orthogonal"):
        Recurrent(preset("lstm"), 4, 8).recurrent_matrix()


def test_orthogonal_parameters_have_their_own_rate():
    layer = Recurrent(preset("exprnn"), 4, 8, num_layers=2)
    plain, skew = parameter_groups(layer, 1e-3, 1e-4)
    assert (plain["lr"], skew["lr"]) == (1e-3, 1e-4)
    assert len(skew["params"]) == 2 and len(plain["params"]) == 4
    assert len(parameter_groups(Recurrent(preset("lstm"), 4, 8), 1e-3, 1e-4)) == 1
    assert Recurrent(preset("exprnn"), 4, 8).num_parameters() == 4 * 8 + 8 + 8 * 7 // 2


def test_paper_init_of_the_lstm():
    layer = Recurrent(preset("momentum_lstm"), 3, 5, init="paper")
    w = layer.weight_ih_l0
    torch.testing.assert_close(w.T @ w, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.weight_hh_l0, torch.cat([torch.eye(5), torch.zeros(15, 5)]))
    expected = torch.zeros(20)
    expected[5:10] = 1
    torch.testing.assert_close(layer.bias_ih_l0.detach(), expected)
    torch.testing.assert_close(layer.bias_hh_l0.detach(), expected)


def test_torch_init_equals_torchs_own_draws():
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(3, 5, 2)
    torch.manual_seed(3)
    ours = Recurrent(preset("lstm"), 3, 5, 2, init="torch")
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
