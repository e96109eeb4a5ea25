"""Programs for the machine in `rule.cpp`: their instructions, there and back."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

from ...cells.formula.program import MAX_STATES, Program
from .build import Native, native
from .instructions import Instruction, lower, states_behind
from .scalars import Scalars
from .steps import Place, Slots, Step


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


def running() -> Kernels:
    """The machine.

    Raises:
        RuntimeError: there is none.
    """
    machine = kernels()
    if isinstance(machine, str):
        raise RuntimeError(machine)
    return machine


@dataclass(frozen=True, eq=False)
class Assembled:
    """Instructions as the machine reads them: rows of 7 numbers, int32."""

    rows: Any  # a ctypes array
    count: int
    registers: int

    @property
    def address(self) -> int:
        return ctypes.addressof(self.rows)


@dataclass(frozen=True, eq=False)
class Return:
    """The way back of a program: ``keep`` makes the states that ``program`` reads."""

    program: Assembled
    keep: Assembled


class Code(Scalars):
    """A program for the machine.

    Attributes:
        result: the state that is the result, else -1.
    """

    def __init__(self, program: Program) -> None:
        slots = Slots()
        self._forward = Step(program, slots)
        self.new: dict[Place, int] = {("new", k): self._forward.after(node) for k, node in enumerate(program.states)}
        self.result = -1
        if program.root in program.states and program.root.op != "prev":
            self.result = program.states.index(program.root)
        result: dict[Place, int] = {} if self.result >= 0 else {("d",): self._forward.of(program.root)}
        instructions = lower(self._forward, {**self.new, **result})
        super().__init__(program, slots)
        self.forward = self._assemble(instructions)
        self._returns: dict[tuple[bool, frozenset[str]], Return] = {}

    def returning(self, needs_u: bool, learned: frozenset[str]) -> Return:
        """The way back that gives the gradients of u, if asked for, of the coefficients ``learned``, and of states."""
        if (needs_u, learned) not in self._returns:
            step = self.way_back(needs_u, learned)
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

        operations = running().operations
        rows = (ctypes.c_int32 * (7 * len(code)))()
        for k, one in enumerate(code):
            mode = sum((place[0] == "slot") << i for i, place in enumerate(one.args))
            to = one.to[1] if one.name in ("sum", "dot") else number(one.to)
            args = [number(place) for place in one.args]
            rows[7 * k : 7 * k + 7] = [operations[one.name], mode, to, *args, *args[:1] * (4 - len(args))]
        used = [p[1] + 1 for one in code for p in (one.to, *one.args) if p[0] == "register"]
        return Assembled(rows, len(code), max(used, default=0))


@lru_cache(maxsize=4096)
def compile(program: Program) -> Code | str:
    """The program for the machine, or why it cannot run."""
    machine = kernels()
    if isinstance(machine, str):
        return machine
    if program.coupled:
        return "it reads the hidden state"
    if len(program.states) > MAX_STATES:
        return f"it has more than {MAX_STATES} states"
    return Code(program)
