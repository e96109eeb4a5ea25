"""Every side makes an update: each candidate's weights move, and the loop starts with the engine's weights."""

from __future__ import annotations

import math

import pytest
import torch

from mrnn_search._registry import UnknownNameError
from mrnn_search.bench.setting import BASES, LOSSES, SHAPES, Setting, Shape, classification_loss
from mrnn_search.bench.sides import SIDES, VENDOR, _start, build

TINY = Shape(3, 4, 2, 5)


def test_the_shapes_are_those_that_the_figures_are_about() -> None:
    sizes = {"A": (28, 128, 28, 128), "B": (784, 128, 1, 128), "C": (96, 32, 64, 64), "D": (28, 32, 28, 64), "E": (28, 64, 28, 32)}
    assert {name: (s.steps, s.batch, s.inputs, s.hidden) for name, s in SHAPES.items()} == sizes


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("base", BASES)
def test_the_loop_starts_with_the_engines_weights(base: str, loss: str) -> None:
    """In float32, so not to the last bit. The second loss tells that the first update was one."""
    setting = Setting(base, "adam", TINY, loss)
    x, y = setting.batch(1)
    loop = build("loop", setting, 1)
    first, second = float(loop.update()), float(loop.update())
    assert first == pytest.approx(math.log(10), rel=0.5) and second != first
    model = _start(setting, setting.candidates(1)[0], 0)
    outputs = model.layer(x[0])[0]
    expected = classification_loss(model.readout(outputs if loss == "sequence" else outputs[:, -1]), y[0])
    assert first == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shape", [TINY, Shape(1, 1, 1, 2)], ids=str)
def test_every_side_runs(base: str, name: str, shape: Shape) -> None:
    if name == "torch.nn" and base not in VENDOR:
        pytest.skip("torch has no such layer")
    side = build(name, Setting(base, "heavy_ball", shape), 3)
    assert (side.name, side.lanes) == (name, 3 if name == "engine" else 1)
    side.update()
    side.update()


def test_lanes_differ_and_the_first_has_the_rules_defaults() -> None:
    setting = Setting("lstm", "adam", TINY)
    candidates = setting.candidates(8)
    assert candidates[0].spec == setting.spec and len({c.spec.cell_id for c in candidates}) == len({c.lr for c in candidates}) == 8
    assert {c.spec.coefficients["delta"] for c in candidates} == {setting.spec.coefficients["delta"]}  # a guard stays


def test_the_loss_of_every_step_gives_each_its_sequences_label() -> None:
    logits, y = torch.randn(3, 4, 10), torch.tensor([1, 0, 7])
    every = [classification_loss(logits[:, t], y) for t in range(4)]
    torch.testing.assert_close(classification_loss(logits, y), torch.stack(every).mean())


def test_an_unknown_side() -> None:
    with pytest.raises(UnknownNameError, match='did you mean "loop"'):
        build("lop", Setting("lstm", "adam", TINY), 1)
