"""The state of a `Recurrent` layer: what it looks like outside, and how a given one is checked.

Shapes: L layers times directions, B batch, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._registry import SpecError
from ..cells.reference import autocast_on
from .scan import wide_dtype

Steps = int | Tensor


class State(tuple[Tensor, ...]):
    """The state of a layer whose rule has moments: unpacks like torch.nn's (``h, c = state``), and carries the rule's.

    Attributes:
        rule: one tensor (num_layers · directions, B, G·H) for each moment of the rule; float32 if the layer is narrower.
        t: time steps that the rule has seen (scheduled rules need it): an int; or a LongTensor (B,), one count for
            each sequence, where a PackedSequence was read, on the device of the state.
    """

    rule: tuple[Tensor, ...]
    t: Steps

    def __new__(cls, tensors: Sequence[Tensor], rule: Sequence[Tensor], t: Steps) -> State:
        state = super().__new__(cls, tensors)
        state.rule = tuple(rule)
        state.t = t
        return state

    def __getnewargs__(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Steps]:
        return tuple(self), self.rule, self.t  # copy and pickle call __new__ with these

    def map(self, function: Callable[[Tensor], Tensor]) -> State:
        """``function`` of every tensor of cell and rule; ``tuple(f(s) for s in state)`` would drop the rule's."""
        return State([function(s) for s in self], [function(m) for m in self.rule], self.t)

    def detach(self) -> State:
        """The same numbers without their history, for truncated backpropagation through time."""
        return self.map(torch.Tensor.detach)


@dataclass(frozen=True)
class Start:
    """What a layer starts from: ``states`` each (L, B, H), ``moments`` each (L, B, G·H), ``t`` steps seen."""

    states: list[Tensor]
    moments: list[Tensor]
    t: Steps


@dataclass(frozen=True)
class StateShape:
    """How many tensors of which shape: ``states`` of (rows, B, hidden) and ``moments`` of (rows, B, wide); rows is L.

    ``timed``: the rule reads the step number, so the number of steps seen goes with the state.
    """

    rows: int
    hidden: int
    wide: int
    states: int
    moments: int
    timed: bool

    def read(self, hx: Any, like: Tensor, batch: int, batched: bool, order: Tensor | None) -> Start:
        """The state to start from, zeros where none is given.

        Args:
            hx: None, a tensor, a sequence of tensors or a `State`; without the batch dimension unless ``batched``.
            like: the input, for dtype and device.
            order: (B,) picks the sequences in the order in which the layer runs them; None: as they are.

        Raises:
            SpecError: the wrong number of tensors, or a wrong shape or dtype.
        """
        held_dtype = wide_dtype(like.dtype)
        zeros = like.new_zeros(self.rows, batch, self.wide, dtype=held_dtype)
        if hx is None:
            return Start([like.new_zeros(self.rows, batch, self.hidden)] * self.states, [zeros] * self.moments, 0)
        given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        carried, t = (list(hx.rule), hx.t) if isinstance(hx, State) else (None, 0)
        self._check("state", given, self.states, self.hidden, batch, batched)
        if not autocast_on(like) and any(s.dtype != like.dtype for s in given):
            raise SpecError(f"state has dtypes {[str(s.dtype) for s in given]}, allowed: the input's, {like.dtype}")
        if carried is not None:
            self._check("rule state", carried, self.moments, self.wide, batch, batched)
        if isinstance(t, Tensor) and tuple(t.shape) != (batch,):
            raise SpecError(f"state.t has shape {tuple(t.shape)}, allowed: an int, or ({batch},)")

        def place(tensor: Tensor) -> Tensor:
            tensor = tensor if batched else tensor.unsqueeze(1)
            return tensor if order is None else tensor.index_select(1, order)

        moments = [zeros] * self.moments if carried is None else [place(m).to(held_dtype) for m in carried]
        if isinstance(t, Tensor):
            t = t.to(like.device)  # `State.map` moves the other tensors only
            t = t if order is None else t[order]
        return Start([place(s).to(like.dtype) for s in given], moments, t)

    def _check(self, what: str, found: list[Any], count: int, width: int, batch: int, batched: bool) -> None:
        shape = (self.rows, batch, width) if batched else (self.rows, width)
        allowed = f"allowed: {count} of {shape}" + ("" if batched else ", as the input has no batch dimension")
        for value in found:
            if not isinstance(value, Tensor):
                raise SpecError(f"{what} has a {type(value).__name__} in it, allowed: tensors; {allowed}")
        shapes = [tuple(value.shape) for value in found]
        if shapes != [shape] * count:
            raise SpecError(f"{what} has shapes {shapes}, {allowed}")

    def write(
        self, states: list[tuple[Tensor, ...]], moments: list[tuple[Tensor, ...]], t: Steps, batched: bool, order: Tensor | None
    ) -> Any:
        """What the caller gets: a `State` where the rule has moments, else as torch.nn a tuple (lstm) or one tensor.

        Args:
            states, moments: for each of the L rows, tensors (B, H) and (B, G·H).
            order: (B,) or None, as in `read`: back to the caller's order.
        """

        def stack(rows: Sequence[Tensor]) -> Tensor:
            stacked = torch.stack(list(rows))
            stacked = stacked if order is None else stacked.index_select(1, order)
            return stacked if batched else stacked.squeeze(1)

        cell = [stack(s) for s in zip(*states, strict=True)]
        if self.moments or self.timed:
            t = t[order] if isinstance(t, Tensor) and order is not None else t
            return State(cell, [stack(m) for m in zip(*moments, strict=True)], t)
        return tuple(cell) if self.states > 1 else cell[0]
