"""Every rule on every base by finite differences, in float64: every parameter, learned coefficients too, the input and the state.

Fast mode compares one random projection of the Jacobian, full mode every entry. Where a function has a kink (relu, a running
maximum) the numbers are away from it. δ is large enough to keep the curvature within what differences can follow.
"""

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call

from mrnn_search.cells import CellSpec
from mrnn_search.engine.recurrent import Recurrent, State

from .by_hand import BASES, COUPLED, LEARNABLE, RULES, VALUES, moved

T, B, WIDTH, H = 3, 1, 2, 2


def check(spec, execution="auto", fast=True, seed=2, state=False):
    layer = moved(Recurrent(spec, WIDTH, H, init="torch", execution=execution), seed)
    names = [name for name, _ in layer.named_parameters()]
    buffers = dict(layer.named_buffers())
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(T, B, WIDTH, dtype=torch.float64, generator=g).requires_grad_()
    start = []
    if state:
        shapes = [s.shape for s in layer(x)[1]], [m.shape for m in getattr(layer(x)[1], "rule", ())]
        start = [torch.rand(shape, dtype=torch.float64, generator=g).requires_grad_() for kind in shapes for shape in kind]
        cells = len(shapes[0])

    def run(x, *given):
        weights = {**dict(zip(names, given, strict=False)), **buffers}
        held = given[len(names) :]
        hx = State(held[:cells], held[cells:], 4) if state else None
        y, last = functional_call(layer, weights, (x, hx))
        last = last if isinstance(last, tuple) else (last,)
        return (y, *(s for s in (*last, *getattr(last, "rule", ())) if s.requires_grad))

    assert torch.autograd.gradcheck(run, (x, *parameters, *start), fast_mode=fast)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("base", BASES)
def test_every_rule_on_every_base(base, rule):
    check(CellSpec(base, rule, VALUES[rule], LEARNABLE[rule]))


@pytest.mark.parametrize("kind", ["unit", "input"])
@pytest.mark.parametrize("rule", [rule for rule in RULES if LEARNABLE[rule]])
def test_wide_coefficients(rule, kind):
    check(CellSpec("gru", rule, VALUES[rule], dict.fromkeys(LEARNABLE[rule], kind)))


@pytest.mark.parametrize(
    ("place", "rules"),
    [
        ({"scope": "preactivation"}, RULES),
        ({"scope": "hidden"}, [rule for rule in RULES if rule not in COUPLED]),
        ({"gates": "g"}, ["adam", "heavy_ball", "nesterov_released", "lion"]),
        ({"gates": "if", "drive_bias": "outside"}, ["adam", "heavy_ball", "nesterov_released"]),
        ({"gates": "go", "scope": "preactivation"}, ["adam", "heavy_ball", "adabelief"]),
        ({"scope": "preactivation", "drive_bias": "outside"}, ["adam", "nesterov", "nesterov_released"]),
    ],
    ids=["preactivation", "hidden", "g", "if+b", "preactivation-go", "preactivation+b"],
)
@pytest.mark.parametrize("base", ["lstm", "gru"])
def test_scopes_gates_and_bias(base, place, rules):
    if base == "gru" and "gates" in place:
        place = {**place, "gates": {"g": "n", "if": "rz", "go": "zn"}[place["gates"]]}
    for rule in rules:
        check(CellSpec(base, rule, VALUES[rule], LEARNABLE[rule], **place))


@pytest.mark.parametrize("execution", ["auto", "reference"])
@pytest.mark.parametrize(
    ("base", "rule", "place"),
    [
        ("lstm", "adam", {}),
        ("lstm", "nesterov_released", {}),
        ("gru", "adabelief", {"scope": "preactivation"}),
        ("rnn", "amsgrad", {"scope": "hidden"}),
        ("gru", "qhm", {}),
        ("orthogonal", "heavy_ball", {}),
        ("orthogonal_lstm", "lion", {"gates": "g"}),
        ("linear", "adam_corrected", {}),
    ],
)
def test_every_entry(base, rule, place, execution):
    check(CellSpec(base, rule, VALUES[rule], LEARNABLE[rule], **place), execution, fast=False)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "plain"])
def test_a_given_state(rule):
    """From states of cell and rule that are not 0, at step 5, and to those at the end."""
    check(CellSpec("lstm", rule, VALUES[rule], LEARNABLE[rule]), state=True)


@pytest.mark.parametrize("base", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("rule", ["plain", "heavy_ball", "nesterov", "qhm"])
def test_vendor_path(base, rule):
    check(CellSpec(base, rule, VALUES[rule], LEARNABLE[rule]), "vendor")


def test_a_wrong_gradient_is_noticed():
    """The check can fail: a layer whose x does not reach the drive in the backward pass."""
    layer = moved(Recurrent(CellSpec("rnn", "heavy_ball"), WIDTH, H), 1)
    x = torch.randn(T, B, WIDTH, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(lambda x: layer(x + (x * x - (x * x).detach()) * 0.1)[0], (x,), fast_mode=True)
