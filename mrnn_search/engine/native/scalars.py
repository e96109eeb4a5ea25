"""The scalars that a program's instructions read, as tables.

Shapes: T time, S slots (scalars of a formula, one a step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...cells.formula.node import Node
from ...cells.formula.program import Program
from ...cells.formula.run import evaluate, leaf
from .steps import Backward, Slots

TABLES = 128  # of a program that are kept: a training asks for the same ones, one for each of its lanes, again and again


class Scalars:
    """The scalars of a program.

    Attributes:
        slots: what they are, in the order of the table.
    """

    def __init__(self, program: Program, slots: Slots) -> None:
        self.program, self._named = program, slots
        Backward(program, slots, lambda node: bool(node.coefficients))  # names every slot that a way back can need
        self.slots: tuple[Node, ...] = tuple(slots.nodes)
        self._names = program.root.coefficients
        self._tables: dict[tuple[Any, ...], Tensor] = {}

    def way_back(self, needs_u: bool, learned: frozenset[str]) -> Backward:
        """The step that gives the gradients of u, if asked for, of the coefficients ``learned``, and of states."""
        step = Backward(self.program, self._named, lambda node: not learned.isdisjoint(node.coefficients))
        if not needs_u:
            step.outputs.pop(("du",), None)
        return step

    def table(self, c: Mapping[str, Any], t: int, steps: int, device: torch.device | str = "cpu") -> Tensor:
        """What the slots hold: (S,), or (T, S) where the program is timed. In float64, differentiable in the coefficients, if
        these are tensors; in float32 if they are numbers.

        Args:
            device: where the table is wanted, and where coefficients are that are tensors.
        """
        values = tuple(c[name] for name in self._names)
        if any(isinstance(v, Tensor) for v in values):
            return self.evaluated(c, t, steps, device)
        key = (*values, str(device), *((t, steps) if self.program.timed else ()))
        found = self._tables.get(key)
        if found is None:
            if len(self._tables) >= TABLES:
                self._tables.clear()
            found = self._tables[key] = self.evaluated(c, t, steps).float().to(device)
        return found

    def evaluated(self, c: Mapping[str, Any], t: int, steps: int, device: torch.device | str = "cpu") -> Tensor:
        """The same, always in float64 and anew."""
        now = torch.arange(t + 1, t + 1 + steps, dtype=torch.float64, device=device) if self.program.timed else None
        c = {k: v.to(torch.float64) if isinstance(v, Tensor) else v for k, v in c.items()}
        known: dict[Node, Any] = {}
        values = [evaluate(node, lambda n: leaf(n, c, None, None, now), _none, known) for node in self.slots]
        if not any(isinstance(v, Tensor) for v in values):
            return torch.tensor(values, dtype=torch.float64, device=device)
        tensors = [v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64, device=device) for v in values]
        return torch.stack(torch.broadcast_tensors(*tensors), -1)


def unreadable(program: Program, c: Mapping[str, Any], t: int | Tensor) -> str:
    """Why a table cannot hold these coefficients and steps; empty if it can."""
    if not all(v.dim() == 0 if isinstance(v, Tensor) else isinstance(v, (int, float)) for v in c.values()):
        return "a coefficient is not one number"
    return "each sequence has its own step number" if program.timed and isinstance(t, Tensor) else ""


def _none(node: Node, x: Any, scalars: Sequence[Any]) -> Any:
    raise AssertionError(f"{node.op} in a scalar")
