"""Triton kernels for a rule: the instructions of its step, forward and backward, written as Triton's language.

One program for each lane and block of channels, the time loop inside; states stay in registers. What a step computes is what
`mrnn_search.engine.native.steps` says, as on the CPU; `EXPRESSIONS` are the operations of `native/operations.h`.

Shapes: K lanes, T time, N = B·C channels, P programs of a lane, S slots (scalars of a formula, one a step).
"""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ...cells.formula.program import Program
from ..native.instructions import Instruction, lower
from ..native.scalars import Scalars
from ..native.steps import Place, Slots, Step

EXPRESSIONS: Mapping[str, str] = {
    "mov": "{0}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))",
    "sqrt": "tl.sqrt_rn({0})",
    "recip": "tl.div_rn(1.0, {0})",
    "inverse_root": "tl.div_rn(1.0, tl.sqrt_rn({0}))",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "tanh": "tanh({0})",
    "sigmoid": "tl.div_rn(1.0, 1.0 + tl.exp(-{0}))",
    "relu": "tl.where({0} <= 0, 0.0, {0})",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "tl.div_rn({0}, {1})",
    "min": "tl.where({0} < {1}, {0}, tl.where({0} != {0}, {0}, {1}))",
    "max": "tl.where({0} > {1}, {0}, tl.where({0} != {0}, {0}, {1}))",
    "root_sum": "tl.sqrt_rn({0} + {1})",
    "inverse_root_sum": "tl.div_rn(1.0, tl.sqrt_rn({0} + {1}))",
    "relu_grad": "tl.where({1} <= 0, 0.0, {0})",
    "unless_zero": "tl.where({0} == 0, 0.0, {1})",
    "pow": "power({0}, {1})",
    "fma": "tl.fma({0}, {1}, {2})",
    "fms": "tl.fma({0}, {1}, -{2})",
    "fnma": "tl.fma(-{0}, {1}, {2})",
    "mul3": "{0} * {1} * {2}",
    "div_root_sum": "tl.div_rn({0}, tl.sqrt_rn({1} + {2}))",
    "max_grad": "tl.where({1} < {2}, 0.0, tl.where({1} == {2}, 0.5 * {0}, {0}))",
    "peak_grad": "tl.where(({1} < {2}) | ({1} == 0), 0.0, {0})",
    "peak_rest": "tl.where(({1} < {2}) | ({1} == 0), {0}, 0.0)",
    "mul4": "({0} * {1}) * ({2} * {3})",
    "dot2": "tl.fma({0}, {1}, {2} * {3})",
    "dot2_square": "tl.fma({0}, {1}, {2} * ({3} * {3}))",
    "sum": "{0}",
    "dot": "{0} * {1}",
}
HEAD = """import triton
import triton.language as tl

from mrnn_search.engine.gpu.kernels.language import power, tanh


@triton.jit
"""


class Kernel(NamedTuple):
    """A generated kernel, and which of the tensors that it might read it reads.

    Attributes:
        states: forward: those whose values at each step it writes; backward: those that it reads, as the forward wrote them.
        reads_u: the drive.
    """

    run: Any
    states: tuple[int, ...]
    reads_u: bool


class Generated(Scalars):
    """A program's kernels."""

    def __init__(self, program: Program) -> None:
        slots = Slots()
        self._forward = Step(program, slots)
        new: dict[Place, int] = {("new", k): self._forward.after(node) for k, node in enumerate(program.states)}
        self._code = lower(self._forward, {**new, ("d",): self._forward.of(program.root)})
        super().__init__(program, slots)
        self._kernels: dict[tuple[Any, ...], Kernel] = {}

    def forward(self, states: tuple[int, ...] = ()) -> Kernel:
        """``d`` from ``u``, and ``states`` after every step."""
        if states not in self._kernels:
            self._kernels[states] = Kernel(_load(self._forward_text(states), "forward"), states, True)
        return self._kernels[states]

    def backward(self, needs_u: bool, learned: frozenset[str]) -> Kernel:
        """The gradients of u, if asked for, of the coefficients ``learned``, and of states."""
        if (needs_u, learned) not in self._kernels:
            step = self.way_back(needs_u, learned)
            code = lower(step, step.outputs, step.sums)
            read = {place for one in code for place in one.args}
            states = tuple(sorted({int(place[1]) for place in read if place[0] in ("old", "new")}))
            run = _load(self._backward_text(code, states, ("u",) in read, needs_u), "backward")
            self._kernels[needs_u, learned] = Kernel(run, states, ("u",) in read)
        return self._kernels[needs_u, learned]

    def _forward_text(self, kept: Sequence[int]) -> str:
        states, timed = range(len(self.program.states)), self.program.timed
        slots = _slots(self._code)
        row = f"lane * T * {len(self.slots)}" if timed else f"lane * {len(self.slots)}"
        tensors = [f"held_{k}" for k in states] + [f"last_{k}" for k in states] + [f"kept_{k}" for k in kept]
        before = [f"table += {row}", "here = lane * T * N + n"]
        for k in states:
            before += [f"old_{k} = none", "if HELD:", f"    old_{k} = tl.load(held_{k} + first, mask=inside, other=0.0)"]
        inner = ["u_now = tl.load(u + here, mask=inside, other=0.0)", *map(_line, self._code)]
        inner += ["tl.store(d + here, d_now, mask=inside)", *(f"tl.store(kept_{k} + here, new_{k}, mask=inside)" for k in kept)]
        inner += [*(f"old_{k} = new_{k}" for k in states), "here += N"]
        if timed:
            inner = [*slots, *inner, f"table += {len(self.slots)}"]
        else:
            before += slots
        after = [f"tl.store(last_{k} + first, old_{k}, mask=inside)" for k in states]
        return _function("forward", ["u", "table", "d", *tensors], ["HELD"], before, inner, after)

    def _backward_text(self, code: Sequence[Instruction], kept: Sequence[int], reads_u: bool, needs_u: bool) -> str:
        states, timed, width = range(len(self.program.states)), self.program.timed, len(self.slots)
        sums: dict[int, list[str]] = {}
        for one in code:
            if one.name in ("sum", "dot"):
                sums.setdefault(one.to[1], []).append(_expression(one))
        slots = _slots(code)
        tensors = [f"held_{k}" for k in kept] + [f"kept_{k}" for k in kept]
        tensors += [f"dlast_{k}" for k in states] + [f"dheld_{k}" for k in states]
        before = ["here = (lane * T + T - 1) * N + n", f"table += (lane * T + T - 1) * {width}" if timed else f"table += lane * {width}"]
        part = "lane * tl.num_programs(1) + tl.program_id(1)"
        before.append(f"sums += (({part}) * T + T - 1) * {width}" if timed else f"sums += ({part}) * {width}")
        before += [f"new_{k} = tl.load(kept_{k} + here, mask=inside, other=0.0)" for k in kept]
        for k in states:
            before += [f"gnew_{k} = none", "if LAST:", f"    gnew_{k} = tl.load(dlast_{k} + first, mask=inside, other=0.0)"]
        inner = ["dd_now = tl.load(dd + here, mask=inside, other=0.0)"]
        inner += ["u_now = tl.load(u + here, mask=inside, other=0.0)"] if reads_u else []
        for k in kept:
            inner += [f"old_{k} = tl.load(kept_{k} + here - N, mask=inside & (back < T - 1), other=0.0)", "if HELD:"]
            inner += [f"    old_{k} += tl.load(held_{k} + first, mask=inside & (back == T - 1), other=0.0)"]
        inner += [_line(one) for one in code if one.name not in ("sum", "dot")]
        adds = [f"sum_{k} += tl.where(inside, {part}, 0.0)" for k, parts in sums.items() for part in parts]
        zeros, totals = [f"sum_{k} = none" for k in sums], [f"tl.store(sums + {k}, tl.sum(sum_{k}, 0))" for k in sums]
        inner += [*zeros, *adds, *totals] if timed else adds
        inner += ["tl.store(du + here, du_now, mask=inside)"] if needs_u else []
        inner += [*(f"new_{k} = old_{k}" for k in kept), *(f"gnew_{k} = gold_{k}" for k in states), "here -= N"]
        after = [] if timed else totals
        if timed:
            inner = [*slots, *inner, f"table -= {width}", f"sums -= {width}"]
        else:
            before += [*slots, *zeros]
        for k in states:
            after += ["if FOR_HELD:", f"    tl.store(dheld_{k} + first, gnew_{k}, mask=inside)"]
        return _function("backward", ["u", "table", "dd", "du", "sums", *tensors], ["HELD", "LAST", "FOR_HELD"], before, inner, after)


def _function(
    name: str, tensors: Sequence[str], flags: Sequence[str], before: Sequence[str], inner: Sequence[str], after: Sequence[str]
) -> str:
    constants = ", ".join(f"{flag}: tl.constexpr" for flag in (*flags, "BLOCK"))
    start = [
        "lane = tl.program_id(0).to(tl.int64)",
        "n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
        "inside = n < N",
        "first = lane * N + n",
        "none = tl.zeros((BLOCK,), tl.float32)",
    ]
    lines = [*start, *before, "for back in range(T):", *("    " + line for line in inner), *after]
    return f"{HEAD}def {name}({', '.join(tensors)}, T, N, {constants}):\n" + "".join(f"    {line}\n" for line in lines)


def _name(place: Place) -> str:
    return f"{place[0]}_{place[1]}" if len(place) > 1 else f"{place[0]}_now"


def _expression(one: Instruction) -> str:
    return EXPRESSIONS[one.name].format(*map(_name, one.args))


def _line(one: Instruction) -> str:
    # A copied scalar becomes a block: what a loop carries has one type.
    return f"{_name(one.to)} = {'none + ' if one.args[0][0] == 'slot' and one.name == 'mov' else ''}{_expression(one)}"


def _slots(code: Sequence[Instruction]) -> list[str]:
    """Loads of the scalars that the code reads."""
    used = sorted({int(place[1]) for one in code for place in one.args if place[0] == "slot"})
    return [f"slot_{k} = tl.load(table + {k})" for k in used]


def _load(text: str, name: str) -> Any:
    """The function in ``text``. Triton reads a function's source, so it must be found where Python looks for it."""
    file = f"<mrnn_search rule {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": f"{__name__}.{name}"}
    exec(compile(text, file, "exec"), names)
    return names[name]


@lru_cache(maxsize=4096)
def generated(program: Program) -> Generated:
    """The kernels of a program that does not read the hidden state."""
    return Generated(program)
