"""Programs: named rules as text, what kind of rule a formula is, its states, and equations that compute what it computes."""

import random
import re

import pytest
import torch

from mrnn_search._registry import SpecError
from mrnn_search.cells import CellSpec
from mrnn_search.cells.bases.base import bases
from mrnn_search.cells.describe import equations
from mrnn_search.cells.formula import Program
from mrnn_search.cells.formula.node import TEMPORAL, Node
from mrnn_search.cells.formula.program import MAX_STATES, not_negative, positive
from mrnn_search.cells.formula.sample import Grammar
from mrnn_search.cells.formula.text import show
from mrnn_search.cells.rules.base import STANDARD, rules
from mrnn_search.engine.recurrent import Recurrent

from ..by_hand import COUPLED, LEARNABLE, VALUES, assert_near, by_hand, moved
from .trees import NAMES, PLAIN, Trees, probes, values

# The rules with the numbers of `VALUES`, written down as one would: no name, no coefficient.
TEXTS = {
    "plain": "u",
    "heavy_ball": "v = momentum(0.4 * u, 0.7)",
    "ema": "momentum(u, 0.7) * 0.3",
    "nesterov": "k = cycle(3); momentum(u, (k - 1) / (k + 2), 0.8)",
    "nesterov_released": "y = r - 0.8 * u; c = (cycle(3) - 1) / (cycle(3) + 2); y + c * (y - prev(y))",
    "nesterov_lookahead": "b = momentum(u, 0.7); 0.4 * (u + 0.7 * b)",
    "qhm": "0.4 * (0.4 * u + 0.6 * m(0.7))",
    "rmsprop": "0.4 * u / sqrt(n(0.8) + 0.001)",
    "rmsprop_momentum": "momentum(u / sqrt(n(0.8) + 0.001), 0.7) * 0.4",
    "adam": "momentum(u, 0.7, 0.4) / sqrt(n(0.8) + 0.001)",
    "adam_outside": "momentum(u, 0.7, 0.4) / (sqrt(n(0.8)) + 0.001)",
    "adam_corrected": "mean = m(0.7) / (1 - 0.7^t); square = n(0.8) / (1 - 0.8^t); 0.4 * mean * (square + 0.001)^-0.5",
    "amsgrad": "momentum(u, 0.7, 0.4) / sqrt(peak(n(0.8)) + 0.001)",
    "nadam": "square = n(0.8) / (1 - 0.8^t); 0.4 * (0.7 * m(0.7) / (1 - 0.7^(1 + t)) + 0.3 * u / (1 - 0.7^t)) / sqrt(0.001 + square)",
    "adabelief": "e = u - m(0.7); 0.4 * (u - e) / sqrt(ema(e * e, 0.8) + 0.001)",
    "adagrad": "0.4 * u / sqrt(momentum(u * u, 1) + 0.001)",
    "lion": "old = prev(m(0.6)); 0.4 * tanh(2 * (0.8 * old + 0.2 * u))",
}


def test_every_rule_has_a_text():
    assert sorted(TEXTS) == sorted(rules)


@pytest.mark.parametrize("rule", TEXTS)
def test_a_rule_is_its_text(rule):
    """One identity; outputs to 1e-12 of the largest entry, at least of 1, on every path, and right by hand to 1e-10."""
    for base in ("lstm", "orthogonal"):
        for scope in ("preactivation",) if rule in COUPLED else ("drive", "preactivation", "hidden"):
            named, written = CellSpec(base, rule, VALUES[rule], scope=scope), CellSpec(base, TEXTS[rule], scope=scope)
            assert named.cell_id == written.cell_id and named.canonical() == written.canonical().canonical() or rule != "plain"
            assert not written.coefficients and CellSpec.from_json(written.to_json()) == written
            a, b = (moved(Recurrent(spec, 3, 4, init="torch"), 1) for spec in (named, written))
            x = torch.randn(12, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            assert_near(b(x)[0], a(x)[0], rule, 1e-12)
            assert_near(b.reference()(x)[0], a(x)[0], rule, 1e-12)
            assert_near(b(x)[0], by_hand(a, x), rule)


@pytest.mark.parametrize("rule", TEXTS)
def test_what_a_description_writes_is_the_cell(rule):
    """`Description.formula` and `CellSpec.canonical` are specs of the same cell."""
    for learned in ((), LEARNABLE[rule]):
        spec = CellSpec("gru", rule, VALUES[rule], learned)
        described = spec.describe(3, 4)
        if learned == () and rule != "plain":
            assert CellSpec("gru", described.formula).cell_id == spec.cell_id
        assert described.cell_id == spec.cell_id == spec.canonical().cell_id
        assert described.parameters == Recurrent(spec, 3, 4).num_parameters()


# ------------------------------------------------------------------------------------- kinds


LINEAR = [
    "u",
    "2 * u",
    "-u",
    "u / 3",
    "u - prev(u)",
    "ema(u, mu)",
    "momentum(u, 0.9, epsilon)",
    "momentum(u, cycle(3) / 4)",
    "t * u",
    "u * mu^t",
]
LINEAR += [
    "ema(ema(u, 0.5) - prev(u), 0.9) / (1 - mu^t)",
    "epsilon * (u + mu * momentum(u, mu))",
    "u + u",
    "(1 - nu) * u + nu * ema(u, mu)",
]
OTHER = [
    "u + 1",
    "u^2",
    "u * u",
    "abs(u)",
    "1 / u",
    "tanh(u)",
    "u / sqrt(n(0.9) + 1)",
    "peak(u)",
    "max(u, 0)",
    "ema(u^2, 0.9)",
    "u - t",
    "u^1.5",
]


@pytest.mark.parametrize("text", LINEAR + OTHER)
def test_linear_means_linear(text):
    """``f(x + 2 y) = f(x) + 2 f(y)`` for the numbers, too; 1e-9, as sums are in another order."""
    program = Program.of(text, STANDARD)
    assert program.linear == (text in LINEAR)
    c = {"mu": 0.6, "epsilon": 0.3, "nu": 0.7, "restart": 3}
    x, y = probes(1, count=2)
    both, *parts = (values(program.root, us, c) for us in ([a + 2 * b for a, b in zip(x, y, strict=True)], x, y))
    gaps = [abs(z - a - 2 * b) for z, a, b in zip(both, *parts, strict=True)] if both and all(parts) else [1.0]
    assert (max(gaps) < 1e-9) == (text in LINEAR)


def test_kinds():
    assert Program.of("r").coupled and Program.of("u + ema(r, 0.5)").coupled and not Program.of("u").coupled
    assert not Program.of("r").linear and not Program.of("u + r").linear
    assert Program.of("u * t").timed and Program.of("u * cycle(2)").timed and not Program.of("ema(u, 0.5)").timed


def test_states_are_shared_counted_and_in_order():
    program = Program.of("s = ema(u^2, 0.9); v = momentum(u, 0.5); d = v / sqrt(s + 1) + tanh(momentum(u, 0.5)) + ema(prev(s), 0.1)")
    assert [n.op for n in program.states] == ["momentum", "ema", "prev", "ema"] and program.letters[:2] == ("v", "s")
    assert len(set(program.letters)) == 4
    for i, node in enumerate(program.states):
        inside = [n for a in node.args for n in a.walk() if n.op in TEMPORAL]
        assert all(n in program.states[:i] for n in inside)
    most = "+".join(f"ema(u, 0.{i:02d})" for i in range(1, MAX_STATES + 1))
    assert len(Program.of(most).states) == MAX_STATES
    with pytest.raises(SpecError, match=f"{MAX_STATES + 1} states, allowed: {MAX_STATES}"):
        Program.of(most + "+ prev(u)")


def test_sure_signs_are_sure():
    """What `positive` and `not_negative` say of a formula holds for numbers: for coefficients of at least 0, δ > 0, decays up to 1."""
    said = 0
    for seed in range(40):
        trees = Trees(seed, coupled=False)
        for i in range(100):
            node = trees.signal(i % 5)
            decays = [n.args[1] for n in node.walk() if n.op in ("ema", "momentum")]
            if any(n.op not in ("num", "coef") for n in decays) or not (positive(node) or not_negative(node)):
                continue
            for us in probes(i):
                found = values(node, us, {"mu": 0.3, "beta": 0.0, "epsilon": 0.9, "delta": 1e-3, "restart": 4})
                if found is not None:
                    said += 1
                    vanishes = any(n.op == "exp" for n in node.walk())  # exp(-1000) is 0 in numbers
                    assert min(found) >= 0 and (min(found) > 0 or vanishes or not positive(node)), show(node)
    assert said > 500


# ------------------------------------------------------------------------------------- equations

TOKEN = re.compile(r"\s*(\d+\.?\d*(?:e[-+]?\d+)?|[A-Za-z]\w*?(?:_\{t-1\}|_t)?(?![\w{])|[-+*/^(),])")
FUNCTIONS = {name: PLAIN[name] for name in ("sqrt", "abs", "sign", "exp", "log", "tanh", "sigmoid", "relu")} | {"min": min, "max": max}


def python(text):
    """An equation's right-hand side as Python: a space between factors is a product, ``^`` is a power, x_{t-1} is x__old.

    ``a / b c`` is nothing that a person reads in one way only.
    """
    tokens, place, divided = [], 0, [False]
    while text[place:].strip():
        found = TOKEN.match(text, place)
        assert found, f"{text!r} at {text[place:]!r}"
        token = found[1]
        after_value = tokens and (tokens[-1] == ")" or re.match(r"[\w.]", tokens[-1][-1]))
        is_call = token == "(" and after_value and (tokens[-1] in FUNCTIONS or tokens[-1] == "cycle")
        if after_value and not is_call and (token == "(" or re.match(r"\w", token)):
            assert not divided[-1], f"what is divided by in {text!r}?"
            tokens.append("*")
        if token in "()":
            divided = [*divided, False] if token == "(" else divided[:-1]
        elif token in "+-*/,":
            divided[-1] = token == "/"
        tokens.append(token.replace("_{t-1}", "__old").replace("_t", "__now") if re.match(r"[A-Za-z]", token) else token)
        place = found.end()
    return " ".join("**" if t == "^" else t for t in tokens)


def by_equations(lines, result, us, c, rs=None):
    """The equations of a rule, step by step, with what is not there yet 0."""
    before, out = {}, []
    for t, u in enumerate(us, 1):
        now = {"u__now": u, "t": t, "cycle": lambda period, t=t: (t - 1) % period + 1, **c, **({"r__now": rs[t - 1]} if rs else {})}
        for line in lines:
            left, right = line.split(" = ", 1)
            left = left.replace("_t", "__now")
            if found := re.fullmatch(r"\(t - 1\) mod (.*) \+ 1", right):
                now[left] = (t - 1) % eval(python(found[1]), {}, scope(now, before)) + 1
                continue
            if found := re.fullmatch(r"\((.*)\) one step before", right):
                now[left], now["waits " + left] = before.get("waits " + left, 0.0), eval(python(found[1]), {}, scope(now, before))
                continue
            now[left] = eval(python(right), {}, scope(now, before))
        out.append(now[f"{result}__now"])
        before = now
    return out


def scope(now, before):
    """Names at this step and at the one before."""

    class Names(dict):
        def __missing__(self, name):
            return before.get(name.replace("__old", "__now"), 0.0) if name.endswith("__old") else FUNCTIONS[name]

    return Names({name: value for name, value in now.items() if " " not in name})


def check_equations(program, c, seed):
    lines, done = program.equations(), 0
    result = "a" if program.coupled else "d"
    for us in probes(seed):
        rs = probes(seed + 1)[0] if program.coupled else None
        expected = values(program.root, us, c, rs)
        if expected is None:
            continue
        done += 1
        found = by_equations(lines, result, us, c, rs)
        scale = max(1.0, *map(abs, expected))
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1e-9 * scale, "\n".join([show(program.root), *lines])
    return done


@pytest.mark.parametrize("rule", TEXTS)
def test_equations_of_rules_compute_them(rule):
    for program, c in ((rules[rule].program, VALUES[rule]), (Program.of(TEXTS[rule]), {})):
        assert check_equations(program, c, 1) == 3


def test_equations_of_random_formulas_compute_them():
    c, done = {"mu": 0.3, "beta": 0.8, "epsilon": 2.0, "delta": 1e-3, "restart": 4}, 0
    for seed in range(30):
        trees, grammar = Trees(seed), Grammar(20, seed)
        for i in range(40):
            node = grammar.draw() if i % 2 else trees.signal(i % 5)
            if len({n for n in node.walk() if n.op in TEMPORAL}) <= MAX_STATES:
                done += check_equations(Program.of(show(node), (*NAMES, "restart")), c, i)
    assert done > 1500


def balanced(latex):
    """Braces, and \\left and \\right around the same kind of bracket."""
    stack = []
    pairs = {"(": ")", "|": "|", "[": "]", ".": "."}
    for token in re.findall(r"\\left\\?.|\\right\\?.|\\.|[{}()]", latex):
        if token.startswith("\\left") and not token.startswith("\\leftarrow"):
            stack.append("\\right" + pairs[token[5:]])
        elif token == "{":
            stack.append("}")
        elif token == "(":
            stack.append(")")
        elif token in ("}", ")") or token.startswith("\\right"):
            if not stack or stack.pop() != token:
                return False
    return not stack


def test_balanced_sees_what_is_not():
    assert balanced(r"\frac{a}{b} \left(x^{2}\right) \left|u_t\right|") and balanced("(a)")
    assert not any(map(balanced, (r"\frac{a}{b", r"\left(x\right|", "(a", r"\left(x)", r"{(})")))


def check_latex(lines):
    for line in lines:
        assert balanced(line), line
        assert not re.search(r"[\^_]$|[\^_][ ^_]|\^\w\w|_\w\w|\*|<|>|sqrt\(|\d e-?\d|\d\.?\d*e[-+]?\d", line), line
        for word in re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", re.sub(r"\\(mathrm|operatorname|text)\{[^{}]*\}", "", line)):
            raise AssertionError(f"{word} is upright text in {line}")


@pytest.mark.parametrize("rule", TEXTS)
def test_equations_of_cells_mention_every_state_and_coefficient(rule):
    for base in bases:
        for scope_ in ("preactivation",) if rule in COUPLED else ("drive", "preactivation", "hidden"):
            for kwargs in ({}, {"drive_bias": "outside"}, {"gates": bases[base].gate_names[-1:]}):
                if scope_ == "hidden" and kwargs:
                    continue
                spec = CellSpec(base, rule, scope=scope_, **kwargs)
                lines, latex = equations(spec), equations(spec, latex=True)
                check_latex(latex)
                text = "\n".join(lines)
                program = spec.rule_type.program
                for node, letter in zip(program.states, program.letters, strict=True):
                    old = node.op == "prev"
                    assert re.search(rf"^{letter}_t = ", text, re.M) or (old and "_{t-1}" in text), f"{letter} in {text}"
                for name in spec.coefficients:
                    assert re.search(rf"\b{name}\b", text), f"{name} in {text}"
                assert lines[0].startswith("u_t = W x_t") and any(line.startswith("h_t = ") for line in lines)


def test_latex_of_random_formulas():
    for seed in range(20):
        trees, grammar = Trees(seed), Grammar(20, seed)
        for i in range(50):
            node = grammar.draw() if i % 2 else trees.signal(i % 5)
            if len({n for n in node.walk() if n.op in TEMPORAL}) <= MAX_STATES:
                program = Program.of(show(node), (*NAMES, "restart"))
                check_latex(program.equations(latex=True))
                text = "\n".join(program.equations())
                for state, letter in zip(program.states, program.letters, strict=True):
                    assert re.search(rf"^{letter}_t = ", text, re.M) or state.op == "prev", f"{letter} in {text}"


# ------------------------------------------------------------------------------------- sampling


def test_the_grammar_is_finite_and_reproducible():
    """Formulas that depend on u, within the size, the same for the same seed; finite with their derivatives for extreme drives."""
    for size in (3, 5, 9, 15, 30):
        one, two = Grammar(size, 4), Grammar(size, 4)
        for _ in range(100):
            node = one.draw()
            assert node == two.draw() and node.size <= size and node.is_signal
    g = random.Random(1)
    for seed in range(60):
        spec = CellSpec("linear", show(Grammar(15, seed).draw()))
        layer = Recurrent(spec, 1, 1, bias=False).double()
        with torch.no_grad():
            layer.weight_ih_l0.fill_(1.0)
        for scale in (0.0, 1e-9, 1.0, 1e3):
            x = torch.tensor([g.gauss(0, 1) * scale for _ in range(6)], dtype=torch.float64)[:, None, None].requires_grad_()
            y = layer(x)[0]
            (slope,) = torch.autograd.grad(y.sum() + 0 * x.sum(), x)
            assert torch.isfinite(y).all() and torch.isfinite(slope).all(), spec.rule


def test_distinct_formulas_are_distinct():
    texts = Grammar(12, 1).distinct(300)
    assert len({CellSpec("rnn", text).cell_id for text in texts}) == 300
    with pytest.raises(SpecError, match="fewer than"):
        Grammar(3, 1).distinct(100_000 // 1000)
    with pytest.raises(SpecError, match="size = 2"):
        Grammar(2)


def test_nodes_are_values():
    a, b = (Program.of("ema(u, 0.5) + mu * u", ["mu"]).root for _ in range(2))
    assert a == b and hash(a) == hash(b) and a != Node("u") and a.coefficients == ("mu",) and a.size == 7 and a.depth == 3
    assert repr(a) == "add(ema(u(), num(0.5)), mul(coef('mu'), u()))"
