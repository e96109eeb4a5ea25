"""Drive rules on whole sequences in one pass on the CPU, forward and backward (float32): `rule.cpp` from Python.

Shapes: T time, B batch, C channels, S slots (scalars of a formula, one a step).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...cells.formula.node import Node
from ...cells.formula.program import MAX_STATES, Program
from ...cells.formula.run import evaluate, leaf
from .build import Native, native
from .machine import Backward, Instruction, Place, Slots, Step, lower, refused, states_behind


class _Code(ctypes.Structure):
    _fields_ = [("code", ctypes.c_void_p), ("count", ctypes.c_int64)]


class _Lane(ctypes.Structure):
    """``Lane`` of `rule.cpp`."""

    _fields_ = [
        ("program", _Code),
        ("keep", _Code),
        *((name, ctypes.c_int64) for name in ("steps", "elements", "states", "slots", "registers", "result")),
        *((name, ctypes.c_void_p) for name in ("u", "d", "du", "table")),
        ("stride", ctypes.c_int64),
        ("sums", ctypes.c_void_p),
        *((name, ctypes.c_void_p * MAX_STATES) for name in ("held", "last", "dheld")),
    ]


class Kernels(NamedTuple):
    """The machine: its functions, its operations by name, and the elements of a block."""

    forward: Any
    backward: Any
    operations: dict[str, int]
    block: int


@cache
def kernels() -> Kernels | str:
    """The machine, or why there is none."""
    found = native()
    if not isinstance(found, Native):
        return found
    library = found.library
    library.rule_operations.restype = ctypes.c_char_p
    library.rule_block.restype = ctypes.c_int64
    for function in (library.rule_forward, library.rule_backward):
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int], None
    names = library.rule_operations().decode().split()
    return Kernels(library.rule_forward, library.rule_backward, {name: k for k, name in enumerate(names)}, library.rule_block())


@dataclass(frozen=True, eq=False)
class Assembled:
    """Instructions as the machine reads them: rows of 7 numbers, int32."""

    rows: Any  # a ctypes array
    count: int
    registers: int

    @property
    def told(self) -> _Code:
        return _Code(ctypes.addressof(self.rows), self.count)


@dataclass(frozen=True, eq=False)
class Return:
    """The way back of a program: ``keep`` makes the states that ``program`` reads."""

    program: Assembled
    keep: Assembled


class Code:
    """A program for the machine.

    Attributes:
        slots: the scalars that it reads, in the order of the table.
        result: the state that is the result, else -1.
    """

    def __init__(self, program: Program) -> None:
        self.program, self._slots = program, Slots()
        self._forward = Step(program, self._slots)
        self.new: dict[Place, int] = {("new", k): self._forward.after(node) for k, node in enumerate(program.states)}
        self.result = -1
        if program.root in program.states and program.root.op != "prev":
            self.result = program.states.index(program.root)
        result: dict[Place, int] = {} if self.result >= 0 else {("d",): self._forward.of(program.root)}
        instructions = lower(self._forward, {**self.new, **result})
        Backward(program, self._slots, lambda node: bool(node.coefficients))  # names every slot that a way back can need
        self.slots: tuple[Node, ...] = tuple(self._slots.nodes)
        self.forward = self._assemble(instructions)
        self._returns: dict[tuple[bool, frozenset[str]], Return] = {}

    def returning(self, needs_u: bool, learned: frozenset[str]) -> Return:
        """The way back that gives the gradients of u, if asked for, of the coefficients ``learned``, and of states."""
        if (needs_u, learned) not in self._returns:
            step = Backward(self.program, self._slots, lambda node: not learned.isdisjoint(node.coefficients))
            if not needs_u:
                step.outputs.pop(("du",), None)
            instructions = lower(step, step.outputs, step.sums)
            behind = states_behind(self.program, instructions)
            keep = lower(self._forward, {("new", k): self.new["new", k] for k in behind})
            self._returns[needs_u, learned] = Return(self._assemble(instructions), self._assemble(keep))
        return self._returns[needs_u, learned]

    def _assemble(self, code: Sequence[Instruction]) -> Assembled:
        states, slots = len(self.program.states), len(self.slots)
        starts = {"u": 0, "d": 1, "dd": 1, "du": 2, "old": 3, "new": 3 + states, "gnew": 3 + 2 * states, "gold": 3 + 3 * states}
        starts |= {"slot": 3 + 4 * states, "register": 3 + 4 * states + slots}

        def number(place: Place) -> int:
            return starts[place[0]] + (place[1] if len(place) > 1 else 0)

        operations = _machine().operations
        rows = (ctypes.c_int32 * (7 * len(code)))()
        for k, one in enumerate(code):
            mode = sum((place[0] == "slot") << i for i, place in enumerate(one.args))
            to = one.to[1] if one.name in ("sum", "dot") else number(one.to)
            args = [number(place) for place in one.args]
            rows[7 * k : 7 * k + 7] = [operations[one.name], mode, to, *args, *args[:1] * (4 - len(args))]
        used = [p[1] + 1 for one in code for p in (one.to, *one.args) if p[0] == "register"]
        return Assembled(rows, len(code), max(used, default=0))

    def table(self, c: Mapping[str, Any], t: int, steps: int) -> Tensor:
        """What the slots hold, in float64: (S,), or (T, S) where the program is timed; differentiable in the coefficients."""
        now = torch.arange(t + 1, t + 1 + steps, dtype=torch.float64) if self.program.timed else None
        c = {k: v.to(torch.float64) if isinstance(v, Tensor) else v for k, v in c.items()}
        known: dict[Node, Any] = {}
        values = [evaluate(node, lambda n: leaf(n, c, None, None, now), _none, known) for node in self.slots]
        if not any(isinstance(v, Tensor) for v in values):
            return torch.tensor(values, dtype=torch.float64)
        tensors = [v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in values]
        return torch.stack(torch.broadcast_tensors(*tensors), -1)


def _none(node: Node, x: Any, scalars: Sequence[Any]) -> Any:
    raise AssertionError(f"{node.op} in a scalar")


@lru_cache(maxsize=4096)
def compile(program: Program) -> Code | str:
    """The program for the machine, or why it cannot run."""
    machine = kernels()
    if isinstance(machine, str):
        return machine
    return refused(program) or Code(program)


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
    code = compile(lane.program)
    if isinstance(code, str):
        return code
    tensors = [lane.u, *(h for h in lane.held if h is not None)]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in tensors):
        return "not float32 on the CPU"
    if any(isinstance(v, Tensor) and v.dim() for v in lane.c.values()):
        return "a coefficient is not one number"
    if lane.program.timed and isinstance(lane.t, Tensor):
        return "each sequence has its own step number"
    return ""


def drives(lanes: Sequence[Lane | tuple[Any, ...]]) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Every lane's rule on all its steps: the result (T, B, C) and the states after the last step, (B, C) each.

    Differentiable once, in u, in the coefficients and in the states before the first step.

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
        flat = _forward(given, tensors)[0]
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


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (ctypes.c_void_p * MAX_STATES)(*(None if x is None else x.data_ptr() for x in tensors))


def _ready(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().contiguous()


def _lane(code: Code, u: Tensor, table: Tensor, held: Sequence[Tensor | None], registers: int) -> _Lane:
    told = _Lane(steps=u.shape[0], elements=u[0].numel() if u.shape[0] else 0, states=len(held), slots=len(code.slots))
    told.registers, told.result = registers, code.result
    told.u, told.table, told.stride = u.data_ptr(), table.data_ptr(), len(code.slots) if table.dim() == 2 else 0
    told.held = _pointers(held)
    return told


def _machine() -> Kernels:
    machine = kernels()
    if isinstance(machine, str):
        raise RuntimeError(machine)
    return machine


def _run(function: Callable[..., None], lanes: list[_Lane]) -> None:
    function((_Lane * len(lanes))(*lanes), len(lanes), torch.get_num_threads())


def _forward(given: Given, tensors: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor | None]]:
    """The results, and the tensors as the machine read them."""
    results, read, lanes = list[Tensor](), list[Tensor | None](), []
    for (code, _), (u, table, *held) in zip(given, _by_lane(given, tensors, 2), strict=True):
        u, table, held = u.detach().contiguous(), table.detach().float(), [_ready(h) for h in held]
        d, last = torch.empty_like(u), [u.new_empty(u.shape[1:]) for _ in held]
        told = _lane(code, u, table, held, code.forward.registers)
        told.program, told.d, told.last = code.forward.told, d.data_ptr(), _pointers(last)
        lanes.append(told)
        results += [d, *last]
        read += [u, table, *held]
    _run(_machine().forward, lanes)
    return results, read


class _Drives(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Given, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        results, read = _forward(given, tensors)
        ctx.given = given
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*read)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given, needs = ctx.given, ctx.needs_input_grad[1:]
        pieces = zip(given, _by_lane(given, ctx.saved_tensors, 2), _by_lane(given, gradients, 1), _by_lane(given, needs, 2), strict=True)
        out, lanes, alive, tables = list[Tensor | None](), [], [], []
        for (code, learned), (u, table, *held), (dd, *dlast), (needs_u, needs_table, *needs_held) in pieces:
            if (dd is None and all(g is None for g in dlast)) or not any((needs_u, needs_table, *needs_held)):
                out += [None] * (2 + len(held))
                continue
            dd = torch.zeros_like(u) if dd is None else dd.contiguous()
            dlast = [_ready(g) for g in dlast]
            back = code.returning(needs_u, learned if needs_table else frozenset())
            told = _lane(code, u, table, held, max(back.program.registers, back.keep.registers))
            told.program, told.keep = back.program.told, back.keep.told
            du = torch.empty_like(u) if needs_u else None
            blocks = -(-told.elements // _machine().block)
            sums = torch.zeros(max(blocks, 1), *table.shape, dtype=torch.float64) if needs_table else None
            dheld = [u.new_empty(u.shape[1:]) if needed else None for needed in needs_held]
            told.d, told.du = dd.data_ptr(), None if du is None else du.data_ptr()
            told.sums = None if sums is None else sums.data_ptr()
            told.last, told.dheld = _pointers(dlast), _pointers(dheld)
            lanes.append(told)
            alive.append((dd, dlast))
            tables.append(sums)
            out += [du, None if sums is None else sums[0], *dheld]
        if lanes:
            _run(_machine().backward, lanes)
        return None, *out
