"""The recurrences of K lanes in lockstep, forward and backward, in Triton.

    lstm      i, f, g, o = d + h U^T + b;  c' = σ(f) c + σ(i) tanh(g);  h' = σ(o) tanh(c')
    gru       r, z = σ(d + h U^T + b);  n = tanh(d_n + r (h U_n^T + b_n));  h' = (1 - z) n + z h      (torch.nn.GRU's variant)
    rnn_tanh  h' = tanh(d + h U^T + b);  rnn_relu: relu
    modrelu   h' = sign(a) relu(|a| + m),  a = d + h U^T

Float32. A lane's result does not depend on the others, bit for bit, unless `How.batched` is asked for.

Shapes: K lanes, T time, B batch, H hidden, G gate blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..._registry import SpecError, UnknownNameError
from . import graphs, persistent, step
from .buffers import FAMILIES, Buffers, How
from .products import one

RESIDENT_BYTES = 128 * 1024  # of weights that a program keeps: beside them it needs room for the states


def choose(family: str, hidden_size: int) -> How:
    """The execution for a size: where one program can walk the sequence, that.

    By the size of the weights and of an H100's shared memory, not by measurement: to be tuned on a device.
    """
    if hidden_size > persistent.LARGEST:
        return How("step")
    size = persistent.padded(hidden_size)
    return How("persistent", resident=FAMILIES[family] * size * size * 4 <= RESIDENT_BYTES)


def lanes_recurrence(
    family: str,
    drive: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    modrelu_bias: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    how: How | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Every step of every lane; differentiable once in all tensors.

    Args:
        family: one of `FAMILIES`.
        drive: (K, T, B, G·H), the drive's bias in it.
        weight_hh: (K, G·H, H); bias_hh: (K, G·H), None is zero.
        modrelu_bias: (K, H) for "modrelu", else None.
        h0: (K, B, H); c0: (K, B, H) for "lstm", else None.
        how: the execution; None: what `choose` says.

    Returns:
        h_1 … h_T (K, T, B, H), and c_T (K, B, H) for "lstm", else None.

    Raises:
        UnknownNameError: no such family.
        SpecError: shapes or dtypes that do not fit, or more hidden units than "persistent" takes.
    """
    if family not in FAMILIES:
        raise UnknownNameError("family", family, FAMILIES)
    h = weight_hh.shape[-1]
    _check(family, drive, weight_hh, bias_hh, modrelu_bias, h0, c0)
    how = how or choose(family, h)
    if how.kernel == "persistent" and h > persistent.LARGEST:
        raise SpecError(f'hidden_size = {h}, allowed for "persistent": at most {persistent.LARGEST}; "step" takes any')
    if family == "gru":  # n, r, z: see `kernels.cells`
        weight_hh = weight_hh.roll(h, 1)
        bias_hh = None if bias_hh is None else bias_hh.roll(h, 1)
    given = (drive, weight_hh, bias_hh, modrelu_bias, h0, c0)
    save = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in given)
    y, *c = _Recurrence.apply(family, how, save, *given)
    return y, c[0] if c else None


def _check(
    family: str, drive: Tensor, weight: Tensor, bias: Tensor | None, modrelu_bias: Tensor | None, h0: Tensor, c0: Tensor | None
) -> None:
    k, _, b, _ = drive.shape
    h, width = weight.shape[-1], FAMILIES[family] * weight.shape[-1]
    allowed: dict[str, tuple[Tensor | None, tuple[int, ...], bool]] = {
        "drive": (drive, (k, drive.shape[1], b, width), True),
        "weight_hh": (weight, (k, width, h), True),
        "bias_hh": (bias, (k, width), bias is not None),
        "modrelu_bias": (modrelu_bias, (k, h), family == "modrelu"),
        "h0": (h0, (k, b, h), True),
        "c0": (c0, (k, b, h), family == "lstm"),
    }
    for name, (tensor, shape, needed) in allowed.items():
        if (tensor is not None) != needed:
            raise SpecError(f"{name} is {'missing' if needed else 'given'}; family {family} has {'one' if needed else 'none'}")
        if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != torch.float32):
            raise SpecError(f"{name} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, allowed: {shape}, torch.float32")


class _Recurrence(torch.autograd.Function):
    """The gru's weight and bias in the order n, r, z."""

    @staticmethod
    def forward(
        ctx: Any,
        family: str,
        how: How,
        save: bool,
        drive: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        modrelu_bias: Tensor | None,
        h0: Tensor,
        c0: Tensor | None,
    ) -> tuple[Tensor, ...]:
        drive, weight = drive.contiguous(), weight.contiguous()
        bias, modrelu_bias = (None if v is None else v.contiguous() for v in (bias, modrelu_bias))
        lease = graphs.lease(family, how, drive, weight, bias, modrelu_bias, save)
        buffers = Buffers.around(family, drive, weight, bias, modrelu_bias, h0.shape[-1], save) if lease is None else lease.graph.buffers
        buffers.start(h0, c0)
        if lease is not None:
            lease.graph.forward(drive, weight, bias, modrelu_bias)
        else:
            (step if how.kernel == "step" else persistent).forward(buffers, how)
        y = buffers.hs[:, 1:].clone()
        ctx.how, ctx.buffers, ctx.lease = how, buffers, lease
        return (y,) if buffers.cs is None else (y, buffers.cs[:, -1].clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, d_last: Tensor | None = None) -> tuple[Tensor | None, ...]:
        buffers: Buffers | None = ctx.buffers
        if buffers is None:
            raise RuntimeError("this recurrence was already differentiated: its gates are overwritten by their gradients; run it again")
        ctx.buffers = None
        lease, ctx.lease = ctx.lease, None
        if lease is not None:
            dh, dc = lease.graph.backward(dy, d_last)
        else:
            dh = torch.zeros_like(buffers.hs[:, 0])
            dc = dh if d_last is None else d_last.clone(memory_format=torch.contiguous_format)
            (step if ctx.how.kernel == "step" else persistent).backward(buffers, dy.contiguous(), dh, dc, ctx.how)
        d_drive, da = buffers.gradients()
        _, _, _, for_drive, for_weight, for_bias, for_modrelu, for_h0, for_c0 = ctx.needs_input_grad
        before, after, flat = buffers.hs[:, :-1].flatten(1, 2), buffers.hs[:, 1:].flatten(1, 2), da.flatten(1, 2)
        # A lane at a time: the split of a long sum over T·B, and so its last bits, must not depend on the number of lanes.
        lanes = [one(flat, k) for k in range(len(flat))] if for_weight or for_bias or for_modrelu else []
        d_weight = torch.stack([a.T @ one(before, k) for k, a in enumerate(lanes)]) if for_weight else None
        d_bias = torch.stack([a.sum(0) for a in lanes]) if for_bias else None
        d_modrelu = torch.stack([(a * after[k].sign()).sum(0) for k, a in enumerate(lanes)]) if for_modrelu else None
        if lease is not None:  # the next pass overwrites them
            d_drive, dh, dc = d_drive.clone(), dh.clone(), dc.clone()
        wanted = (d_drive if for_drive else None, d_weight, d_bias, d_modrelu, dh if for_h0 else None, dc if for_c0 else None)
        return None, None, None, *wanted
