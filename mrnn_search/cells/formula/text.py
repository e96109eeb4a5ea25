"""Formulas as text: `parse` and its inverse `show`, and the same in mathematical notation and LaTeX.

    program    = line { (";" | newline) line }         the last line is the result
    line       = [ name "=" ] sum
    sum        = product { ("+" | "-") product }
    product    = signed { ("*" | "/") signed }
    signed     = "-" signed | power
    power      = atom [ ("^" | "**") signed ]
    atom       = number | name | name "(" sum { "," sum } ")" | "(" sum ")"

Nothing is ever evaluated as Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..._registry import SpecError, UnknownNameError
from .node import ELEMENTWISE, MAX_DEPTH, OPERATORS, SHORT, STEP, TEMPORAL, Node, R, U, coef, make, neg, num

MAX_TEXT = 2000  # characters
MAX_DIGITS = 40  # of one number
_TOKEN = re.compile(
    r"[ \t]*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<mark>\*\*|[-+*/^(),=;\n]))",
    re.ASCII,
)
RESERVED = {"u", "r", "t", "k", "d", "a", *ELEMENTWISE, *TEMPORAL, *SHORT, "cycle"}


@dataclass(frozen=True)
class Lines:
    """A parsed program: the named parts in order, and the whole with the names put in."""

    names: tuple[tuple[str, Node], ...]
    root: Node


def parse(text: str, coefficients: Iterable[str]) -> Lines:
    """The formula in ``text``.

    Args:
        coefficients: names that stand for coefficients.

    Raises:
        SpecError: it is none: what is wrong, and at which character (from 1).
        UnknownNameError: an unknown name.
    """
    if not isinstance(text, str):
        raise SpecError(f"a formula is {text!r}, allowed: text")
    if len(text) > MAX_TEXT:
        raise SpecError(f"the formula has {len(text)} characters, allowed: {MAX_TEXT}")
    return _Parser(text, frozenset(coefficients)).program()


class _Parser:
    """Recursive descent; its depth is bounded by `MAX_DEPTH` open brackets, signs and exponents."""

    def __init__(self, text: str, coefficients: frozenset[str]) -> None:
        self.text, self.coefficients = text, coefficients
        self.names: dict[str, Node] = {}
        self.tokens: list[tuple[str, str, int]] = []
        self.at = self.open = 0
        place = 0
        while text[place:].strip(" \t"):
            found = _TOKEN.match(text, place)
            if found is None:
                place += len(text[place:]) - len(text[place:].lstrip(" \t"))
                raise self.error(f"character {text[place]!r}", place)
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind], found.start(kind)))
            place = found.end()
        self.tokens.append(("end", "", len(text)))

    def error(self, found: str, place: int) -> SpecError:
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return SpecError(
            f"formula {shown!r}, character {place + 1}: {found}, allowed: numbers, names, + - * / ^ and brackets as in mathematics"
        )

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.tokens[self.at][0] == "mark" else ""

    def take(self, *marks: str) -> str:
        """The next token if it is one of ``marks``, else nothing."""
        mark = self.peek()
        if mark and mark in marks:
            self.at += 1
            return mark
        return ""

    def unexpected(self) -> SpecError:
        kind, found, place = self.tokens[self.at]
        return self.error("it ends too early" if kind == "end" else f"unexpected {found!r}", place)

    def program(self) -> Lines:
        named: list[tuple[str, Node]] = []
        root: Node | None = None
        while self.take(";", "\n"):
            pass
        while self.tokens[self.at][0] != "end":
            name = ""
            if self.tokens[self.at][0] == "name" and self.tokens[self.at + 1][1] == "=":
                name = self.tokens[self.at][1]
                if name in self.names or name in self.coefficients or (name in RESERVED and name not in ("k", "m", "n", "d", "a")):
                    raise SpecError(f'the name "{name}" in a formula is taken')
                self.at += 2
            root = self.sum()
            if name:
                self.names[name] = root
                named.append((name, root))
            if self.tokens[self.at][0] != "end" and not self.take(";", "\n"):
                raise self.unexpected()
            while self.take(";", "\n"):
                pass
        if root is None:
            raise SpecError("the formula is empty")
        if not root.is_signal:
            raise SpecError("the formula does not depend on u")
        return Lines(tuple(named), root)

    def nested(self, rule: Callable[[], Node]) -> Node:
        self.open += 1
        if self.open > MAX_DEPTH:
            raise SpecError(f"the formula is nested more than {MAX_DEPTH} deep")
        node = rule()
        self.open -= 1
        return node

    def sum(self) -> Node:
        node = self.product()
        while mark := self.take("+", "-"):
            node = make("add" if mark == "+" else "sub", node, self.product())
        return node

    def product(self) -> Node:
        node = self.signed()
        while mark := self.take("*", "/"):
            node = make("mul" if mark == "*" else "div", node, self.signed())
        return node

    def signed(self) -> Node:
        if self.take("-"):
            return neg(self.nested(self.signed))
        return self.power()

    def power(self) -> Node:
        node = self.atom()
        if self.take("^", "**"):
            return make("pow", node, self.nested(self.signed))
        return node

    def atom(self) -> Node:
        kind, found, place = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            if len(found) > MAX_DIGITS:
                raise self.error(f"a number of {len(found)} characters", place)
            value = float(found)
            if not value and re.match(r"[0.]*[1-9]", found):
                raise self.error("a number that is too small", place)
            return num(value)
        if self.take("("):
            node = self.nested(self.sum)
            if not self.take(")"):
                raise self.unexpected()
            return node
        if kind != "name":
            raise self.unexpected()
        self.at += 1
        if self.peek() == "(":
            return self.call(found)
        return self.leaf(found)

    def call(self, name: str) -> Node:
        self.at += 1
        arguments = [self.nested(self.sum)]
        while self.take(","):
            arguments.append(self.nested(self.sum))
        if not self.take(")"):
            raise self.unexpected()
        if name in SHORT:
            return make("ema", U if name == "m" else make("pow", U, num(2)), *arguments)
        return make(name, *arguments)

    def leaf(self, name: str) -> Node:
        if name in self.names:
            return self.names[name]
        if name in self.coefficients:
            return coef(name)
        leaves = {"u": U, "r": R, "t": STEP}
        if name in leaves:
            return leaves[name]
        raise UnknownNameError("name in a formula", name[:40], [*leaves, *self.coefficients, *self.names])


_PRECEDENCE = {"add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3, "pow": 4}


def number_text(value: float) -> str:
    """The shortest text that reads back as ``value``; whole numbers without a point."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def show(node: Node) -> str:
    """The formula as text in one line; ``parse(show(node))`` is ``node``."""
    return _Writer(_CODE, {}).write(node)


@dataclass(frozen=True)
class Style:
    """How a formula is written: between factors, a fraction, a power, a function's call, leaves."""

    times: str
    fraction: Callable[[str, str], str] | None
    power: Callable[[str, str], str]
    call: Callable[[str, list[str]], str]
    leaf: Callable[[Node], str]
    brackets: tuple[str, str] = ("(", ")")


def _code_leaf(node: Node) -> str:
    if node.op == "num":
        return number_text(float(node.value or 0))
    return {"step": "t"}.get(node.op, node.op) if node.op != "coef" else str(node.value)


def _call(name: str, arguments: list[str]) -> str:
    return f"{name}({', '.join(arguments)})"


_CODE = Style(" * ", None, lambda a, b: f"{a}^{b}", _call, _code_leaf)

GREEK = {"mu", "epsilon", "beta", "delta", "nu", "tau", "gamma", "lambda"}
_INDEXED = re.compile(r"([A-Za-z]+?)_?(\d+)$")


def latex_name(name: str) -> str:
    """``mu`` -> ``\\mu``, ``beta2`` -> ``\\beta_{2}``."""
    found = _INDEXED.match(name)
    stem, index = (found[1], f"_{{{found[2]}}}") if found else (name, "")
    if stem in GREEK:
        return f"\\{stem}{index}"
    return (stem if len(stem) == 1 else f"\\mathrm{{{stem}}}") + index


def _latex_number(value: float) -> str:
    mantissa, _, exponent = number_text(value).partition("e")
    if not exponent:
        return mantissa
    power = f"10^{{{int(exponent)}}}"
    return power if mantissa == "1" else f"{mantissa} \\cdot {power}"


def _latex_leaf(node: Node) -> str:
    if node.op == "num":
        return _latex_number(float(node.value or 0))
    return latex_name(str(node.value)) if node.op == "coef" else {"step": "t"}.get(node.op, node.op + "_t")


def _latex_call(name: str, arguments: list[str]) -> str:
    if name == "sqrt":
        return f"\\sqrt{{{arguments[0]}}}"
    if name == "abs":
        return f"\\left|{arguments[0]}\\right|"
    symbol = {"sigmoid": "\\sigma", "sign": "\\operatorname{sign}", "relu": "\\operatorname{relu}"}.get(name, f"\\{name}")
    if name in ("momentum", "ema", "peak", "prev", "cycle"):
        symbol = f"\\operatorname{{{name}}}"
    return f"{symbol}\\left({', '.join(arguments)}\\right)"


_LATEX = Style(
    " \\, ",
    lambda a, b: f"\\frac{{{a}}}{{{b}}}",
    lambda a, b: f"{a}^{{{b}}}",
    _latex_call,
    _latex_leaf,
    ("\\left(", "\\right)"),
)


def _math_leaf(node: Node) -> str:
    return {"u": "u_t", "r": "r_t"}.get(node.op) or _code_leaf(node)


_MATH = Style(" ", None, lambda a, b: f"{a}^{b}", _call, _math_leaf)


class _Writer:
    """Writes trees in one style; nodes in ``names`` are written by name."""

    def __init__(self, style: Style, names: Mapping[Node, str]) -> None:
        self.style, self.names = style, names

    def write(self, node: Node, inner: bool = True) -> str:
        """``inner=False``: its own name is not used."""
        if inner and node in self.names:
            return self.names[node]
        op, style = node.op, self.style
        if op in ("num", "coef", "step", "u", "r"):
            return style.leaf(node)
        if op == "neg":
            return "-" + self.part(node.args[0], 3)
        if op == "pow":
            exponent = self.write(node.args[1]) if style.fraction else self.part(node.args[1], 3, negative=True)
            return style.power(self.part(node.args[0], 5), exponent)
        if op == "div" and style.fraction:
            return style.fraction(*map(self.write, node.args))
        if op in OPERATORS:
            rank = _PRECEDENCE[op]
            mark = style.times if op == "mul" else f" {OPERATORS[op]} "
            left, right = node.args
            if op == "mul" and style.times == " " and right.op == "num":  # "u 2" would read as a name
                mark = " * "
            if op == "mul":
                return self.factor(left, first=True) + mark + self.factor(right)
            return self.part(left, rank, negative=True) + mark + self.part(right, rank + 1, rank == 1 and style is _CODE)
        return style.call(op, [self.write(a) for a in node.args])

    def factor(self, node: Node, first: bool = False) -> str:
        """``node`` in a product; where no sign stands between factors, "2 -u" and "1 / t u" need brackets."""
        style = self.style
        unclear = node.op == "neg" and not first or node.op == "div" and first and not style.fraction
        if unclear and style is not _CODE and node not in self.names:
            return f"{style.brackets[0]}{self.write(node)}{style.brackets[1]}"
        return self.part(node, 2 if first else 3, negative=first)

    def part(self, node: Node, rank: int, negative: bool = False) -> str:
        """``node`` in brackets if it binds less than ``rank``; ``negative``: a negative number may stand as it is."""
        text = self.write(node)
        if node in self.names:
            return text
        own = _PRECEDENCE.get(node.op, 9)
        if node.op == "div" and self.style.fraction:
            own = 3
        if node.op == "num" and text.startswith("-"):
            own = 9 if negative else 0
        if node.op == "num" and self.style is _LATEX and "cdot" in text:
            own = 2
        open_, close = self.style.brackets
        return f"{open_}{text}{close}" if own < rank else text
