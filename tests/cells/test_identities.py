"""The identities of the cell algebra, each by random cells and data against formulas and kernels that share nothing with it.

Tolerances are of the largest entry, at least of 1: 1e-12 for the same sums, 1e-10 where sums run in another order.
"""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search.cells import CellSpec
from mrnn_search.cells.formula import Program
from mrnn_search.cells.formula.run import run_step
from mrnn_search.cells.rules.base import Coefficient, Rule, rules
from mrnn_search.engine.recurrent import Recurrent, State
from mrnn_search.engine.sequence import run_sequence

from .by_hand import BASES, LEARNABLE, VALUES, Unrolled, assert_near, assert_same, by_hand, moved, plain
from .strategies import COEFFICIENTS, LINEAR, formulas

often = settings(max_examples=200, deadline=None)
sometimes = settings(max_examples=40, deadline=None)  # of each of several cases
SEED = st.integers(0, 2**31)
PLACES = [("drive", None, "inside"), ("drive", None, "outside"), ("preactivation", None, "inside"), ("hidden", None, "inside")]
VENDOR = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def data(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_of(spec, seed, execution="auto", **options):
    return moved(Recurrent(spec, 3, 4, init="torch", execution=execution, **options), seed, by=0.2)


# ------------------------------------------------------------------------------------- 1: special cases

mu, epsilon, beta = COEFFICIENTS["mu"], COEFFICIENTS["epsilon"], st.floats(0.0, 0.95)
delta = st.sampled_from([1e-16, 1e-8, 1e-3])
# Each draws two (rule, coefficients) that are one function.
SPECIAL_CASES = {
    "heavy ball without momentum": lambda d: (("heavy_ball", {"mu": 0.0, "epsilon": 1.0}), ("plain", {})),
    "mean without memory": lambda d: (("ema", {"mu": 0.0}), ("plain", {})),
    "rmsprop is adam": lambda d: (
        ("adam", {"mu": 0.0, **(c := {"epsilon": d(epsilon), "beta": d(beta), "delta": d(delta)})}),
        ("rmsprop", c),
    ),
    "rmsprop without momentum": lambda d: (
        ("rmsprop_momentum", {"mu": 0.0, **(c := {"epsilon": d(epsilon), "beta": d(beta), "delta": d(delta)})}),
        ("rmsprop", c),
    ),
    "restart at every step": lambda d: (("nesterov", {"restart": 1, "epsilon": 1.0}), ("plain", {})),
    "restart at every step, up to epsilon": lambda d: (
        ("nesterov", {"restart": 1, "epsilon": (e := d(epsilon))}),
        ("heavy_ball", {"mu": 0.0, "epsilon": e}),
    ),
    "a mean is heavy ball at gain 1": lambda d: (("ema", {"mu": (m := d(mu))}), ("heavy_ball", {"mu": m, "epsilon": 1 - m})),
    "qhm of the mean alone": lambda d: (
        ("qhm", {"mu": (m := d(mu)), "nu": 1.0, "epsilon": (e := d(epsilon))}),
        ("heavy_ball", {"mu": m, "epsilon": e * (1 - m)}),
    ),
    "qhm of the drive alone": lambda d: (
        ("qhm", {"mu": d(mu), "nu": 0.0, "epsilon": (e := d(epsilon))}),
        ("heavy_ball", {"mu": 0.0, "epsilon": e}),
    ),
    "look-ahead without momentum": lambda d: (
        ("nesterov_lookahead", {"mu": 0.0, "epsilon": (e := d(epsilon))}),
        ("heavy_ball", {"mu": 0.0, "epsilon": e}),
    ),
    "look-ahead is qhm": lambda d: (  # Ma and Yarats: ν = μ, α = ε / (1 - μ)
        ("nesterov_lookahead", {"mu": (m := d(mu)), "epsilon": (e := d(epsilon))}),
        ("qhm", {"mu": m, "nu": m, "epsilon": e / (1 - m)}),
    ),
}


@pytest.mark.parametrize("case", SPECIAL_CASES)
@sometimes
@given(draw=st.data(), base=st.sampled_from(sorted(BASES)), place=st.sampled_from(PLACES), bias=st.booleans(), seed=SEED)
def test_special_cases_are_one_function_and_one_identity(case, draw, base, place, bias, seed):
    scope, gates, drive_bias = place
    specs = [CellSpec(base, rule, c, scope=scope, gates=gates, drive_bias=drive_bias) for rule, c in SPECIAL_CASES[case](draw.draw)]
    a, b = (layer_of(spec, seed, bias=bias) for spec in specs)
    x = data(seed, 6, 2, 3)
    assert_near(a(x)[0], b(x)[0], case, 1e-12)
    assert specs[0].cell_id == specs[1].cell_id
    assert specs[0].canonical().cell_id == specs[0].cell_id


@often
@given(
    base=st.sampled_from(sorted(VENDOR)),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 3), st.integers(1, 6), st.integers(1, 9)),
    rule=st.sampled_from(["plain", "heavy_ball", "nesterov"]),
    place=st.sampled_from(PLACES),
    execution=st.sampled_from(["auto", "loop", "reference"]),
    seed=SEED,
)
def test_plain_by_any_name_is_torchs_own_layer(base, shape, rule, place, execution, seed):
    """1e-6 in float32, with copied weights; the scope "hidden" has ``h + (f - h)``, which rounds once more."""
    t, b, i, h = shape
    torch.manual_seed(seed)
    values = {"plain": {}, "heavy_ball": {"mu": 0.0, "epsilon": 1.0}, "nesterov": {"restart": 1, "epsilon": 1.0}}[rule]
    theirs = VENDOR[base](i, h)
    ours = Recurrent(CellSpec(base, rule, values, scope=place[0], drive_bias=place[2]), i, h, execution=execution)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(t, b, i)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-6, atol=2e-6 if place[0] == "hidden" else 1e-6)


# ------------------------------------------------------------------------------------- 2: a scalar μ commutes with W


def filtered(x, c, t0=0):
    """z_1 … z_T of ``z_t = μ z_{t-1} + ε x_t``; z_0 = 0."""
    z, out = torch.zeros_like(x[0]), []
    for x_t in x:
        z = c["mu"] * z + c["epsilon"] * x_t
        out.append(z)
    return torch.stack(out)


@often
@given(
    base=st.sampled_from([*VENDOR, "orthogonal_lstm"]),
    rule=st.sampled_from(LINEAR),
    learned=st.booleans(),
    drive_bias=st.sampled_from(["inside", "outside"]),
    seed=SEED,
    t=st.sampled_from([1, 2, 5, 9, 34]),
)
def test_vendor_path_is_the_loop(base, rule, learned, drive_bias, seed, t):
    """Outputs, states (the rule's too) and every gradient of a linear rule with scalar coefficients."""
    spec = CellSpec(base, rule, VALUES[rule], LEARNABLE[rule] if learned else (), drive_bias=drive_bias)
    layer, loop = layer_of(spec, seed, "vendor"), layer_of(spec, seed, "loop")
    x = data(seed, t, 2, 3)
    assert layer.execution.startswith("vendor") and loop.execution.startswith("loop")
    assert_same(layer, x, lambda x: by_hand(layer, x))
    assert_same(loop, x, lambda x: by_hand(loop, x))
    (y, state), (y2, state2) = layer(x), loop(x)
    assert_near(y, y2, "outputs")
    for ours, theirs in zip([*state, *getattr(state, "rule", ())], [*state2, *getattr(state2, "rule", ())], strict=True):
        assert_near(ours, theirs, "state")


@often
@given(base=st.sampled_from(sorted(VENDOR)), m=mu, e=epsilon, seed=SEED, t=st.integers(1, 40))
def test_momentum_is_torchs_layer_on_filtered_input(base, m, e, seed, t):
    """The drive's bias becomes the column of a filtered constant channel."""
    spec = CellSpec(base, "heavy_ball", {"mu": m, "epsilon": e})
    layer = layer_of(spec, seed)
    theirs = VENDOR[base](4, 4).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.cat([layer.weight_ih_l0, layer.bias_ih_l0[:, None]], 1))
        theirs.bias_ih_l0.zero_()
        theirs.weight_hh_l0.copy_(layer.weight_hh_l0)
        theirs.bias_hh_l0.copy_(layer.bias_hh_l0)
    x = data(seed, t, 2, 3)
    z = filtered(torch.cat([x, torch.ones(t, 2, 1, dtype=x.dtype)], -1), spec.coefficients)
    for execution in ("vendor", "loop", "reference"):
        layer._execution = execution
        assert_near(layer(x)[0], theirs(z)[0], execution)


@often
@given(base=st.sampled_from(sorted(VENDOR)), m=mu, e=epsilon, seed=SEED, t=st.integers(1, 20), cut=st.integers(1, 19))
def test_a_given_velocity_adds_its_decaying_self_to_the_drive(base, m, e, seed, t, cut):
    """The drive gains ``μ^t v_0``; and a pass in two chunks is the pass as a whole."""
    spec = CellSpec(base, "heavy_ball", {"mu": m, "epsilon": e})
    layer = layer_of(spec, seed)
    x, v0 = data(seed, t, 2, 3), data(seed + 1, 2, layer.weight_ih_l0.shape[0])
    p = dict(layer.named_parameters())
    u = filtered(x @ p["weight_ih_l0"].T + p["bias_ih_l0"], spec.coefficients)
    d = u + m ** torch.arange(1, t + 1, dtype=torch.float64)[:, None, None] * v0
    zero = torch.zeros(2, 4, dtype=torch.float64)
    state = (zero, zero) if base == "lstm" else (zero,)
    expected = []
    for d_t in d:
        state = BASES[base](p, d_t, state, spec.options, lambda first, d, r: d + r)
        expected.append(state[0])
    start = State([torch.zeros(1, 2, 4, dtype=torch.float64)] * len(state), [v0[None]], 0)
    for one in (layer, layer.reference()):
        assert_near(one(x, start)[0], torch.stack(expected), "outputs")
        first, kept = one(x[: min(cut, t)], start)
        if cut < t:
            assert_near(torch.cat([first, one(x[cut:], kept)[0]]), torch.stack(expected), "chunks")


# ------------------------------------------------------------------------------------- 3: drive rules are a scan

DRIVE_RULES = sorted(name for name in rules if not rules[name].program.coupled)


@often
@given(
    name=st.one_of(st.sampled_from(DRIVE_RULES), formulas()),
    how=st.data(),
    steps=st.sampled_from([1, 2, 5, 31, 32, 33, 70]),
    start=st.sampled_from(["zero", "given"]),
    offset=st.sampled_from(["0", "7", "each"]),
    seed=SEED,
)
def test_all_steps_at_once_are_the_steps_one_by_one(name, how, steps, start, offset, seed):
    """The result, every state after every step, and the gradients with respect to drive, initial states and coefficients."""
    rule = CellSpec("rnn", name).rule_type
    program, g = rule.program, torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(shape, dtype=torch.float64, generator=g)  # noqa: E731
    c, leaves = {"restart": 3, "delta": 1e-3}, []
    for key in rule.coefficients:
        if key not in c:
            shape = how.draw(st.sampled_from([None, (), (4,), (steps, 2, 1)]), label=key)
            c[key] = float(random()) * 0.9 + 0.05 if shape is None else (random(*shape) * 0.9 + 0.05).requires_grad_()
            leaves += [] if shape is None else [c[key]]
    u = data(seed, steps, 2, 4).requires_grad_()
    leaves.append(u)
    held = [torch.zeros(2, 4, dtype=torch.float64) for _ in program.states]
    if start == "given":  # a mean of squares is not negative
        held = [(random(2, 4) - (0 if n.args[0].op == "pow" or n.op == "peak" else 0.5)).requires_grad_() for n in program.states]
        leaves += held
    t = {"0": 0, "7": 7, "each": torch.tensor([3, 11])}[offset]
    d, states = run_sequence(program, c, u, held if start == "given" else [None] * len(held), t)
    one_by_one, now, seen = [], tuple(held), [[] for _ in held]
    for k in range(steps):
        now_c = {key: v[k] if isinstance(v, torch.Tensor) and v.dim() == 3 else v for key, v in c.items()}
        d_t, now = run_step(program, now_c, u[k], now, (t + k + 1)[:, None] if offset == "each" else t + k + 1)
        one_by_one.append(d_t)
        for i, state in enumerate(now):
            seen[i].append(state)
    pairs = [("result", d, torch.stack(one_by_one))]
    pairs += [(letter, kept, torch.stack(by_step)) for letter, kept, by_step in zip(program.letters, states, seen, strict=True)]
    for what, ours, theirs in pairs:
        assert_near(ours, theirs, what, 1e-9)
    weights = [data(seed + 1 + i, *theirs.shape) for i, (_, _, theirs) in enumerate(pairs)]
    slopes = [
        torch.autograd.grad(sum((pair[side] * w).sum() for pair, w in zip(pairs, weights, strict=True)), leaves, materialize_grads=True)
        for side in (1, 2)
    ]
    for ours, theirs in zip(*slopes, strict=True):
        assert_near(ours, theirs, "gradient", 1e-8)


# ------------------------------------------------------------------------------------- 4: one function, one identity

SCALED = [  # formulas of one function
    ("u", "d = u", "2 * u / 2", "u + 0", "u + u - u", "--u", "u^1", "prev(u) + (u - prev(u))", "ema(u, 0)", "momentum(u, 0)",
     "momentum(u, 0.5) - 0.5 * prev(momentum(u, 0.5))"),
    ("ema(u, 0.9)", "m(0.9)", "momentum(u, 0.9, 0.1)", "0.1 * momentum(u, 0.9)", "momentum(0.1 * u, 0.9)", "momentum(u, 0.9) / 10",
     "u - (u - ema(u, 0.9))"),
    ("n(0.9)", "ema(u^2, 0.9)", "ema(u * u, 0.9)", "ema(abs(u)^2, 0.9)", "ema(4 * u^2, 0.9) / 4", "ema((2 * u)^2, 0.9) * 0.25"),
    ("ema(ema(u, 0.9), 0.5)", "ema(ema(u, 0.5), 0.9)", "ema(momentum(u, 0.5), 0.9) / 2"),
    ("prev(ema(u, 0.9))", "ema(prev(u), 0.9)", "(ema(u, 0.9) - 0.1 * u) / 0.9"),
    ("u * sqrt(4)", "2 * u", "u + u", "u / 0.5", "u * exp(0) * 2", "2 * max(u, 0) + 2 * min(u, 0)", "2 * (relu(u) - relu(-u))"),
    ("tanh(u)", "-tanh(-u)", "2 * sigmoid(2 * u) - 1", "1 - 2 * sigmoid(-2 * u)"),
    ("abs(u)", "max(u, -u)", "sqrt(u^2)", "abs(-u)", "relu(u) + relu(-u)", "2 * relu(u) - u"),
    ("u * (u + 1)", "u^2 + u", "(u + 0.5)^2 - 0.25"),
    ("momentum(u, cycle(1) * 0.5)", "momentum(u, 0.5)"),
    ("peak(2 * u^2)", "2 * peak(u^2)", "peak(peak(2 * u^2))"),
    ("u / sqrt(4 * n(0.5))", "u / (2 * sqrt(n(0.5)))", "0.5 * u / sqrt(ema(u^2, 0.5))"),
]  # fmt: skip
DIFFERENT = [  # and formulas of different ones, however near
    "u", "2 * u", "-u", "abs(u)", "relu(u)", "tanh(u)", "sigmoid(u)", "u^2", "u^3", "sign(u)", "prev(u)", "prev(prev(u))", "u + 1",
    "u * prev(u)", "ema(u, 0.9)", "ema(u, 0.9000001)", "momentum(u, 0.9)", "momentum(u, 0.9, 0.2)", "prev(ema(u, 0.9))",
    "ema(ema(u, 0.9), 0.9)", "ema(ema(u, 0.9), 0.5)", "ema(u, 0.9) * ema(u, 0.5)", "ema(u^2, 0.9)", "ema(u, 0.9)^2",
    "ema(abs(u), 0.9)", "abs(ema(u, 0.9))", "ema(tanh(u), 0.9)", "tanh(ema(u, 0.9))", "peak(u)", "peak(-u)", "peak(abs(u))",
    "-peak(u)", "momentum(u, 1)", "momentum(u, cycle(2) / 4)", "momentum(u, cycle(3) / 4)", "cycle(2) * u", "t * u", "u / t",
    "momentum(u, 0.5^t)", "u^2 / sqrt(n(0.5) + 1e-16)", "u / sqrt(n(0.5) + 1e-16)", "u / sqrt(n(0.5) + 1e-8)",
    "u / (sqrt(n(0.5)) + 1e-8)", "u / sqrt(peak(n(0.5)) + 1e-8)", "min(u, prev(u))", "max(u, prev(u))", "exp(u)", "exp(-u)",
    "log(abs(u) + 1)", "sqrt(abs(u))", "momentum(u * t, 0.5)", "t * momentum(u, 0.5)",
]  # fmt: skip


@pytest.mark.parametrize("same", SCALED, ids=lambda same: same[0])
def test_equal_formulas_have_one_identity(same):
    specs = [CellSpec("lstm", text) for text in same]
    assert len({spec.cell_id for spec in specs}) == 1, {text: spec.cell_id[:8] for text, spec in zip(same, specs, strict=True)}
    x = data(0, 12, 2, 3)
    expected = layer_of(specs[0], 0)(x)[0]
    for text, spec in zip(same, specs, strict=True):
        assert_near(layer_of(spec, 0)(x)[0], expected, text, 1e-9)


def test_different_formulas_have_different_identities():
    ids = {}
    for text in DIFFERENT:
        other = ids.setdefault(CellSpec("lstm", text).cell_id, text)
        assert other == text
        with_bias = CellSpec("lstm", text, drive_bias="outside").cell_id
        assert (with_bias in ids) == (text == "u") and with_bias not in (ids.keys() - {CellSpec("lstm", text).cell_id})
    assert len(ids) == len(DIFFERENT)


def variants():
    """Cells that all differ."""
    yield from (CellSpec(base) for base in sorted(BASES))
    yield CellSpec("rnn", options={"activation": "relu"})
    yield CellSpec("lstm", options={"forget_bias": 0})
    for name in sorted(rules):
        scopes = ("preactivation",) if rules[name].program.coupled else ("drive", "preactivation", "hidden")
        if name == "plain":
            continue
        for scope in scopes:
            yield CellSpec("lstm", name, VALUES[name], scope=scope)
            if scope != "hidden":
                yield CellSpec("lstm", name, VALUES[name], scope=scope, drive_bias="outside")
                yield from (CellSpec("lstm", name, VALUES[name], scope=scope, gates=gates) for gates in ("i", "f", "g", "o", "ig", "ifg"))
        for key in LEARNABLE[name]:
            yield from (CellSpec("lstm", name, VALUES[name], {key: kind}) for kind in ("scalar", "unit", "input"))
        for key, value in VALUES[name].items():
            if name != "ema":  # ema(mu) is heavy_ball(mu, 1 - mu), told apart from it by nothing
                yield CellSpec("lstm", name, {**VALUES[name], key: value + 1 if key == "restart" else value * 0.875})


def test_variants_of_rules_have_different_identities():
    specs = list(variants())
    by_id = {}
    for spec in specs:
        assert by_id.setdefault(spec.cell_id, spec) is spec, f"{spec} and {by_id[spec.cell_id]}"
    assert len(by_id) == len(specs) > 400


def test_what_makes_no_difference_makes_no_identity():
    """All gates by name, a plain rule anywhere, a bias that is not there, a learned coefficient that drops out."""
    same = [
        [CellSpec("lstm", "adam"), CellSpec("lstm", "adam", gates="ifgo"), CellSpec("lstm", "adam", gates="ogif", scope="drive")],
        [
            CellSpec("gru", s, scope=k, gates=g)
            for s in ("plain", "u", "2 * u / 2")
            for k in ("drive", "preactivation")
            for g in (None, "rn")
        ],
        [
            CellSpec("gru"),
            CellSpec("gru", drive_bias="outside"),
            CellSpec("gru", scope="hidden"),
            CellSpec("gru", "u + r"),
            CellSpec("gru", "r + u"),
        ],
        [CellSpec("orthogonal", "adam"), CellSpec("orthogonal", "adam", drive_bias="outside")],
        [CellSpec("gru", "u + 0 * ema(u, mu)"), CellSpec("gru", "u + 0 * ema(u, mu)", learned="mu"), CellSpec("gru")],
        [
            CellSpec("gru", "epsilon * u", {"epsilon": 0.5}),
            CellSpec("gru", "u / 2"),
            CellSpec("gru", "heavy_ball", {"mu": 0, "epsilon": 0.5}),
        ],
        [CellSpec("gru", "heavy_ball", learned="mu"), CellSpec("gru", "momentum(u, mu, epsilon)", learned=["mu"])],
    ]
    for specs in same:
        assert len({spec.cell_id for spec in specs}) == 1, [str(spec) for spec in specs]


def test_the_reference_knows_plain():
    """`Unrolled` runs a rule that is given to it: what the tests above compare with is not what the spec names."""
    layer = layer_of(CellSpec("gru", "heavy_ball", {"mu": 0.5, "epsilon": 0.5}), 3)
    x = data(1, 5, 2, 3)
    p = dict(layer.named_parameters())
    assert not torch.allclose(Unrolled(layer.spec, p, 4, plain).run(x), layer(x)[0])


def test_formulas_know_their_kind():
    assert all(Program.of(rules[name].formula, rules[name].coefficients).linear == (name in LINEAR) for name in rules)


NUMBERS = itertools.count()


@pytest.fixture
def own_rules(monkeypatch):
    """Registers rules of a coefficient g with its own range; they are gone after the test."""

    def register(formula, low, high):
        name = f"own_{next(NUMBERS)}"  # identities are remembered by name
        range_ = Coefficient(0.5, low, high)
        made = type(name, (Rule,), {"coefficients": {"g": range_}, "formula": formula})
        monkeypatch.setitem(rules._members, name, made)
        return lambda kind: CellSpec("rnn", name, {}, {"g": kind})

    return register


@pytest.mark.parametrize("kind", ["scalar", "unit", "input"])
def test_a_learned_coefficient_that_may_be_negative_does_not_leave_abs(own_rules, kind):
    a, b, c = (own_rules(formula, -1.0, 1.0) for formula in ("abs(g * u)", "g * abs(u)", "abs(u) * g"))
    assert a(kind).cell_id != b(kind).cell_id == c(kind).cell_id
    a, b = (own_rules(formula, 0.0, 1.0) for formula in ("abs(g * u)", "g * abs(u)"))
    assert a(kind).cell_id == b(kind).cell_id
    assert len({spec.canonical().cell_id for spec in (a(kind), b(kind))}) == 1


def test_the_range_of_a_learned_coefficient_counts(own_rules):
    """The same number that trains is another coefficient in another range."""
    a, b, c = (own_rules("g * u", 0.0, high) for high in (1.0, 2.0, 2.0))
    assert a("scalar").cell_id != b("scalar").cell_id == c("scalar").cell_id
    assert CellSpec("rnn", a("unit").rule).cell_id == CellSpec("rnn", b("unit").rule).cell_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("u + u * 0^(t - 1)", "u"),  # 0^0 is 1
        ("u * 0^(cycle(2) - 1)", "0 * u"),
        ("u * prev(u) / prev(u)", "u"),  # 0 / 0 at the first step
        ("sign(prev(u) / prev(u))", "u / u"),
        ("u * peak(u) / peak(u)", "u"),  # 0 / 0 until a u is above 0
        ("relu(u)^6 / relu(u)", "relu(u)^5"),  # 0 / 0 for half of all u
        ("u * tanh(relu(u)) / tanh(relu(u))", "u"),
        ("u * (u - ema(u, 0.5) * 2)^6 / (u - ema(u, 0.5) * 2)", "u * (u - ema(u, 0.5) * 2)^5"),
        ("abs(momentum(u^2, mu * (mu - 0.5) / beta))", "momentum(u^2, mu * (mu - 0.5) / beta)"),  # mu may fall below 0.5
        ("sqrt(momentum(u^2, mu * (mu - 0.5) / beta)^2)", "momentum(u^2, mu * (mu - 0.5) / beta)"),
    ],
)
def test_more_that_looks_equal_and_is_not(one, other):
    learned = ["mu"] if "mu" in one else []
    assert CellSpec("rnn", one, learned=learned).cell_id != CellSpec("rnn", other, learned=learned).cell_id


@pytest.mark.parametrize("part", ["u", "abs(u)", "exp(u)", "ema(u, 0.5)", "sqrt(n(0.5) + 1e-16)", "t", "peak(n(0.5))"])
def test_what_is_hardly_ever_zero_cancels(part):
    assert CellSpec("rnn", f"u * {part} / {part}").cell_id == CellSpec("rnn").cell_id


def test_zero_to_the_t_is_zero():
    assert CellSpec("rnn", "u + u * 0^t").cell_id == CellSpec("rnn").cell_id == CellSpec("rnn", "u + mu^(2 * t) * u", {"mu": 0.0}).cell_id


def test_a_coefficient_below_zero_keeps_its_sign(monkeypatch):
    """A user's rule may have such a range; |w u| is not w |u| then, whatever w is trained to."""
    ids = []
    for name, formula in (("tilted", "abs(w * u)"), ("tilting", "w * abs(u)")):
        made = type(name, (Rule,), {"coefficients": {"w": Coefficient(-0.5, -1.0, 1.0)}, "formula": formula, "__doc__": "A test's."})
        monkeypatch.setitem(rules._members, name, made)
        ids.append(CellSpec("rnn", name, learned="w").cell_id)
    assert ids[0] != ids[1]
