"""`orthogonal_lstm` under every rule: outputs and every gradient against the formulas, written here once more; its matrices."""

import pytest
import torch
from torch.func import functional_call

from mrnn_search.cells import Candidate, CellSpec
from mrnn_search.engine.recurrent import Recurrent, parameter_groups
from mrnn_search.engine.train import train_lane
from mrnn_search.results.source import source

from ..engine.test_train import TASK
from .by_hand import MAPS as TO_ROTATION
from .by_hand import VALUES, assert_near, drives
from .by_hand import moved as moved_layer
from .strategies import LINEAR, OPTIONS

RULES = ("plain", "heavy_ball", "rmsprop", "adam", "nesterov", "lion", "nesterov_lookahead")
MAPS, SKEW_INITS = OPTIONS["orthogonal_lstm"]["map"], OPTIONS["orthogonal_lstm"]["skew_init"]


def moved(spec, seed, inputs=3, hidden=5, **options):
    return moved_layer(Recurrent(spec, inputs, hidden, init="torch", **options), seed)


def by_formula(spec, p, x, hidden):
    """Each gate on its own: nothing of the stack's order is taken from the layer but i, f, g, o."""
    name, gates = "parametrizations.weight_hh_l0.", {}
    for n, gate in enumerate("ifgo"):
        matrix = p[name + "0.base"][n] @ TO_ROTATION[spec.options["map"]](p[name + "original"][n])
        rows = slice(n * hidden, (n + 1) * hidden)
        gates[gate] = matrix, p["bias_hh_l0"][rows] if "bias_hh_l0" in p else 0.0, rows
    us = [x_t @ p["weight_ih_l0"].T + p.get("bias_ih_l0", 0.0) for x_t in x]
    h = c = torch.zeros(x.shape[1], hidden, dtype=x.dtype)
    out = []
    for d in drives(spec, us):
        a = {gate: d[:, rows] + h @ matrix.T + bias for gate, (matrix, bias, rows) in gates.items()}
        squashed = {gate: 1 / (1 + torch.exp(-a[gate])) for gate in "ifo"}
        c = squashed["f"] * c + squashed["i"] * torch.tanh(a["g"])
        h = squashed["o"] * torch.tanh(c)
        out.append(h)
    return torch.stack(out)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("execution", ["auto", "loop", "reference"])
def test_equals_its_formula(name, rule, bias, execution):
    """1e-10 of each tensor's largest entry, at least of 1; on torch's own kernel too, where the rule is linear."""
    spec = CellSpec("orthogonal_lstm", rule, VALUES[rule], options={"map": name})
    layer = moved(spec, seed=1, bias=bias, execution=execution)
    linear = rule in LINEAR
    assert layer.execution.startswith({"auto": "vendor" if linear else "loop"}.get(execution, execution))
    p = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x)[0], by_formula(spec, p, x, 5)
    leaves = {"x": x, **dict(layer.named_parameters())}
    weights = torch.randn_like(ours)
    assert_near(ours, theirs, "outputs")
    pairs = [torch.autograd.grad((y * weights).sum(), list(leaves.values()), allow_unused=True) for y in (ours, theirs)]
    for leaf, mine, their in zip(leaves, *pairs, strict=True):
        assert mine is not None and their is not None and their.abs().max() > 0, leaf
        assert_near(mine, their, leaf)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MAPS)
def test_gradcheck(name, rule):
    learned = [name for name in VALUES[rule] if name not in ("restart", "delta")]
    layer = moved(CellSpec("orthogonal_lstm", rule, VALUES[rule], learned, {"map": name}), seed=2, inputs=2, hidden=3)
    names, buffers = [n for n, _ in layer.named_parameters()], dict(layer.named_buffers())

    def outputs(x, *parameters):
        return functional_call(layer, {**dict(zip(names, parameters, strict=True)), **buffers}, (x,))[0]

    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (x, *(p.detach().clone().requires_grad_() for p in layer.parameters())))


def test_shapes_and_counts():
    layer = Recurrent(CellSpec("orthogonal_lstm"), 3, 5, 2)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters() if "_l0" in name}
    assert shapes == {
        "weight_ih_l0": (20, 3),
        "bias_ih_l0": (20,),
        "bias_hh_l0": (20,),
        "parametrizations.weight_hh_l0.original": (4, 5, 5),
    }
    assert layer.weight_hh_l0.shape == (20, 5)
    assert layer.num_parameters() == (20 * 3 + 20 * 5) + 2 * (20 + 20 + 4 * 5 * 4 // 2)
    plain, skew = parameter_groups(layer, 1e-2, 1e-3)
    assert skew["lr"] == 1e-3 and [tuple(p.shape) for p in skew["params"]] == [(4, 5, 5)] * 2
    assert len(plain["params"]) == 6
    lstm = torch.nn.LSTM(3, 5, 2)  # materialised, it is a torch.nn.LSTM
    lstm.load_state_dict({name: getattr(layer, name).detach() for name in lstm.state_dict()})
    x = torch.randn(7, 2, 3)
    torch.testing.assert_close(layer(x)[0], lstm(x)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("init", ["paper", "torch"])
@pytest.mark.parametrize("skew_init", SKEW_INITS)
@pytest.mark.parametrize("name", MAPS)
def test_four_matrices_start_and_stay_rotations(name, skew_init, init):
    torch.manual_seed(0)
    layer = Recurrent(CellSpec("orthogonal_lstm", options={"map": name, "skew_init": skew_init}), 4, 12, init=init)
    start = layer.recurrent_matrix().detach()
    assert start.shape == (4, 12, 12)
    assert all(not torch.allclose(start[i], start[j], atol=1e-2) for i in range(4) for j in range(i))  # four draws
    optimizer = torch.optim.RMSprop(parameter_groups(layer, 1e-2, 1e-2))
    for _ in range(30):
        optimizer.zero_grad()
        layer(torch.randn(3, 3, 4))[0].square().sum().backward()
        optimizer.step()
    q = layer.recurrent_matrix().detach()
    torch.testing.assert_close(q.mT @ q, torch.eye(12).expand(4, 12, 12), rtol=0, atol=1e-5)
    assert (torch.linalg.det(q.double()) > 0.99).all() and ((q - start).abs().amax((1, 2)) > 0.03).all()


def test_biases_start_as_the_lstms():
    layer = Recurrent(CellSpec("orthogonal_lstm"), 3, 5)
    expected = torch.zeros(20)
    expected[5:10] = 1
    for name in ("bias_ih_l0", "bias_hh_l0"):
        torch.testing.assert_close(layer.get_parameter(name).detach(), expected)
    w = layer.weight_ih_l0
    torch.testing.assert_close(w.T @ w, torch.eye(3), atol=1e-5, rtol=0)


def test_set_recurrent_matrix():
    layer = Recurrent(CellSpec("orthogonal_lstm"), 3, 5, 2)
    q = torch.linalg.qr(torch.randn(4, 5, 5))[0]
    layer.set_recurrent_matrix_(q, layer=1)
    torch.testing.assert_close(layer.recurrent_matrix(1), q)
    h = torch.randn(2, 5)
    by_gate = torch.cat([h @ q[n] for n in range(4)], dim=1)
    torch.testing.assert_close(torch.nn.functional.linear(h, layer.weight_hh_l1), by_gate)
    with pytest.raises(ValueError, match=r"Q has shape \(5, 5\), allowed: \(4, 5, 5\)"):
        layer.set_recurrent_matrix_(q[0])
    with pytest.raises(ValueError, match="Q is not orthogonal"):
        layer.set_recurrent_matrix_(torch.stack([*q[:3], torch.ones(5, 5)]))


@pytest.mark.parametrize("rebase", ["never", 3])
@pytest.mark.parametrize("name", MAPS)
def test_training_runs_and_resumes_bit_for_bit(name, rebase):
    spec = CellSpec("orthogonal_lstm", "heavy_ball", options={"map": name, "rebase": rebase})
    candidate = Candidate(spec, hidden_size=8, num_layers=2, lr=1e-2)
    whole = train_lane(TASK, candidate, 5, None, 0, 3)
    first = train_lane(TASK, candidate, 5, None, 0, 1)
    second = train_lane(TASK, candidate, 5, first.checkpoint, 1, 3)
    assert whole.error is None and whole.execution.startswith("fused") and second.checkpoint == whole.checkpoint
    assert whole.rows[-1].train_loss < whole.rows[0].train_loss


def test_a_new_exported_layer_has_four_orthogonal_blocks():
    namespace = {"__name__": "cell", "__file__": __file__}
    exec(compile(source(Candidate(CellSpec("orthogonal_lstm"), 5, 2), 3), "cell.py", "exec"), namespace)
    layer = namespace["PlainOrthogonalLSTM"]()
    for block in layer.weight_hh_l1.detach().split(5):
        torch.testing.assert_close(block @ block.T, torch.eye(5), rtol=0, atol=1e-5)
    assert "a stack of 4 orthogonal matrices" in layer.__doc__
