"""The executions of one layer over one sequence or one batch: `run_reference`'s signature, and a packing.

With a `Packing` the input is its rows (N, I) and the outputs are rows (N, H); states are (B, ·), the longest sequence first.
Moments are kept in float32 where the layer is narrower.

Shapes: T time, B batch, N packed rows, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells.bases.base import Weights, add, bases
from ..cells.reference import FromInput, at_input, chosen_gates, replace, run_reference, select, split_bias, step_coupled, step_hidden
from ..cells.rules.base import Coefficients
from ..cells.spec import CellSpec
from .packing import Packing
from .scan import wide
from .sequence import run_sequence
from .state import Steps

LayerResult = tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]


@dataclass(frozen=True)
class LayerCall:
    """One lane's layer over one batch, for the executions that run lanes together; the fields are `run_loop`'s arguments.

    ``filters``: the rule runs on the input, see `run_vendor`; it starts from a state of zero then. ``ends``: the rule's last states are
    wanted, too.
    """

    spec: CellSpec
    c: Coefficients
    w: Weights
    x: Tensor
    state: tuple[Tensor, ...]
    moments: Sequence[Tensor]
    t: Steps
    filters: bool
    ends: bool = True


def run_loop(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: Steps = 0,
    packing: Packing | None = None,
) -> LayerResult:
    """The drive for all t (one GEMM, one scan a state), then the recurrence one step at a time.

    A rule that reads the hidden state runs inside the recurrence.
    """
    base = bases[spec.base]
    inside, outside = split_bias(spec, w)
    u = F.linear(x, w["weight_ih"], inside)  # (T, B, G*H) or (N, G*H)
    if spec.scope == "drive":
        d, held = drive(spec, at_input(c, x), u, moments, t, packing)
        steps = _by_step(d if outside is None else d + outside, packing)
        y, state = _recur(len(steps), packing, state, lambda k, now: base.step(w, steps[k], now, spec.options, add))
        return y, state, held
    drives, count = _by_step(u, packing), base.states
    scalars = {n: _by_step(v, packing) for n, v in at_input(c, x).items() if isinstance(c[n], FromInput)}

    def step(k: int, now: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        state, held, u_t = now[:count], now[count:], drives[k]
        c_t = {n: scalars[n][k] if n in scalars else v for n, v in c.items()}
        t_k = (t[: len(u_t)] + (k + 1))[:, None] if isinstance(t, Tensor) else t + k + 1
        if spec.scope == "hidden":
            state, held = step_hidden(spec, base, c_t, w, u_t, state, held, t_k)
        else:
            state, held = step_coupled(spec, base, c_t, w, u_t, state, held, t_k, outside)
        return (*state, *held)

    y, end = _recur(len(drives), packing, (*state, *moments), step)
    return y, end[:count], end[count:]


def _by_step(rows: Tensor, packing: Packing | None) -> Sequence[Tensor]:
    """One (B, C) a step; with a packing, of the sequences that have it. (The gradient of ``rows[t]`` would cost O(T) a step.)"""
    return rows.unbind(0) if packing is None else rows.split(packing.sizes)


def _recur(
    steps: int, packing: Packing | None, state: tuple[Tensor, ...], step: Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """``state = step(k, state)`` for k from 0; what ends earlier leaves the batch. Outputs are the first tensors of the states."""
    outputs: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    for k in range(steps):
        if packing is not None and (n := packing.sizes[k]) < state[0].shape[0]:
            ended.append(tuple(s[n:] for s in state))
            state = tuple(s[:n] for s in state)
        state = step(k, state)
        outputs.append(state[0])
    if packing is None:
        return torch.stack(outputs), state
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))


def drive(
    spec: CellSpec, c: Coefficients, u: Tensor, moments: Sequence[Tensor], t: Steps, packing: Packing | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the gates see of the drive, laid out like ``u``, and the rule's last states. ``c``: floats and tensors, see `at_input`."""
    program, base, chosen = spec.rule_type.program, bases[spec.base], chosen_gates(spec)
    if program.plain:
        return u, ()
    seen = select(u, chosen, base.gates)
    d, held = sequence(spec, c, wide(seen) if program.states else seen, moments, t, packing)
    return replace(u, d.to(u.dtype), chosen, base.gates), held


def widened(spec: CellSpec, w: Weights, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a linear rule filters in the place of the drive (identity 2: with scalar coefficients it commutes with W).

    One lane's, or those of lanes, with a first dimension K in ``w`` and ``x``. That is ``x`` and a constant 1, whose column of the
    widened W is the drive's bias, if that is inside the rule.

    Returns:
        the input, its weight, and the bias that is left.
    """
    weight, bias = w["weight_ih"], w.get("bias_ih")
    if bias is None or spec.drive_bias == "outside":
        return x, weight, bias
    return torch.cat([x, x.new_ones(*x.shape[:-1], 1)], dim=-1), torch.cat([weight, bias[..., None]], dim=-1), None


def sequence(
    spec: CellSpec, c: Coefficients, rows: Tensor, moments: Sequence[Tensor | None], t: Steps, packing: Packing | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The rule on ``rows`` (T, B, C) or (N, C), laid out like them, and its last states."""
    program = spec.rule_type.program
    if packing is None:
        d, held = run_sequence(program, c, rows, moments, t)
        return d, tuple(m[-1] for m in held)
    padded = {n: packing.pad(v) if isinstance(v, Tensor) and v.dim() == 2 else v for n, v in c.items()}
    d, held = run_sequence(program, padded, packing.pad(rows), moments, t)
    return packing.rows(d), tuple(packing.last(m) for m in held)


def _kernel(name: str, *arguments: Any) -> tuple[Tensor, ...]:
    """One of torch's own kernels: outputs, then the state."""
    kernels: dict[str, Callable[..., Any]]
    kernels = {"lstm": torch.lstm, "gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}
    return tuple(kernels[name](*arguments))


def run_vendor(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: Steps = 0,
    packing: Packing | None = None,
) -> LayerResult:
    """Torch's own kernel on the filtered input, see `widened`.

    Needs a rule state of zero; returns the true one, ``v_T = W z_T + b c_T``.
    """
    program = spec.rule_type.program
    held: tuple[Tensor, ...] = ()
    weight, bias, z = w["weight_ih"], w.get("bias_ih"), x
    if not program.plain:
        source, weight, left = widened(spec, w, x)
        z, last = sequence(spec, c, source, [None] * len(moments), t, packing)  # moments are zero, by the plan
        z, held = z.to(x.dtype), tuple(wide(F.linear(m, wide(weight))) for m in last)
        bias = torch.zeros_like(bias) if left is None and bias is not None else left
    flat = [weight, w["weight_hh"]] + ([bias, w["bias_hh"]] if bias is not None else [])
    kernel = str(bases[spec.base].kernel(spec.options))
    hx = [s[None] for s in state] if kernel == "lstm" else state[0][None]
    # cuDNN keeps what its backward needs only where "train" is set; without dropout nothing else depends on it.
    train = torch.is_grad_enabled()
    options = (bias is not None, 1, 0.0, train, False)  # has_biases, layers, dropout, train, bidirectional
    # Kept out of compiled graphs, as torch keeps nn.LSTM: inductor's mkldnn_rnn_layer fails in training (torch 2.13).
    # Here and not as a decorator, which would import the compiler for everyone.
    run = torch.compiler.disable(_kernel) if torch.compiler.is_compiling() else _kernel
    if packing is None:
        y, *end = run(kernel, z, hx, flat, *options, False)  # batch_first
    else:
        y, *end = run(kernel, z, packing.batch_sizes, hx, flat, *options)
    return y, tuple(s[0] for s in end), held


def run_each(
    spec: CellSpec,
    c: Coefficients,
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, ...],
    moments: Sequence[Tensor],
    t: Steps = 0,
    packing: Packing | None = None,
) -> LayerResult:
    """The reference; where lengths or step counts differ, for each sequence alone."""
    if packing is None and not isinstance(t, Tensor):
        return run_reference(spec, c, w, x, state, moments, t)
    sequences = list(x.split(1, dim=1)) if packing is None else packing.sequences(x)
    seen = t.tolist() if isinstance(t, Tensor) else [t] * len(sequences)
    alone = [
        run_reference(spec, c, w, one, tuple(s[b : b + 1] for s in state), [m[b : b + 1] for m in moments], seen[b])
        for b, one in enumerate(sequences)
    ]
    outputs = [y for y, _, _ in alone]
    y = torch.cat(outputs, dim=1) if packing is None else packing.join(outputs)
    states, held = (tuple(torch.cat(parts) for parts in zip(*[result[n] for result in alone], strict=True)) for n in (1, 2))
    return y, states, held


PATHS: dict[str, Callable[..., LayerResult]] = {"reference": run_each, "loop": run_loop, "vendor": run_vendor}
