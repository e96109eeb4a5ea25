"""Layers on the Triton recurrences: the drive by the code that every path shares, then `lanes_recurrence`.

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..._registry import SpecError
from ...cells.bases.base import Weights
from ...cells.reference import at_input, autocast_on, split_bias
from ...cells.rules.base import Coefficients
from ...cells.spec import CellSpec
from .. import paths
from ..state import Steps
from .buffers import How
from .device import family, obstacle
from .recurrence import lanes_recurrence

if TYPE_CHECKING:
    from ..packing import Packing
    from ..paths import LayerResult


def run_triton(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: Steps = 0,
    packing: Packing | None = None,
    how: How | None = None,
) -> LayerResult:
    """One layer over one batch; arguments and result are those of `mrnn_search.engine.paths.run_loop`.

    Args:
        packing: None; sequences of several lengths take another path.
        how: the execution; None: as `choose` says.

    Raises:
        SpecError: there is a packing, or an `obstacle`, or autocast is on.
    """
    if packing is not None:
        raise SpecError("a packed sequence was given, allowed on the Triton path: sequences of one length")
    d, held = _drive(spec, c, w, x, moments, t)
    y, last = _recur([spec], [w], d[None], tuple(s[None] for s in state), how)
    return y[0], tuple(s[0] for s in last), held


def lanes_triton(
    specs: Sequence[CellSpec],
    coefficients: Sequence[Coefficients],
    weights: Sequence[Weights],
    x: Tensor,
    states: tuple[Tensor, ...],
    moments: Sequence[Sequence[Tensor]],
    t: Steps = 0,
    how: How | None = None,
) -> tuple[Tensor, tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
    """One layer of K lanes of one base and shape over their batches, in lockstep. Rules and coefficients may differ.

    Args:
        specs, coefficients, weights: one a lane, as `run_triton` takes them.
        x: (K, B, T, I).
        states: h or (h, c), (K, B, H) each.
        moments: one a lane: its rule's states, (B, C) each.
        t: steps that the rules have seen.
        how: the execution; None: as `choose` says.

    Returns:
        outputs (K, B, T, H); the last states, (K, B, H) each; each lane's last rule states.

    Raises:
        SpecError: lanes of several recurrences, lanes with and without bias, an `obstacle`, or autocast is on.
    """
    rows = x.transpose(1, 2).unbind(0)
    drives, held = [], []
    for one in zip(specs, coefficients, weights, rows, moments, strict=True):
        d, last = _drive(*one, t)
        drives.append(d)
        held.append(last)
    y, end = _recur(specs, weights, torch.stack(drives), states, how)
    return y.transpose(1, 2), end, held


def _drive(
    spec: CellSpec, c: Coefficients, w: Weights, x: Tensor, moments: Sequence[Tensor], t: Steps
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the gates see of the drive (T, B, G·H), and the rule's last states."""
    problem = "autocast is on" if autocast_on(x) else obstacle(spec, x.dtype)
    if problem:
        raise SpecError(f'execution "triton" cannot run {spec.name}: {problem}')
    inside, outside = split_bias(spec, w)
    d, held = paths.drive(spec, at_input(c, x), F.linear(x, w["weight_ih"], inside), moments, t)
    return d if outside is None else d + outside, held


def _recur(
    specs: Sequence[CellSpec], weights: Sequence[Weights], drive: Tensor, states: tuple[Tensor, ...], how: How | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The recurrences of all lanes on their drives (K, T, B, G·H): outputs and last states."""
    families = sorted({family(spec) for spec in specs})
    if len(families) > 1:
        raise SpecError(f"the lanes have recurrences {', '.join(families)}, allowed: one")
    if len({frozenset(w) for w in weights}) > 1:
        raise SpecError("some lanes have a bias and others have none, allowed: one kind")

    def stacked(name: str) -> Tensor | None:
        return torch.stack([w[name] for w in weights]) if name in weights[0] else None

    weight = stacked("weight_hh")
    assert weight is not None
    h, *c = states
    y, c_last = lanes_recurrence(families[0], drive, weight, stacked("bias_hh"), stacked("modrelu_bias"), h, c[0] if c else None, how)
    return y, (y[:, -1],) if c_last is None else (y[:, -1], c_last)
