"""The planner's choices and refusals."""

import pytest

from mrnn_search._registry import SpecError, UnknownNameError
from mrnn_search.cells import CellSpec
from mrnn_search.engine.planner import plan


@pytest.mark.parametrize(
    ("base", "rule", "kernel"),
    [
        ("lstm", "plain", "vendor"),
        ("gru", "heavy_ball", "vendor"),
        ("rnn", "nesterov", "vendor"),
        ("lstm", "adam", "loop"),
        ("gru", "rmsprop", "loop"),
        ("orthogonal", "heavy_ball", "loop"),
    ],
)
def test_choice(base, rule, kernel):
    assert plan(CellSpec(base, rule)).kernel == kernel


def test_text_names_the_path_and_the_reason():
    assert str(plan(CellSpec("lstm", "heavy_ball"))) == "vendor: linear rule on filtered input"
    assert str(plan(CellSpec("lstm", "adam"))).startswith("loop: ")
    assert str(plan(CellSpec("lstm"), "reference")).startswith("reference")


def test_nothing_is_swapped_silently():
    with pytest.raises(SpecError, match='"vendor" cannot run .*adam'):
        plan(CellSpec("lstm", "adam"), "vendor")
    with pytest.raises(UnknownNameError, match="unknown execution"):
        plan(CellSpec("lstm"), "vendr")
    assert plan(CellSpec("lstm", "heavy_ball"), rule_state=True).kernel == "loop"
