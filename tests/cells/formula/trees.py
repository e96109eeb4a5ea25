"""Random trees over the whole language, what they are worth (computed here, on lists of numbers), and rewrites that change nothing."""

import math
import random

from mrnn_search._registry import SpecError
from mrnn_search.cells.formula.node import STEP, R, U, coef, make, num

NAMES = ("mu", "beta", "epsilon", "delta")
NUMBERS = (0.0, 1.0, 2.0, -1.0, -2.0, 0.5, -0.25, 3.0, 1e-16, 1e30, -1e-30, 1e15, 123456789012345.0, 0.1 + 0.2, 1 / 3, -7.25e-5, 12.0)
UNARY = ("neg", "sqrt", "abs", "sign", "exp", "log", "tanh", "sigmoid", "relu")
BINARY = ("add", "sub", "mul", "div", "min", "max")


class Trees:
    """Random trees of every operator, function and leaf, a signal each; not all are finite everywhere."""

    def __init__(self, seed, coupled=True):
        self.random, self.leaves = random.Random(seed), (U, U, R) if coupled else (U,)

    def signal(self, depth):
        while True:
            try:
                node = self._signal(depth)
            except SpecError:  # sqrt(-1), say: another one
                continue
            if node.is_signal:
                return node

    def _signal(self, depth):
        if depth == 0:
            return self.random.choice(self.leaves)
        kind = self.random.randrange(8)
        if kind < 3:
            args = [self._signal(depth - 1), self.any(depth - 1)]
            self.random.shuffle(args)
            return make(self.random.choice(BINARY), *args)
        if kind < 5:
            return make(self.random.choice(UNARY), self._signal(depth - 1))
        if kind == 5:
            return make("pow", self._signal(depth - 1), self.scalar(depth - 1))
        if kind == 6:
            return make(self.random.choice(("peak", "prev")), self._signal(depth - 1))
        args = [self.scalar(depth - 1) for _ in range(self.random.choice((1, 1, 2)))]
        if len(args) == 1 and self.random.random() < 0.5:
            return make("ema", self._signal(depth - 1), *args)
        return make("momentum", self._signal(depth - 1), *args)

    def any(self, depth):
        return self._signal(depth) if self.random.random() < 0.6 else self.scalar(depth)

    def scalar(self, depth):
        kind = self.random.randrange(6) if depth else self.random.randrange(3)
        if kind == 0:
            return num(self.random.choice(NUMBERS) if self.random.random() < 0.7 else self.random.uniform(-3, 3))
        if kind == 1:
            return coef(self.random.choice(NAMES))
        if kind == 2:
            return self.random.choice((STEP, make("cycle", num(self.random.randint(1, 50))), make("cycle", coef("restart"))))
        if kind == 3:
            return make(self.random.choice(UNARY), self.scalar(depth - 1))
        if kind == 4:
            return make("pow", self.scalar(depth - 1), self.scalar(depth - 1))
        return make(self.random.choice(BINARY), self.scalar(depth - 1), self.scalar(depth - 1))


# ------------------------------------------------------------------------------------- values


def sign(x):
    return float((x > 0) - (x < 0))


PLAIN = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": math.pow,
    "neg": lambda a: -a,
    "sqrt": math.sqrt,
    "abs": abs,
    "sign": sign,
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "relu": lambda a: max(a, 0.0),
    "min": min,
    "max": max,
}


def values(root, us, c=None, rs=None):
    """What the formula gives for the drive ``us``, a list of numbers, one a step; None where something is not a real number."""
    held, out = {}, []

    def at(node, t, known):
        if node not in known:
            known[node] = now(node, t, known)
        return known[node]

    def now(node, t, known):
        op = node.op
        if op == "num":
            return node.value
        if op == "coef":
            return c[node.value]
        if op == "step":
            return float(t)
        if op == "u":
            return us[t - 1]
        if op == "r":
            return rs[t - 1]
        args = [at(a, t, known) for a in node.args]
        if op == "cycle":
            return (t - 1) % args[0] + 1
        if op not in ("momentum", "ema", "peak", "prev"):
            return PLAIN[op](*args)
        old = held.get(node, 0.0)
        if op == "momentum":
            new[node] = args[1] * old + (args[2] if len(args) > 2 else 1.0) * args[0]
        elif op == "ema":
            new[node] = args[1] * old + (1 - args[1]) * args[0]
        else:
            new[node] = max(old, args[0]) if op == "peak" else args[0]
        return old if op == "prev" else new[node]

    try:
        for t in range(1, len(us) + 1):
            new = {}
            out.append(float(at(root, t, {})))
            held.update(new)
    except (ArithmeticError, ValueError):
        return None
    return out if all(map(math.isfinite, out)) else None


def probes(seed, steps=8, count=3):
    """Drives of several sizes and signs."""
    g = random.Random(seed)
    return [[g.gauss(0, scale) + shift for _ in range(steps)] for scale, shift in ((1, 0), (0.3, 0.5), (2, -1))[:count]]


def gap(a, b, us, c=None):
    """Largest difference, in units of the largest value (at least 1); None where one of them is not a number."""
    one, other = values(a, us, c), values(b, us, c)
    if one is None or other is None:
        return None
    return max(abs(x - y) for x, y in zip(one, other, strict=True)) / max(1.0, *map(abs, one))


# ------------------------------------------------------------------------------------- rewrites

TWO, HALF, ONE, ZERO = num(2), num(0.5), num(1), num(0)


def is_filter(node):
    return node.op in ("momentum", "ema")


def gain(node):
    """Of a filter: what its input is multiplied with."""
    if node.op == "ema":
        return make("sub", ONE, node.args[1])
    return node.args[2] if len(node.args) > 2 else ONE


def still(node):
    """A scalar that is the same at every step."""
    return not node.is_signal and all(n.op not in ("step", "cycle") for n in node.walk())


def steady(node):
    """A filter whose decay and gain are the same at every step: such filters commute with each other, delays and factors."""
    return is_filter(node) and all(map(still, node.args[1:]))


def refilter(node, x):
    return make(node.op, x, *node.args[1:])


def commute(n, g):
    return make(n.op, n.args[1], n.args[0]) if n.op in ("add", "mul", "min", "max") else None


def associate(n, g):
    if n.op in ("add", "mul") and n.args[0].op == n.op:
        a, b = n.args[0].args
        return make(n.op, a, make(n.op, b, n.args[1]))
    if n.op in ("add", "mul") and n.args[1].op == n.op:
        a, b = n.args[1].args
        return make(n.op, make(n.op, n.args[0], a), b)
    return None


def distribute(n, g):
    if n.op in ("mul", "div") and n.args[0].op in ("add", "sub"):
        a, b = n.args[0].args
        return make(n.args[0].op, make(n.op, a, n.args[1]), make(n.op, b, n.args[1]))
    return None


def add_and_subtract(n, g):
    y = make("tanh", make("mul", num(g.choice((0.3, 2.0))), U))
    return make("add", make("sub", n, y), y) if n.is_signal else None


def double_negation(n, g):
    return make("neg", make("neg", n)) if n.op != "num" else None


def times_and_divided(n, g):
    return make("mul", make("div", n, num(4)), num(4)) if n.is_signal else None


def dead_branch(n, g):
    if not n.is_signal:
        return None
    dead = make("mul", ZERO, make("ema", make("tanh", U), num(0.3)))
    return make(g.choice(("add", "sub")), n, dead)


def neutral(n, g):
    way = g.randrange(4)
    if not n.is_signal:
        return None
    return [make("mul", ONE, n), make("pow", n, ONE), make("div", n, ONE), make("add", ZERO, n)][way]


def subtraction(n, g):
    return make("add", n.args[0], make("neg", n.args[1])) if n.op == "sub" else None


def division(n, g):
    return make("mul", n.args[0], make("pow", n.args[1], num(-1))) if n.op == "div" else None


def root_as_power(n, g):
    return make("pow", n.args[0], HALF) if n.op == "sqrt" else None


def square_as_product(n, g):
    return make("mul", n.args[0], n.args[0]) if n.op == "pow" and n.args[1] == TWO else None


def split_number(n, g):
    return make("add", num(float(n.value) / 4), num(float(n.value) * 0.75)) if n.op == "num" and n.value and abs(n.value) > 1e-20 else None


def scale_into_filter(n, g):
    if n.op == "mul" and still(n.args[0]) and is_filter(n.args[1]):
        return refilter(n.args[1], make("mul", n.args[0], n.args[1].args[0]))
    return None


def scale_out_of_filter(n, g):
    if is_filter(n) and n.args[0].op == "mul" and still(n.args[0].args[0]):
        return make("mul", n.args[0].args[0], refilter(n, n.args[0].args[1]))
    return None


def mean_as_momentum(n, g):
    if n.op != "ema":
        return None
    x, beta = n.args
    return make("mul", gain(n), make("momentum", x, beta)) if still(beta) and g.random() < 0.5 else make("momentum", x, beta, gain(n))


def momentum_as_mean(n, g):
    if n.op != "momentum" or n.args[1] == ONE or not steady(n):
        return None
    return make("div", make("mul", gain(n), make("ema", n.args[0], n.args[1])), make("sub", ONE, n.args[1]))


def filter_of_a_sum(n, g):
    if is_filter(n) and n.args[0].op in ("add", "sub") and all(a.is_signal for a in n.args[0].args):
        return make(n.args[0].op, *(refilter(n, a) for a in n.args[0].args))
    return None


def filters_commute(n, g):
    if steady(n) and steady(n.args[0]):
        return refilter(n.args[0], refilter(n, n.args[0].args[0]))
    return None


def delay_and_filter(n, g):
    if n.op == "prev" and steady(n.args[0]):
        return refilter(n.args[0], make("prev", n.args[0].args[0]))
    if steady(n) and n.args[0].op == "prev":
        return make("prev", refilter(n, n.args[0].args[0]))
    return None


def one_step_of_a_filter(n, g):
    """``F_t = a F_{t-1} + g x_t``."""
    if not steady(n):
        return None
    return make("add", make("mul", n.args[1], make("prev", n)), make("mul", gain(n), n.args[0]))


def delay_of_a_sum(n, g):
    if n.op == "prev" and n.args[0].op in ("add", "sub") and all(a.is_signal for a in n.args[0].args):
        return make(n.args[0].op, *(make("prev", a) for a in n.args[0].args))
    return None


def delay_of_a_multiple(n, g):
    if n.op == "prev" and n.args[0].op == "mul" and n.args[0].args[0].op == "num":
        return make("mul", n.args[0].args[0], make("prev", n.args[0].args[1]))
    return None


def odd_tanh(n, g):
    return make("neg", make("tanh", make("neg", n.args[0]))) if n.op == "tanh" and n.is_signal else None


def tanh_by_sigmoid(n, g):
    if n.op != "tanh" or not n.is_signal:
        return None
    return make("sub", make("mul", TWO, make("sigmoid", make("mul", TWO, n.args[0]))), ONE)


def even_square(n, g):
    """Not of a sum, which is multiplied out unless it stands in an absolute value."""
    if n.op != "pow" or n.args[1] != TWO or any(a.op not in ("u", "num", "tanh", "mul", "neg", "abs") for a in n.args[0].walk()):
        return None
    return make("pow", make("abs", n.args[0]), TWO)


def scaled_square(n, g):
    if n.op == "pow" and n.args[1] == TWO:
        return make("div", make("pow", make("mul", num(-3), n.args[0]), TWO), num(9))
    return None


def scaled_root(n, g):
    if n.op == "sqrt" and n.is_signal:
        return make("div", make("sqrt", make("mul", num(4), n.args[0])), TWO)
    return None


def peak_of_a_multiple(n, g):
    if n.op == "peak":
        return make("mul", TWO, make("peak", make("div", n.args[0], TWO)))
    return None


def peak_of_a_peak(n, g):
    return make("peak", n) if n.op == "peak" else None


REWRITES = (
    commute, associate, distribute, add_and_subtract, double_negation, times_and_divided, dead_branch, neutral, subtraction, division,
    root_as_power, square_as_product, split_number, scale_into_filter, scale_out_of_filter, mean_as_momentum, momentum_as_mean,
    filter_of_a_sum, filters_commute, delay_and_filter, one_step_of_a_filter, delay_of_a_sum, delay_of_a_multiple, odd_tanh,
    tanh_by_sigmoid, even_square, scaled_square, scaled_root, peak_of_a_multiple, peak_of_a_peak,
)  # fmt: skip


def replaced(root, old, new):
    """The tree with ``new`` in every place of ``old``."""
    known = {}
    for node in root.walk():
        if node == old:
            known[node] = new
        else:
            known[node] = make(node.op, *(known[a] for a in node.args)) if node.args else node
    return known[root]


def rewritten(root, rewrite, g):
    """One random node of the tree rewritten; None if none fits, or what comes out is too large."""
    nodes = list(root.walk())
    g.shuffle(nodes)
    for node in nodes:
        try:
            new = rewrite(node, g)
            if new is not None:
                return replaced(root, node, new)
        except SpecError:
            continue
    return None


# ------------------------------------------------------------------------------------- mutations


def other_number(n, g):
    return num(float(n.value) * g.choice((0.75, 0.99, 1.01)) if n.value else 0.125) if n.op == "num" else None


def other_sign(n, g):
    return make("neg", n) if n.is_signal else None


def other_operator(n, g):
    return make({"add": "sub", "sub": "add", "mul": "add", "min": "max", "max": "min"}[n.op], *n.args) if n.op in BINARY[:3] else None


def without_one(n, g):
    return g.choice(n.args) if len(n.args) == 2 and all(a.is_signal for a in n.args) else None


def one_step_later(n, g):
    return make("prev", n) if n.is_signal else None


def once_more(n, g):
    return make("tanh", n) if n.is_signal else None


MUTATIONS = (other_number, other_sign, other_operator, without_one, one_step_later, once_more)
