"""One step of a formula, and of its derivative, as operations on values; each different one once.

Only signals are computed here. A scalar (numbers, coefficients, t) is a *slot*: a number that the caller has ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...cells.formula.node import Node, constant, num
from ...cells.formula.program import Program, steep

Value = int  # index of an operation in its step
# Values that are there: ("u",), ("dd",), and by number ("slot", k), ("old", k), ("new", k), ("gnew", k): state k before and
# after the step, and the gradient of what it is after it. Results have names like these: "d", "du", "new", "gold".
Place = tuple[Any, ...]
Operation = tuple[Any, ...]

LARGEST_WHOLE = 8  # exponents up to here are multiplications
SAME_ORDER = ("add", "mul", "min", "max")


class Slots:
    """The scalars that a program's instructions read, each different one once."""

    def __init__(self) -> None:
        self.nodes: dict[Node, int] = {}

    def number(self, node: Node) -> int:
        return self.nodes.setdefault(node, len(self.nodes))


class Step:
    """What happens in one step, as values that depend on each other.

    Args:
        backward: the states after the step are known.
    """

    def __init__(self, program: Program, slots: Slots, backward: bool = False) -> None:
        self.program, self.slots, self.backward = program, slots, backward
        self.index = {node: k for k, node in enumerate(program.states)}
        self.operations: list[Operation] = []
        self.known: dict[Operation, Value] = {}
        self.values: dict[Node, Value] = {}

    def put(self, name: str, *args: Any) -> Value:
        """The value of an operation, simplified where that costs nothing."""
        if name in SAME_ORDER:
            args = tuple(sorted(args, key=lambda a: (not self._is(a, "slot"), a)))
        if name in ("add", "sub") and self._is(args[1], "neg"):
            return self.put("sub" if name == "add" else "add", args[0], self.operations[args[1]][1])
        if name == "add" and self._is(args[0], "neg"):
            return self.put("sub", args[1], self.operations[args[0]][1])
        if name == "mul":
            for a, b in (args, args[::-1]):
                if self._is(a, "neg"):
                    return self.put("neg", self.put("mul", self.operations[a][1], b))
        if name == "neg" and self._is(args[0], "neg"):
            return int(self.operations[args[0]][1])
        operation = (name, *args)
        if operation not in self.known:
            self.known[operation] = len(self.operations)
            self.operations.append(operation)
        return self.known[operation]

    def _is(self, value: Value, name: str) -> bool:
        return bool(self.operations[value][0] == name)

    def slot(self, node: Node) -> Value:
        return self.put("slot", self.slots.number(node))

    def of(self, node: Node) -> Value:
        """The value of a node in this step."""
        if node not in self.values:
            self.values[node] = self._of(node) if node.is_signal else self.slot(node)
        return self.values[node]

    def _of(self, node: Node) -> Value:
        if node.op == "u":
            return self.put("u")
        if node.op == "prev":
            return self.put("old", self.index[node])
        if node in self.index:
            return self.put("new", self.index[node]) if self.backward else self.after(node)
        args = [self.of(a) for a in node.args]
        if node.op == "pow":
            return self.power(args[0], node.args[1])
        if node.op == "div" and not node.args[1].is_signal:
            return self.put("mul", args[0], self.slot(Node("div", (num(1), node.args[1]))))
        if node.op == "div" and self.backward:
            return self.put("mul", args[0], self.put("recip", args[1]))  # the derivative needs the inverse, too
        return self.put(node.op, *args)

    def after(self, node: Node) -> Value:
        """A state after the step."""
        x = self.of(node.args[0])
        if node.op == "prev":
            return x
        old = self.put("old", self.index[node])
        if node.op == "peak":
            return self.put("max", old, x)
        gain = gain_of(node)
        decayed = self.put("mul", self.slot(node.args[1]), old)
        return self.put("add", decayed, x if gain is None else self.put("mul", self.slot(gain), x))

    def power(self, x: Value, exponent: Node) -> Value:
        e = constant(exponent)
        if e == 0.5:
            return self.put("sqrt", x)
        if e == -0.5:
            return self.put("recip", self.put("sqrt", x))
        if e and e == int(e) and abs(e) <= LARGEST_WHOLE:
            return self._product(x, int(e)) if e > 0 else self.put("recip", self._product(x, int(-e)))
        return self.put("pow", x, self.slot(exponent))

    def _product(self, x: Value, count: int) -> Value:
        if count == 1:
            return x
        half = self._product(x, count // 2)
        square = self.put("mul", half, half)
        return self.put("mul", square, x) if count % 2 else square


def gain_of(node: Node) -> Node | None:
    """Of a momentum or a mean: the factor of its input; None is 1."""
    if node.op == "ema":
        return Node("sub", (num(1), node.args[1]))
    return node.args[2] if len(node.args) > 2 else None


class Backward(Step):
    """A step on the way back: the gradients of everything, from those of the result and of the states after it.

    Attributes:
        outputs: place -> value, the gradients of u and of the states before the step.
        sums: (slot, value): what the gradient of a slot grows by, summed over elements.
    """

    def __init__(self, program: Program, slots: Slots, learned: Callable[[Node], bool]) -> None:
        super().__init__(program, slots, backward=True)
        self.learned = learned
        self.outputs: dict[Place, Value] = {}
        self.sums: list[tuple[int, Value]] = []
        self.gradients: dict[Node, Value] = {}
        self._give(program.root, self.put("dd"))
        for node in reversed(program.root.walk()):
            if node in self.index:
                self._state(node)
            elif node.op == "u":
                self.outputs["du",] = self.gradients.get(node, self.slot(num(0)))
            elif node.is_signal and node in self.gradients:
                self._node(node, self.gradients[node])

    def _give(self, node: Node, g: Value) -> None:
        """Adds ``g`` to the gradient of ``node``."""
        if not node.is_signal:
            if self.learned(node):
                self.sums.append((self.slots.number(node), g))
        else:
            self.gradients[node] = self.put("add", self.gradients[node], g) if node in self.gradients else g

    def _state(self, node: Node) -> None:
        k, x, g = self.index[node], node.args[0], self.gradients.get(node)
        later, old = self.put("gnew", k), self.put("old", k)
        if node.op == "prev":
            self.outputs["gold", k] = self.slot(num(0)) if g is None else g
            self._give(x, later)
            return
        g = later if g is None else self.put("add", g, later)
        if node.op == "peak":
            self._give(x, self.put("peak_grad", g, self.of(x), old))
            self.outputs["gold", k] = self.put("peak_rest", g, self.of(x), old)
            return
        decay, gain = node.args[1], gain_of(node)
        self.outputs["gold", k] = self.put("mul", self.slot(decay), g)
        self._give(x, g if gain is None else self.put("mul", self.slot(gain), g))
        if self.learned(decay):
            self._give(decay, self.put("mul", g, old))
        if gain is not None and self.learned(gain):
            self._give(gain, self.put("mul", g, self.of(x)))

    def _node(self, node: Node, g: Value) -> None:
        put, of, give = self.put, self.of, self._give
        a, b = node.args[0], node.args[-1]
        match node.op:
            case "add":
                give(a, g)
                give(b, g)
            case "sub":
                give(a, g)
                give(b, put("neg", g))
            case "neg":
                give(a, put("neg", g))
            case "mul":
                give(a, put("mul", g, of(b)))
                give(b, put("mul", g, of(a)))
            case "div":
                inverse = put("recip", of(b)) if b.is_signal else self.slot(Node("div", (num(1), b)))
                share = put("mul", g, inverse)
                give(a, share)
                give(b, put("neg", put("mul", share, of(node))))
            case "min" | "max":
                low, high = (a, b) if node.op == "max" else (b, a)
                give(a, put("max_grad", g, of(low), of(high)))
                give(b, put("max_grad", g, of(high), of(low)))
            case "pow":
                self._power(node, g)
            case "sqrt":
                give(a, self._unless_steep(node, put("mul", self.slot(num(0.5)), put("mul", g, put("recip", of(node))))))
            case "abs":
                give(a, put("mul", g, put("sign", of(a))))
            case "exp":
                give(a, put("mul", g, of(node)))
            case "log":
                give(a, put("mul", g, put("recip", of(a))))
            case "tanh":
                y = of(node)
                give(a, put("mul", g, put("sub", self.slot(num(1)), put("mul", y, y))))
            case "sigmoid":
                y = of(node)
                give(a, put("mul", g, put("sub", y, put("mul", y, y))))
            case "relu":
                give(a, put("relu_grad", g, of(a)))
            # sign: 0

    def _power(self, node: Node, g: Value) -> None:
        x, exponent = node.args
        e = constant(exponent)
        less = Node("sub", (exponent, num(1))) if e is None else num(e - 1)
        if e == 1:
            self._give(x, g)
        elif e != 0:
            slope = self.put("mul", self.slot(exponent), self.put("mul", g, self.power(self.of(x), less)))
            self._give(x, self._unless_steep(node, slope))
        if self.learned(exponent):
            of_x = self.of(x)
            part = self.put("mul", self.put("mul", g, self.of(node)), self.put("log", of_x))
            self._give(exponent, self.put("unless_zero", of_x, part))

    def _unless_steep(self, node: Node, g: Value) -> Value:
        return self.put("unless_zero", self.of(node.args[0]), g) if steep(node) else g
