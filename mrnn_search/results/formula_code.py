"""A rule's formula as the text of a Python function that does what `cells.formula.run.run_step` does, one statement a part.

Every number of the result is made by the same operations in the same order: brackets of the formula are kept, and what is
a plain number at run time (`Scalars`) is computed with Python's own functions, as there.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from ..cells.formula.node import OPERATORS, TEMPORAL, Node, constant
from ..cells.formula.program import Program, steep
from ..cells.formula.text import number_text

WIDTH = 108  # characters of a statement
WORTH_A_NAME = 4  # parts of an expression that is used twice
OWN = {"c", "t", "u", "r", "states", "torch", "math", "Tensor", "Any", *keyword.kwlist}

# Python's rank of what a node is written as; leaves and calls bind most.
RANKS = {"add": 1, "sub": 1, "cycle": 1, "mul": 2, "div": 2, "neg": 3, "pow": 4}
ATOM = 9
ON_NUMBERS = {
    "sqrt": "math.sqrt({})", "abs": "abs({})", "sign": "sign({})", "exp": "math.exp({})", "log": "math.log({})",
    "tanh": "math.tanh({})", "sigmoid": "sigmoid({})", "relu": "max({}, 0.0)",
}  # fmt: skip
ON_TENSORS = {"min": "torch.minimum", "max": "torch.maximum"}  # all others have torch's names
HELPERS = {
    "safe_sqrt": '''\
def safe_sqrt(x: Tensor) -> Tensor:
    """The root, with derivative 0 (not infinity) at exactly 0."""
    inside = x != 0
    return torch.where(inside, torch.where(inside, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x))''',
    "safe_pow": '''\
def safe_pow(x: Tensor, exponent: Any) -> Tensor:
    """A power, with derivative 0 (not infinity) at exactly 0."""
    inside = x != 0
    return torch.where(inside, torch.where(inside, x, torch.ones_like(x)) ** exponent, torch.zeros_like(x) ** exponent)''',
    "sign": '''\
def sign(x: float) -> float:
    """-1, 0 or 1."""
    return float((x > 0) - (x < 0))''',
    "sigmoid": '''\
def sigmoid(x: float) -> float:
    """The logistic function of a number."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0''',
}


@dataclass
class RuleCode:
    """A rule as Python.

    Attributes:
        body: statements of the function, unindented.
        states: variables of the states, in the program's order.
        helpers: functions that the body calls, names of `HELPERS`.
        uses: those of "c", "t" and "r" that it reads.
    """

    body: list[str]
    states: tuple[str, ...]
    helpers: tuple[str, ...]
    uses: frozenset[str]

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """Name and type of each parameter."""
        types = {"c": "dict[str, Any]", "t": "int", "u": "Tensor", "r": "Tensor", "states": "tuple[Tensor, ...]"}
        there = self.uses | {"u"} | ({"states"} if self.states else set())
        return [(name, text) for name, text in types.items() if name in there]

    def call(self, function: str, **texts: str) -> str:
        """``function`` on its parameters, some written otherwise."""
        return f"{function}({', '.join(texts.get(name, name) for name, _ in self.arguments)})"


def rule_code(program: Program, learned: Collection[str]) -> RuleCode:
    """The function of a program. ``learned``: coefficients that are tensors at run time; the others are numbers."""
    return _Writer(program, learned).function()


@dataclass
class _Writer:
    program: Program
    learned: Collection[str]
    names: dict[Node, str] = field(default_factory=dict)  # nodes with a variable
    taken: set[str] = field(default_factory=lambda: OWN | set(HELPERS))
    lines: list[str] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)

    def function(self) -> RuleCode:
        root, states = self.program.root, self.program.states
        self._name_parts()
        for node in root.walk():
            if node in self.names and node.args:
                self._statement(node)
        if root not in self.names and root.args:
            self.names[root] = self._fresh("a" if self.program.coupled else "d")
            self._statement(root)
        result = self.write(root) if root not in self.names else self.names[root]
        variables = tuple(self.names[n] for n in states)
        if states:
            # ``prev`` is the one function whose variable keeps the old value: what it holds next is its argument
            after = [self.write(n.args[0]) if n.op == "prev" else self.names[n] for n in states]
            self.lines = [f"{_tuple(variables)} = states", *self.lines, f"return {result}, ({', '.join(after)}{',' * (len(after) == 1)})"]
        elif self.lines and self.lines[-1].startswith(f"{result} = "):
            self.lines[-1] = "return " + self.lines[-1].removeprefix(f"{result} = ")
        else:
            self.lines.append(f"return {result}")
        found = {n.op for n in root.walk()}
        uses = {"c": "coef" in found, "t": self.program.timed, "r": "r" in found}
        helpers = tuple(name for name in HELPERS if name in self.helpers)
        return RuleCode(self.lines, variables, helpers, frozenset(name for name, used in uses.items() if used))

    def _name_parts(self) -> None:
        """Variables for the parts that the formula names, for the states, and for what is used more than once."""
        for name, node in self.program.lines.names:
            if node.args and node not in self.names:
                self.names[node] = self._fresh(name)
        uses = Counter(argument for node in self.program.root.walk() for argument in node.args)
        decays = (a for n in self.program.states if n.op == "ema" for a in n.args[1:])
        for node in self.program.root.walk():
            if node in self.names or not node.args:
                continue
            if node.op in TEMPORAL:
                self.names[node] = self._fresh(self._letter(node))
            elif (uses[node] > 1 and node.size >= WORTH_A_NAME) or self._kept(node):
                self.names[node] = self._fresh("x" if node.is_signal else "k")
        for node in decays:  # written twice
            if node.args and node not in self.names and node.size >= WORTH_A_NAME:
                self.names[node] = self._fresh("k")

    def _kept(self, node: Node) -> bool:
        """The state of a ``prev`` is the whole of what it looks back at."""
        return any(n.op == "prev" and n.args[0] == node for n in self.program.states)

    def _letter(self, node: Node) -> str:
        inside = node.args[0]
        if node.op == "prev":
            return (self.names[inside].rstrip("_") if inside.args else inside.op) + "_old"
        return {"momentum": "v", "peak": "p"}.get(node.op, "n" if inside.op == "pow" else "m")

    def _fresh(self, stem: str) -> str:
        name, count = stem, 1
        while name in self.taken:
            count += 1
            name = f"{stem}_" if stem in OWN and f"{stem}_" not in self.taken else f"{stem}{count}"
        self.taken.add(name)
        return name

    def _statement(self, node: Node) -> None:
        if node.op == "prev":
            return
        line = self._assignment(node)
        while len(line) > WIDTH and (part := self._longest_part(node)) is not None:
            self.names[part] = self._fresh("x" if part.is_signal else "k")
            self.lines.append(f"{self.names[part]} = {self.write(part, inner=False)}")
            line = self._assignment(node)
        self.lines.append(line)

    def _longest_part(self, node: Node) -> Node | None:
        """The longest part of an expression that fits into a statement of its own."""
        parts: dict[Node, int] = {}
        todo = list(node.args)
        while todo:
            part = todo.pop()
            if part.args and part not in self.names:
                parts[part] = len(self.write(part))
                todo += part.args
        fitting = [part for part, length in parts.items() if length <= WIDTH - 10]
        return max(fitting, key=parts.__getitem__, default=None)

    def _assignment(self, node: Node) -> str:
        name = self.names[node]
        return f"{name} = {self._state(node, name) if node.op in TEMPORAL else self.write(node, inner=False)}"

    def _state(self, node: Node, old: str) -> str:
        """A state after the step, from what it was before."""
        x, *scalars = node.args
        if node.op == "peak":
            return f"torch.maximum({old}, {self.write(x)})"
        kept = self.part(scalars[0], 2)
        if node.op == "ema":
            return f"{kept} * {old} + (1 - {kept}) * {self.part(x, 3)}"
        gain = scalars[1] if len(scalars) > 1 and constant(scalars[1]) != 1 else None
        new = self.part(x, 2) if gain is None else f"{self.part(gain, 2)} * {self.part(x, 3)}"
        return f"{old} + {new}" if constant(scalars[0]) == 1 else f"{kept} * {old} + {new}"

    # -- expressions -------------------------------------------------------------------------------------------------------

    def write(self, node: Node, inner: bool = True) -> str:
        """``inner=False``: its own variable is not used."""
        if inner and node in self.names:
            return self.names[node]
        op, args = node.op, node.args
        match op:
            case "num":
                return self._number(float(node.value or 0))
            case "coef":
                return f'c["{node.value}"]'
            case "step":
                return "t"
            case "u" | "r":
                return op
            case "neg":
                return "-" + self.part(args[0], 5)  # -(u**2), as formatters write it
            case "cycle":
                return f"(t - 1) % {self.part(args[0], 3)} + 1"
            case "pow":
                return self._power(node)
        if op in OPERATORS:
            rank = RANKS[op]
            return f"{self.part(args[0], rank)} {OPERATORS[op]} {self.part(args[1], rank + 1)}"
        return self._call(node)

    def part(self, node: Node, rank: int) -> str:
        """``node``, in brackets if it binds less than ``rank``."""
        text = self.write(node)
        own = ATOM if node in self.names or (node.op == "pow" and steep(node)) else RANKS.get(node.op, ATOM)
        if node.op == "num" and text.startswith("-"):
            own = 3
        return f"({text})" if own < rank else text

    def _number(self, value: float) -> str:
        # Large whole numbers as floats: Python's own would grow without end where torch takes 64 bits
        return number_text(value) if abs(value) < 1000 else repr(value)

    def _power(self, node: Node) -> str:
        base, exponent = node.args
        if steep(node):
            self.helpers.add("safe_pow")
            return f"safe_pow({self.write(base)}, {self.write(exponent)})"
        left, right = self.part(base, 5), self.part(exponent, 3)
        if base.op == "num" and not node.is_signal:
            left = f"({base.value!r})" if float(base.value or 0) < 0 else repr(base.value)  # 2.0**t: see `_number`
        hugged = _simple(left) and _simple(right.removeprefix("-"))  # as formatters write it
        return f"{left}**{right}" if hugged else f"{left} ** {right}"

    def _call(self, node: Node) -> str:
        op, args = node.op, node.args
        if not self._is_tensor(node):
            text = f"{op}({', '.join(map(self.write, args))})" if op in ("min", "max") else ON_NUMBERS[op].format(self.write(args[0]))
            self.helpers |= {op} & HELPERS.keys()
            return text
        if op in ON_TENSORS:
            like = next("u" if node.is_signal else self.part(a, ATOM) for a in args if self._is_tensor(a))
            both = [self.write(a) if self._is_tensor(a) else f"{like}.new_tensor({self.write(a)})" for a in args]
            return f"{ON_TENSORS[op]}({', '.join(both)})"
        if op == "sqrt" and steep(node):
            self.helpers.add("safe_sqrt")
            return f"safe_sqrt({self.write(args[0])})"
        return f"torch.{op}({self.write(args[0])})"

    def _is_tensor(self, node: Node) -> bool:
        return node.is_signal or any(name in self.learned for name in node.coefficients)


def _simple(text: str) -> bool:
    """A name or a number."""
    return text.isidentifier() or text.replace(".", "").replace("e-", "").replace("e+", "").isalnum()


def _tuple(names: Iterable[str]) -> str:
    """Names to unpack to: ``v, s`` or ``(v,)``."""
    names = list(names)
    return f"({names[0]},)" if len(names) == 1 else ", ".join(names)


def signature(name: str, arguments: Iterable[tuple[str, str]], returns: str, indent: str = "") -> str:
    """A ``def`` line, as formatters split it where it is longer than 120 characters."""
    inside = ", ".join(f"{argument}: {text}" if text else argument for argument, text in arguments)
    line = f"{indent}def {name}({inside}) -> {returns}:"
    return line if len(line) <= 120 else f"{indent}def {name}(\n{indent}    {inside}\n{indent}) -> {returns}:"


def from_raw(low: float, high: float, raw: str) -> str:
    """`Coefficient.from_raw` as an expression."""
    if high == float("inf"):
        text = f"torch.exp({raw})"
    else:
        text = f"torch.sigmoid({raw})" if high - low == 1 else f"{high - low!r} * torch.sigmoid({raw})"
    return f"{low!r} + {text}" if low else text
