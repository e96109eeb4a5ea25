"""The normal form: what is equal by the algebra has one, what is not equal has not, and none costs much."""

import collections
import random
import time

import pytest

from mrnn_search._registry import SpecError
from mrnn_search.cells.formula.node import U, make, num
from mrnn_search.cells.formula.normal import normal_form, to_node
from mrnn_search.cells.formula.sample import Grammar
from mrnn_search.cells.formula.text import parse, show

from .trees import MUTATIONS, REWRITES, Trees, gap, probes, rewritten, values

C = {"mu": 0.37, "beta": 0.81, "epsilon": 1.3, "delta": 0.02, "restart": 3}


def form(text):
    return normal_form(parse(text, C).root)


def formula(g):
    return Grammar(g.choice((5, 8, 12, 15, 20)), g.randrange(2**32)).draw()


def largest_gap(a, b, seed):
    return max((x for us in probes(seed) if (x := gap(a, b, us, C)) is not None), default=None)


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda f: f.__name__)
def test_a_rewrite_changes_nothing(rewrite):
    """100 formulas that it fits. That it is one is checked with numbers: 1e-6 of the largest, as roots are ill-conditioned near 0."""
    g, done = random.Random(rewrite.__name__), 0
    while done < 100:
        node = formula(g)
        other = rewritten(node, rewrite, g)
        if other is None:
            continue
        done += 1
        found = largest_gap(node, other, done)
        assert found is None or found < 1e-6, f"{show(node)} -> {show(other)}: no rewrite, {found}"
        assert normal_form(node) == normal_form(other), f"{show(node)} -> {show(other)}"


def test_chains_of_rewrites_change_nothing():
    g, seen = random.Random(1), collections.Counter()
    for i in range(2000):
        node = other = formula(g)
        names = []
        for _ in range(g.randint(2, 6)):
            rewrite = g.choice(REWRITES)
            found = rewritten(other, rewrite, g)
            if found is not None:
                other = found
                names.append(rewrite.__name__)
        seen.update(names)
        assert normal_form(node) == normal_form(other), f"{show(node)} -> {show(other)} by {names}"
        assert i % 10 or (largest_gap(node, other, i) or 0) < 1e-6
    assert len(seen) == len(REWRITES)


def test_mutations_change_it():
    """Formulas that differ in numbers have different normal forms; 1e-9 is far above rounding, and far below any mutation."""
    g, changed = random.Random(2), collections.Counter()
    for i in range(3000):
        mutation = g.choice(MUTATIONS)
        node = formula(g)
        other = rewritten(node, mutation, g)
        if other is None or (found := largest_gap(node, other, i)) is None:
            continue
        if found > 1e-9:
            changed[mutation.__name__] += 1
            assert normal_form(node) != normal_form(other), f"{show(node)} ~ {show(other)}: {found}"
    assert len(changed) == len(MUTATIONS) and min(changed.values()) > 100


def test_equal_forms_are_equal_functions():
    """Of random small formulas whichever two have one normal form are equal in numbers."""
    g, groups = random.Random(3), collections.defaultdict(set)
    for _ in range(6000):
        node = Grammar(g.choice((4, 5, 6, 7)), g.randrange(2**32)).draw()
        groups[normal_form(node)].add(node)
    pairs = 0
    for nodes in groups.values():
        first, *others = sorted(nodes, key=show)
        for other in others:
            pairs += 1
            assert (largest_gap(first, other, pairs) or 0) < 1e-9, f"{show(first)} ~ {show(other)}"
    assert pairs > 300 and len(groups) > 1000


def test_the_tree_of_a_form_is_the_same_function_and_has_that_form():
    g = random.Random(4)
    for i in range(1500):
        node = formula(g)
        back = to_node(normal_form(node))
        assert normal_form(back) == normal_form(node), f"{show(node)} -> {show(back)}"
        if any(n.op == "sqrt" and any(m.op in ("sub", "neg") for m in n.walk()) for n in back.walk()):
            continue  # squares that were multiplied out cancel but for rounding, and the root makes much of what is left
        found = largest_gap(node, back, i)
        assert found is None or found < 1e-6, f"{show(node)} -> {show(back)}: {found}"


@pytest.mark.parametrize("seed", range(8))
def test_wild_formulas_have_a_form_or_are_refused(seed):
    """All operators, coefficients and schedules: a form or a `SpecError`, within a second each."""
    trees, formed = Trees(seed), 0
    for depth in [2, 3, 4, 5, 6] * 40:
        node = trees.signal(depth)
        start = time.perf_counter()
        try:
            found = normal_form(node)
        except SpecError:
            continue
        finally:
            assert time.perf_counter() - start < 5  # seconds, where hours were seen; not a measurement
        formed += 1
        assert found == normal_form(node) and hash(found) is not None
    assert formed > 150


@pytest.mark.parametrize(
    "step",
    [
        "relu({x} - {i})",
        "max({x}, tanh({i} * u))",
        "min({x}, u) * max(u, {i})",
        "abs({x} - {i})",
        "sigmoid({x})",
        "(1 + {x})^2",
        "(u + r + {x})^4",
        "tanh((u + r + {x})^3)",
        "1 / (1 + {x})",
        "sqrt(1 + ({x})^2)",
        "({x} + tanh(u)) * (u + r + {i} + exp(u))",
        "ema(({x}) * (u + 1), 0.{i}1)",
        "ema((u + {x})^2, 0.{i}1)",
        "momentum({x}, mu^{i})",
        "momentum({x}, beta / (1 + {i}))",
        "prev(momentum({x}, mu^{i}))",
        "momentum({x} + u, 1 / t)",
        "peak({x} + u) * tanh(u)",
    ],
)
def test_deep_formulas_do_not_explode(step):
    """As deep as the language allows: no step may double what is below it without end."""
    text, start = "u", time.perf_counter()
    for i in range(1, 30):
        text = step.format(x=text, i=i)
        try:
            node = parse(text, C).root
        except SpecError:
            break
        try:
            normal_form(node)
        except SpecError:
            pass
    assert i > 5 and time.perf_counter() - start < 60  # seconds, where hours were seen; not a measurement


EQUAL = [
    ("abs(-t - 1) * u", "(t + 1) * u"),
    ("abs(-epsilon - u^2)", "epsilon + u^2"),
    ("relu(-u)", "-min(u, 0)"),
    ("exp(u + r)", "exp(r) * exp(u)"),
    ("exp(-u)", "1 / exp(u)"),
    ("exp(2 * u)", "exp(u)^2"),
    ("sigmoid(-u)", "1 - sigmoid(u)"),
    ("sign(-3 * u)", "-sign(u)"),
    ("abs(u * r)", "abs(u) * abs(r)"),
    ("(u * r)^2", "u^2 * r^2"),
    ("sqrt(mu^2 * u^2)", "mu * abs(u)"),
    ("momentum(mu * u, beta)", "mu * momentum(u, beta)"),
    ("momentum(momentum(u, mu), beta)", "momentum(momentum(u, beta), mu)"),
    ("momentum(u, mu) - mu * prev(momentum(u, mu))", "u"),
    ("prev(momentum(u, beta))", "(momentum(u, beta) - u) / beta"),
    ("momentum(u, cycle(1) - 1)", "u"),
    ("(cycle(1) - 1) / (cycle(1) + 2) * u + u", "u"),
    ("momentum(u, 0^t)", "u"),
    ("momentum(u, 1^t)", "momentum(u, 1)"),
    ("u / (1 + 2 * 3)", "u / 7"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_pairs(one, other):
    assert form(one) == form(other)


DIFFERENT = [
    ("momentum(t * u, 0.5)", "t * momentum(u, 0.5)"),
    ("momentum(u, cycle(2) / 3)", "ema(u, cycle(2) / 3) / (1 - cycle(2) / 3)"),
    ("prev(t * u)", "t * prev(u)"),
    ("prev(u + 1)", "prev(u) + 1"),  # 0 before the first step
    ("peak(-u)", "-peak(u)"),
    ("peak(u - 1)", "peak(u) - 1"),
    ("sqrt(u)", "abs(u)^0.5"),
    ("sqrt(u)^2", "abs(u)"),
    ("sqrt(u^2)", "u"),
    ("(u^3)^0.5", "u^1.5 * 2"),
    ("ema(u^2, 0.5)", "ema(u, 0.5)^2"),
    ("tanh(u + r)", "tanh(u) + tanh(r)"),
    ("max(u, r)", "max(u, -r)"),
    ("momentum(u, mu)", "momentum(u, beta)"),
    ("momentum(momentum(u, 0.5), 0.5)", "momentum(u, 0.5)^2"),
    ("momentum(momentum(u, 0.5), 0.5)", "momentum(u, 0.25)"),
    ("abs(sign(prev(u))) * u", "u"),  # at the first step
    ("abs(sign(relu(u))) * u", "u"),  # where u < 0
    ("sqrt(sign(relu(u))^2) * u", "u"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_pairs(one, other):
    assert form(one) != form(other)


def test_coefficients_that_change_over_time_stay_inside():
    x = parse("momentum(mu * u, 0.5)", C).root
    y = parse("mu * momentum(u, 0.5)", C).root
    assert normal_form(x) == normal_form(y) and normal_form(x, ["mu"]) != normal_form(y, ["mu"])
    a, b = parse("(1 - mu) * momentum(u, mu)", C).root, parse("ema(u, mu)", C).root
    assert normal_form(a) == normal_form(b) and normal_form(a, ["mu"]) != normal_form(b, ["mu"])


def test_numbers_count_to_twelve_digits():
    assert normal_form(make("mul", num(0.1 + 0.2), U)) == normal_form(make("mul", num(0.3), U))
    assert form("ema(u, 0.9)") != form("ema(u, 0.90000000001)")
    assert form("u * 1.00000000001") != form("u")


def test_the_numbers_here_are_right():
    """`values` on a formula by hand: v = 1/2 v + u, s the largest v, d = v / (1 + s) + k."""
    node = parse("v = momentum(u, 0.5); v / (1 + peak(v)) + cycle(2)", C).root
    assert values(node, [1.0, 2.0, -4.0]) == [1 / 2 + 1, 2.5 / 3.5 + 2, -2.75 / 3.5 + 1]
    assert values(parse("log(u)", C).root, [-1.0]) is None and values(parse("prev(ema(u, 0.5))", C).root, [2.0, 0.0]) == [0.0, 1.0]
