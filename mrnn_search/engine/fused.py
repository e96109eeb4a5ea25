"""Layers on the fused CPU kernels: the rule for all t, then the recurrence of all lanes in one call.

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells.bases.base import Weights, bases
from ..cells.reference import at_input, split_bias
from ..cells.rules.base import Coefficients
from ..cells.spec import CellSpec
from .native.recurrence import LaneInput, recurrence
from .packing import Packing
from .paths import LayerResult, drive, filtered
from .state import Steps


@dataclass(frozen=True)
class LayerCall:
    """One lane's layer over one batch; the fields are `run_loop`'s arguments.

    ``filters``: the rule runs on the input, see `run_vendor`; it starts from a state of zero then.
    """

    spec: CellSpec
    c: Coefficients
    w: Weights
    x: Tensor
    state: tuple[Tensor, ...]
    moments: Sequence[Tensor]
    t: Steps
    filters: bool


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


def run_fused_lanes(calls: Sequence[LayerCall]) -> list[LayerResult]:
    """Lanes of one base, with the same options, and equal shapes; the rules are each lane's own."""
    ready = [_lane(call) for call in calls]
    spec = calls[0].spec
    alike: dict[tuple[object, ...], list[int]] = {}  # a call of the kernel has the same arguments for each of its lanes
    for k, (lane, _) in enumerate(ready):
        alike.setdefault(tuple(None if tensor is None else tensor.shape for tensor in lane), []).append(k)
    results: dict[int, LayerResult] = {}
    for members in alike.values():
        ended = recurrence(str(bases[spec.base].family(spec.options)), [ready[k][0] for k in members])
        for k, (y, c) in zip(members, ended, strict=True):
            results[k] = y, (y[-1],) if c is None else (y[-1], c), ready[k][1]
    return [results[k] for k in range(len(calls))]


def _lane(call: LayerCall) -> tuple[LaneInput, tuple[Tensor, ...]]:
    """What the kernel reads, and the rule's last states."""
    spec, w, x = call.spec, call.w, call.x
    b, d = w.get("bias_ih"), None
    held: tuple[Tensor, ...] = ()
    z: Tensor | None = x
    weight: Tensor | None = w["weight_ih"]
    if call.filters:
        z, weight, b, held = filtered(spec, call.c, w, x, call.t)
    elif not spec.rule_type.program.plain:
        inside, b = split_bias(spec, w)
        u = F.linear(x, w["weight_ih"], inside)
        d, held = drive(spec, at_input(call.c, x), u, call.moments, call.t)
        z = weight = None
    c0 = call.state[1] if len(call.state) > 1 else None
    return LaneInput(z, weight, b, d, w["weight_hh"], w.get("bias_hh"), w.get("modrelu_bias"), call.state[0], c0), held


def transformed() -> bool:
    """Inside torch.func's grad, vmap or jvp, whose tensors have no address."""
    return torch._C._functorch.peek_interpreter_stack() is not None
