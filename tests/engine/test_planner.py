"""The planner's choices and refusals."""

import pytest
import torch

from mrnn_search._registry import SpecError, UnknownNameError
from mrnn_search.cells import CellSpec
from mrnn_search.cells.bases.base import bases
from mrnn_search.cells.rules.base import rules
from mrnn_search.engine import planner
from mrnn_search.engine.planner import MAX_FUSED_HIDDEN, Place, plan

from ..cells.strategies import LINEAR


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


@pytest.mark.parametrize("rule", sorted(rules))
@pytest.mark.parametrize("base", sorted(bases))
def test_every_rule_on_every_base(base, rule):
    """Torch's kernel where there is one and the rule is a filter; each of these alone takes it away."""
    has_kernel = base in ("rnn", "lstm", "gru", "orthogonal_lstm")
    found = plan(CellSpec(base, rule)).kernel
    assert found == ("vendor" if has_kernel and rule in LINEAR else "loop")
    names = [name for name, c in CellSpec(base, rule).rule_type.coefficients.items() if c.learnable and name not in ("restart", "delta")]
    if found == "vendor":
        assert plan(CellSpec(base, rule, drive_bias="outside")).kernel == "vendor"
        assert plan(CellSpec(base, rule, learned=names)).kernel == "vendor"
    if found == "vendor" and rule != "plain":
        assert plan(CellSpec(base, rule), place=Place(dtype=torch.float64, rule_state=True)).kernel == "loop"
        for place in ({"scope": "preactivation"}, {"scope": "hidden"}):
            assert plan(CellSpec(base, rule, **place)).kernel == "loop"
        if len(bases[base].gate_names) > 1:
            assert plan(CellSpec(base, rule, gates=bases[base].gate_names[:1])).kernel == "loop"
        for kind in ("unit", "input"):
            spec = CellSpec(base, rule, learned=dict.fromkeys(names[:1], kind))
            assert plan(spec).kernel == "loop" and names[0] in plan(spec).reason
            with pytest.raises(SpecError, match="cannot run"):
                plan(spec, "vendor")


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("u", "vendor"),
        ("2 * ema(u - prev(u), 0.9)", "vendor"),
        ("momentum(u, cycle(3) / 4) / t", "vendor"),
        ("u + 1", "loop"),
        ("u * u", "loop"),
        ("u + 0.1 * r", "loop"),
    ],
)
def test_formulas(text, kernel):
    assert plan(CellSpec("lstm", text)).kernel == kernel


def test_a_plain_rule_is_plain_wherever_it_acts():
    for place in ({"scope": "preactivation"}, {"scope": "hidden"}, {"gates": "f"}, {"drive_bias": "outside"}):
        assert str(plan(CellSpec("lstm", **place))) == "vendor: plain rule"


def test_text_names_the_path_and_the_reason():
    assert str(plan(CellSpec("lstm", "heavy_ball"))) == "vendor: linear rule on filtered input"
    assert str(plan(CellSpec("lstm", "adam"))).startswith("loop: ")
    assert str(plan(CellSpec("lstm"), "reference")).startswith("reference")


def test_nothing_is_swapped_silently():
    with pytest.raises(SpecError, match='"vendor" cannot run .*adam'):
        plan(CellSpec("lstm", "adam"), "vendor")
    with pytest.raises(UnknownNameError, match="unknown execution"):
        plan(CellSpec("lstm"), "vendr")
    assert plan(CellSpec("lstm", "heavy_ball"), place=Place(dtype=torch.float64, rule_state=True)).kernel == "loop"


@pytest.mark.parametrize("rule", sorted(rules))
@pytest.mark.parametrize("base", sorted(bases))
def test_on_the_processor_in_float32_all_that_acts_on_the_drive_is_fused(base, rule):
    found = plan(CellSpec(base, rule), place=Place())
    has_kernel = base in ("rnn", "lstm", "gru", "orthogonal", "orthogonal_lstm")
    assert (found.kernel == "fused") == (has_kernel and CellSpec(base, rule).scope == "drive")
    assert found.filters == (found.kernel in ("fused", "vendor") and rule in LINEAR and rule != "plain")
    assert str(found).startswith("fused cpu: ") == (found.kernel == "fused")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cuda"}, "not on cuda"),
        ({"dtype": torch.float64}, "not in float64"),
        ({"packed": True}, "packed"),
        ({"obstacle": "autocast is on"}, "autocast"),
    ],
)
def test_each_of_these_keeps_the_fused_kernels_away(change, reason):
    found = plan(CellSpec("lstm", "adam"), place=Place(**change))
    assert found.kernel == "loop" and reason in found.reason
    with pytest.raises(SpecError, match=f'"fused" cannot run .*{reason}'):
        plan(CellSpec("lstm", "adam"), "fused", Place(**change))


def test_wide_layers_are_torchs_unless_someone_asks():
    wide = Place(hidden=MAX_FUSED_HIDDEN + 1)
    assert plan(CellSpec("lstm"), place=wide).kernel == "vendor" and plan(CellSpec("lstm"), "fused", wide).kernel == "fused"


def test_a_carried_state_is_no_filter():
    found = plan(CellSpec("lstm", "heavy_ball"), place=Place(rule_state=True))
    assert found.kernel == "fused" and not found.filters and "carried" in found.reason


def test_triton_runs_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(planner, "available", lambda device: (device == "cuda", "no CUDA device"))
    place = Place("cuda")
    for rule in ("plain", "heavy_ball", "adam"):
        assert plan(CellSpec("lstm", rule), place=place).kernel != "triton"
        found = plan(CellSpec("lstm", rule), "triton", place)
        assert found.kernel == "triton" and found.filters == (rule == "heavy_ball")
    assert not plan(CellSpec("lstm", "heavy_ball"), "triton", Place("cuda", rule_state=True)).filters
    for change, reason in (
        ({"packed": True}, "packed"),
        ({"obstacle": "autocast is on"}, "autocast"),
        ({"device": "cpu"}, "no CUDA device"),
    ):
        with pytest.raises(SpecError, match=f'"triton" cannot run .*{reason}'):
            plan(CellSpec("lstm", "adam"), "triton", Place(**{"device": "cuda"} | change))
