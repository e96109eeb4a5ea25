"""The yardstick computes what the package computes: the same outputs and the same gradients, for every base and rule."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrnn_search.bench.loop import LOOP_CELLS, LoopModel
from mrnn_search.bench.loop_rules import LOOP_RULES
from mrnn_search.bench.setting import BASES, CLASSES, LOSSES, classification_loss
from mrnn_search.cells.rules import rules
from mrnn_search.cells.spec import Candidate, CellSpec
from mrnn_search.engine.train import SequenceModel


def built_in() -> set[str]:
    return {rule for rule in rules if rules[rule].__module__.startswith("mrnn_search.")}


def test_every_built_in_rule_on_the_drive_has_its_lines() -> None:
    assert set(LOOP_RULES) == {rule for rule in built_in() if not rules[rule].program.coupled}
    assert set(LOOP_CELLS) == set(BASES)


@pytest.mark.parametrize("rule", sorted(LOOP_RULES))
def test_the_lines_take_the_rules_coefficients_and_keep_no_more_than_they_say(rule: str) -> None:
    step = LOOP_RULES[rule].step
    assert set(inspect.signature(step).parameters) == {"u", "held", "t", *rules[rule].coefficients}
    u, held = torch.randn(2, 3), (torch.zeros(2, 3),) * LOOP_RULES[rule].states
    d, after = step(u, held, 1, **rules[rule].complete({}))
    assert d.shape == u.shape and [m.shape for m in after] == [m.shape for m in held]


def results(
    base: str, rule: str, loss: str, steps: int = 9, batch: int = 3, inputs: int = 5, hidden: int = 7, init: str = "torch"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits, loss and every gradient: of the loop, and of the package's reference."""
    torch.manual_seed(3)
    spec = CellSpec(base, rule)
    model = SequenceModel(Candidate(spec, hidden, init=init), inputs, CLASSES).double()
    loop = LoopModel(spec, inputs, hidden, CLASSES, loss == "sequence").double().copy_(model)
    reference = model.layer.reference()
    x, y = torch.randn(batch, steps, inputs, dtype=torch.float64), torch.randint(CLASSES, (batch,))
    found = []
    for run in (loop, lambda x: model.readout(reference(x)[0] if loss == "sequence" else reference(x)[0][:, -1])):
        at = x.clone().requires_grad_()
        logits = run(at)
        value = classification_loss(logits, y)
        value.backward()
        found.append({"logits": logits.detach(), "loss": value.detach(), "x": at.grad})
    for name, (mine, theirs) in loop.pairs(model).items():
        found[0][name], found[1][name] = mine.grad, theirs.grad
    return found[0], found[1]


def same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-5, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("rule", sorted(LOOP_RULES))
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loop_is_the_reference(base: str, rule: str, loss: str) -> None:
    mine, theirs = results(base, rule, loss)
    assert len(mine) == 3 + (4 if base != "orthogonal" else 3) + 2
    for name, value in theirs.items():
        assert value.abs().max() > 0, name  # nothing is equal by being absent
    same(mine, theirs)


@given(st.sampled_from(BASES), st.sampled_from(sorted(LOOP_RULES)), st.sampled_from(LOSSES), *[st.integers(1, 6)] * 4)
@settings(max_examples=40)
def test_in_awkward_sizes_too(base: str, rule: str, loss: str, steps: int, batch: int, inputs: int, hidden: int) -> None:
    """One step, one sequence, one input, one unit; and the weights that a search starts from."""
    same(*results(base, rule, loss, steps, batch, inputs, hidden, init="paper"))


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gain that is off by a thousandth is seen."""
    right = LOOP_RULES["heavy_ball"].step
    wrong = type(LOOP_RULES["heavy_ball"])(lambda u, held, t, mu, epsilon: right(u, held, t, mu, 1.001 * epsilon), 1)
    monkeypatch.setitem(LOOP_RULES, "heavy_ball", wrong)
    with pytest.raises(AssertionError, match="logits"):
        test_the_loop_is_the_reference("lstm", "heavy_ball", "last")
