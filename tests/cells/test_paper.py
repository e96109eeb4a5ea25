"""The paper's cells, from its formulas and the released code (`cells.md`), gate by gate: forward and backward to 1e-10 in float64.

Written without the loops of `by_hand`: momentum here is the sum of its impulse response, not a recursion, where that is possible.
"""

import math

import pytest
import torch

from mrnn_search.cells import CellSpec, preset
from mrnn_search.engine.recurrent import Recurrent

from .by_hand import assert_near, assert_same, moved

T, B, WIDTH, H = 47, 2, 3, 4  # WIDTH: I, the input size
RESTARTS = (1, 2, 6, 40)
X = torch.randn(T, B, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(11))
EXECUTIONS = ("auto", "loop", "reference")


def gates(layer, x, see):
    """An lstm whose pre-activation at step t is ``see(t, g_t, r_t)``; g and r with their own biases, as in the released code."""
    p = dict(layer.named_parameters())
    g = x @ p["weight_ih_l0"].T + p["bias_ih_l0"]
    h = c = torch.zeros(x.shape[1], H, dtype=x.dtype)
    out = []
    for t in range(len(x)):
        a = see(t + 1, g, h @ p["weight_hh_l0"].T + p["bias_hh_l0"])
        i, f, cell, o = a[:, :H], a[:, H : 2 * H], a[:, 2 * H : 3 * H], a[:, 3 * H :]
        c = c / (1 + torch.exp(-f)) + torch.tanh(cell) / (1 + torch.exp(-i))
        h = torch.tanh(c) / (1 + torch.exp(-o))
        out.append(h)
    return torch.stack(out)


def velocity(g, t, mu, epsilon):
    """``v_t = ε Σ_k μ^(t-k) g_k``."""
    powers = torch.tensor([mu ** (t - k) for k in range(1, t + 1)], dtype=g.dtype)
    return epsilon * (powers[:, None, None] * g[:t]).sum(0)


def square(g, t, beta):
    """``s_t = (1 - β) Σ_k β^(t-k) g_k²``."""
    powers = torch.tensor([(1 - beta) * beta ** (t - k) for k in range(1, t + 1)], dtype=g.dtype)
    return (powers[:, None, None] * g[:t] ** 2).sum(0)


def gamma(t, restart):
    """The paper's ``(t mod F) / ((t mod F) + 3)``, t from 0: the released code's (k - 1) / (k + 2)."""
    return ((t - 1) % restart) / ((t - 1) % restart + 3)


def restarted(g, t, epsilon, restart):
    """``v_t``: what came before the last restart is gone; then each step's γ multiplies all that is older."""
    start = t - (t - 1) % restart
    v = 0.0
    for k in range(start, t + 1):
        weight = math.prod(gamma(j, restart) for j in range(k + 1, t + 1))
        v = v + epsilon * weight * g[k - 1]
    return v


def lstm_of(spec, seed=3, init="torch"):
    return moved(Recurrent(spec, WIDTH, H, init=init), seed)


def check(spec, see):
    for execution in EXECUTIONS:
        layer = lstm_of(spec)
        layer._execution = execution
        assert_same(layer, X, lambda x, layer=layer: gates(layer, x, see))


MOMENTA = [(0.6, 0.6), (0.6, 1.0), (0.3, 0.1), (0.0, 0.6), (0.999, 0.6)]  # of the released recipes and the gradient figure


@pytest.mark.parametrize(("mu", "epsilon"), MOMENTA)
def test_momentum_lstm(mu, epsilon):
    check(preset("momentum_lstm", mu=mu, epsilon=epsilon), lambda t, g, r: velocity(g, t, mu, epsilon) + r)


@pytest.mark.parametrize(("mu", "epsilon"), MOMENTA)
def test_momentum_rnn(mu, epsilon):
    for execution in EXECUTIONS:
        layer = lstm_of(preset("momentum_rnn", mu=mu, epsilon=epsilon))
        layer._execution = execution

        def by_paper(x, layer=layer):
            p = dict(layer.named_parameters())
            g, h, out = x @ p["weight_ih_l0"].T + p["bias_ih_l0"], torch.zeros(B, H, dtype=x.dtype), []
            for t in range(1, T + 1):
                h = torch.tanh(h @ p["weight_hh_l0"].T + p["bias_hh_l0"] + velocity(g, t, mu, epsilon))
                out.append(h)
            return torch.stack(out)

        assert_same(layer, X, by_paper)


@pytest.mark.parametrize(("mu", "epsilon"), MOMENTA)
def test_momentum_gru(mu, epsilon):
    for execution in EXECUTIONS:
        layer = lstm_of(preset("momentum_gru", mu=mu, epsilon=epsilon))
        layer._execution = execution

        def by_paper(x, layer=layer):
            p = dict(layer.named_parameters())
            g, h, out = x @ p["weight_ih_l0"].T + p["bias_ih_l0"], torch.zeros(B, H, dtype=x.dtype), []
            for t in range(1, T + 1):
                d, u = velocity(g, t, mu, epsilon), h @ p["weight_hh_l0"].T + p["bias_hh_l0"]
                r, z = torch.sigmoid(d[:, : 2 * H] + u[:, : 2 * H]).chunk(2, -1)
                h = (1 - z) * torch.tanh(d[:, 2 * H :] + r * u[:, 2 * H :]) + z * h
                out.append(h)
            return torch.stack(out)

        assert_same(layer, X, by_paper)


@pytest.mark.parametrize(("epsilon", "beta"), [(0.6, 0.9), (1.0, 0.01), (0.1, 0.999)])
def test_rmsprop_lstm(epsilon, beta):
    spec = preset("rmsprop_lstm", epsilon=epsilon, beta=beta)
    check(spec, lambda t, g, r: epsilon * g[t - 1] / torch.sqrt(square(g, t, beta) + 1e-16) + r)


@pytest.mark.parametrize(("mu", "epsilon", "beta"), [(0.6, 0.6, 0.1), (0.6, 1.0, 0.01), (0.3, 0.1, 0.999), (0.0, 0.6, 0.9)])
def test_adam_lstm(mu, epsilon, beta):
    check(
        preset("adam_lstm", mu=mu, epsilon=epsilon, beta=beta),
        lambda t, g, r: velocity(g, t, mu, epsilon) / torch.sqrt(square(g, t, beta) + 1e-16) + r,
    )


@pytest.mark.parametrize(("mu", "epsilon", "beta"), [(0.6, 0.6, 0.1), (0.0, 0.6, 0.9)])
def test_adam_as_printed(mu, epsilon, beta):
    """1e-8 beside the root."""
    spec = CellSpec("lstm", "adam_outside", {"mu": mu, "epsilon": epsilon, "beta": beta, "delta": 1e-8})
    check(spec, lambda t, g, r: velocity(g, t, mu, epsilon) / (torch.sqrt(square(g, t, beta)) + 1e-8) + r)


@pytest.mark.parametrize("epsilon", [1.0, 0.9])
@pytest.mark.parametrize("restart", RESTARTS)
def test_nesterov_lstm(restart, epsilon):
    check(preset("nesterov_lstm", epsilon=epsilon, restart=restart), lambda t, g, r: restarted(g, t, epsilon, restart) + r)


@pytest.mark.parametrize("epsilon", [1.0, 0.9])
@pytest.mark.parametrize("restart", RESTARTS)
def test_nesterov_lstm_as_released(restart, epsilon):
    """``y_t = r_t - s g_t``, ``y_t + c_k (y_t - y_{t-1})``, y_0 = 0."""
    spec = preset("nesterov_lstm_released", epsilon=epsilon, restart=restart)
    assert spec == CellSpec("lstm", "nesterov_released", {"epsilon": epsilon, "restart": restart})
    for execution in ("auto", "reference"):
        layer = lstm_of(spec)
        layer._execution = execution

        def by_code(x, layer=layer):
            kept = [torch.zeros(B, 4 * H, dtype=x.dtype)]

            def see(t, g, r):
                kept.append(r - epsilon * g[t - 1])
                return kept[t] + gamma(t, restart) * (kept[t] - kept[t - 1])

            return gates(layer, x, see)

        assert_same(layer, X, by_code)


@pytest.mark.parametrize("restart", RESTARTS)
def test_a_released_pass_in_chunks_goes_on_with_its_schedule(restart):
    """The state carries y and the number of steps."""
    layer = lstm_of(CellSpec("lstm", "nesterov_released", {"epsilon": 0.9, "restart": restart}))
    whole, (first, state) = layer(X)[0], layer(X[:17])
    assert state.t == 17 and state.rule[0].shape == (1, B, 4 * H)
    assert_near(torch.cat([first, layer(X[17:], state)[0]]), whole, "chunks", 1e-12)


def test_damped_heavy_ball_on_the_preactivation():
    """Ours: ``a_t = μ a_{t-1} + ε (u_t + r_t)``."""
    spec = CellSpec("lstm", "heavy_ball", {"mu": 0.6, "epsilon": 0.5}, scope="preactivation")
    layer = lstm_of(spec)
    for one in (layer, layer.reference()):

        def by_formula(x):
            kept = [0.0]

            def see(t, g, r):
                kept.append(0.6 * kept[-1] + 0.5 * (g[t - 1] + r))
                return kept[-1]

            return gates(layer, x, see)

        assert_same(one, X, by_formula)


def test_velocity_on_the_hidden_state():
    """Ours: ``w_t = μ w_{t-1} + ε (f(x_t, h_{t-1}) - h_{t-1})``, ``h_t = h_{t-1} + w_t``, f a plain rnn."""
    layer = lstm_of(CellSpec("rnn", "heavy_ball", {"mu": 0.6, "epsilon": 0.5}, scope="hidden"))

    def by_formula(x):
        p = dict(layer.named_parameters())
        h, w, out = torch.zeros(B, H, dtype=x.dtype), 0.0, []
        for x_t in x:
            f = torch.tanh(x_t @ p["weight_ih_l0"].T + p["bias_ih_l0"] + h @ p["weight_hh_l0"].T + p["bias_hh_l0"])
            w = 0.6 * w + 0.5 * (f - h)
            h = h + w
            out.append(h)
        return torch.stack(out)

    for one in (layer, layer.reference()):
        assert_same(one, X, by_formula)


# ------------------------------------------------------------------------------------- initial values


@pytest.mark.parametrize("name", ["lstm", "momentum_lstm", "rmsprop_lstm", "adam_lstm", "nesterov_lstm", "nesterov_lstm_released"])
@pytest.mark.parametrize("inputs", [1, 3, 40])
def test_paper_init(name, inputs):
    """W orthogonal, U = ``eye_`` on the (4H, H) matrix, biases 0 but for the forget block: 1 in both. float32: 1e-5."""
    size = 7
    torch.manual_seed(1)
    layer = Recurrent(preset(name), inputs, size, init="paper")
    w = layer.weight_ih_l0.detach()
    assert w.shape == (4 * size, inputs)
    gram = w.T @ w if inputs <= 4 * size else w @ w.T
    torch.testing.assert_close(gram, torch.eye(min(inputs, 4 * size)), rtol=0, atol=1e-5)
    eye = torch.zeros(4 * size, size)
    for i in range(size):
        eye[i, i] = 1
    assert torch.equal(layer.weight_hh_l0.detach(), eye)
    bias = torch.zeros(4 * size)
    bias[size : 2 * size] = 1
    assert torch.equal(layer.bias_ih_l0.detach(), bias) and torch.equal(layer.bias_hh_l0.detach(), bias)
    other = Recurrent(preset(name), inputs, size, init="paper")
    assert not torch.equal(other.weight_ih_l0, layer.weight_ih_l0)


def test_paper_init_of_the_other_presets():
    for name in ("rnn", "momentum_rnn", "gru", "momentum_gru"):
        layer = Recurrent(preset(name), 3, 5, init="paper")
        w, u = layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach()
        torch.testing.assert_close(w.T @ w, torch.eye(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(u, torch.cat([torch.eye(5), torch.zeros(len(u) - 5, 5)]), rtol=0, atol=0)
        assert not layer.bias_ih_l0.any() and not layer.bias_hh_l0.any()


def test_paper_init_of_every_layer_and_direction():
    layer = Recurrent(preset("momentum_lstm"), 3, 5, 2, bidirectional=True, init="paper")
    for name, p in layer.named_parameters():
        if name.startswith("bias"):
            assert p.detach().tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10
        elif name.startswith("weight_hh"):
            assert torch.equal(p.detach(), torch.eye(20, 5))
