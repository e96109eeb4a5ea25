"""Programs on whole sequences: every state of a rule for all t at once, where the rule does not read the hidden state.

Shapes: T time, B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..cells.formula.node import Node
from ..cells.formula.program import Program
from ..cells.formula.run import cast, evaluate, leaf
from .scan import channel_scan, linear_scan


def run_sequence(
    program: Program, c: Mapping[str, Any], u: Tensor, held: Sequence[Tensor | None], t: int | Tensor = 0
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps of a rule on the drive.

    Args:
        c: coefficients: floats, or tensors (), (C,) or (T, B, 1).
        u: (T, B, C).
        held: the states before the first step, (B, C) each; None is zero.
        t: steps that the rule has seen: an int, or (B,), one for each sequence.

    Returns:
        the result (T, B, C), and what each state of the program is after every step, (T, B, C) each.
    """
    steps: Tensor | None = None
    if program.timed:
        steps = torch.arange(1, 1 + u.shape[0], dtype=torch.float64, device=u.device)[:, None, None]
        steps = steps + (t.to(u.device)[:, None] if isinstance(t, Tensor) else t)
    c = {k: v[None, None] if isinstance(v, Tensor) and v.dim() == 1 else v for k, v in c.items()}
    before = dict(zip(program.states, held, strict=True))
    kept: dict[Node, Tensor] = {}

    def temporal(node: Node, x: Tensor, scalars: Sequence[Any]) -> Tensor:
        x, old = x.expand(u.shape), before[node]
        if node.op == "prev":
            kept[node] = x
            first = x.new_zeros(x.shape[1:]) if old is None else old
            return torch.cat([first[None], x[:-1]])
        if node.op == "peak":
            top = x.cummax(0).values
            kept[node] = torch.relu(top) if old is None else torch.maximum(top, old)
        else:
            gain = (1 - scalars[0]) if node.op == "ema" else scalars[1] if len(scalars) > 1 else 1.0
            kept[node] = _filter(x, scalars[0], gain, old)
        return kept[node]

    result = evaluate(program.root, lambda n: leaf(n, c, u, None, steps), temporal)
    if not isinstance(result, Tensor) or result.shape != u.shape:
        result = torch.zeros_like(u) + result
    return result, tuple(kept[n] for n in program.states)


def _filter(x: Tensor, decay: Any, gain: Any, initial: Tensor | None) -> Tensor:
    """``m_t = decay m_{t-1} + gain x_t`` for decays and gains of every shape that a scalar may have."""
    if _per_channel(gain) or (_per_channel(decay) and not isinstance(gain, float)):
        x, gain = cast(gain, x) * x, 1.0
    if _per_channel(decay):
        return channel_scan(x if gain == 1.0 else gain * x, cast(decay, x), initial)
    return linear_scan(x, _over_time(decay), _over_time(gain), initial)


def _per_channel(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 3 and value.shape[-1] > 1


def _over_time(value: Any) -> Any:
    """A scalar (T, 1, 1), (T, B, 1) or (1, 1, 1) as (T,), (T, B) or ()."""
    if not isinstance(value, Tensor) or value.dim() < 3:
        return value
    if value.numel() == 1:
        return value.reshape(())
    return value[:, 0, 0] if value.shape[1] == 1 else value[..., 0]
