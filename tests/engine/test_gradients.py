"""`gradient_norms`: against finite differences of loops written here by hand, and against the formulas on paper."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import mrnn_search as ms
from mrnn_search._registry import InputError
from mrnn_search.cells.reference import reference_steps

T, B, WIDTH, H = 5, 2, 3, 4  # WIDTH: I, the input size


def make(spec, *, layers=1, init="torch", seed=0, **options):
    torch.manual_seed(seed)
    return ms.Recurrent(spec, WIDTH, H, layers, init=init, **options).double()


def data(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1e-300, float(b.abs().max())))


# ------------------------------------------------------------------------------------- finite differences

READ_OUT = data(T, B, H, seed=2).numpy()  # the loss sees every output, of every sequence together


def loss_numpy(y):
    return float((READ_OUT * y).sum() + (y**2).sum() ** 1.5)


def loss_torch(y):
    return (torch.from_numpy(READ_OUT) * y).sum() + y.square().sum() ** 1.5


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def rnn(w, d, h, c):
    return np.tanh(d + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]), c


def lstm(w, d, h, c):
    i, f, g, o = np.split(d + h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(w, d, h, c):
    (dr, dz, dn), (rr, rz, rn) = np.split(d, 3, axis=-1), np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, axis=-1)
    z, n = sigmoid(dz + rz), np.tanh(dn + sigmoid(dr + rr) * rn)
    return (1 - z) * n + z * h, c


def orthogonal(w, d, h, c):
    a = d + h @ w["Q"]
    return np.sign(a) * np.maximum(np.abs(a) + w["modrelu_bias_l0"], 0), c


def heavy_ball(t, u, m, push):
    m["v"] = 0.7 * m["v"] + 0.4 * u + push("v")
    return m["v"]


def adam(t, u, m, push):
    m["v"] = 0.7 * m["v"] + 0.4 * u + push("v")
    m["s"] = 0.6 * m["s"] + 0.4 * u**2 + push("s")
    return m["v"] / np.sqrt(m["s"] + 0.05)


def nesterov(t, u, m, push):
    k = (t - 1) % 3 + 1
    m["v"] = (k - 1) / (k + 2) * m["v"] + 0.8 * u + push("v")
    return m["v"]


def rmsprop(t, u, m, push):
    m["s"] = 0.6 * m["s"] + 0.4 * u**2 + push("s")
    return 0.9 * u / np.sqrt(m["s"] + 0.05)


# δ = 0.05 keeps the curvature in s small enough for differences; nothing in the code under test depends on its size.
CASES = {
    "rnn+heavy_ball": (rnn, heavy_ball, ms.CellSpec("rnn", "heavy_ball", {"mu": 0.7, "epsilon": 0.4}), "v"),
    "lstm+adam": (lstm, adam, ms.CellSpec("lstm", "adam", {"mu": 0.7, "epsilon": 0.4, "beta": 0.6, "delta": 0.05}), "vs"),
    "gru+nesterov": (gru, nesterov, ms.CellSpec("gru", "nesterov", {"epsilon": 0.8, "restart": 3}), "v"),
    "orthogonal+rmsprop": (orthogonal, rmsprop, ms.CellSpec("orthogonal", "rmsprop", {"epsilon": 0.9, "beta": 0.6, "delta": 0.05}), "s"),
}


def by_hand(cell, rule, w, x, where=None, push=0.0):
    """The loss of a loop that shares nothing with the package; ``push`` is added to the node ``where`` = (step, name)."""
    h, c, outputs = np.zeros((B, H)), np.zeros((B, H)), []
    m = {"v": 0.0, "s": 0.0}
    for t in range(1, T + 1):
        at = lambda name, t=t: push if where == (t, name) else 0.0  # noqa: E731
        u = (x[t - 1] + at("x")) @ w["weight_ih_l0"].T + w.get("bias_ih_l0", 0.0)
        h, c = cell(w, rule(t, u, m, at), h, c)
        h = h + at("h")
        outputs.append(h)
    return loss_numpy(np.stack(outputs))


def differences(cell, rule, w, x, t, name, width, step=1e-5):
    """Norms (B,) of the loss's central differences in every entry of one node."""
    slopes = np.zeros((B, width))
    for entry in np.ndindex(B, width):
        push = np.zeros((B, width))
        push[entry] = step
        slopes[entry] = (by_hand(cell, rule, w, x, (t, name), push) - by_hand(cell, rule, w, x, (t, name), -push)) / (2 * step)
    return np.linalg.norm(slopes, axis=1)


@pytest.mark.parametrize("case", CASES)
def test_finite_differences(case):
    cell, rule, spec, letters = CASES[case]
    layer, x = make(spec), data(T, B, WIDTH)
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    if case.startswith("orthogonal"):
        w["Q"] = layer.recurrent_matrix().detach().numpy()
    assert abs(by_hand(cell, rule, w, x.numpy()) - float(loss_torch(layer(x)[0]).detach())) < 1e-12
    norms = ms.gradient_norms(layer, x, loss_torch)
    assert list(norms.quantities) == ["h", *letters, "x"]
    for name, found in norms.quantities.items():
        assert found.shape == (T, B) and found.dtype == torch.float64 and (found > 1e-3).all()
        width = {"h": H, "x": WIDTH}.get(name, layer.weight_ih_l0.shape[0])
        for t in range(1, T + 1):
            expected = differences(cell, rule, w, x.numpy(), t, name, width)
            np.testing.assert_allclose(found[t - 1].numpy(), expected, rtol=1e-6, atol=1e-6, err_msg=f"{name}_{t}")


# ------------------------------------------------------------------------------------- formulas

MUS = (0.0, 0.6, 0.9, 0.999)


def on_paper(layer, x, mu, epsilon):
    """The Jacobians ∂h_T/∂h_t, ∂h_T/∂v_t, ∂h_T/∂x_t of rnn + heavy ball by the module's formulas, a list over t each; B = 1."""
    y = layer(x)[0].detach()[:, 0]
    u, w = layer.weight_hh_l0.detach(), layer.weight_ih_l0.detach()
    d = [torch.diag(1 - h**2) for h in y]
    product = [torch.eye(H, dtype=torch.float64)]  # Π_{k=t+1..T} D_k U for t = T, T - 1, …
    for k in range(len(y) - 1, 0, -1):
        product.insert(0, product[0] @ d[k] @ u)
    to_v = [sum(mu ** (j - t) * product[j] @ d[j] for j in range(t, len(y))) for t in range(len(y))]
    return {"h": product, "v": to_v, "x": [epsilon * j @ w for j in to_v]}


@pytest.mark.parametrize("mu", MUS)
def test_jacobians_of_rnn_with_heavy_ball(mu):
    """Every entry against autograd, and every row's norm against `gradient_norms`."""
    layer, x = make(ms.CellSpec("rnn", "heavy_ball", {"mu": mu, "epsilon": 0.4})), data(12, 1, WIDTH)
    expected = on_paper(layer, x, mu, 0.4)
    leaf = x.clone().requires_grad_()
    zero = torch.zeros(1, H, dtype=torch.float64)
    steps = list(reference_steps(layer.spec, layer.spec.coefficients, layer._weights("_l0"), leaf, (zero,), [zero]))
    nodes = {"h": [state[0] for state, _ in steps], "v": [held[0] for _, held in steps], "x": [leaf]}
    for i in range(H):
        norms = ms.gradient_norms(layer, x, lambda y, i=i: y[-1, 0, i]).quantities
        for name, jacobians in expected.items():
            rows = torch.stack([j[i] for j in jacobians])
            found = torch.autograd.grad(nodes["h"][-1][0, i], nodes[name], retain_graph=True)
            close(torch.cat(found).reshape(rows.shape), rows)
            close(norms[name][:, 0], rows.norm(dim=1))


def test_a_wrong_formula_is_noticed():
    """The published factors ``U + μ Σ_k`` in the place of U are far from the true derivative."""
    mu, layer, x = 0.9, make(ms.CellSpec("rnn", "heavy_ball", {"mu": 0.9, "epsilon": 0.1})), data(12, 1, WIDTH)
    y = layer(x)[0].detach()[:, 0]
    published = torch.eye(H, dtype=torch.float64)
    for k in range(11, 0, -1):
        published = published @ torch.diag(1 - y[k] ** 2) @ (layer.weight_hh_l0.detach() + mu * torch.diag(1 / (1 - y[k - 1] ** 2)))
    true = on_paper(layer, x, mu, 0.1)["h"][0]
    assert published.norm() > 100 * true.norm()


@pytest.mark.parametrize("mu", MUS)
def test_mu_moves_dldh_through_the_operating_point_alone(mu):
    """A plain rnn that reads the filtered input is at the same points, and has the same ∂L/∂h_t."""
    layer = make(ms.CellSpec("rnn", "heavy_ball", {"mu": mu, "epsilon": 0.4}), bias=False)
    plain = make(ms.CellSpec("rnn"), bias=False)
    plain.load_state_dict(layer.state_dict())
    x, z, filtered = data(12, B, WIDTH), torch.zeros(B, WIDTH, dtype=torch.float64), []
    for x_t in x:
        z = mu * z + 0.4 * x_t
        filtered.append(z)
    ours = ms.gradient_norms(layer, x, lambda y: y[-1].square().sum())
    theirs = ms.gradient_norms(plain, torch.stack(filtered), lambda y: y[-1].square().sum())
    close(ours.h, theirs.h)
    assert not theirs.moments


@pytest.mark.parametrize("mu", (0.3, 0.9, 0.999))
def test_without_recurrence_the_path_leads_to_inputs_and_not_to_h(mu):
    layer = make(ms.CellSpec("rnn", "heavy_ball", {"mu": mu, "epsilon": 0.4}))
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    norms = ms.gradient_norms(layer, data(30, B, WIDTH), lambda y: (y[-1] * data(B, H)).sum())
    decay = mu ** torch.arange(29, -1, -1, dtype=torch.float64)[:, None]
    assert (norms.h[:-1] == 0).all() and (norms.h[-1] > 0).all()
    close(norms.moments["v"], decay * norms.moments["v"][-1])
    close(norms.x, decay * norms.x[-1])


# ------------------------------------------------------------------------------------- the face

ADAM = ms.CellSpec("lstm", "adam", {"mu": 0.7, "epsilon": 0.4, "beta": 0.6, "delta": 0.05})


def total(y):
    return y.square().sum() + y.sum()


def same(a, b):
    assert list(a.quantities) == list(b.quantities)
    for name, norms in a.quantities.items():
        close(norms, b.quantities[name], 1e-10)


@pytest.mark.parametrize("base", ("rnn", "lstm", "gru", "orthogonal"))
@pytest.mark.parametrize("rule", ("plain", "heavy_ball", "nesterov", "rmsprop", "adam"))
@pytest.mark.parametrize("init", ("paper", "torch"))
def test_any_spec(base, rule, init):
    """The gradient of the input, which the layer's own fast path gives too."""
    layer, x = make(ms.CellSpec(base, rule), layers=2, init=init), data(T, B, WIDTH)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(layer(leaf)[0]), leaf)
    close(ms.gradient_norms(layer, x, total).x, expected.norm(dim=-1), 1e-9)
    for index in range(2):
        norms = ms.gradient_norms(layer, x, total, index)
        assert all(n.shape == (T, B) and n.isfinite().all() and (n >= 0).all() for n in norms.quantities.values())


def test_layers_of_a_stack():
    """The upper layer alone, fed with the lower one's output, has the norms of layer 1; its x is the lower layer's output."""
    layer, x = make(ADAM, layers=2), data(T, B, WIDTH)
    lower, upper = ms.Recurrent(ADAM, WIDTH, H).double(), ms.Recurrent(ADAM, H, H).double()
    lower.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("_l0")})
    upper.load_state_dict({k[:-1] + "0": v for k, v in layer.state_dict().items() if k.endswith("_l1")})
    same(ms.gradient_norms(layer, x, total, 1), ms.gradient_norms(upper, lower(x)[0], total))
    same(ms.gradient_norms(layer, x, total, 0), ms.gradient_norms(lower, x, lambda y: total(upper(y)[0])))


def test_both_directions():
    layer, x = make(ADAM, bidirectional=True), data(T, B, WIDTH)
    one = ms.Recurrent(ADAM, WIDTH, H).double()
    for reverse, suffix in ((False, "_l0"), (True, "_l0_reverse")):
        one.load_state_dict({k.removesuffix("_reverse"): v for k, v in layer.state_dict().items() if k.endswith(suffix)})
        half = slice(H, None) if reverse else slice(H)
        found = ms.gradient_norms(layer, x, lambda y, half=half: total(y[..., half]), reverse=reverse)
        turned = ms.gradient_norms(one, x.flip(0) if reverse else x, total)
        for name, norms in turned.quantities.items():
            close(found.quantities[name], norms.flip(0) if reverse else norms, 1e-10)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(layer(leaf)[0]), leaf)
    for reverse in (False, True):  # x is read by both
        close(ms.gradient_norms(layer, x, total, reverse=reverse).x, expected.norm(dim=-1), 1e-10)


def test_learned_coefficients_count_with_their_present_value():
    learned = make(ms.CellSpec("gru", "heavy_ball", {"mu": 0.3, "epsilon": 0.4}, learned=["mu"]))
    with torch.no_grad():
        learned.rule_mu_l0.fill_(2.0)
    fixed = make(ms.CellSpec("gru", "heavy_ball", {"mu": learned.coefficients()["mu"], "epsilon": 0.4}))
    fixed.load_state_dict({k: v for k, v in learned.state_dict().items() if not k.startswith("rule_")})
    same(ms.gradient_norms(learned, data(T, B, WIDTH), total), ms.gradient_norms(fixed, data(T, B, WIDTH), total))


def test_batch_first_and_unbatched():
    layer, first, x = make(ADAM), make(ADAM, batch_first=True), data(T, B, WIDTH)
    norms = ms.gradient_norms(layer, x, lambda y: total(y[-1]))
    same(ms.gradient_norms(first, x.transpose(0, 1), lambda y: total(y[:, -1])), norms)
    for b in range(B):
        alone = ms.gradient_norms(layer, x[:, b], lambda y: total(y[-1]))
        assert alone.h.shape == (T, 1)
        for name, column in alone.quantities.items():
            close(column[:, 0], norms.quantities[name][:, b], 1e-10)


@pytest.mark.parametrize("needs", (False, True))
def test_leaves_everything_as_it_was(needs):
    layer, readout = make(ADAM, layers=2), torch.nn.Linear(H, 1).double()
    x = data(T, B, WIDTH).requires_grad_(needs)
    before, draws = x.detach().clone(), torch.get_rng_state()
    ms.gradient_norms(layer, x, lambda y: readout(y[-1]).sum())
    assert x.requires_grad is needs and x.grad is None and torch.equal(x.detach(), before)
    assert all(p.grad is None and p.requires_grad for p in [*layer.parameters(), *readout.parameters()])
    assert torch.equal(torch.get_rng_state(), draws) and not layer.execution.startswith("reference")


def test_works_without_grad_mode_and_with_frozen_parameters():
    layer, x = make(ADAM), data(T, B, WIDTH)
    expected = ms.gradient_norms(layer, x, total)
    layer.requires_grad_(False)
    same(ms.gradient_norms(layer, x, total), expected)
    with torch.no_grad():
        same(ms.gradient_norms(layer, x, total), expected)
    with torch.inference_mode():
        same(ms.gradient_norms(layer, data(T, B, WIDTH), total), expected)


@pytest.mark.parametrize(
    "loss", [lambda y: torch.tensor(3.0), lambda y: torch.ones(1, requires_grad=True).sum(), lambda y: y.detach().sum()]
)
def test_a_loss_that_ignores_the_output_gives_zeros(loss):
    norms = ms.gradient_norms(make(ADAM), data(T, B, WIDTH), loss)
    assert all(n.shape == (T, B) and (n == 0).all() for n in norms.quantities.values())


def test_an_output_in_the_middle_reaches_back_and_not_ahead():
    norms = ms.gradient_norms(make(ADAM), data(T, B, WIDTH), lambda y: total(y[2]))
    assert all((n[:3] > 0).all() and (n[3:] == 0).all() for n in norms.quantities.values())


def test_tiny_gradients_do_not_vanish_in_float32():
    """1e-30 has no square in float32."""
    norms = ms.gradient_norms(make(ADAM).float(), data(T, B, WIDTH).float(), lambda y: 1e-30 * total(y))
    assert all((n > 0).all() for n in norms.quantities.values())


def test_tables():
    norms = ms.gradient_norms(make(ADAM), data(T, B, WIDTH), total)
    rows = list(norms.rows())
    assert [r[:2] for r in rows] == [(t, q) for q in ("h", "v", "s", "x") for t in range(1, T + 1)]
    assert rows[1][2] == pytest.approx(float(norms.h[1].mean()), rel=1e-15)
    columns = norms.to_dict()
    assert list(zip(columns["t"], columns["quantity"], columns["norm"], strict=True)) == rows
    assert norms.first_to_last()["x"] == pytest.approx(float(norms.x[0].mean() / norms.x[-1].mean()))
    with pytest.raises(AttributeError):
        norms.h = norms.x


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer_index": 1}, "layer_index = 1, allowed: 0 <= layer_index < 1"),
        ({"layer_index": -1}, "layer_index = -1"),
        ({"reverse": True}, "one direction"),
        ({"loss": lambda y: y}, r"loss returns shape \(5, 2, 4\), allowed: a tensor of one number"),
        ({"loss": lambda y: 1.0}, "loss returns type float"),
        ({"x": torch.zeros(5, 2, 9)}, r"input has shape \(5, 2, 9\)"),
        ({"x": torch.nn.utils.rnn.pack_sequence([data(T, WIDTH)])}, "x is a PackedSequence, allowed: a tensor"),
    ],
)
def test_errors_say_what_is_allowed(arguments, words):
    with pytest.raises(InputError, match=words):
        ms.gradient_norms(**{"layer": make(ADAM), "x": data(T, B, WIDTH), "loss": total, **arguments})


def test_the_analysis_script_runs(tmp_path, capsys):
    script = runpy.run_path(str(Path(__file__).parents[2] / "analysis" / "01_gradient_norms.py"))
    script["main"](["--seeds", "1", "--hidden", "4", "--batch", "3", "--output", str(tmp_path / "norms.html")])
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith(("fixed", " "))]) >= 12
    assert "plotly" in (tmp_path / "norms.html").read_text(encoding="utf-8")
