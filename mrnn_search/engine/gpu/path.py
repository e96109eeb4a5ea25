"""Layers on the Triton kernels: the drive of all lanes, then `lanes_recurrence`.

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor

from ..._registry import SpecError
from ...cells.bases.base import Weights, bases
from ...cells.reference import at_input, autocast_on, chosen_gates, replace, select
from ...cells.rules.base import Coefficients
from ...cells.spec import CellSpec
from ..packing import Packing
from ..paths import LayerCall, LayerResult, sequence, widened
from ..state import Steps
from . import products, rules
from .buffers import How
from .device import family, obstacle
from .recurrence import choose, lanes_recurrence

Held = tuple[Tensor, ...]


def run_triton(
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
    return run_triton_lanes([LayerCall(spec, c, w, x, state, moments, t, filters)])[0]


def run_triton_lanes(calls: Sequence[LayerCall], how: How | None = None) -> list[LayerResult]:
    """Lanes of equal shapes; those of one recurrence in one call of it. Rules and coefficients are each lane's own.

    A lane's result does not depend on the others, bit for bit, unless `How.batched` is asked for.

    Args:
        how: the execution; None: as `choose` says.

    Raises:
        SpecError: there is an `obstacle`, or autocast is on.
    """
    for call in calls:
        if problem := "autocast is on" if autocast_on(call.x) else obstacle(call.spec, call.x.dtype):
            raise SpecError(f'execution "triton" cannot run {call.spec.name}: {problem}')
    results: dict[int, LayerResult] = {}
    for members in _alike(range(len(calls)), lambda k: (family(calls[k].spec), *_shapes(calls[k]))):
        first = calls[members[0]]
        run = how or choose(family(first.spec), first.state[0].shape[-1])
        groups = _alike(members, lambda k: _rule(calls[k]))
        drives, held = list[Tensor](), list[Held]()
        for group in groups:
            d, last = _drive([calls[k] for k in group], run)
            drives.append(d)
            held += last
        order = [k for group in groups for k in group]
        drive = drives[0] if len(drives) == 1 else torch.cat(drives)
        for k, moments, (y, *end) in zip(order, held, _recur([calls[k] for k in order], drive, run), strict=True):
            results[k] = y, (y[-1], *end), moments
    return [results[k] for k in range(len(calls))]


def _alike(items: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """The items in groups of one key each."""
    groups: dict[Hashable, list[int]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _shapes(call: LayerCall) -> tuple[Hashable, ...]:
    return (call.x.shape, *((name, value.shape) for name, value in sorted(call.w.items())))


def _rule(call: LayerCall) -> tuple[Hashable, ...]:
    """What lanes share whose drives are made together: the rule, where it acts, and what is learned of it."""
    spec, program = call.spec, call.spec.rule_type.program
    if program.plain:
        return ()
    kinds = frozenset((name, type(v), isinstance(v, Tensor) and (v.dim(), v.requires_grad)) for name, v in call.c.items())
    steps = id(call.t) if isinstance(call.t, Tensor) else call.t
    return program, call.filters, chosen_gates(spec), spec.drive_bias, kinds, steps, call.x.requires_grad


def _stacked(calls: Sequence[LayerCall], *names: str) -> list[Tensor | None]:
    return [torch.stack([call.w[name] for call in calls]) if name in calls[0].w else None for name in names]


def _drive(calls: Sequence[LayerCall], how: How) -> tuple[Tensor, list[Held]]:
    """What the gates see of the drive (K, T, B, G·H), and each lane's last states of the rule."""
    spec, x = calls[0].spec, torch.stack([call.x for call in calls])
    program, chosen, gates = spec.rule_type.program, chosen_gates(spec), bases[spec.base].gates
    weight, bias = _stacked(calls, "weight_ih", "bias_ih")
    assert weight is not None
    if program.plain:
        return products.linear(x, weight, bias, batched=how.batched), [()] * len(calls)
    if calls[0].filters:
        source, weight, bias = widened(spec, {"weight_ih": weight} | ({} if bias is None else {"bias_ih": bias}), x)
        z, last = _run_rule(calls, source, [None] * len(program.states))
        wanted = last if any(call.ends for call in calls) else []
        held = [products.linear(m[:, None], weight, None, batched=how.batched)[:, 0] for m in wanted]  # v_T = W z_T + b c_T
        return products.linear(z, weight, bias, batched=how.batched), _by_lane(len(calls), held)
    inside, outside = (bias, None) if spec.drive_bias == "inside" else (None, bias)
    u = products.linear(x, weight, inside, batched=how.batched)
    moments = [torch.stack(m) for m in zip(*(call.moments for call in calls), strict=True)]
    d, last = _run_rule(calls, select(u, chosen, gates), moments)
    d = replace(u, d, chosen, gates)
    return d if outside is None else products.shifted(d, outside), _by_lane(len(calls), last)


def _by_lane(count: int, tensors: Sequence[Tensor]) -> list[Held]:
    return list(zip(*tensors, strict=True)) if tensors else [()] * count


def _run_rule(calls: Sequence[LayerCall], u: Tensor, held: Sequence[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
    """The rule on ``u`` (K, T, B, C) from states (K, B, C), None is zero: its results, and its states after the last step.

    In one launch, but for coefficients with a number for each channel or step: these as the loop has them, a lane at a time.
    """
    program, t = calls[0].spec.rule_type.program, calls[0].t
    if not any(rules.unfit(program, call.c, t) for call in calls):
        return rules.drives(program, [call.c for call in calls], u, held, 0 if isinstance(t, Tensor) else t)
    results, ends = list[Tensor](), list[Held]()
    for k, (call, rows) in enumerate(zip(calls, u.unbind(0), strict=True)):
        d, last = sequence(call.spec, at_input(call.c, call.x), rows, [None if m is None else m[k] for m in held], call.t, None)
        results.append(d)
        ends.append(last)
    return torch.stack(results), [torch.stack(m) for m in zip(*ends, strict=True)]


def _recur(calls: Sequence[LayerCall], drive: Tensor, how: How) -> list[tuple[Tensor, ...]]:
    """The recurrences of all lanes on their drives (K, T, B, G·H): of each lane h_1 … h_T, and the lstm's c_T."""
    weight, bias, modrelu_bias = _stacked(calls, "weight_hh", "bias_hh", "modrelu_bias")
    assert weight is not None
    h, *c = (torch.stack(s) for s in zip(*(call.state for call in calls), strict=True))
    y, c_last = lanes_recurrence(family(calls[0].spec), drive, weight, bias, modrelu_bias, h, c[0] if c else None, how)
    return list(zip(*(v.unbind(0) for v in (y, c_last) if v is not None), strict=True))
