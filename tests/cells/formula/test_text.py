"""Formulas as text: what is written reads back, and what is no formula is refused quickly and in our own words."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search._registry import InputError, SpecError, UnknownNameError
from mrnn_search.cells import CellSpec
from mrnn_search.cells.formula.node import LARGEST, STEP, R, U, coef, make, num
from mrnn_search.cells.formula.sample import Grammar
from mrnn_search.cells.formula.text import MAX_TEXT, parse, show

from .trees import NAMES, Trees

KNOWN = (*NAMES, "restart", "beta2")


def read(text):
    return parse(text, KNOWN).root


# ------------------------------------------------------------------------------------- round trips


def test_ten_thousand_random_trees_read_back():
    lengths = []
    for seed in range(20):
        trees, grammar = Trees(seed), Grammar(5 + seed, seed)
        for i in range(500):
            node = grammar.draw() if i % 5 == 0 else trees.signal(i % 6)
            text = show(node)
            lengths.append(len(text))
            if len(text) <= MAX_TEXT:
                assert read(text) == node, text
    assert len(lengths) == 10_000 and max(lengths) > 200


numbers = st.one_of(
    st.floats(-LARGEST, LARGEST).filter(lambda x: x == 0 or abs(x) >= 1 / LARGEST),
    st.integers(-(10**6), 10**6).map(float),
    st.sampled_from([0.0, -0.0, 1e15, 1e16, -1e22, 1e30, 1e-30, 2**53 + 0.0, 5e-5, 1e-5, 0.1, -0.1]),
).map(num)
scalars = st.one_of(numbers, st.sampled_from([*map(coef, KNOWN), STEP, make("cycle", num(7)), make("cycle", coef("restart"))]))


def made(op, *args):
    """The node, or the first argument where there is no such node (1 / 0, a negative decay)."""
    try:
        return make(op, *args)
    except SpecError:
        return args[0]


def of(arguments, unary, binary):
    return st.one_of(
        st.builds(made, st.sampled_from(unary), arguments),
        st.builds(made, st.sampled_from(binary), arguments, arguments),
    )


UNARY = ("neg", "sqrt", "abs", "sign", "exp", "log", "tanh", "sigmoid", "relu")
BINARY = ("add", "sub", "mul", "div", "pow", "min", "max")
scalar_trees = st.recursive(scalars, lambda inner: of(inner, UNARY, BINARY), max_leaves=8)
trees = st.recursive(
    st.sampled_from([U, R]),
    lambda inner: st.one_of(
        of(inner, (*UNARY, "prev", "peak"), BINARY[:4] + BINARY[5:]),
        st.builds(made, st.sampled_from(("pow", "ema", "momentum", "add", "sub", "mul", "div", "min", "max")), inner, scalar_trees),
        st.builds(lambda op, x, c: made(op, c, x), st.sampled_from(("add", "sub", "mul", "div", "min", "max")), inner, scalar_trees),
        st.builds(made, st.just("momentum"), inner, scalar_trees, scalar_trees),
    ),
    max_leaves=25,
)


@settings(max_examples=1000)
@given(trees)
def test_every_tree_reads_back(node):
    text = show(node)
    if node.is_signal and len(text) <= MAX_TEXT:
        assert read(text) == node and show(read(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-u^2", "-u^2"),
        ("(-u)^2", "(-u)^2"),
        ("-2^2 * u", "-2^2 * u"),
        ("(-2)^2 * u", "(-2)^2 * u"),
        ("u^-2", "u^-2"),
        ("u^(1/2)", "u^(1 / 2)"),
        ("u^2^3", "u^2^3"),
        ("(u^2)^3", "(u^2)^3"),
        ("u - (r - u)", "u - (r - u)"),
        ("u - r - u", "u - r - u"),
        ("u / (r * u)", "u / (r * u)"),
        ("u / r * u", "u / r * u"),
        ("u - -r", "u - -r"),
        ("u--2", "u - -2"),
        ("2*-u", "2 * -u"),
        ("-(u + r)", "-(u + r)"),
        ("-(u * r)", "-(u * r)"),
        ("--u", "--u"),
        ("- 3", None),
        ("1.50*u", "1.5 * u"),
        ("1e-16 + u", "1e-16 + u"),
        (".5*u", "0.5 * u"),
        ("5.*u", "5 * u"),
        ("1E3*u", "1000 * u"),
        ("u**2", "u^2"),
        ("m(0.9)", "ema(u, 0.9)"),
        ("n(0.9)", "ema(u^2, 0.9)"),
        ("d = u", "u"),
        ("\n\n v = momentum(u, mu) ; ; \n\t d = v * 2 \n", "momentum(u, mu) * 2"),
        ("m = ema(u, 0.5); k = cycle(restart); m * k", "ema(u, 0.5) * cycle(restart)"),
        ("mu_2 = mu * 2; u * mu_2", "u * (mu * 2)"),
    ],
)
def test_precedence(text, shown):
    """As in mathematics: powers bind most and to the right, then signs, then products, then sums, both to the left."""
    if shown is None:
        with pytest.raises(SpecError):
            read(text)
        return
    assert show(read(text)) == shown
    assert read(shown) == read(text)


def test_numbers_keep_every_bit():
    g = random.Random(0)
    for _ in range(2000):
        value = g.choice((1, -1)) * 10 ** g.uniform(-30, 30)
        node = make("mul", num(value), U)
        assert read(show(node)).args[0].value == value


# ------------------------------------------------------------------------------------- hostile texts

DOUBLING = "a=u*u;" + ";".join(f"{chr(98 + i)}={chr(97 + i)}*{chr(97 + i)}" for i in range(12))
HOSTILE = {
    "deep brackets": "(" * 900 + "u" + ")" * 900,
    "open brackets": "(" * 2000,
    "closed brackets": ")" * 2000,
    "deep signs": "-" * 1900 + "u",
    "deep powers": "u" + "^2" * 900,
    "a tower": "u" + "^2" * 20,
    "deep calls": "tanh(" * 300 + "u" + ")" * 300,
    "deep means": "ema(" * 40 + "u" + ",0.5)" * 40,
    "a million characters": "u+" * 500_000 + "u",
    "a million digits": "1" * 1_000_000 + "*u",
    "a million spaces": " " * 1_000_000 + "u",
    "spaces up to nothing": " \t" * 900 + "?",
    "two thousand names": ";".join(f"x{i}=u" for i in range(2000)),
    "many names": "+".join(f"x{i}" for i in range(300)),
    "many arguments": "max(" + ",".join(["u"] * 900) + ")",
    "many summands": "+".join(["u"] * 900),
    "many states": "+".join(f"ema(u,0.{i:02d})" for i in range(1, 40)),
    "exponential sharing": DOUBLING,
    "exponential sharing of numbers": DOUBLING.replace("u", "2") + ";u*m",
    "exponential sharing of states": "a=ema(u,.5);" + ";".join(f"{chr(98 + i)}=ema({chr(97 + i)}*{chr(97 + i)},.5)" for i in range(12)),
    "a long name": "x" * 1900 + "+u",
    "a long number": "9" * 300 + "*u",
    "a long fraction": "0." + "0" * 300 + "1*u",
    "too large": "1e999*u",
    "rather large": "1e31*u",
    "too small": "1e-999*u",
    "rather small": "1e-31*u",
    "small beyond": "0.000e5 * u + 0.001e-400",
    "a huge exponent": "1e99999999999999999999*u",
    "a power": "9^9^9^9",
    "a power of u": "9^9^9^9*u",
    "a negative power of 0": "0^-1*u",
    "a complex power": "(-8)^0.5*u",
    "division by 0": "1/0*u",
    "u by 0": "u/0",
    "u by what is 0": "u/(1-1)",
    "0 by 0": "0/0*u",
    "root of -1": "sqrt(-1)*u",
    "log of 0": "log(0)*u",
    "overflow": "exp(1000)*u",
    "product": "1e30*1e30*1e30*1e30*1e30*1e30*1e30*1e30*1e30*1e30*1e30*u",
    "import": "__import__('os')",
    "import without quotes": "__import__(os)",
    "attribute": "u.__class__",
    "method": "u.sum()",
    "index": "u[0]",
    "lambda": "lambda x: x",
    "comprehension": "[u for u in u]",
    "string": "'u'",
    "double quotes": '"u"',
    "format": "{u}",
    "backslash": "u\\",
    "percent": "u % 2",
    "comment": "u # x",
    "walrus": "(v := u)",
    "comparison": "u == u",
    "less": "u < 1",
    "and": "u and u",
    "or": "u | u",
    "exec": "exec(u)",
    "eval": "eval(u)",
    "getattr": "getattr(u, u)",
    "unicode u": "ｕ",
    "Greek": "μ*u",
    "minus sign": "u − 1",
    "superscript": "u²",
    "Arabic digits": "٣*u",
    "right to left": "\u202eu",
    "no-break space": "u\xa0+ 1",
    "zero width": "u\u200b",
    "surrogate": "\ud800",
    "emoji": "u + 🙂",
    "null": "\0",
    "null after u": "u\0",
    "bell": "u\a",
    "carriage return": "u\r\n",
    "form feed": "u\f",
    "cycle 0": "cycle(0)*u",
    "cycle -1": "cycle(-1)*u",
    "cycle 1.5": "cycle(1.5)*u",
    "cycle of u": "cycle(u)*u",
    "cycle of t": "cycle(t)*u",
    "long cycle": "cycle(1e7)*u",
    "cycle of two": "cycle(2, 3)*u",
    "decay above 1": "ema(u, 1.5)",
    "decay below 0": "ema(u, -0.5)",
    "decay of u": "ema(u, u)",
    "ema the other way round": "ema(0.5, u)",
    "ema of a number": "ema(0.5, 0.5)",
    "ema of one": "ema(u)",
    "ema of three": "ema(u, 0.5, 0.5)",
    "momentum of four": "momentum(u, 0.5, 0.5, 0.5)",
    "gain of u": "momentum(u, 0.5, u)",
    "peak of a number": "peak(1)*u",
    "prev of t": "prev(t)*u",
    "prev of two": "prev(u, 2)",
    "exponent of u": "2^u",
    "u to the u": "u^u",
    "m of u": "m(u)",
    "m of nothing": "m()",
    "u=u": "u=u",
    "r=u": "r=u; r",
    "t=u": "t=u; t",
    "tanh=u": "tanh=u; u",
    "mu=u": "mu=u; mu",
    "twice": "x=u; x=2*u; x",
    "itself": "x=x+u; x",
    "later": "x=y; y=u; x",
    "two names": "x=y=u",
    "a number's name": "2=u",
    "no value": "x=",
    "no name": "=u",
    "two values": "u u",
    "a number beside": "2u",
    "a call beside": "u(2)",
    "number call": "2(u)",
    "empty": "",
    "spaces": "   \t ",
    "nothing but ends": ";;\n;",
    "only a name": "x=;",
    "constant": "0.5",
    "coefficient": "mu * 2",
    "steps": "t + 1",
    "nothing before": "*u",
    "nothing after": "u+",
    "nothing between": "u,",
    "two commas": "ema(u,,0.5)",
    "comma at the end": "ema(u,0.5,)",
    "semicolon inside": "ema(u;0.5)",
    "new line inside": "ema(u,\n0.5)",
    "three stars": "u***2",
    "open call": "tanh(u",
    "closed twice": "tanh(u))",
    "empty brackets": "()",
    "hex": "0x10*u",
    "underscores": "1_000*u",
    "infinity": "inf*u",
    "not a number": "nan*u",
    "imaginary": "2j*u",
    "a dot": ".*u",
    "two dots": "1..5*u",
    "no exponent": "1e*u",
    "unknown": "epsilonn*u",
    "unknown function": "sin(u)",
    "capital": "U",
    "no rule of this package": "no_such_rule",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_quickly(name):
    """In our own words (`InputError`) within 50 ms, the best of three: the one requirement on time."""
    text, times = HOSTILE[name], []
    for _ in range(3):
        start = time.perf_counter()
        with pytest.raises(InputError) as caught:
            CellSpec("lstm", text)
        times.append(time.perf_counter() - start)
        assert type(caught.value) in (SpecError, UnknownNameError)
        assert 0 < len(str(caught.value)) < 3000 or len(text) >= 1900
    assert min(times) < 0.05


@pytest.mark.parametrize("wrong", [None, 1, 0.5, b"u", ["u"], {"u": 1}, ("u",)])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(InputError):
        parse(wrong, KNOWN)


@pytest.mark.parametrize("text", ["u;;", ";u", "u\n\n", " u ", "((((u))))", "d=u", "a = u; a", "(-" * 20 + "u" + ")" * 20])
def test_what_looks_odd_and_is_right(text):
    assert CellSpec("lstm", text).rule_type.program.root.is_signal


def test_errors_name_the_place():
    with pytest.raises(SpecError, match="character 5: character '\\$'"):
        read("u + $")
    with pytest.raises(SpecError, match="character 4: it ends too early"):
        read("u +")
    with pytest.raises(UnknownNameError, match='did you mean "tanh"'):
        read("tahn(u)")
    with pytest.raises(UnknownNameError, match='did you mean "epsilon"'):
        read("epsilno * u")


TOKENS = [
    "u",
    "r",
    "t",
    "mu",
    "restart",
    "1",
    "0.5",
    "2",
    "-",
    "+",
    "*",
    "/",
    "^",
    "**",
    "(",
    ")",
    ",",
    "ema(",
    "momentum(",
    "prev(",
    "peak(",
]
TOKENS += ["tanh(", "sqrt(", "cycle(", "m(", "n(", "max(", ";", "\n", "=", "v", "v = ", " ", "1e-16", "0", ".", "e", "$"]


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(TOKENS), max_size=30).map("".join))
def test_any_text_is_a_formula_or_refused(text):
    """What reads is one formula, however it is written again."""
    try:
        node = read(text)
    except InputError:
        return
    assert read(show(node)) == node


@settings(max_examples=500)
@given(st.text(max_size=80))
def test_any_characters(text):
    try:
        CellSpec("rnn", text)
    except InputError:
        pass


def test_a_spec_with_a_formula_survives_json():
    for seed in range(200):
        spec = CellSpec("lstm", show(Grammar(25, seed).draw()))
        assert CellSpec.from_json(spec.to_json()) == spec


def test_a_formula_is_as_long_as_it_is_written_out():
    """What fits with its named parts, but not without, could not be read back from a file."""
    part = "a = momentum(u, 1.2345678901234567e-05, 1.2345678901234567e-05)"
    fits = CellSpec("lstm", "; ".join([part, "b = a * a", "c = b * b", "e = c * c", "f = e * e", "f + e + c + b + a"]))
    assert 1900 < len(fits.rule) <= MAX_TEXT and CellSpec.from_json(fits.to_json()) == fits
    with pytest.raises(SpecError, match="the formula has 2[0-9]{3} characters, allowed: 2000"):
        CellSpec("lstm", "; ".join([part, "b = a * a", "c = b * b", "e = c * c", "f = e * e", "f + e + c + b + b"]))
