"""The operators `mrnn_search::rule…`: equal to `drives`, and one graph under a compiler."""

import pytest
import torch

from mrnn_search.cells.rules import rules
from mrnn_search.engine.native.build import Native, native
from mrnn_search.engine.native.ops import drive
from mrnn_search.engine.native.rules import Lane, drives

pytestmark = pytest.mark.skipif(not isinstance(native(), Native), reason="there is no compiler")


def example(name, learned):
    g = torch.Generator().manual_seed(1)
    rule = rules[name]
    c = {k: torch.tensor(v.default).requires_grad_() if learned and v.learnable else v.default for k, v in rule.coefficients.items()}
    u = torch.randn(9, 2, 30, generator=g).requires_grad_()
    held = [torch.rand(2, 30, generator=g).requires_grad_() for _ in rule.program.states]
    return Lane(rule.program, c, u, held, 3)


def outcome(lane, run):
    d, last = run(lane)
    total = sum((x * (1 + k)).sin().sum() for k, x in enumerate((d, *last)))
    leaves = [lane.u, *lane.held, *(v for v in lane.c.values() if isinstance(v, torch.Tensor))]
    return [d, *last, *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", ["heavy_ball", "adam", "nadam", "nesterov", "lion"])
def test_the_operator_is_the_function(name, learned):
    lane = example(name, learned)
    for ours, theirs in zip(outcome(lane, drive), outcome(lane, lambda lane: drives([lane])[0]), strict=True):
        assert torch.equal(ours, theirs)


def test_states_that_are_not_given_are_zero():
    lane = example("adam", False)._replace(held=[None, None])
    ours, theirs = drive(lane), drives([lane])[0]
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1][1], theirs[1][1])


@pytest.mark.parametrize("learned", [False, True])
def test_one_graph(learned):
    lane = example("nadam", learned)
    torch.compiler.reset()
    compiled = torch.compile(drive, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(outcome(lane, compiled), outcome(lane, drive), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_torch_finds_no_fault_with_it():
    lane = example("adam", False)
    told = (lane.program.text, " ".join(lane.program.root.coefficients), "")
    numbers = [float(lane.c[name]) for name in lane.program.root.coefficients]
    held = [h.detach() for h in lane.held]
    torch.library.opcheck(torch.ops.mrnn_search.rule.default, (*told, lane.u, held, numbers, [], 0))
