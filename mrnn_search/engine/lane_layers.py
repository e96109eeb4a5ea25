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
from .recurrent import Recurrent
from .scan import wide_dtype


def forward_lanes(
    layers: Sequence[Recurrent], x: Sequence[Tensor], generators: Sequence[torch.Generator | None], recompute: bool = False
) -> list[Tensor]:
    """Each layer on its own input, from a state of zero; those of one kernel of this package, and one recurrence, in one call.

    A lane's result does not depend, bit for bit, on the other lanes.

    Args:
        layers: of one direction and equal sizes, numbers of layers and base; rules, options and dropout are each lane's own.
        x: (T, B, I) for each lane, time first whatever ``batch_first`` says; may be one tensor several times.
        generators: for each lane, what its dropout between layers is drawn from in training; None: torch's global one.
        recompute: those that run fused compute gates again in the backward pass, see `recurrence`.

    Returns:
        for each lane h_1 … h_T of the last layer, (T, B, H).
    """
    plans = [layer.plan_for(rows) for layer, rows in zip(layers, x, strict=True)]
    rows = list(x)
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
            calls.append(_call(layer, f"_l{i}", rows[k], plans[k].filters, matrices.get(k)))
            kernel = plans[k].kernel
            together.setdefault((kernel, family(layer.spec) if kernel in at_once else ""), []).append(k)
        for (kernel, _), members in together.items():
            if kernel in at_once:
                for k, (y, _, _) in zip(members, at_once[kernel]([calls[k] for k in members]), strict=True):
                    rows[k] = y
            else:
                for k in members:
                    c = calls[k]
                    rows[k] = PATHS[kernel](c.spec, c.c, c.w, c.x, c.state, c.moments, c.t)[0]
        if i + 1 < layers[0].num_layers:
            rows = [_dropout(layer, y, g) for layer, y, g in zip(layers, rows, generators, strict=True)]
    return rows


def recomputes(layer: Recurrent) -> bool:
    """Whether `forward_lanes` keeps less of this layer when it is told to recompute."""
    return layer.plan_for().kernel == "fused" and family(layer.spec) in SAVED


def _call(layer: Recurrent, suffix: str, x: Tensor, filters: bool, weight_hh: Tensor | None) -> LayerCall:
    batch, base = x.shape[1], bases[layer.spec.base]
    zero = x.new_zeros(batch, layer.hidden_size)
    states = len(layer.spec.rule_type.program.states)
    moments = [x.new_zeros(batch, rule_channels(layer.spec, layer.hidden_size), dtype=wide_dtype(x.dtype))] * states
    weights = layer._weights(suffix, weight_hh)
    return LayerCall(layer.spec, layer._coefficients(suffix), weights, x, (zero,) * base.states, moments, 0, filters, ends=False)


def _dropout(layer: Recurrent, y: Tensor, generator: torch.Generator | None) -> Tensor:
    if not layer.training or layer.dropout == 0:
        return y
    kept = torch.empty_like(y).bernoulli_(1 - layer.dropout, generator=generator)
    return y * kept.div_(1 - layer.dropout)
