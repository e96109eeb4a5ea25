"""The recurrences of many lanes on the CPU, fused over all time steps: what `recurrence.cpp` does, as a differentiable function.

Shapes: K lanes, T time, B batch, I width of z, H hidden, G blocks of H rows in the weights. float32, on the CPU.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .build import Native, native

FAMILIES = ("lstm", "gru", "rnn_tanh", "rnn_relu", "modrelu")


class LaneInput(NamedTuple):
    """One lane: ``h_t = cell(W z_t + b + d_t, U h_{t-1} + b_u)``.

    Attributes:
        z, w: (T, B, I) and (G·H, I), or both None; b: (G·H,) or None.
        d: (T, B, G·H) or None.
        u: (G·H, H); bu: (G·H,) or None.
        m: (H,), the bias of modReLU; None for other cells.
        h0: (B, H); c0: (B, H) for "lstm", else None.
    """

    z: Tensor | None
    w: Tensor | None
    b: Tensor | None
    d: Tensor | None
    u: Tensor
    bu: Tensor | None
    m: Tensor | None
    h0: Tensor
    c0: Tensor | None


INPUTS = len(LaneInput._fields)
POINTERS = 23  # of struct Lane in recurrence.cpp


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("family", "steps", "batch", "inputs", "hidden", "lanes", "threads")]


def recurrence(family: str, lanes: Sequence[LaneInput]) -> list[tuple[Tensor, Tensor | None]]:
    """All lanes at once; they have equal shapes. A lane's result is the same, bit for bit, alone or among others, whatever the
    number of threads (torch's).

    Returns:
        for each lane h_1 … h_T (T, B, H), and for "lstm" c_T (B, H). Differentiable once.

    Raises:
        RuntimeError: there are no kernels on this machine, see `native`.
        MemoryError: no memory for the call's scratch.
    """
    flat = [None if t is None else t.contiguous() for lane in lanes for t in lane]
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in flat)
    found = _Recurrence.apply(FAMILIES.index(family), keep, *flat)
    count = len(lanes)
    return [(found[k], found[count + k] if family == "lstm" else None) for k in range(count)]


def saved_floats(family: str, steps: int, batch: int, inputs: int, hidden: int) -> int:
    """What one lane keeps between the forward and the backward pass, beside its arguments and outputs: float32 numbers."""
    shape = _Shape(FAMILIES.index(family), steps, batch, inputs, hidden, 1, 1)
    count: int = _functions().mrnn_saved(ctypes.byref(shape))
    return count


def scratch_floats(family: str, steps: int, batch: int, inputs: int, hidden: int, lanes: int, threads: int) -> int:
    """What the larger of the two passes needs for the length of a call: float32 numbers."""
    shape = _Shape(FAMILIES.index(family), steps, batch, inputs, hidden, lanes, threads)
    run = _functions().mrnn_scratch
    return max(run(ctypes.byref(shape), 0), run(ctypes.byref(shape), 1))


def _functions() -> Any:
    found = native()
    if not isinstance(found, Native):
        raise RuntimeError(f"no fused CPU kernels: {found}")
    library = found.library
    if library.mrnn_saved.restype is not ctypes.c_long:
        library.mrnn_saved.restype = library.mrnn_scratch.restype = ctypes.c_long
    return library


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _shape(family: int, first: Sequence[Tensor | None], lanes: int) -> _Shape:
    z, _, _, d, _, _, _, h0, _ = first
    source = z if z is not None else d
    assert source is not None and h0 is not None
    inputs = 0 if z is None else z.shape[-1]
    return _Shape(family, source.shape[0], source.shape[1], inputs, h0.shape[-1], lanes, torch.get_num_threads())


def _call(function: Any, shape: _Shape, pointers: Sequence[int]) -> None:
    table = array("Q", pointers)
    if function(ctypes.byref(shape), ctypes.c_void_p(table.buffer_info()[0])):
        raise MemoryError("out of memory in the fused recurrence")


class _Recurrence(torch.autograd.Function):
    """Arguments: the family's number, whether there will be a backward pass, then `INPUTS` tensors or None a lane. Results: y of every lane, then c_T of every lstm lane."""

    @staticmethod
    def forward(ctx: Any, family: int, keep: bool, *flat: Tensor | None) -> tuple[Tensor, ...]:
        lanes = [flat[at : at + INPUTS] for at in range(0, len(flat), INPUTS)]
        shape = _shape(family, lanes[0], len(lanes))
        library = _functions()
        size = shape.steps, shape.batch, shape.hidden
        floats = library.mrnn_saved(ctypes.byref(shape)) if keep else 0
        ys, cs, saved, pointers = [], [], [], []
        for lane in lanes:
            h0, c0 = lane[7], lane[8]
            assert h0 is not None
            y, c = h0.new_empty(size), None if c0 is None else torch.empty_like(c0)
            kept = h0.new_empty(floats) if keep else None
            ys.append(y)
            cs.append(c)
            saved.append(kept)
            pointers += [*map(_address, lane), _address(y), _address(c), _address(kept), *[0] * (POINTERS - INPUTS - 3)]
        _call(library.mrnn_forward, shape, pointers)
        if keep:
            ctx.save_for_backward(*flat, *ys)
            ctx.saved, ctx.family = saved, family
        ctx.set_materialize_grads(False)
        return (*ys, *(c for c in cs if c is not None))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        count = len(ctx.saved)
        flat, ys = ctx.saved_tensors[: count * INPUTS], ctx.saved_tensors[count * INPUTS :]
        wanted = ctx.needs_input_grad[2:]
        shape = _shape(ctx.family, flat[:INPUTS], count)
        pointers: list[int] = []
        results: list[Tensor | None] = []
        alive: list[Tensor] = []  # what the kernel reads, and nobody else holds
        for k in range(count):
            at = k * INPUTS
            z, w, b, d, u, bu, m, h0, c0 = lane = flat[at : at + INPUTS]
            dy, dc = grads[k], grads[count + k] if c0 is not None else None
            dy = torch.zeros_like(ys[k]) if dy is None else dy.contiguous()
            dc = None if dc is None else dc.contiguous()
            alive += [dy] if dc is None else [dy, dc]
            made = [
                torch.empty_like(tensor) if tensor is not None and want else None
                for tensor, want in zip(lane, wanted[at : at + INPUTS], strict=True)
            ]
            dz, dw, db, dd, du, dbu, dm, dh0, dc0 = made
            pointers += [*map(_address, lane), _address(ys[k]), 0, _address(ctx.saved[k]), _address(dy), _address(dc)]
            pointers += map(_address, (dz, dw, db, dd, du, dbu, dm, dh0, dc0))
            results += made
        _call(_functions().mrnn_backward, shape, pointers)
        return (None, None, *results)
