"""Every base: outputs and every gradient against the formulas of `by_hand`, in all scopes, for all choices of gates; initial values."""

import hashlib
import itertools
import math

import pytest
import torch

from mrnn_search._registry import UnknownNameError
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.cells.bases.base import bases
from mrnn_search.engine.recurrent import Recurrent, parameter_groups
from mrnn_search.engine.train import train_lane

from ..engine.test_train import TASK
from .by_hand import BASES, GATES, LEARNABLE, VALUES, assert_same, by_hand, moved
from .strategies import OPTIONS

MAPS, SKEW_INITS = OPTIONS["orthogonal"]["map"], OPTIONS["orthogonal"]["skew_init"]
ACTIVATIONS = ({"activation": "relu"}, {"activation": "tanh"})
SPECS = [
    *[(base, {"map": m}) for base in ("orthogonal", "orthogonal_lstm") for m in MAPS],
    *[(base, options) for base in ("rnn", "indrnn") for options in ACTIVATIONS],
    *[(base, {}) for base in ("lstm", "gru", "mgu", "linear")],
]
RULES = ("plain", "heavy_ball", "rmsprop", "adam", "nesterov", "nesterov_released")
IDS = [f"{base}-{'-'.join(options.values())}".strip("-") for base, options in SPECS]
VENDOR = ("rnn", "lstm", "gru", "orthogonal_lstm")
FUSED = (*VENDOR, "orthogonal")
LINEAR = ("plain", "heavy_ball", "ema", "nesterov", "nesterov_lookahead", "qhm")
DATA = torch.randn(9, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def layer_of(spec, seed=1, inputs=3, hidden=5, **options):
    return moved(Recurrent(spec, inputs, hidden, init="torch", **options), seed)


def test_every_base_is_here():
    assert sorted(BASES) == sorted(bases) and {base for base, _ in SPECS} == set(bases)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("execution", ["auto", "reference"])
def test_base_equals_its_formula(base, options, rule, bias, execution):
    """1e-10 of each tensor's largest entry, at least of 1."""
    layer = layer_of(CellSpec(base, rule, VALUES[rule], options=options), bias=bias, execution=execution)
    fast = "vendor" if base in VENDOR and rule in LINEAR else "loop"
    assert layer.execution.startswith(fast if execution == "auto" else "reference")
    assert_same(layer, DATA, lambda x: by_hand(layer, x))


def subsets(base):
    names = GATES.get(base, "h")
    return [list(s) for n in range(1, len(names) + 1) for s in itertools.combinations(names, n)]


@pytest.mark.parametrize("execution", ["loop", "reference"])
@pytest.mark.parametrize("drive_bias", ["inside", "outside"])
@pytest.mark.parametrize("rule", ["heavy_ball", "adam", "nesterov", "nesterov_released"])
@pytest.mark.parametrize("scope", ["drive", "preactivation"])
@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
def test_gates_and_biases(base, options, scope, rule, drive_bias, execution):
    """Every choice of gates. 1e-10 as above."""
    if scope == "drive" and rule == "nesterov_released":
        scope = None  # its own
    for gates in subsets(base) if options.get("map") in (None, "cayley") else [None]:
        layer = layer_of(CellSpec(base, rule, VALUES[rule], options=options, scope=scope, gates=gates, drive_bias=drive_bias))
        assert layer.spec.scope == scope or scope is None
        layer._execution = execution
        assert_same(layer, DATA[:6], lambda x, layer=layer: by_hand(layer, x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("execution", ["loop", "reference"])
@pytest.mark.parametrize("rule", ["heavy_ball", "nesterov", "adam", "lion"])
@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
def test_velocity_on_the_hidden_state(base, options, rule, execution, bias):
    layer = layer_of(CellSpec(base, rule, VALUES[rule], options=options, scope="hidden"), bias=bias, execution=execution)
    assert_same(layer, DATA, lambda x: by_hand(layer, x))


@pytest.mark.parametrize("scope", ["drive", "preactivation"])
@pytest.mark.parametrize("kind", ["scalar", "unit", "input"])
@pytest.mark.parametrize("gates", [["g"], ["i", "o"], ["f", "g", "o"]])
@pytest.mark.parametrize("rule", ["heavy_ball", "adam", "qhm"])
def test_learned_coefficients_of_some_gates(rule, gates, kind, scope):
    """A number for each channel of these gates, in the base's order, whatever the order in which they are named."""
    learned = dict.fromkeys(LEARNABLE[rule], kind)
    layer = layer_of(CellSpec("lstm", rule, VALUES[rule], learned, gates=gates[::-1], scope=scope))
    assert layer.get_parameter("rule_mu_l0").numel() == (5 * len(gates) if kind == "unit" else 1)
    for execution in ("loop", "reference"):
        layer._execution = execution
        assert_same(layer, DATA, lambda x: by_hand(layer, x))


@pytest.mark.parametrize(("base", "options"), SPECS, ids=IDS)
def test_training_runs_and_resumes_bit_for_bit(base, options):
    candidate = Candidate(CellSpec(base, "heavy_ball", options=options), hidden_size=8, num_layers=2, lr=1e-2)
    whole = train_lane(TASK, candidate, 5, None, 0, 3)
    first = train_lane(TASK, candidate, 5, None, 0, 1)
    second = train_lane(TASK, candidate, 5, first.checkpoint, 1, 3)
    assert (
        whole.error is None and whole.execution.startswith("fused" if base in FUSED else "loop") and second.checkpoint == whole.checkpoint
    )
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
    """The ids are those of a cell without options; an explicit default is no other cell. Ids are hashes of these very texts."""
    old = {"base": "orthogonal", "rule": "plain", "coefficients": {}, "learned": [], "options": {}}
    spec = preset("exprnn")
    assert spec.to_dict() == old and CellSpec.from_dict(old) == spec and spec.name == "orthogonal"
    assert spec.cell_id == hashlib.sha256(b'{"base":"orthogonal","options":{}}').hexdigest()
    assert Candidate(spec).candidate_id.startswith("19b24f9528db814c")
    assert CellSpec("orthogonal", options={"map": "exponential", "skew_init": "cayley"}) == spec
    # an option of the first version: always in the text
    assert CellSpec("rnn").cell_id == hashlib.sha256(b'{"base":"rnn","options":{"activation":"tanh"}}').hexdigest()
    others = [CellSpec("orthogonal", options={"map": m, "skew_init": s}) for m in MAPS for s in SKEW_INITS]
    assert len({s.cell_id for s in others}) == 9
    assert all(CellSpec.from_json(s.to_json()) == s for s in others)
    assert others[-1].name == "orthogonal[householder, random]"
    with pytest.raises(UnknownNameError, match='did you mean "householder"'):
        CellSpec("orthogonal", options={"map": "housholder"})
