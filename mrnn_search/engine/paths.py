"""The executions of one layer over one sequence; each has the signature of `mrnn_search.cells.reference.run_reference`.

Shapes: T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells.bases.base import Weights, bases
from ..cells.reference import run_reference
from ..cells.rules.base import Coefficients, Moment, rules
from ..cells.spec import CellSpec
from .scan import linear_scan

LayerResult = tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]


def _scan_moment(m: Moment, c: Coefficients, x: Tensor, t: int, initial: Tensor | None) -> Tensor:
    """All steps of one moment of ``x`` (T, ..., C), the first being step ``t + 1``."""
    if m.constant:
        return linear_scan(x, m.decay(c, t + 1), m.gain(c, t + 1), initial)
    steps = torch.arange(t + 1, t + 1 + x.shape[0], dtype=torch.float64, device=x.device)
    return linear_scan(x, m.decay(c, steps), m.gain(c, steps), initial)


def run_loop(
    spec: CellSpec, c: Coefficients, w: Weights, x: Tensor, state: tuple[Tensor, ...], moments: Sequence[Tensor], t: int = 0
) -> LayerResult:
    """The drive for all t (one GEMM, one scan a moment), then the recurrence one step at a time."""
    base, rule = bases[spec.base], rules[spec.rule]
    u = F.linear(x, w["weight_ih"], w.get("bias_ih"))  # (T, B, G*H)
    held = [_scan_moment(m, c, u if m.power == 1 else u.square(), t, old) for m, old in zip(rule.moments, moments, strict=True)]
    outputs = []
    for d in rule.read(c, u, held).unbind(0):  # unbind: the gradient of d[t] would cost O(T) a step
        state = base.step(w, d, state, spec.options)
        outputs.append(state[0])
    return torch.stack(outputs), state, tuple(m[-1] for m in held)


def run_vendor(
    spec: CellSpec, c: Coefficients, w: Weights, x: Tensor, state: tuple[Tensor, ...], moments: Sequence[Tensor], t: int = 0
) -> LayerResult:
    """Torch's own kernel on the filtered input (identity 2): a linear rule with scalar coefficients commutes with W.

    ``z_t`` is the filter of ``x_t`` and of a constant 1, whose column of the widened W is the drive's bias. Needs a
    rule state of zero; returns the true one, ``v_T = W z_T + b c_T``.
    """
    del moments  # zero, by the plan
    rule = rules[spec.rule]
    if rule.moments:
        weight = w["weight_ih"]
        if "bias_ih" in w:
            weight = torch.cat([weight, w["bias_ih"][:, None]], dim=1)
            x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], dim=2)
        z = _scan_moment(rule.moments[0], c, x, t, None)
        held: tuple[Tensor, ...] = (F.linear(z[-1], weight),)
        bias = torch.zeros_like(w["bias_ih"]) if "bias_ih" in w else None
    else:
        z, weight, bias, held = x, w["weight_ih"], w.get("bias_ih"), ()
    flat = [weight, w["weight_hh"]] + ([bias, w["bias_hh"]] if bias is not None else [])
    kernel = bases[spec.base].kernel(spec.options)
    options = (bias is not None, 1, 0.0, False, False, False)  # has_biases, layers, dropout, train, bidirectional, batch_first
    if kernel == "lstm":
        y, h, cell = torch.lstm(z, [s[None] for s in state], flat, *options)
        return y, (h[0], cell[0]), held
    run = {"gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}[str(kernel)]
    y, h = run(z, state[0][None], flat, *options)
    return y, (h[0],), held


PATHS: dict[str, Callable[..., LayerResult]] = {"reference": run_reference, "loop": run_loop, "vendor": run_vendor}
