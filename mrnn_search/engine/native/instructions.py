"""The operations of a step as instructions for the machine in `rule.cpp`.

What nothing needs is left out, products, sums and roots are joined, and the rest gets places: rows of the caller's tensors,
states, slots or registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...cells.formula.program import Program
from .steps import Operation, Place, Step, Value


@dataclass(frozen=True)
class Instruction:
    """One operation with places for numbers: slots, states and registers are counted from where they begin in the machine."""

    name: str
    to: Place
    args: tuple[Place, ...]


GIVEN = ("u", "dd", "slot", "old", "new", "gnew")


def lower(step: Step, outputs: dict[Place, Value], sums: Iterable[tuple[int, Value]] = ()) -> tuple[Instruction, ...]:
    """The instructions that compute ``outputs`` and add ``sums`` to the gradients of slots, and nothing else."""
    operations, sums = list(step.operations), list(sums)
    _join(operations, [*outputs.values(), *(v for _, v in sums)], _sum_of_products)
    adds = [_sum(operations[value], value) for _, value in sums]
    results = [*outputs.values(), *(a for _, args in adds for a in args)]
    _join(operations, results, _longer)
    needed = _needed(operations, results)

    last: dict[Value, int] = {}
    for k in needed:
        last.update(dict.fromkeys(_arguments(operations[k]), k))
    for _, args in adds:
        last.update(dict.fromkeys(args, len(operations)))
    where: dict[Value, Place] = {k: operations[k] for k in needed if operations[k][0] in GIVEN}
    copies: list[tuple[Place, Value]] = []
    for place, value in outputs.items():
        if value in where:
            copies.append((place, value))
        else:
            where[value] = place
    bound, free, count = set(where), list[Place](), 0
    code = []
    for k in needed:
        if operations[k][0] in GIVEN:
            continue
        name, args = str(operations[k][0]), _arguments(operations[k])
        sources = tuple(where[a] for a in args)
        free.extend(where[a] for a in dict.fromkeys(args) if a not in bound and last[a] == k)
        if k not in where:
            if not free:
                free.append(("register", count))
                count += 1
            where[k] = free.pop()
        code.append(Instruction(name, where[k], sources))
    code += [Instruction("mov", place, (where[value],)) for place, value in copies]
    code += [Instruction(name, ("slot", slot), tuple(where[a] for a in args)) for (slot, _), (name, args) in zip(sums, adds, strict=True)]
    return tuple(code)


def _arguments(operation: Operation) -> tuple[Value, ...]:
    return () if operation[0] in GIVEN else operation[1:]


def _needed(operations: Sequence[Operation], results: Iterable[Value]) -> list[Value]:
    found, stack = set[Value](), list(results)
    while stack:
        k = stack.pop()
        if k not in found:
            found.add(k)
            stack += _arguments(operations[k])
    return sorted(found)


Join = Callable[[Sequence[Operation], Operation, Counter[Value]], Operation]


def _join(operations: list[Operation], results: Sequence[Value], join: Join) -> None:
    """Replaces operations by ``join`` of them, arguments first."""
    needed = _needed(operations, results)
    uses = Counter(a for k in needed for a in _arguments(operations[k]))
    uses.update(results)
    for k in needed:
        operations[k] = join(operations, operations[k], uses)


def _sum_of_products(operations: Sequence[Operation], operation: Operation, uses: Counter[Value]) -> Operation:
    """A sum with the products in it that only it uses: ``y + p - p`` is y only if p is rounded every time, or never."""
    name, *args = operation
    if name not in ("add", "sub"):
        return operation
    one, other = args
    first, second = (operations[a][1:] if operations[a][0] == "mul" and uses[a] == 1 else None for a in args)
    if name == "add" and first and second:
        return ("dot2", *first, *second)
    if first:
        return ("fma" if name == "add" else "fms", *first, other)
    if second:
        return ("fma" if name == "add" else "fnma", *second, one)
    return operation


def _longer(operations: Sequence[Operation], operation: Operation, uses: Counter[Value]) -> Operation:
    """An operation with what only it uses: longer products, squares in filters, roots of sums and their inverses."""

    def inside(value: Value, *names: str) -> Operation:
        return operations[value] if operations[value][0] in names and uses[value] == 1 else ()

    name, *args = operation
    match name:
        case "mul":
            for a, b in (args, args[::-1]):
                if (one := inside(a, "mul")) and (other := inside(b, "mul")):
                    return ("mul4", *one[1:], *other[1:])
                if one := inside(a, "mul", "mul3"):
                    return ("mul3" if len(one) == 3 else "mul4", *one[1:], b)
        case "dot2":
            for pair, rest in ((args[:2], args[2:]), (args[2:], args[:2])):
                for a, b in (pair, pair[::-1]):
                    if (one := inside(b, "mul")) and one[1] == one[2]:
                        return ("dot2_square", *rest, a, one[1])
        case "sqrt":
            if one := inside(args[0], "add"):
                return ("root_sum", *one[1:])
        case "recip":
            if one := inside(args[0], "sqrt", "root_sum"):
                return ("inverse_root" if one[0] == "sqrt" else "inverse_root_sum", *one[1:])
        case "div":
            if one := inside(args[1], "root_sum"):
                return ("div_root_sum", args[0], *one[1:])
    return operation


def _sum(operation: Operation, value: Value) -> tuple[str, tuple[Value, ...]]:
    """The instruction that sums ``value`` over elements, and what it reads: of a product, its factors."""
    return ("dot", _arguments(operation)) if operation[0] == "mul" else ("sum", (value,))


def states_behind(program: Program, code: Iterable[Instruction]) -> tuple[int, ...]:
    """The states that ``code`` reads, and those that they are made of."""
    found = {p[1] for i in code for p in i.args if p[0] in ("old", "new")}
    nodes = program.states
    for k in sorted(found, reverse=True):  # a state comes after those that it reads
        found |= {j for j, node in enumerate(nodes[:k]) if node in nodes[k].walk()}
    return tuple(sorted(found))
