"""Random formulas: optimizers that nobody has written down, of a bounded size."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from ..._registry import SpecError
from .node import Node, U, make, num
from .normal import Poly, normal_form
from .program import Program
from .text import show

DECAYS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
GAINS = (0.1, 0.25, 0.3, 0.5, 0.6, 2.0, 3.0)
PATIENCE = 2000  # draws in a row without a new formula, after which there are no more
GUARDS = (1e-16, 1e-8, 1e-4, 1e-2, 1.0)


class Grammar:
    """A typed grammar over the drive; everything that it makes is finite for every u, and so are its derivatives.

        signal   = u | filter(signal) | prev(signal) | number * signal | signal + signal | signal - signal
                 | signal * bounded | bounded | signal / size
        bounded  = tanh(signal) | tanh(signal / size)
        size     = sqrt(square + guard) | sqrt(square) + guard
        square   = mean(signal^2) | sum(signal^2) | peak(mean) | mean + mean

    Args:
        size: largest number of nodes of a formula, at least 3.
        seed: of the stream of formulas; the same seed gives the same formulas.
    """

    def __init__(self, size: int = 15, seed: int = 0) -> None:
        if size < 3:
            raise SpecError(f"size = {size}, allowed: size >= 3")
        self.size = size
        self._random = random.Random(seed)

    def draw(self) -> Node:
        """One formula that depends on u."""
        while True:
            node = self._signal(self.size)
            if node.size <= self.size:
                return node

    def distinct(self, count: int, besides: Iterable[Poly] = ()) -> list[str]:
        """The next ``count`` formulas of the stream as text, no two of them with the same normal form, none constant.

        Args:
            besides: normal forms that are left out.

        Raises:
            SpecError: there are not that many of this size, as far as `PATIENCE` draws in a row could tell.
        """
        seen, tried = set(besides), set[Node]()
        out: list[str] = []
        idle = 0
        while len(out) < count:
            node = self.draw()
            idle += 1
            if idle > PATIENCE:
                raise SpecError(f"there are fewer than {count} formulas of size {self.size}: {len(out)} were found")
            if node in tried:
                continue
            tried.add(node)
            try:
                form, program = normal_form(node), Program.of(show(node))
            except SpecError:  # a number overflows, or more states than a rule may have
                continue
            if form not in seen and "('u',)" in repr(form):  # u - u does not depend on u
                seen.add(form)
                out.append(program.text)
                idle = 0
        return out

    def _one_of(self, budget: int, *ways: tuple[int, Callable[[int], Node]]) -> Node:
        """One of the ways that fit into ``budget`` nodes; (fewest nodes, maker)."""
        fitting = [make_ for fewest, make_ in ways if fewest <= budget]
        return self._random.choice(fitting)(budget)

    def _signal(self, budget: int) -> Node:
        return self._one_of(
            budget,
            (1, lambda _: U),
            (3, self._filter),
            (3, self._filter),
            (2, lambda b: make("prev", self._signal(b - 1))),
            (3, lambda b: make("mul", num(self._random.choice(GAINS)), self._signal(b - 2))),
            (3, lambda b: self._both("add", b, self._signal, self._signal)),
            (3, lambda b: self._both("sub", b, self._signal, self._signal)),
            (4, lambda b: self._both("mul", b, self._signal, self._bounded, second=2)),
            (2, self._bounded),
            (9, lambda b: self._both("div", b, self._signal, self._size, second=7)),
        )

    def _bounded(self, budget: int) -> Node:
        if budget >= 10 and self._random.random() < 0.3:
            return make("tanh", self._both("div", budget - 1, self._signal, self._size, second=7))
        return make("tanh", self._signal(budget - 1))

    def _both(self, op: str, budget: int, left: Callable[[int], Node], right: Callable[[int], Node], second: int = 1) -> Node:
        share = self._random.randint(1, max(1, budget - 1 - second))
        return make(op, left(share), right(max(second, budget - 1 - share)))

    def _filter(self, budget: int) -> Node:
        decay = num(self._random.choice(DECAYS))
        if budget >= 4 and self._random.random() < 0.3:
            return make("momentum", self._signal(budget - 3), decay, num(self._random.choice(GAINS)))
        return make(self._random.choice(("ema", "momentum")), self._signal(budget - 2), decay)

    def _size(self, budget: int) -> Node:
        inside = self._random.random() < 0.5
        guard = num(self._random.choice(GUARDS if inside else GUARDS[1:]))
        if inside:
            return make("sqrt", make("add", self._square(budget - 3), guard))
        return make("add", make("sqrt", self._square(budget - 3)), guard)

    def _square(self, budget: int) -> Node:
        return self._one_of(
            max(budget, 5),
            (5, self._mean),
            (5, self._mean),
            (6, lambda b: make("peak", self._mean(b - 1))),
            (11, lambda b: self._both("add", b, self._mean, self._mean, second=5)),
        )

    def _mean(self, budget: int) -> Node:
        square = make("pow", self._signal(max(1, budget - 4)), num(2))
        if self._random.random() < 0.1:
            return make("momentum", square, num(1))
        return make("ema", square, num(self._random.choice(DECAYS)))
