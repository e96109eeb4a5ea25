"""The executions of one layer over one sequence or one batch: `run_reference`'s signature, and a packing.

With a `Packing` the input is its rows (N, I) and the outputs are rows (N, H); states are (B, ·), the longest sequence first.
Moments are kept in float32 where the layer is narrower.

Shapes: T time, B batch, N packed rows, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells.bases.base import Weights, bases
from ..cells.reference import run_reference
from ..cells.rules.base import Coefficients, Moment, rules
from ..cells.spec import CellSpec
from .packing import Packing
from .scan import linear_scan, wide
from .state import Steps

LayerResult = tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]


def _scan_moment(m: Moment, c: Coefficients, x: Tensor, t: Steps, initial: Tensor | None) -> Tensor:
    """All steps of one moment of ``x`` (T, ..., C), the first being step ``t + 1``; t (B,): each sequence its own."""
    if m.constant:
        return linear_scan(x, m.decay(c, 1), m.gain(c, 1), initial)
    steps = torch.arange(1, 1 + x.shape[0], dtype=torch.float64, device=x.device)
    steps = steps[:, None] + t if isinstance(t, Tensor) else steps + t
    return linear_scan(x, m.decay(c, steps), m.gain(c, steps), initial)


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
    """The drive for all t (one GEMM, one scan a moment), then the recurrence one step at a time."""
    base, rule = bases[spec.base], rules[spec.rule]
    u = F.linear(x, w["weight_ih"], w.get("bias_ih"))  # (T, B, G*H) or (N, G*H)
    drive = wide(u) if rule.moments else u
    padded = drive if packing is None or not rule.moments else packing.pad(drive)
    held = [_scan_moment(m, c, padded if m.power == 1 else padded.square(), t, old) for m, old in zip(rule.moments, moments, strict=True)]
    last = tuple(m[-1] if packing is None else packing.last(m) for m in held)
    # Rows, not the padded steps, are read: what a rule makes of padding must not reach a gradient.
    d = rule.read(c, drive, held if packing is None else [packing.rows(m) for m in held]).to(u.dtype)
    outputs: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    for d_t in d.unbind(0) if packing is None else d.split(packing.sizes):  # the gradient of d[t] would cost O(T) a step
        if packing is not None and (n := d_t.shape[0]) < state[0].shape[0]:
            ended.append(tuple(s[n:] for s in state))
            state = tuple(s[:n] for s in state)
        state = base.step(w, d_t, state, spec.options)
        outputs.append(state[0])
    if packing is None:
        return torch.stack(outputs), state, last
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True)), last


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
    """Torch's own kernel on the filtered input (identity 2): a linear rule with scalar coefficients commutes with W.

    ``z_t`` is the filter of ``x_t`` and of a constant 1, whose column of the widened W is the drive's bias. Needs a
    rule state of zero; returns the true one, ``v_T = W z_T + b c_T``.
    """
    del moments  # zero, by the plan
    rule = rules[spec.rule]
    if rule.moments:
        weight, source = w["weight_ih"], x
        if "bias_ih" in w:
            weight = torch.cat([weight, w["bias_ih"][:, None]], dim=1)
            source = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], dim=-1)
        filtered = _scan_moment(rule.moments[0], c, source if packing is None else packing.pad(source), t, None)
        last = filtered[-1] if packing is None else packing.last(filtered)
        held: tuple[Tensor, ...] = (wide(F.linear(last, wide(weight))),)
        z = (filtered if packing is None else packing.rows(filtered)).to(x.dtype)
        bias = torch.zeros_like(w["bias_ih"]) if "bias_ih" in w else None
    else:
        z, weight, bias, held = x, w["weight_ih"], w.get("bias_ih"), ()
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
