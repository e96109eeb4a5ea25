"""Generated Triton kernels of rules: equal to `run_sequence` in float64, and code for a device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mrnn_search._registry import SpecError
from mrnn_search.cells.formula import Program
from mrnn_search.cells.formula.text import show
from mrnn_search.cells.rules import rules
from mrnn_search.engine import native
from mrnn_search.engine.gpu import generate
from mrnn_search.engine.gpu.rules import drives, unfit
from mrnn_search.engine.sequence import run_sequence
from tests.cells.formula.trees import NAMES, Trees
from tests.engine.native.test_rules import CORNERS, DRIVES, TOLERANCE, VALUES, Case, gap, ordinary

from .device import DEVICE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the interpreter


def together(cases):
    """Results and gradients of each of these cases of one rule and shape, run as lanes of one call."""
    leaves = [case.leaves(torch.float32) for case in cases]
    u = torch.stack([u for u, _, _ in leaves]).to(DEVICE)
    held = [None if h[0] is None else torch.stack(h).to(DEVICE) for h in zip(*(held for _, held, _ in leaves), strict=True)]
    c = [{n: v.to(DEVICE) for n, v in learned.items()} | case.fixed for case, (_, _, learned) in zip(cases, leaves, strict=True)]
    results = [x.cpu() for x in flat(drives(cases[0].program, c, u, held, cases[0].t))]
    total = sum((x[k] * w.float()).sum() for k, case in enumerate(cases) for x, w in zip(results, case.weights, strict=True))
    inputs = [[x for x in (u, *held, *learned.values()) if x is not None and x.requires_grad] for u, held, learned in leaves]
    every = [x for some in inputs for x in some]
    found = iter(torch.autograd.grad(total, every, allow_unused=True, materialize_grads=True) if total.requires_grad else ())
    return [[x[k].detach() for x in results] + [next(found) for _ in some] for k, some in enumerate(inputs)]


def flat(result):
    d, last = result
    return [d, *last]


@pytest.mark.parametrize("name", DRIVES)
@pytest.mark.parametrize(("steps", "batch", "t", "held"), [(1, 3, 0, False), (5, 2, 0, False), (4, 1, 7, True)])
def test_a_rule_is_run_sequence(name, steps, batch, t, held):
    case = Case(rules[name].program, (steps, batch, 5), steps, t, held)
    exact = case.theirs()
    # a division by what is nearly 0 (adabelief's guard, lion's tau) costs torch's own float32 as much
    assert gap(together([case])[0], exact) < max(TOLERANCE, 4 * gap(case.theirs(torch.float32), exact))


@pytest.mark.parametrize("name", ["adam", "nadam", "amsgrad"])
def test_several_blocks_of_channels(name):
    case = Case(rules[name].program, (3, 3, 107), 1)
    exact = case.theirs()
    assert gap(together([case])[0], exact) < max(TOLERANCE, 4 * gap(case.theirs(torch.float32), exact))


def test_random_formulas():
    checked, operations = 0, set()
    for seed in range(260):
        try:
            program = Program.of(show(Trees(seed, coupled=False).signal(2 + seed % 3)), (*NAMES, "restart"))
        except SpecError:
            continue
        case = Case(program, (5, 1, 7), seed, t=seed % 3 * 4, held=seed % 2 == 0)
        if not program.root.coefficients and program.plain or not ordinary(case):
            continue
        found = gap(together([case])[0], case.theirs())
        assert found < 1e-5, (program.text, found)
        checked += 1
        operations |= {n.op for n in program.root.walk()}
    assert checked > 60, checked
    assert operations >= set("add sub mul div pow neg sqrt abs sign exp log tanh sigmoid relu min max momentum ema peak prev".split())


@pytest.mark.parametrize("text", [*CORNERS, "u^9", "u^-9", "u^10"])
def test_zeros_infinities_and_nan_as_torch(text):
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 88.5, 89.0, -90.0, 100.0, float("inf"), -float("inf"), float("nan")]
    program, found = Program.of(text, NAMES), []
    for run in (lambda c, u: drives(program, [c], u[None], [None] * len(program.states))[0][0],
                lambda c, u: run_sequence(program, c, u, [None] * len(program.states))[0]):  # fmt: skip
        u = torch.tensor(values, device=DEVICE).view(1, 1, -1).requires_grad_()
        d = run({n: VALUES[n] for n in program.root.coefficients}, u)
        found.append([d.detach(), *torch.autograd.grad(d.sum(), u)])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=2e-6, atol=1e-6 if text == "tanh(u)" else 1e-37, equal_nan=True)  # 1 - tanh^2 cancels


def test_equal_entries_of_a_peak():
    """The gradient is the latest one's, and nobody's where none is above 0."""
    case = Case(Program.of("peak(u) + peak(-u)"), (5, 2, 7), held=False)
    case.u = case.u.mul(1.5).round()
    assert gap(together([case])[0], case.theirs()) < TOLERANCE


def test_channels_past_the_last_count_nowhere():
    """A block is wider than these 10; beside them u is 0, and so the derivative infinite."""
    case = Case(Program.of("mu / u", NAMES), (4, 2, 5))
    assert gap(together([case])[0], case.theirs()) < TOLERANCE


@pytest.mark.parametrize("name", ["adam", "heavy_ball", "nadam"])
def test_a_lane_does_not_see_the_others(name):
    """Bit for bit; coefficients are each lane's own."""
    cases = [Case(rules[name].program, (4, 2, 5), seed, held=True) for seed in range(3)]
    for k, case in enumerate(cases):
        case.learned["mu"] = torch.tensor(0.3 + 0.2 * k).double()
    for case, found in zip(cases, together(cases), strict=True):
        alone = together([case])[0]
        assert gap(alone, case.theirs()) < 1e-5
        assert all(torch.equal(x, y) for x, y in zip(found, alone, strict=True))


def test_what_is_not_asked_for():
    """A state alone has a gradient; u needs none; numbers learn nothing."""
    program = rules["adam"].program
    case = Case(program, (4, 2, 5), needs_u=False)
    u, _, learned = case.leaves(torch.float32)
    c = {n: v.detach().to(DEVICE).requires_grad_() for n, v in learned.items()} | case.fixed
    _, held = drives(program, [c], u[None].to(DEVICE), case.held and [None, None])
    found = torch.autograd.grad(held[0].sum(), c["mu"])[0]
    exact = case.leaves(torch.float64)
    lane = Case(program, (4, 2, 5), needs_u=False, held=False).lane((exact[0], [None, None], exact[2]))
    expected = torch.autograd.grad(run_sequence(*lane)[1][0][-1].sum(), exact[2]["mu"])[0]
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-5, atol=1e-5)
    assert drives(program, [VALUES], u[None].to(DEVICE), [None, None])[0].grad_fn is None


def test_refused():
    adam, u = rules["adam"].program, torch.zeros(1, 2, 3, 4, device=DEVICE)
    assert unfit(adam, VALUES, 0) == ""
    assert "hidden state" in unfit(rules["nesterov_released"].program, VALUES, 0)
    assert "step number" in unfit(rules["nadam"].program, VALUES, torch.zeros(3))
    with pytest.raises(ValueError, match="one number"):
        drives(adam, [VALUES | {"mu": torch.zeros(4)}], u, [None, None])


def test_every_operation_has_an_expression():
    """Of all that a lowered step can hold: those of the machine on the CPU."""
    header = Path(native.__file__).with_name("operations.h").read_text()
    names = header.split("NAMES[] =")[1].split(";")[0].replace('"', " ").split()
    assert names == list(generate.EXPRESSIONS)


FOR_A_DEVICE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mrnn_search.cells.formula import Program
from mrnn_search.cells.rules import rules
from mrnn_search.engine.gpu.generate import generated
from mrnn_search.engine.gpu.rules import BLOCK, OPTIONS

every = "prev(u) * peak(u) * t + abs(u)^mu + u^9 + log(abs(u) + 1) * exp(u) + sigmoid(u) + min(u, 1) + relu(u) * sign(u) + tanh(u)"
for program in (rules["adam"].program, rules["heavy_ball"].program, Program.of(every, ["mu"])):
    back = generated(program).backward(True, frozenset(["mu"]))
    for kernel in (generated(program).forward(back.states), back):
        constants = dict.fromkeys(("HELD", "LAST", "FOR_HELD"), True) | {"BLOCK": BLOCK}
        names = kernel.run.arg_names
        kinds = {n: "constexpr" if n in constants else "i32" if n in ("T", "N") else "*fp32" for n in names}
        given = {(k,): constants[n] for k, n in enumerate(names) if n in constants}
        made = triton.compile(ASTSource(kernel.run, kinds, given), target=GPUTarget("cuda", 90, 32), options=OPTIONS)
        assert made.asm["cubin"]
print("made")
"""


def test_code_for_a_device(tmp_path):
    """Without one: the interpreter takes what the compiler would refuse."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", FOR_A_DEVICE], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "made", done.stderr
