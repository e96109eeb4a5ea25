"""Drive rules on the machine of `rule.cpp`: equal to `run_sequence` in float64, whatever the lanes, threads and instruction set."""

import json
import os
import subprocess
import sys

import pytest
import torch

from mrnn_search._registry import SpecError
from mrnn_search.cells.formula import Program
from mrnn_search.cells.formula.run import evaluate, leaf
from mrnn_search.cells.formula.text import show
from mrnn_search.cells.rules import rules
from mrnn_search.engine.native.build import ISA_FLAGS, Native, best_isa, native
from mrnn_search.engine.native.code import Code, compile
from mrnn_search.engine.native.rules import Lane, drives, unfit
from mrnn_search.engine.sequence import run_sequence
from tests.cells.formula.trees import NAMES, Trees

pytestmark = pytest.mark.skipif(not isinstance(native(), Native), reason="there is no compiler")

VALUES = {"mu": 0.6, "beta": 0.9, "beta2": 0.95, "epsilon": 0.7, "delta": 0.01, "nu": 0.7, "tau": 0.5, "restart": 3}
DRIVES = [name for name in rules if not rules[name].program.coupled]
# Of the largest entry: 32 roundings in float32, for results of up to a dozen operations a step and gradients of three times
# as many. A gradient of a coefficient is a sum that cancels, and is held to the size of its terms.
TOLERANCE = 32 * 2.0**-23


def data(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).float().double()


class Case:
    """A rule on random data; every tensor is exact in float32."""

    def __init__(self, program, shape, seed=0, t=0, held=True, needs_u=True):
        self.program, self.t, self.needs_u = program, t, needs_u
        self.u = data(seed, *shape)
        self.held = [data(seed + 1 + k, *shape[1:]).abs() if held else None for k in range(len(program.states))]
        names = [n for n in program.root.coefficients if n not in ("restart", "delta")]
        self.learned = {n: torch.tensor(VALUES[n]).double() for n in names}
        self.fixed = {n: VALUES[n] for n in program.root.coefficients if n not in names}
        self.weights = [data(seed + 50 + k, *(shape if k == 0 else shape[1:])) for k in range(1 + len(program.states))]

    def leaves(self, dtype, noise=0.0):
        def own(x, needs=True):
            x = x * (1 + noise * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9)))
            return x.to(dtype).requires_grad_(needs)

        u, held = own(self.u, self.needs_u), [None if h is None else own(h) for h in self.held]
        return u, held, {n: own(v) for n, v in self.learned.items()}

    def lane(self, leaves):
        u, held, learned = leaves
        return Lane(self.program, {**learned, **self.fixed}, u, held, self.t)

    def finish(self, leaves, results):
        """The results, and the gradients of a random sum of them."""
        u, held, learned = leaves
        inputs = [x for x in (u, *held, *learned.values()) if x is not None and x.requires_grad]
        results = [results[0], *results[1]]
        total = sum((y * w.to(y.dtype)).sum() for y, w in zip(results, self.weights, strict=True))
        gradients = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True) if total.requires_grad else []
        return [x.detach() for x in (*results, *gradients)]

    def ours(self):
        leaves = self.leaves(torch.float32)
        return self.finish(leaves, drives([self.lane(leaves)])[0])

    def theirs(self, dtype=torch.float64, noise=0.0):
        leaves = self.leaves(dtype, noise)
        lane = self.lane(leaves)
        d, held = run_sequence(*lane)
        return self.finish(leaves, (d, [m[-1] for m in held]))


def gap(found, expected):
    """The largest difference of each tensor, in units of its largest entry; of single numbers, of at least their terms' size."""
    out = []
    for x, y in zip(found, expected, strict=True):
        size = max(float(y.abs().max()), 1e-30)
        if y.dim() == 0:
            size = max(size, *(float(e.abs().max()) for e in expected if e.dim()))
        out.append(float((x.double() - y.double()).abs().max()) / size)
    return max(out) if not any(map(lambda x: x != x, out)) else float("nan")


@pytest.mark.parametrize("name", DRIVES)
@pytest.mark.parametrize("steps", [1, 2, 5, 31, 32, 33, 200])
def test_a_rule_is_run_sequence(name, steps):
    for shape, t, held in (((steps, 3, 107), 0, False), ((steps, 1, 5), 7, True)):
        case = Case(rules[name].program, shape, steps, t, held)
        exact = case.theirs()
        # a division by what is nearly 0 (adabelief's guard, lion's tau) costs torch's own float32 as much
        assert gap(case.ours(), exact) < max(TOLERANCE, 4 * gap(case.theirs(torch.float32), exact))


def test_long_sequences_in_segments():
    """A backward keeps 16 states of 8 steps only, or of all steps of a short sequence."""
    text = "; ".join(f"a{k} = ema({'u' if k == 0 else f'a{k - 1}'}, 0.{k + 1:02})" for k in range(16)) + "; d = tanh(a15 * u) + a3"
    for steps in (7, 8, 9, 16, 17, 130):
        case = Case(Program.of(text), (steps, 2, 150), steps)
        assert gap(case.ours(), case.theirs()) < TOLERANCE


def ordinary(case):
    """Is this formula well conditioned here: no value that float32 has not, no kink nearby, and torch's own float32 is close?"""
    lane, sizes = case.lane(case.leaves(torch.float64)), []
    for node in case.program.root.walk():
        if node.is_signal:
            value = run_sequence(Program.of(show(node), (*NAMES, "restart")), lane.c, lane.u, _states_of(case, node), lane.t)[0]
        else:
            value = evaluate(node, lambda n: leaf(n, lane.c, None, None, torch.arange(1.0, 8.0).double()), lambda *_: None)
        value = torch.as_tensor(value, dtype=torch.float64).detach().abs()
        sizes += [value[value != 0].min(), value.max()] if (value != 0).any() else []
    if not all(1e-12 < float(s) < 1e12 for s in sizes):
        return False
    exact = case.theirs()
    if not all(x.isfinite().all() for x in exact) or not gap(case.theirs(torch.float32), exact) < 4e-6:
        return False
    return all(gap(case.theirs(noise=noise), exact) < 100 * abs(noise) for noise in (1e-5, -1e-5, 1e-7))


def _states_of(case, node):
    known = dict(zip(case.program.states, case.held, strict=True))
    return [known[n] for n in Program.of(show(node), (*NAMES, "restart")).states]


def test_random_formulas():
    checked, operations = 0, set()
    for seed in range(700):
        try:
            program = Program.of(show(Trees(seed, coupled=False).signal(2 + seed % 3)), (*NAMES, "restart"))
        except SpecError:
            continue
        case = Case(program, (7, 1, 11), seed, t=seed % 3 * 4, held=seed % 2 == 0)
        if not program.root.coefficients and program.plain or not ordinary(case):
            continue
        found = gap(case.ours(), case.theirs())
        assert found < 1e-5, (program.text, found)
        checked += 1
        operations |= {n.op for n in program.root.walk()}
    assert checked > 150, checked
    assert operations >= set("add sub mul div pow neg sqrt abs sign exp log tanh sigmoid relu min max momentum ema peak prev".split())


CORNERS = ["sqrt(abs(u))", "sqrt(u^2)", "abs(u)^0.3", "abs(u)^mu", "abs(u)^(mu - 1)", "sign(u)", "relu(u)", "max(u, 0)", "min(u, u * u)",
           "max(-u, u)", "log(u)", "exp(u)", "1 / u", "u^3", "u^-2", "u^-0.5", "u^0", "u^1.7", "tanh(u)", "sigmoid(u)", "1 / (u - 1)",
           "min(1, u)", "ema(u, 0.5)", "peak(u)", "prev(exp(u))"]  # fmt: skip


@pytest.mark.parametrize("text", CORNERS)
def test_zeros_infinities_and_nan_as_torch(text):
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 88.5, 89.0, -90.0, 100.0, float("inf"), -float("inf"), float("nan")]
    case = Case(Program.of(text, NAMES), (1, 1, len(values)), held=False)
    case.u = torch.tensor(values, dtype=torch.float64).view(1, 1, -1)
    u = case.leaves(torch.float32)
    ours, theirs = [], []
    for out, run in ((ours, lambda lane: drives([lane])[0][0]), (theirs, lambda lane: run_sequence(*lane)[0])):
        u = case.leaves(torch.float32)
        d = run(case.lane(u))
        out += [d.detach(), *torch.autograd.grad(d.sum(), u[0])]
    for x, y in zip(ours, theirs, strict=True):
        y = torch.where(y.abs() < 2e-38, 0.0, y)  # the machine has no denormals
        torch.testing.assert_close(x, y, rtol=2e-6, atol=1e-6 if text == "tanh(u)" else 1e-37, equal_nan=True)  # 1 - tanh^2 cancels


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("exp(u)", -87.2, 88.7),
        ("log(u)", 1e-30, 1e3),
        ("log(u)", 0.5, 2),
        ("tanh(u)", -9, 9),
        ("sigmoid(u)", -80, 80),
        ("u^1.75", 1e-10, 1e5),
    ],
)
def test_functions_to_a_few_units_in_the_last_place(text, low, high):
    u = torch.linspace(low, high, 20001)[None, None]
    program = Program.of(text)
    found, exact = drives([Lane(program, {}, u, [])])[0][0], run_sequence(program, {}, u.double(), [])[0]
    assert float(((found - exact).abs() / exact.abs().clamp(min=1e-37)).max()) < 5 * 2.0**-23


def several(seed=0, shapes=((33, 3, 107), (12, 2, 300), (5, 1, 3))):
    texts = [rules[n].program for n in DRIVES] + [Program.of("tanh(prev(u) + mu * peak(u)) * t", NAMES)]
    return [Case(program, shapes[k % len(shapes)], seed + k, k % 3, k % 2 == 0, k % 4 != 3) for k, program in enumerate(texts)]


def together(cases):
    leaves = [c.leaves(torch.float32) for c in cases]
    results = drives([c.lane(x) for c, x in zip(cases, leaves, strict=True)])
    total = sum(
        (y * w.float()).sum() for c, (d, held) in zip(cases, results, strict=True) for y, w in zip((d, *held), c.weights, strict=True)
    )
    inputs = [[x for x in (u, *held, *learned.values()) if x is not None and x.requires_grad] for u, held, learned in leaves]
    found = iter(torch.autograd.grad(total, [x for some in inputs for x in some], materialize_grads=True, allow_unused=True))
    return [
        [d.detach(), *(h.detach() for h in held), *(next(found) for _ in some)] for (d, held), some in zip(results, inputs, strict=True)
    ]


def same(one, other):
    return all(torch.equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True))


def test_lanes_and_threads_do_not_matter():
    cases, threads = several(), torch.get_num_threads()
    alone = [case.ours() for case in cases]
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert same(together(cases), alone)
    finally:
        torch.set_num_threads(threads)


def test_what_is_not_asked_for():
    program = rules["adam"].program
    case = Case(program, (9, 2, 40), needs_u=False)
    leaves = case.leaves(torch.float32)
    _, held = drives([case.lane(leaves)])[0]
    assert drives([Lane(program, VALUES, leaves[0], [None, None])])[0][0].grad_fn is None
    mu = torch.autograd.grad(held[0].sum(), leaves[2]["mu"])[0]  # a state alone: the result has no gradient
    exact = case.leaves(torch.float64)
    expected = torch.autograd.grad(run_sequence(*case.lane(exact))[1][0][-1].sum(), exact[2]["mu"])[0]
    torch.testing.assert_close(mu.double(), expected, rtol=1e-5, atol=1e-5)


def test_strided_and_empty_inputs():
    program = rules["adam"].program
    u = data(3, 8, 6, 9).float()
    for x in (u[:, ::2], u.transpose(0, 1), u[:, :, 3:], u[:0], u[:, :0]):
        d, held = drives([Lane(program, VALUES, x, [None, None])])[0]
        assert d.shape == x.shape and held[0].shape == x.shape[1:]
        if len(x) == 0:
            assert not held[0].any()
        elif x.numel():
            torch.testing.assert_close(d, run_sequence(program, VALUES, x, [None, None])[0], rtol=1e-5, atol=1e-5)


def test_refused():
    u, adam = torch.zeros(2, 3, 4), rules["adam"].program
    assert compile(rules["nesterov_released"].program) == "it reads the hidden state"
    assert isinstance(compile(adam), Code) and unfit(Lane(adam, VALUES, u, [None, None])) == ""
    assert "float32" in unfit(Lane(adam, VALUES, u.double(), [None, None]))
    assert "one number" in unfit(Lane(adam, {**VALUES, "mu": torch.zeros(4)}, u, [None, None]))
    assert "states" in unfit(Lane(adam, VALUES, u, [None])) and "states" in unfit(Lane(adam, VALUES, u, [None, torch.zeros(2, 4)]))
    assert "step number" in unfit(Lane(rules["nesterov"].program, VALUES, u, [None], torch.zeros(3)))
    with pytest.raises(ValueError, match="float32"):
        drives([Lane(adam, VALUES, u.double(), [None, None])])


def _worst():
    """For another process: gaps of every rule under its instruction set."""
    torch.set_num_threads(1)
    found = native()
    cases = several(shapes=((33, 3, 107),))
    print(json.dumps([found.isa, max(gap(c.ours(), c.theirs()) for c in cases), max(gap(c.ours(), c.theirs()) for c in several())]))


@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_every_instruction_set(isa):
    order = ["portable", "avx2", "avx512"]
    if order.index(isa) > order.index(best_isa()):
        pytest.skip("this processor does not have it")
    code = "from tests.engine.native.test_rules import _worst; _worst()"
    environment = {**os.environ, "MRNN_SEARCH_ISA": isa, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    used, *gaps = json.loads(done.stdout.splitlines()[-1])
    assert used == isa and max(gaps) < 8 * TOLERANCE
