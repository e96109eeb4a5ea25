"""Drive rules on whole sequences in one pass on the CPU, forward and backward (float32): `rule.cpp` from Python.

Shapes: T time, B batch, C channels, S slots (scalars of a formula, one a step).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...cells.formula.program import MAX_STATES, Program
from .code import Assembled, Code, compile, running
from .once import once
from .scalars import unreadable


class _Code(ctypes.Structure):
    _fields_ = [("code", ctypes.c_void_p), ("count", ctypes.c_int64)]


_States = ctypes.c_void_p * MAX_STATES


class _Lane(ctypes.Structure):
    """``Lane`` of `rule.cpp`."""

    _fields_ = [
        ("program", _Code),
        ("keep", _Code),
        *((name, ctypes.c_int64) for name in ("steps", "elements", "states", "slots", "registers", "result")),
        *((name, ctypes.c_void_p) for name in ("u", "d", "du", "table")),
        ("stride", ctypes.c_int64),
        ("sums", ctypes.c_void_p),
        *((name, _States) for name in ("held", "last", "dheld")),
    ]


class Lane(NamedTuple):
    """One rule on one batch of sequences.

    Attributes:
        c: coefficients: floats, or tensors ().
        u: (T, B, C), float32 on the CPU.
        held: the states before the first step, (B, C) each; None is zero.
        t: steps that the rule has seen.
    """

    program: Program
    c: Mapping[str, Any]
    u: Tensor
    held: Sequence[Tensor | None]
    t: int | Tensor = 0


def unfit(lane: Lane) -> str:
    """Why `drives` cannot run this; empty if it can."""
    if refused := _refused(lane.program):
        return refused
    given = [h for h in lane.held if h is not None]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in (lane.u, *given)):
        return "not float32 on the CPU"
    if len(lane.held) != len(lane.program.states) or any(h.shape != lane.u.shape[1:] for h in given):
        return "other states than the rule's"
    return unreadable(lane.program, lane.c, lane.t)


def _refused(program: Program) -> str:
    code = compile(program)
    return code if isinstance(code, str) else ""


_refused._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result, without its imports


def drives(lanes: Sequence[Lane | tuple[Any, ...]]) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Every lane's rule on all its steps: the result (T, B, C) and the states after the last step, (B, C) each.

    Differentiable once, in u, in the coefficients and in the states before the first step. Denormals count as 0. What a lane
    gives does not depend on the other lanes, nor on the number of threads (`torch.get_num_threads`).

    Raises:
        ValueError: a lane does not fit (see `unfit`).
    """
    given, tensors = [], []
    for lane in (one if isinstance(one, Lane) else Lane(*one) for one in lanes):
        if problem := unfit(lane):
            raise ValueError(f"rule {lane.program.text}: {problem}")
        code = compile(lane.program)
        assert isinstance(code, Code)
        table = code.table(lane.c, int(lane.t), lane.u.shape[0])
        learned = frozenset(k for k, v in lane.c.items() if isinstance(v, Tensor) and v.requires_grad)
        given.append((code, learned))
        tensors += [lane.u, table, *lane.held]
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        flat = _Drives.apply(given, *tensors)
    else:
        flat = forward_of(given, tensors)[0]
    out, position = [], 0
    for code, _ in given:
        count = 1 + len(code.program.states)
        out.append((flat[position], tuple(flat[position + 1 : position + count])))
        position += count
    return out


Given = Sequence[tuple[Code, frozenset[str]]]


def _by_lane(given: Given, tensors: Sequence[Any], extra: int) -> list[Sequence[Any]]:
    """``tensors`` in pieces: ``extra`` and one for each state."""
    pieces, position = [], 0
    for code, _ in given:
        count = extra + len(code.program.states)
        pieces.append(tensors[position : position + count])
        position += count
    return pieces


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return _States(*map(_pointer, tensors))


def _told(program: Assembled) -> _Code:
    return _Code(program.address, program.count)


def _ready(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().contiguous()


def _lane(code: Code, u: Tensor, table: Tensor, held: Sequence[Tensor | None], registers: int) -> _Lane:
    told = _Lane(steps=u.shape[0], elements=u.shape[1:].numel(), states=len(held), slots=len(code.slots))
    told.registers, told.result = registers, code.result
    told.u, told.table, told.stride = u.data_ptr(), table.data_ptr(), len(code.slots) if table.dim() == 2 else 0
    told.held = _pointers(held)
    return told


def _run(function: Callable[..., None], lanes: list[_Lane]) -> None:
    function((_Lane * len(lanes))(*lanes), len(lanes), torch.get_num_threads())


def forward_of(given: Given, tensors: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor | None]]:
    """The results, and the tensors as the machine read them."""
    results, read, lanes = list[Tensor](), list[Tensor | None](), []
    for (code, _), (u, table, *held) in zip(given, _by_lane(given, tensors, 2), strict=True):
        u, table, held = u.detach().contiguous(), table.detach().float(), [_ready(h) for h in held]
        d, last = torch.empty_like(u), [u.new_empty(u.shape[1:]) for _ in held]
        told = _lane(code, u, table, held, code.forward.registers)
        told.program, told.d, told.last = _told(code.forward), d.data_ptr(), _pointers(last)
        lanes.append(told)
        results += [d, *last]
        read += [u, table, *held]
    _run(running().forward, lanes)
    return results, read


def backward_of(given: Given, saved: Sequence[Any], gradients: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients of the tensors that `forward_of` was given; None where they are not needed.

    Args:
        saved: those tensors, as it read them.
        gradients: of its results.
    """
    out, lanes, alive = list[Tensor | None](), [], []
    pieces = zip(given, _by_lane(given, saved, 2), _by_lane(given, gradients, 1), _by_lane(given, needs, 2), strict=True)
    for (code, learned), (u, table, *held), (dd, *dlast), (needs_u, needs_table, *needs_held) in pieces:
        if (dd is None and all(g is None for g in dlast)) or not any((needs_u, needs_table, *needs_held)):
            out += [None] * (2 + len(held))
            continue
        dd, dlast = torch.zeros_like(u) if dd is None else dd.contiguous(), [_ready(g) for g in dlast]
        back = code.returning(needs_u, learned if needs_table else frozenset())
        told = _lane(code, u, table, held, max(back.program.registers, back.keep.registers))
        du = torch.empty_like(u) if needs_u else None
        blocks = -(-told.elements // running().block)
        sums = torch.zeros(max(blocks, 1), *table.shape, dtype=torch.float64) if needs_table else None
        dheld = [u.new_empty(u.shape[1:]) if needed else None for needed in needs_held]
        told.program, told.keep = _told(back.program), _told(back.keep)
        told.d, told.du, told.sums = dd.data_ptr(), _pointer(du), _pointer(sums)
        told.last, told.dheld = _pointers(dlast), _pointers(dheld)
        lanes.append(told)
        alive.append((dd, dlast))  # till the machine has read them
        out += [du, None if sums is None else sums[0], *dheld]
    if lanes:
        _run(running().backward, lanes)
    return out


class _Drives(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Given, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        results, read = forward_of(given, tensors)
        ctx.given = given
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*read)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            found = backward_of(ctx.given, ctx.saved_tensors, gradients, ctx.needs_input_grad[1:])
        return None, *once(found, (*ctx.saved_tensors, *gradients))
