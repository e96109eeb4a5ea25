"""Layers on the fused CPU kernels: the rule for all t, then the recurrence of all lanes in one call.

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from ..cells.bases.base import Weights, bases
from ..cells.reference import at_input, chosen_gates, replace, select, split_bias
from ..cells.rules.base import Coefficients
from ..cells.spec import CellSpec
from .gpu.device import family
from .native.ops import drive as operator
from .native.recurrence import LaneInput, recurrence
from .native.rules import Lane, drives, unfit
from .packing import Packing
from .paths import LayerCall, LayerResult, sequence, widened
from .state import Steps
from .tracing import traced

LaneResult = tuple[Tensor, tuple[Tensor, ...]]


def run_fused(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: Steps = 0,
    packing: Packing | None = None,
    *,
    filters: bool,
) -> LayerResult:
    """One lane; ``packing`` is None, by the plan."""
    del packing
    return run_fused_lanes([LayerCall(spec, c, w, x, state, moments, t, filters)])[0]


def run_fused_lanes(calls: Sequence[LayerCall], recompute: bool = False) -> list[LayerResult]:
    """Lanes of one base, with the same options, and equal shapes; the rules are each lane's own. ``recompute``: as of `recurrence`."""
    prepared = [_prepare(call) for call in calls]
    ruled = _run_rules(calls, [p.rule for p in prepared])
    ready = [_lane(call, p, result) for call, p, result in zip(calls, prepared, ruled, strict=True)]
    spec = calls[0].spec
    alike: dict[tuple[object, ...], list[int]] = {}  # a call of the kernel has the same arguments for each of its lanes
    for k, (lane, _) in enumerate(ready):
        alike.setdefault(tuple(None if tensor is None else tensor.shape for tensor in lane), []).append(k)
    results: dict[int, LayerResult] = {}
    for members in alike.values():
        ended = recurrence(family(spec), [ready[k][0] for k in members], recompute)
        for k, (y, c) in zip(members, ended, strict=True):
            results[k] = y, (y[-1],) if c is None else (y[-1], c), ready[k][1]
    return [results[k] for k in range(len(calls))]


class _Prepared(NamedTuple):
    """``rule``: what the rule runs on, None if it is plain; ``u``: the drive before the rule, None where the rule filters the input;
    ``weight``: of z, ``bias``: what is added to the drive."""

    rule: Lane | None
    u: Tensor | None
    weight: Tensor
    bias: Tensor | None


def _prepare(call: LayerCall) -> _Prepared:
    spec, w, x = call.spec, call.w, call.x
    program = spec.rule_type.program
    if program.plain:
        return _Prepared(None, None, w["weight_ih"], w.get("bias_ih"))
    if call.filters:
        source, weight, bias = widened(spec, w, x)
        return _Prepared(Lane(program, call.c, source, [None] * len(program.states), call.t), None, weight, bias)
    inside, outside = split_bias(spec, w)
    u = F.linear(x, w["weight_ih"], inside)
    seen = select(u, chosen_gates(spec), bases[spec.base].gates)
    return _Prepared(Lane(program, at_input(call.c, x), seen, call.moments, call.t), u, w["weight_ih"], outside)


def _run_rules(calls: Sequence[LayerCall], rules: Sequence[Lane | None]) -> list[LaneResult | None]:
    """All that the rule machine can run in one call; the others, with coefficients for each channel or step, as the loop has them.

    In graphs each is an operator.
    """
    fit = {k: rule for k, rule in enumerate(rules) if rule is not None and not unfit(rule)}
    results: list[LaneResult | None] = [None] * len(rules)
    ran = [operator(rule) for rule in fit.values()] if traced(rule.u for rule in fit.values()) else drives(list(fit.values()))
    for k, result in zip(fit, ran, strict=True):
        results[k] = result
    for k, rule in enumerate(rules):
        if rule is not None and results[k] is None:
            results[k] = sequence(calls[k].spec, rule.c, rule.u, rule.held, rule.t, None)
    return results


def _lane(call: LayerCall, prepared: _Prepared, result: LaneResult | None) -> tuple[LaneInput, tuple[Tensor, ...]]:
    """What the kernel reads, and the rule's last states."""
    spec, w = call.spec, call.w
    z: Tensor | None = call.x
    weight: Tensor | None = prepared.weight
    d: Tensor | None = None
    held: tuple[Tensor, ...] = ()
    if result is not None and prepared.u is None:
        z, last = result
        held = tuple(F.linear(m, prepared.weight) for m in last) if call.ends else ()  # v_T = W z_T + b c_T
    elif result is not None and prepared.u is not None:
        d, held = replace(prepared.u, result[0], chosen_gates(spec), bases[spec.base].gates), result[1]
        z = weight = None
    c0 = call.state[1] if len(call.state) > 1 else None
    kept = w["weight_hh"], w.get("bias_hh"), w.get("modrelu_bias"), call.state[0], c0
    return LaneInput(z, weight, prepared.bias, d, *kept), held
