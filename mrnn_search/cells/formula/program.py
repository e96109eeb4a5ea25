"""A formula made ready to run: its states, what kind of rule it is, and its equations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from ..._registry import SpecError
from .node import TEMPORAL, Node, U, constant, make
from .text import _LATEX, _MATH, Lines, _Writer, latex_name, parse, show

MAX_STATES = 16


@dataclass(frozen=True)
class Program:
    """A formula and what follows from it.

    Attributes:
        lines: named parts, in order, and the root.
        source: the text that it was made of.
        states: the parts that keep a tensor from step to step (`TEMPORAL`), each after those that it reads.
        plain: it is u itself: the rule changes nothing, wherever it acts.
        coupled: it reads the recurrent term r, and so the hidden state.
        scope: what a rule of it acts on unless a spec says otherwise.
        linear: linear in u with scalar factors: it commutes with W (identity 2 of the cell algebra).
        timed: it depends on the step number.
        periods: coefficients that are arguments of `cycle`.
        letters: of the states, one each.
    """

    lines: Lines
    source: str = ""
    root: Node = field(init=False, repr=False, compare=False)
    states: tuple[Node, ...] = field(init=False, repr=False, compare=False)
    plain: bool = field(init=False, repr=False, compare=False)
    coupled: bool = field(init=False, repr=False, compare=False)
    scope: str = field(init=False, repr=False, compare=False)
    linear: bool = field(init=False, repr=False, compare=False)
    timed: bool = field(init=False, repr=False, compare=False)
    periods: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put, root = object.__setattr__, self.lines.root  # once, not cached: torch.compile cannot trace functools.cached_property
        nodes = root.walk()
        put(self, "root", root)
        put(self, "states", tuple(n for n in nodes if n.op in TEMPORAL))
        put(self, "plain", root == U)
        put(self, "coupled", root.is_coupled)
        put(self, "scope", "preactivation" if root.is_coupled else "drive")
        put(self, "linear", not root.is_coupled and _linear(root))
        put(self, "timed", any(n.op in ("step", "cycle") for n in nodes))
        put(self, "periods", frozenset(str(n.args[0].value) for n in nodes if n.op == "cycle" and n.args[0].op == "coef"))

    @classmethod
    def of(cls, text: str, coefficients: Iterable[str] = ()) -> Program:
        """The program in ``text``.

        Raises:
            SpecError, UnknownNameError: see `parse`; or more than `MAX_STATES` states.
        """
        program = cls(parse(text, coefficients), "; ".join(line.strip() for line in text.strip().splitlines()))
        if len(program.states) > MAX_STATES:
            raise SpecError(f"the formula has {len(program.states)} states, allowed: {MAX_STATES}")
        return program

    @cached_property
    def text(self) -> str:
        """One line; parses back to the same root."""
        return show(self.root)

    @cached_property
    def letters(self) -> tuple[str, ...]:
        named = {node: name for name, node in reversed(self.lines.names)}
        taken = {name for name, _ in self.lines.names}
        return tuple(named.get(n) or _fresh(n, taken) for n in self.states)

    @cached_property
    def _names(self) -> dict[Node, str]:
        """Nodes with a name of their own, but for the result."""
        named = {node: name for name, node in reversed(self.lines.names) if node.args and name not in ("d", "a")}
        return named | dict(zip(self.states, self.letters, strict=True))

    def equations(self, drive: str = "u", result: str | None = None, *, latex: bool = False) -> tuple[str, ...]:
        """The formulas, one line each: ``v_t = mu v_{t-1} + epsilon u_t``, …, ``d_t = v_t``.

        Args:
            drive: letter of what the rule acts on.
            result: letter of the result; None: "a" for coupled rules (it is the whole pre-activation), else "d".
        """
        letters = {"u": drive, "r": "r"}
        base = _LATEX if latex else _MATH
        style = replace(base, leaf=lambda node: f"{letters[node.op]}_t" if node.op in letters else base.leaf(node))

        def known(name: str) -> str:
            return latex_name(name) if latex else name

        names = {n: known(name) + ("_t" if n.is_signal else "") for n, name in self._names.items()}
        for n in self.states:
            if n.op == "prev" and _plain(n.args[0], self._names):
                letter = letters.get(n.args[0].op) or known(self._names[n.args[0]])
                names[n] = f"{letter}_{{t-1}}"
        writer = _Writer(style, names)
        lines = []
        for node in self.root.walk():
            if node not in self._names or (node.op == "prev" and _plain(node.args[0], self._names)):
                continue
            name = known(self._names[node])
            if node.op == "cycle":
                period = writer.write(node.args[0])
                lines.append(f"{name} = ((t - 1) \\bmod {period}) + 1" if latex else f"{name} = (t - 1) mod {period} + 1")
            elif not node.is_signal:
                lines.append(f"{name} = {writer.write(node, inner=False)}")
            else:
                lines.append(f"{name}_t = {_right(node, name, writer, style.times, latex)}")
        result = result or ("a" if self.coupled else "d")
        return (*lines, f"{result}_t = {writer.write(self.root)}")


@lru_cache(maxsize=8192)
def with_values(program: Program, fixed: tuple[tuple[str, float], ...]) -> Node:
    """The formula with the values of coefficients put in; ``fixed``: (name, value).

    Raises:
        SpecError: it makes no sense with them: a divisor of 0, a root of a negative number, a decay outside its range, …
    """
    values = dict(fixed)
    made: dict[Node, Node] = {}
    for node in program.root.walk():
        if node.op == "coef" and node.value in values:
            made[node] = Node("num", (), values[str(node.value)] + 0.0)  # its own range allows more than a number in a text
        elif not node.args:
            made[node] = node
        else:
            made[node] = make(node.op, *(made[a] for a in node.args))
    return made[program.root]


def _plain(node: Node, names: Mapping[Node, str]) -> bool:
    """Its value one step before can be written with an index."""
    return node.op in ("u", "r") or (node in names and node.op != "prev")


def _right(node: Node, name: str, writer: _Writer, times: str, latex: bool) -> str:
    """The right-hand side of a state's equation, or of any named part's."""
    old = f"{name}_{{t-1}}"
    open_, close = writer.style.brackets
    if node.op in ("momentum", "ema"):
        x = writer.part(node.args[0], 2)
        decay = f"{writer.factor(node.args[1], first=True)}{times}"
        gain = constant(node.args[2]) if len(node.args) > 2 else 1.0
        if node.op == "momentum" and gain == 1:
            x = f"{open_}{x}{close}" if x.startswith("-") else x
            return f"{'' if constant(node.args[1]) == 1 else decay}{old} + {x}"
        x = f"{open_}{x}{close}" if x[0] in "-0123456789" else x
        share = f"{open_}1 - {writer.part(node.args[1], 2)}{close}" if node.op == "ema" else writer.factor(node.args[2], first=True)
        return f"{'' if constant(node.args[1]) == 1 else decay}{old} + {share}{times}{x}"
    if node.op == "peak":
        return writer.style.call("max", [old, writer.write(node.args[0])])
    if node.op == "prev":
        text = writer.write(node.args[0])
        return f"\\left({text}\\right)_{{t-1}}" if latex else f"({text}) one step before"
    return writer.write(node, inner=False)


def _fresh(node: Node, taken: set[str]) -> str:
    """A letter for a state that has no name: m for a mean, n for one of a square, v for momentum, p for a peak, q for a delay."""
    stem = {"momentum": "v", "peak": "p", "prev": "q"}.get(node.op, "n" if node.args[0].op == "pow" else "m")
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}{count}"
    taken.add(name)
    return name


def _linear(node: Node) -> bool:
    op, args = node.op, node.args
    if op == "u":
        return True
    if op in ("add", "sub"):
        return all(a.is_signal and _linear(a) for a in args)
    if op == "mul":
        return any(not a.is_signal and b.is_signal and _linear(b) for a, b in (args, args[::-1]))
    if op == "div":
        return not args[1].is_signal and _linear(args[0])
    if op in ("neg", "prev", "momentum", "ema"):
        return _linear(args[0])
    return False


def steep(node: Node) -> bool:
    """A root or a power of a signal whose derivative may be infinite where the signal is exactly 0."""
    if node.op == "sqrt":
        return not positive(node.args[0])
    if node.op != "pow" or not node.args[0].is_signal:
        return False
    exponent = constant(node.args[1])
    return (exponent is None or 0 < exponent < 1) and not positive(node.args[0])


def positive(node: Node) -> bool:
    """Surely above 0, whatever u is: then the root's derivative is finite everywhere."""
    if node.op == "add":
        return (positive(node.args[0]) and not_negative(node.args[1])) or (positive(node.args[1]) and not_negative(node.args[0]))
    if node.op == "num":
        return float(node.value or 0) > 0
    if node.op == "coef":
        return node.value == "delta"  # a guard, above 0 by its range
    if node.op == "exp":
        return True
    return node.op in ("mul", "div", "max", "sqrt") and all(map(positive, node.args))


def not_negative(node: Node) -> bool:
    """Surely at least 0, whatever u is. Every coefficient is, by its range."""
    op, args = node.op, node.args
    if op == "num":
        return float(node.value or 0) >= 0
    if op == "pow":
        exponent = constant(args[1])
        return (exponent is not None and exponent % 2 == 0) or not_negative(args[0])
    if op in ("coef", "step", "cycle", "abs", "exp", "relu", "sigmoid", "sqrt", "peak"):
        return True
    if op in ("momentum", "ema", "prev"):
        return not_negative(args[0]) and (len(args) < 3 or not_negative(args[2]))
    return op in ("add", "mul", "div", "max", "min") and all(map(not_negative, args))
