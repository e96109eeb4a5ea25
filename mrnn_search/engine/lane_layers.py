"""Recurrent layers of many lanes in lockstep: the one place where lanes meet the executions.

Shapes: K lanes, T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..cells.bases.base import bases
from ..cells.reference import rule_channels
from .fused import run_fused_lanes
from .gpu.device import family
from .gpu.path import run_triton_lanes
from .native.recurrence import SAVED
from .orthogonal import present, recentre_due
from .paths import PATHS, LayerCall, LayerResult
from .planner import Plan
from .recurrent import Recurrent
from .scan import wide_dtype
from .state import State, Steps


def forward_lanes(
    layers: Sequence[Recurrent],
    x: Sequence[Tensor],
    generators: Sequence[torch.Generator | None],
    recompute: bool = False,
    starts: Sequence[State] | None = None,
) -> tuple[list[Tensor], list[State]]:
    """Each layer on its own input; those of one kernel of this package, and one recurrence, in one call.

    A lane's result does not depend, bit for bit, on the other lanes.

    Args:
        layers: of one direction and equal sizes, numbers of layers and base; rules, options and dropout are each lane's own.
        x: (T, B, I) for each lane, time first whatever ``batch_first`` says; may be one tensor several times. T and B may be
            each lane's own.
        generators: for each lane, what its dropout between layers is drawn from in training; None: torch's global one.
        recompute: those that run fused compute gates again in the backward pass, see `recurrence`.
        starts: the state that each lane goes on from, see `zero_state`; None: from zero, and a linear rule may then filter the input.

    Returns:
        for each lane h_1 … h_T of the last layer, (T, B, H); and, where ``starts`` are given, its state after that.
    """
    plans = [planned(layer, rows, starts is not None) for layer, rows in zip(layers, x, strict=True)]
    rows, ends = list(x), [list[_End]() for _ in layers]
    for layer in layers:
        if layer.training and layer._recentres:
            recentre_due(layer)
    at_once: Mapping[str, Callable[[Sequence[LayerCall]], list[LayerResult]]] = {
        "fused": partial(run_fused_lanes, recompute=recompute),
        "triton": run_triton_lanes,
    }
    for i in range(layers[0].num_layers):
        together: dict[tuple[str, str], list[int]] = {}
        calls = []
        matrices = present(layers, f"weight_hh_l{i}")
        for k, layer in enumerate(layers):
            start = zero_state(layer, rows[k]) if starts is None else starts[k]
            calls.append(_call(layer, i, rows[k], plans[k].filters, matrices.get(k), start, starts is not None))
            kernel = plans[k].kernel
            together.setdefault((kernel, family(layer.spec) if kernel in at_once else ""), []).append(k)
        for (kernel, _), members in together.items():
            if kernel in at_once:
                results = at_once[kernel]([calls[k] for k in members])
            else:
                results = [PATHS[kernel](c.spec, c.c, c.w, c.x, c.state, c.moments, c.t) for c in (calls[k] for k in members)]
            for k, (y, *end) in zip(members, results, strict=True):
                rows[k] = y
                ends[k].append((end[0], end[1]))
        if i + 1 < layers[0].num_layers:
            rows = [_dropout(layer, y, g) for layer, y, g in zip(layers, rows, generators, strict=True)]
    if starts is None:
        return rows, []
    return rows, [_state(end, start.t + len(y)) for end, start, y in zip(ends, starts, rows, strict=True)]


_End = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]  # of one layer: the base's states and the rule's


def planned(layer: Recurrent, x: Tensor | None = None, carried: bool = False) -> Plan:
    """What `forward_lanes` runs: on the input x, None: where the weights are; ``carried``: from a given state."""
    return layer.plan_for(x, State((), (), 0) if carried else None)


def recomputes(layer: Recurrent) -> bool:
    """Whether `forward_lanes` keeps less of this layer when it is told to recompute."""
    return layer.plan_for().kernel == "fused" and family(layer.spec) in SAVED


def zero_state(layer: Recurrent, x: Tensor) -> State:
    """What a lane starts from on x (T, B, I): zeros, (num_layers, B, ·)."""
    spec, size = layer.spec, (layer.num_layers, x.shape[1])
    zeros = x.new_zeros(*size, layer.hidden_size)
    moments = x.new_zeros(*size, rule_channels(spec, layer.hidden_size), dtype=wide_dtype(x.dtype))
    return State([zeros] * bases[spec.base].states, [moments] * len(spec.rule_type.program.states), 0)


def _state(ends: Sequence[_End], t: Steps) -> State:
    states, moments = zip(*ends, strict=True)
    return State([torch.stack(s) for s in zip(*states, strict=True)], [torch.stack(m) for m in zip(*moments, strict=True)], t)


def _call(layer: Recurrent, i: int, x: Tensor, filters: bool, weight_hh: Tensor | None, start: State, ends: bool) -> LayerCall:
    weights, coefficients = layer._weights(f"_l{i}", weight_hh), layer._coefficients(f"_l{i}")
    return LayerCall(layer.spec, coefficients, weights, x, tuple(s[i] for s in start), [m[i] for m in start.rule], start.t, filters, ends)


def _dropout(layer: Recurrent, y: Tensor, generator: torch.Generator | None) -> Tensor:
    if not layer.training or layer.dropout == 0:
        return y
    kept = torch.empty_like(y).bernoulli_(1 - layer.dropout, generator=generator)
    return y * kept.div_(1 - layer.dropout)
