"""Bases that torch has no layer for, under every rule: outputs and every gradient against the formulas, written here once more."""

import math

import pytest
import torch
from torch.func import functional_call

from mrnn_search._registry import UnknownNameError
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine.recurrent import Recurrent, parameter_groups
from mrnn_search.engine.train import train_lane

from ..engine.test_train import TASK
from .strategies import OPTIONS, RULES

MAPS, SKEW_INITS = OPTIONS["orthogonal"]["map"], OPTIONS["orthogonal"]["skew_init"]
NEW = {
    "mgu": {},
    "indrnn-relu": {"activation": "relu"},
    "indrnn-tanh": {"activation": "tanh"},
    "linear": {},
}
SPECS = [("orthogonal", {"map": m}) for m in MAPS] + [(name.split("-")[0], options) for name, options in NEW.items()]
IDS = [f"{base}-{'-'.join(options.values())}".strip("-") for base, options in SPECS]
COEFFICIENTS = {
    "plain": {},
    "heavy_ball": {"mu": 0.7, "epsilon": 0.4},
    "rmsprop": {"epsilon": 0.5, "beta": 0.8},
    "adam": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8},
    "nesterov": {"epsilon": 0.6, "restart": 3},
}


def drives(rule, c, us):
    """d_1 … d_T of the drives u_1 … u_T."""
    v, s, k, out = 0.0, 0.0, 0, []
    for u in us:
        if rule == "plain":
            d = u
        elif rule == "heavy_ball":
            d = v = c["mu"] * v + c["epsilon"] * u
        elif rule == "nesterov":
            k = k + 1 if k < c["restart"] else 1
            d = v = (k - 1) / (k + 2) * v + c["epsilon"] * u
        elif rule == "rmsprop":
            s = c["beta"] * s + (1 - c["beta"]) * u * u
            d = c["epsilon"] * u / torch.sqrt(s + 1e-16)
        elif rule == "adam":
            v = c["mu"] * v + c["epsilon"] * u
            s = c["beta"] * s + (1 - c["beta"]) * u * u
            d = v / torch.sqrt(s + 1e-16)
        out.append(d)
    return out


def skew(a):
    return torch.tril(a, -1) - torch.tril(a, -1).T


def exponential(a):
    """By the eigenvalues: i S is Hermitian."""
    values, vectors = torch.linalg.eigh(1j * skew(a))
    return (vectors @ torch.diag(torch.exp(-1j * values)) @ vectors.mH).real


def cayley(a):
    one = torch.eye(len(a), dtype=a.dtype)
    return (one + skew(a) / 2) @ torch.linalg.inv(one - skew(a) / 2)


def householder(a):
    """Reflections at e_i + (column i of A below the diagonal), in order; -1 turns the n of them at A = 0 into the identity."""
    one = torch.eye(len(a), dtype=a.dtype)
    q = -one
    for i in range(len(a)):
        v = one[i] + torch.tril(a, -1)[:, i]
        q = q @ (one - 2 * torch.outer(v, v) / (v @ v))
    return q


def mgu(p, d, h, options):
    n = h.shape[-1]
    u, b = p["weight_hh_l0"], p.get("bias_hh_l0", torch.zeros(2 * n, dtype=h.dtype))
    f = torch.sigmoid(d[:, :n] + h @ u[:n].T + b[:n])
    candidate = torch.tanh(d[:, n:] + (f * h) @ u[n:].T + b[n:])
    return (1 - f) * h + f * candidate


def indrnn(p, d, h, options):
    a = d + p["weight_hh_l0"] * h + p.get("bias_hh_l0", 0.0)
    return torch.clamp(a, min=0) if options["activation"] == "relu" else torch.tanh(a)


def linear(p, d, h, options):
    decay = torch.exp(-torch.log(1 + torch.exp(-p["weight_hh_l0"])))  # exp(-softplus(-a))
    return decay * h + d


def orthogonal(p, d, h, options):
    name = "parametrizations.weight_hh_l0."
    to_rotation = {"exponential": exponential, "cayley": cayley, "householder": householder}[options["map"]]
    z = d + h @ (p[name + "0.base"] @ to_rotation(p[name + "original"])).T
    return torch.sign(z) * torch.clamp(z.abs() + p["modrelu_bias_l0"], min=0)


FORMULAS = {"mgu": mgu, "indrnn": indrnn, "linear": linear, "orthogonal": orthogonal}


def by_formula(spec, p, x, hidden):
    us = [x_t @ p["weight_ih_l0"].T + p.get("bias_ih_l0", 0.0) for x_t in x]
    h, out = torch.zeros(x.shape[1], hidden, dtype=x.dtype), []
    for d in drives(spec.rule, spec.coefficients, us):
        h = FORMULAS[spec.base](p, d, h, spec.options)
        out.append(h)
    return torch.stack(out)


def moved(spec, seed, inputs=3, hidden=5, **options):
    """A float64 layer whose every number has moved away from where it started."""
    torch.manual_seed(seed)
    layer = Recurrent(spec, inputs, hidden, init="torch", **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("execution", ["auto", "reference"])
def test_base_equals_its_formula(base, options, rule, bias, execution):
    """1e-10 of each tensor's largest entry, at least of 1."""
    spec = CellSpec(base, rule, COEFFICIENTS[rule], options=options)
    layer = moved(spec, seed=1, bias=bias, execution=execution)
    assert layer.execution.startswith("loop" if execution == "auto" else "reference")
    p = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x)[0], by_formula(spec, p, x, 5)
    leaves = {"x": x, **dict(layer.named_parameters())}
    weights = torch.randn_like(ours)
    assert_near(ours, theirs, "outputs")
    pairs = [torch.autograd.grad((y * weights).sum(), list(leaves.values()), allow_unused=True) for y in (ours, theirs)]
    for name, mine, their in zip(leaves, *pairs, strict=True):
        assert mine is not None and their is not None and their.abs().max() > 0, name
        assert_near(mine, their, name)


def assert_near(ours, theirs, name):
    assert ours.shape == theirs.shape, name
    assert float((ours - theirs).detach().abs().max()) <= 1e-10 * max(1.0, float(theirs.detach().abs().max())), name


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
def test_gradcheck(base, options, rule):
    """Every parameter, learned coefficients too, and the input, by finite differences."""
    learned = [name for name in COEFFICIENTS[rule] if name != "restart"]
    layer = moved(CellSpec(base, rule, COEFFICIENTS[rule], learned, options), seed=2, inputs=2, hidden=3)
    names = [name for name, _ in layer.named_parameters()]
    buffers = dict(layer.named_buffers())

    def outputs(x, *parameters):
        return functional_call(layer, {**dict(zip(names, parameters, strict=True)), **buffers}, (x,))[0]

    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (x, *(p.detach().clone().requires_grad_() for p in layer.parameters())))


@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
def test_training_runs_and_resumes_bit_for_bit(base, options):
    candidate = Candidate(CellSpec(base, "heavy_ball", options=options), hidden_size=8, num_layers=2, lr=1e-2)
    whole = train_lane(TASK, candidate, 5, None, 0, 3)
    first = train_lane(TASK, candidate, 5, None, 0, 1)
    second = train_lane(TASK, candidate, 5, first.checkpoint, 1, 3)
    assert whole.error is None and whole.execution.startswith("loop") and second.checkpoint == whole.checkpoint
    assert whole.rows[-1].train_loss < whole.rows[0].train_loss


def test_shapes_and_biases():
    def found(base, bias=True):
        return {name: tuple(p.shape) for name, p in Recurrent(CellSpec(base), 3, 5, bias=bias).named_parameters()}

    both = {"bias_ih_l0": (10,), "bias_hh_l0": (10,)}
    assert found("mgu") == {"weight_ih_l0": (10, 3), "weight_hh_l0": (10, 5), **both}
    assert found("indrnn") == {"weight_ih_l0": (5, 3), "weight_hh_l0": (5,), "bias_ih_l0": (5,), "bias_hh_l0": (5,)}
    assert found("linear") == {"weight_ih_l0": (5, 3), "weight_hh_l0": (5,), "bias_ih_l0": (5,)}
    for base in ("mgu", "indrnn", "linear"):
        assert found(base, bias=False).keys() == {"weight_ih_l0", "weight_hh_l0"}


def test_paper_inits():
    torch.manual_seed(0)
    cell = Recurrent(CellSpec("mgu"), 3, 5)
    torch.testing.assert_close(cell.weight_hh_l0.detach(), torch.cat([torch.eye(5), torch.zeros(5, 5)]))
    for base in ("mgu", "indrnn", "linear"):
        layer = Recurrent(CellSpec(base), 3, 2000)
        assert all(p.abs().max() == 0 for name, p in layer.named_parameters() if name.startswith("bias"))
        w, u = layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach()
        if base == "linear":
            squares = torch.sigmoid(u) ** 2
            assert_uniform(squares)
            w = w / (1 - squares).sqrt()[:, None]
        elif base == "indrnn":
            assert_uniform(u)
        torch.testing.assert_close(w.T @ w, torch.eye(3), rtol=0, atol=1e-4)


def assert_uniform(values, low=0.0, high=1.0):
    """Kolmogorov-Smirnov: 2.5 / sqrt(n) is passed by less than one fair draw in 100,000."""
    placed = (values.flatten().sort().values - low) / (high - low)
    assert placed[0] >= 0 and placed[-1] <= 1
    assert (placed - torch.linspace(0, 1, len(placed))).abs().max() < 2.5 / math.sqrt(len(placed))


@pytest.mark.parametrize("base", ["mgu", "indrnn", "linear"])
def test_torch_inits(base):
    for parameter in Recurrent(CellSpec(base), 40, 64, init="torch").parameters():
        assert 0.05 < parameter.abs().max() <= 64**-0.5


def angles(q):
    """By how much a rotation turns each of its planes."""
    return torch.linalg.eigvals(q.detach().double()).angle().sort().values


@pytest.mark.parametrize("name", MAPS)
def test_skew_inits_are_expRNNs(name):
    """The cayley and henaff inits are blocks [[0, s], [-s, 0]] of S; Q is expm(S), or (I + S)^-1 (I - S) under expRNN's Cayley map."""
    n = 200
    for init in SKEW_INITS:
        torch.manual_seed(4)
        q = Recurrent(CellSpec("orthogonal", options={"map": name, "skew_init": init}), 2, n).recurrent_matrix().detach()
        found = angles(q)[n // 2 :]
        if init == "random":
            entries = (q - torch.diag(q.diagonal())).abs()
            assert (entries > 1e-4).float().mean() > 0.9  # dense: no unit is alone
            continue
        blocks = torch.stack([q[i : i + 2, i : i + 2] for i in range(0, n, 2)])
        torch.testing.assert_close(torch.block_diag(*blocks), q, rtol=0, atol=1e-6)
        turn = torch.atan2(blocks[:, 0, 1], blocks[:, 0, 0])  # of expm [[0, s], [-s, 0]]: s
        s = torch.tan(-turn / 2) if name == "cayley" else turn
        if init == "henaff":
            assert_uniform(s, -math.pi, math.pi)
        else:  # s = -tan(θ/2)
            assert_uniform(2 * torch.atan(-s), 0, math.pi / 2)
        torch.testing.assert_close(found, turn.double().abs().sort().values, rtol=0, atol=1e-3)


@pytest.mark.parametrize("skew_init", SKEW_INITS)
@pytest.mark.parametrize("name", MAPS)
def test_matrices_stay_orthogonal(name, skew_init):
    """float32, 200 steps at five times the shipped space's largest rate; 1.2e-5 was seen. Weight decay must not matter either."""
    torch.manual_seed(0)
    layer = Recurrent(CellSpec("orthogonal", options={"map": name, "skew_init": skew_init}), 4, 24)
    optimizer = torch.optim.AdamW(parameter_groups(layer, 1e-2, 1e-2), weight_decay=0.1)
    start = layer.recurrent_matrix().detach()
    for _ in range(200):
        optimizer.zero_grad()
        layer(torch.randn(3, 3, 4))[0].square().sum().backward()
        optimizer.step()
        q = layer.recurrent_matrix().detach()
        torch.testing.assert_close(q.T @ q, torch.eye(24), rtol=0, atol=5e-5)
    assert torch.linalg.det(q.double()) > 0.99 and (q - start).abs().max() > 0.1


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("sign", [1, -1])
def test_every_map_takes_every_orthogonal_matrix(name, sign):
    """The map is centred on it, so that even a reflection can be set, and it trains from there."""
    torch.manual_seed(0)
    layer = Recurrent(CellSpec("orthogonal", options={"map": name}), 4, 8, 2)
    q = torch.linalg.qr(torch.randn(8, 8))[0]
    q[:, 0] *= torch.linalg.det(q).sign() * sign
    layer.set_recurrent_matrix_(q, layer=1)
    torch.testing.assert_close(layer.recurrent_matrix(1), q)
    assert not torch.allclose(layer.recurrent_matrix(0), q, atol=0.1)
    twin = Recurrent(layer.spec, 4, 8, 2)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin.recurrent_matrix(1), q)
    torch.optim.SGD(layer.parameters(), 0.1).step(lambda: layer(torch.randn(5, 3, 4))[0].sum().backward())
    now = layer.recurrent_matrix(1).detach()
    assert not torch.allclose(now, q, atol=1e-4)
    assert torch.linalg.det(now.double()) == pytest.approx(sign, abs=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("init", ["paper", "torch"])
def test_tiny_orthogonal_layers(size, init):
    torch.manual_seed(0)
    for name in MAPS:
        for skew_init in SKEW_INITS:
            layer = Recurrent(CellSpec("orthogonal", options={"map": name, "skew_init": skew_init}), 2, size, init=init)
            q = layer.recurrent_matrix()
            torch.testing.assert_close(q.T @ q, torch.eye(size), rtol=0, atol=5e-5)  # 3.6e-5: torch's matrix_exp of small matrices
            assert torch.linalg.det(q) > 0.99 and layer.num_parameters() == 2 * size + size + size * (size - 1) // 2


def test_options_that_came_later_leave_identities_alone():
    """The ids are those of the version that had no options; an explicit default is no other cell."""
    old = {"base": "orthogonal", "rule": "plain", "coefficients": {}, "learned": [], "options": {}}
    spec = preset("exprnn")
    assert spec.to_dict() == old and CellSpec.from_dict(old) == spec and spec.name == "orthogonal"
    assert spec.cell_id.startswith("12a4ead4c61c3e72") and Candidate(spec).candidate_id.startswith("7b7829d1acbd5e42")
    assert CellSpec("orthogonal", options={"map": "exponential", "skew_init": "cayley"}) == spec
    assert CellSpec("rnn").cell_id.startswith("eb41655408fb158f")  # an option of the first version: always in the text
    others = [CellSpec("orthogonal", options={"map": m, "skew_init": s}) for m in MAPS for s in SKEW_INITS]
    assert len({s.cell_id for s in others}) == 9
    assert all(CellSpec.from_json(s.to_json()) == s for s in others)
    assert others[-1].name == "orthogonal[householder, random]"
    with pytest.raises(UnknownNameError, match='did you mean "householder"'):
        CellSpec("orthogonal", options={"map": "housholder"})
