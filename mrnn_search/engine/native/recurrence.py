"""The recurrences of many lanes on the CPU, fused over all time steps: what `recurrence.cpp` does, as a differentiable function.

Shapes: K lanes, T time, B batch, I width of z, H hidden, G blocks of H rows in the weights. float32, on the CPU.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..tracing import traced
from .build import Native, native
from .once import once

FAMILIES = ("lstm", "gru", "rnn_tanh", "rnn_relu", "modrelu")
BLOCKS = {"lstm": 4, "gru": 3}  # G; 1 of the others
SAVED = {"lstm": 5, "gru": 4}  # numbers a unit and step that are kept for the backward pass; of the others none
SAVED_TO_RECOMPUTE = {"lstm": 1}  # the same where the gates are computed again: c
PANEL, MAX_ROWS = 16, 64  # as in recurrence.cpp


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
    _fields_ = [(name, ctypes.c_int) for name in ("family", "steps", "batch", "inputs", "hidden", "lanes", "threads", "recompute")]


def recurrence(family: str, lanes: Sequence[LaneInput], recompute: bool = False) -> list[tuple[Tensor, Tensor | None]]:
    """All lanes at once; they have equal shapes. A lane's result is the same, bit for bit, alone or among others, whatever the
    number of threads (torch's).

    Args:
        recompute: an lstm's and a gru's gates are not kept for the backward pass, which computes them again: a fifth of the memory and
            none, for half as many products more in that pass. The results are the same, bit for bit.

    Returns:
        for each lane h_1 … h_T (T, B, H), and for "lstm" c_T (B, H). Differentiable once.

    Raises:
        RuntimeError: there are no kernels on this machine, see `native`.
        ValueError: a tensor of another shape or dtype, or not on the CPU.
        MemoryError: no memory for the call's scratch.
    """
    there = [t is not None for t in lanes[0]]  # torch.library looks for gradients in lists of tensors, not of tensors or None
    flat = [t for lane in lanes for t in lane if t is not None]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in flat)
    if traced(flat):
        found: Sequence[Tensor] = torch.ops.mrnn_search.recurrence(family, keep, recompute, there, flat)
    else:  # the same without the dispatcher, which costs 0.2 ms for eight lanes
        found = _Recurrence.apply(family, keep, recompute, there, *flat)
    count = len(lanes)
    return [(found[k], found[count + k] if family == "lstm" else None) for k in range(count)]


def saved_floats(family: str, steps: int, batch: int, inputs: int, hidden: int, recompute: bool = False) -> int:
    """What one lane keeps between the forward and the backward pass, beside its arguments and outputs: float32 numbers."""
    del inputs
    blocks = max(1, (batch + MAX_ROWS - 1) // MAX_ROWS)
    rows = max(1, (batch + blocks - 1) // blocks)
    return steps * blocks * rows * (SAVED_TO_RECOMPUTE if recompute else SAVED).get(family, 0) * ((hidden + PANEL - 1) // PANEL) * PANEL


def scratch_floats(family: str, steps: int, batch: int, inputs: int, hidden: int, lanes: int, threads: int, recompute: bool = False) -> int:
    """What the larger of the two passes needs for the length of a call: float32 numbers."""
    shape = _Shape(FAMILIES.index(family), steps, batch, inputs, hidden, lanes, threads, recompute)
    run = _functions().mrnn_scratch
    return max(int(run(ctypes.byref(shape), backward)) for backward in (0, 1))


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


def _call(function: Any, shape: _Shape, pointers: Sequence[int]) -> None:
    table = array("Q", pointers)
    if function(ctypes.byref(shape), ctypes.c_void_p(table.buffer_info()[0])):
        raise MemoryError("out of memory in the fused recurrence")


def _forward(family: str, keep: bool, recompute: bool, there: Sequence[bool], flat: Sequence[Tensor]) -> list[Tensor]:
    """y of every lane, c_T of every lstm lane, and, if there will be a backward pass (``keep``), what each lane needs for it.

    ``flat``: the tensors of every lane, those of a `LaneInput` that are ``there``.
    """
    lanes = _lanes(there, flat)
    shape, library = _shape(family, recompute, lanes), _functions()
    _check(family, lanes, shape)
    floats = library.mrnn_saved(ctypes.byref(shape)) if keep else 0
    ys, cs, saved, alive = [], [], [], []
    pointers: list[int] = []
    for lane in lanes:
        ready = LaneInput._make(None if t is None else t.contiguous() for t in lane)
        y, c = ready.h0.new_empty(shape.steps, shape.batch, shape.hidden), None if ready.c0 is None else torch.empty_like(ready.c0)
        kept = ready.h0.new_empty(floats) if keep else None
        pointers += [*map(_address, ready), _address(y), _address(c), _address(kept), *[0] * (POINTERS - INPUTS - 3)]
        alive.append(ready)
        ys.append(y)
        cs.append(c)
        saved.append(kept)
    _call(library.mrnn_forward, shape, pointers)
    return [t for t in (*ys, *cs, *saved) if t is not None]


_operator = torch.library.custom_op("mrnn_search::recurrence", _forward, mutates_args=())


@_operator.register_fake
def _(family: str, keep: bool, recompute: bool, there: Sequence[bool], flat: Sequence[Tensor]) -> list[Tensor]:
    lanes = _lanes(there, flat)  # sizes may be symbols here, which a _Shape cannot hold
    (steps, batch), hidden = _source(lanes[0]).shape[:2], lanes[0].h0.shape[1]
    ys = [lane.h0.new_empty(steps, batch, hidden) for lane in lanes]
    cs = [torch.empty_like(lane.c0, memory_format=torch.contiguous_format) for lane in lanes if lane.c0 is not None]
    floats = saved_floats(family, steps, batch, 0, hidden, recompute) if keep else 0
    return [*ys, *cs, *[lane.h0.new_empty(floats) for lane in lanes if keep]]


def _backward(
    family: str,
    recompute: bool,
    there: Sequence[bool],
    flat: Sequence[Tensor],
    ys: Sequence[Tensor],
    saved: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor]:
    """The gradients of those of ``flat`` that are wanted. ``grads``: of every y, then of every c_T."""
    lanes = _lanes(there, flat)
    shape, count, wants = _shape(family, recompute, lanes), len(lanes), _lanes(there, wanted)
    pointers: list[int] = []
    results: list[Tensor] = []
    alive: list[object] = []  # what the kernel reads, and nobody else holds
    for k, lane in enumerate(lanes):
        ready = LaneInput._make(None if t is None else t.contiguous() for t in lane)
        dy, dc = grads[k], grads[count + k] if lane.c0 is not None else None
        dy = torch.zeros_like(ys[k]) if dy is None else dy.contiguous()
        dc = None if dc is None else dc.contiguous()
        alive += [ready, dy, dc]
        made = [torch.empty_like(t) if t is not None and want else None for t, want in zip(ready, wants[k], strict=True)]
        dz, dw, db, dd, du, dbu, dm, dh0, dc0 = made
        pointers += [*map(_address, ready), _address(ys[k]), 0, _address(saved[k]), _address(dy), _address(dc)]
        pointers += map(_address, (dz, dw, db, dd, du, dbu, dm, dh0, dc0))
        results += [t for t in made if t is not None]
    _call(_functions().mrnn_backward, shape, pointers)
    return results


_backward_operator = torch.library.custom_op("mrnn_search::recurrence_backward", _backward, mutates_args=())


@_backward_operator.register_fake
def _(
    family: str,
    recompute: bool,
    there: Sequence[bool],
    flat: Sequence[Tensor],
    ys: Sequence[Tensor],
    saved: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor]:
    return [
        torch.empty_like(t, memory_format=torch.contiguous_format) for t, want in zip(flat, wanted, strict=True) if t is not None and want
    ]


def _setup(ctx: Any, inputs: tuple[str, bool, bool, Sequence[bool], Sequence[Tensor]], output: Sequence[Tensor]) -> None:
    family, _, recompute, there, flat = inputs
    ctx.family, ctx.recompute, ctx.there, ctx.sizes = family, recompute, list(there), (len(flat), len(flat) // sum(there))
    outputs = ctx.sizes[1] * (2 if family == "lstm" else 1)
    ctx.save_for_backward(*flat, *output[: ctx.sizes[1]], *output[outputs:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, wanted: Sequence[bool], grads: Sequence[Tensor | None], run: Callable[..., list[Tensor]]) -> list[Tensor | None]:
    inputs, lanes = ctx.sizes
    flat, ys, saved = ctx.saved_tensors[:inputs], ctx.saved_tensors[inputs : inputs + lanes], ctx.saved_tensors[inputs + lanes :]
    outputs = lanes * (2 if ctx.family == "lstm" else 1)
    found = iter(run(ctx.family, ctx.recompute, ctx.there, flat, ys, saved, list(grads[:outputs]), list(wanted)))
    return [next(found) if want else None for want in wanted]


@once_differentiable
def _operator_gradients(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[None, None, None, None, list[Tensor | None]]:
    return None, None, None, None, _gradients(ctx, ctx.needs_input_grad[4], grads, torch.ops.mrnn_search.recurrence_backward)


_operator.register_autograd(_operator_gradients, setup_context=_setup)


class _Recurrence(torch.autograd.Function):
    """The operator for eager mode."""

    @staticmethod
    def forward(ctx: Any, family: str, keep: bool, recompute: bool, there: Sequence[bool], *flat: Tensor) -> tuple[Tensor, ...]:
        found = _forward(family, keep, recompute, there, flat)
        if keep:
            _setup(ctx, (family, keep, recompute, there, flat), found)
        outputs = len(found) - keep * (len(flat) // sum(there))
        return tuple(found[:outputs])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        with torch.no_grad():
            found = _gradients(ctx, ctx.needs_input_grad[4:], grads, _backward)
        return None, None, None, None, *once(found, (*ctx.saved_tensors[: ctx.sizes[0]], *grads))


def _lanes(there: Sequence[bool], flat: Sequence[Any]) -> list[LaneInput]:
    """What is in ``flat`` for each lane, and None for what is not there."""
    values = iter(flat)
    return [LaneInput._make(next(values) if is_there else None for is_there in there) for _ in range(len(flat) // sum(there))]


def _shape(family: str, recompute: bool, lanes: Sequence[LaneInput]) -> _Shape:
    first = lanes[0]
    source = _source(first)
    inputs = 0 if first.z is None else source.shape[2]
    sizes = source.shape[0], source.shape[1], inputs, first.h0.shape[1], len(lanes)
    return _Shape(FAMILIES.index(family), *sizes, torch.get_num_threads(), recompute)


def _source(lane: LaneInput) -> Tensor:
    source = lane.d if lane.z is None else lane.z
    assert source is not None
    return source


def _check(family: str, lanes: Sequence[LaneInput], shape: _Shape) -> None:
    """The kernel trusts the addresses that it is given."""
    t, b, i, h = shape.steps, shape.batch, shape.inputs, shape.hidden
    g = BLOCKS.get(family, 1) * h
    allowed = LaneInput((t, b, i), (g, i), (g,), (t, b, g), (g, h), (g,), (h,), (b, h), (b, h))  # type: ignore[arg-type]
    for lane in lanes:
        for name, tensor, size in zip(LaneInput._fields, lane, allowed, strict=True):
            if tensor is not None and (tensor.shape != size or tensor.dtype is not torch.float32 or not tensor.is_cpu):
                found = f"{name} is {tuple(tensor.shape)}, {tensor.dtype}, on {tensor.device}"
                raise ValueError(f"{found}; allowed in the fused recurrence: {size}, torch.float32, on cpu")
        if t < 1 or (lane.z is None) != (lane.w is None) or (family == "lstm") != (lane.c0 is not None):
            raise ValueError(f"allowed in the fused recurrence {family}: T >= 1, z and w together, and c0 for lstm alone")
