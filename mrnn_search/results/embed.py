"""The code of bases as text that stands alone: what a function uses of its module comes with it.

There is no second copy of a base anywhere: its own code is found by `inspect` and cut out by the positions of
its syntax nodes.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch

ANNOTATIONS = {  # this package's names for types -> the same in plain Python
    "Weights": "dict[str, Tensor]",
    "Mapping[str, str]": "dict[str, str]",
}
PLAIN_TYPES = {"Any", "Tensor", "bool", "dict", "float", "int", "list", "str", "torch", "tuple"}
# What binds less than a sum.
LOOSE = (ast.Lambda, ast.IfExp, ast.BoolOp, ast.Compare, ast.NamedExpr)
LOOSE_OPERATORS = (ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor)
HOMES = (torch, torch.nn.functional, math)  # modules that an exported cell may import from


class Text:
    """Source text that is cut and edited by the positions of its syntax nodes (which count bytes)."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()
        self.starts = [0, *accumulate(len(line) for line in self.data.splitlines(keepends=True))]
        self.tree = ast.parse(text)
        self.edits: list[tuple[int, int, bytes]] = []

    def span(self, node: Any) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def replace(self, node: ast.AST, new: str) -> None:
        self.edits.append((*self.span(node), new.encode()))

    def lines(self, node: Any) -> tuple[int, int]:
        """The bytes of the lines that ``node`` stands on."""
        return self.starts[node.lineno - 1], self.starts[node.end_lineno]

    def drop(self, node: ast.stmt) -> bool:
        """Take a statement out, if it has its lines to itself."""
        (first, last), (start, end) = self.lines(node), self.span(node)
        alone = not self.data[first:start].strip() and self.data[end:last].strip()[:1] in (b"", b"#")
        if alone:
            self.edits.append((first, last, b""))
        return alone

    def cut(self, start: int, end: int) -> str:
        """The edited text of the bytes ``start`` to ``end``."""
        data = self.data[:end]
        for first, last, new in sorted(self.edits, reverse=True):
            if start <= first and last <= end:
                data = data[:first] + new + data[last:]
        return data[start:].decode()


class Embedded:
    """The functions, constants and imports that an exported cell takes over from this package and from plug-ins.

    Args:
        taken: names that are spoken for, and what they mean.
        types: more of `ANNOTATIONS`.
    """

    def __init__(self, taken: dict[str, object], types: Mapping[str, str]) -> None:
        self.names = dict(taken)
        self.types = ANNOTATIONS | dict(types)
        self.imports: list[str] = []
        self.constants: list[str] = []
        self.functions: list[str] = []

    def method(
        self, method: Any, name: str, arguments: Sequence[str | Callable[..., Any]], where: str, doc: str, sums: int | None = None
    ) -> str:
        """Embed a class method of a base as the function ``name``.

        Args:
            arguments: how they are written in the call; functions are embedded if they are needed.
            doc: docstring, if the code has none.
            sums: position of a parameter that is a function of two terms and gives their sum: where the code does no more
                with it than call it, the sum is written instead.

        Returns:
            The call with ``arguments``, without those that the code never reads.
        """
        function = getattr(method, "__func__", method)
        text, kept = self._function(function, name, where, doc=doc, bound=inspect.ismethod(method), prune=len(arguments), sums=sums)
        self.functions.append(text)
        given = [arguments[i] for i in kept if i < len(arguments)]
        return f"{name}({', '.join(a if isinstance(a, str) else self._resolve(a.__name__, a, where) for a in given)})"

    def _function(
        self,
        function: FunctionType,
        name: str,
        where: str,
        *,
        doc: str = "",
        bound: bool = False,
        prune: int = 0,
        sums: int | None = None,
    ) -> tuple[str, list[int]]:
        """Text of ``def name(...)`` and the positions of the parameters that are kept.

        Args:
            doc, sums: see `method`.
            bound: the first parameter is the class; it goes.
            prune: parameters that are never read go too, if there are exactly this many.
        """
        where = f"{where}: {function.__name__}"
        if function.__code__.co_freevars:
            found = ", ".join(function.__code__.co_freevars).replace("__class__", "super()")
            raise TypeError(f"{where} uses {found}; exported code may use its arguments and its module's names only")
        text, node = _find(function.__code__, where)
        strange = [d for d in map(ast.unparse, node.decorator_list) if d.split(".")[-1] not in ("classmethod", "staticmethod", "override")]
        if strange:
            raise TypeError(f"{where} is decorated with @{strange[0]}; exported code may not be")
        parameters = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        unread = set(parameters) - {n.id for n in _below(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        for statement in node.body:
            if isinstance(statement, ast.Delete):
                names = {ast.unparse(target) for target in statement.targets}
                if not (names <= unread and text.drop(statement)):
                    unread -= names
        if bound and parameters[0] not in unread:
            raise TypeError(f"{where} uses {parameters[0]}; exported code may use its arguments and its module's names only")
        gone = set(parameters[:1]) if bound else set()
        if prune == len(parameters) - len(gone):
            gone |= unread
        if sums is not None and sums + bound < len(parameters) and _write_sums(text, node, parameters[sums + bound]):
            gone.add(parameters[sums + bound])
        self._rename(text, node, function, where)
        body = _body(text, node)
        if doc and ast.get_docstring(node) is None:
            indent = body[: len(body) - len(body.lstrip())]
            body = f'{indent}"""{doc}"""\n{body}'
        kept = [i for i, p in enumerate(parameters[bound:]) if p not in gone]
        return f"{self._signature(node, function, name, gone, where)}\n{body}", kept

    def _rename(self, text: Text, node: ast.FunctionDef, function: FunctionType, where: str) -> None:
        """Give every global name of the code the name that it has in the exported file, and annotations plain types."""
        renamed = {}
        for module in sorted(_operands(function.__code__, "IMPORT_NAME")):
            if module.split(".")[0] not in ("torch", "math"):
                raise TypeError(f"{where} imports {module}; an exported cell may use torch and math only")
        for name in sorted(_operands(function.__code__, "LOAD_GLOBAL")):
            if name in function.__globals__:
                renamed[name] = self._resolve(name, function.__globals__[name], where)
            elif not hasattr(builtins, name):
                raise TypeError(f"{where} uses {name}, which is not defined in its module")
        for n in _below(node):
            if isinstance(n, ast.Name) and renamed.get(n.id, n.id) != n.id:
                text.replace(n, renamed[n.id])
            for annotation in (getattr(n, "annotation", None), getattr(n, "returns", None)):
                if annotation is not None:
                    text.replace(annotation, self._annotation(annotation))

    def _resolve(self, name: str, value: object, where: str) -> str:
        """The name in the exported file of what ``name`` means in a module of ours or of a plug-in; embeds it if need be."""
        base, n = name, 2
        while name in self.names:
            known = self.names[name]
            if known is value or (type(known) is type(value) and isinstance(value, (int, float, str, tuple)) and known == value):
                return name
            name, n = f"{base}_{n}", n + 1
        line = _import(base, name, value)
        if line:
            self.names[name] = value
            self.imports.append(line)
        elif value is None or isinstance(value, (bool, int, float, str, tuple)):
            self.names[name] = value
            self.constants.append(f"{name} = {_literal(value, base, where)}")
        elif isinstance(value, FunctionType) and not value.__module__.startswith("torch"):
            self.names[name] = value  # first: a function may call itself
            self.functions.append(self._function(value, name, where)[0])
        else:
            origin = getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", type(value).__name__)
            raise TypeError(f"{where} uses {base} ({origin}); an exported cell may use torch and math only")
        return name

    def _annotation(self, node: ast.expr) -> str:
        """The annotation in plain types, ``Any`` where there are none."""
        written = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
        written = self.types.get(written, written)
        names = {n.id for n in ast.walk(ast.parse(written)) if isinstance(n, ast.Name)}
        return written if names <= PLAIN_TYPES | set(self.types.values()) else "Any"

    def _signature(self, node: ast.FunctionDef, function: FunctionType, name: str, gone: set[str], where: str) -> str:
        """The ``def`` line: plain types, and the defaults' values."""
        own = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        values = function.__defaults__ or ()
        defaults = dict(zip(own[len(own) - len(values) :], values, strict=True)) | (function.__kwdefaults__ or {})

        def written(argument: ast.arg, stars: str = "") -> str:
            typed = f": {self._annotation(argument.annotation)}" if argument.annotation is not None else ""
            default = _literal(defaults[argument.arg], name, where) if argument.arg in defaults else None
            return f"{stars}{argument.arg}{typed}" + ("" if default is None else f" = {default}" if typed else f"={default}")

        first, then = ([written(a) for a in part if a.arg not in gone] for part in (node.args.posonlyargs, node.args.args))
        parts = [*first, "/", *then] if first else then
        if node.args.vararg or node.args.kwonlyargs:
            parts.append(written(node.args.vararg, "*") if node.args.vararg else "*")
        parts += [written(a) for a in node.args.kwonlyargs] + ([written(node.args.kwarg, "**")] if node.args.kwarg else [])
        returns = f" -> {self._annotation(node.returns)}" if node.returns is not None else ""
        line = f"def {name}({', '.join(parts)}){returns}:"
        return line if len(line) <= 120 else f"def {name}(\n    {', '.join(parts)}\n){returns}:"


def _find(code: CodeType, where: str) -> tuple[Text, Any]:
    """The file that ``code`` was compiled from, and the node of its ``def``.

    Raises:
        TypeError: there is no such file, or no such ``def`` in it.
    """
    try:
        lines, _ = inspect.findsource(code)
        text = Text("".join(lines))
    except (OSError, SyntaxError) as error:
        raise TypeError(f"{where}: the source code cannot be read ({error}); an exported cell's code must be in a file") from error
    found: list[Any] = []
    for node in ast.walk(text.tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            if code.co_firstlineno == min([node.lineno, *(d.lineno for d in node.decorator_list)]):
                found.append(node)
    if len(found) != 1:
        raise TypeError(f"{where}: {code.co_name} is not to be found in {code.co_filename}, line {code.co_firstlineno}")
    return text, found[0]


def _below(node: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes in the body of a function, without what annotations contain (they are replaced whole)."""
    todo: list[ast.AST] = [*node.body]
    while todo:
        at = todo.pop()
        yield at
        skip = (getattr(at, "annotation", None), getattr(at, "returns", None))
        todo += [child for child in ast.iter_child_nodes(at) if child not in skip]


def _write_sums(text: Text, node: ast.FunctionDef, name: str) -> bool:
    """Write ``a + b`` for every ``name(a, b, n)``, n a constant; False, and nothing is done, if the code uses ``name`` otherwise."""
    own = {a.arg for n in _below(node) if isinstance(n, (ast.FunctionDef, ast.Lambda)) for a in ast.walk(n.args) if isinstance(a, ast.arg)}
    calls = [n for n in _below(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name]
    uses = [n for n in _below(node) if isinstance(n, ast.Name) and n.id == name]
    for call in calls:
        rest = [*call.args[2:], *(keyword.value for keyword in call.keywords)]
        if len(call.args) < 2 or any(isinstance(a, ast.Starred) for a in call.args) or not all(isinstance(a, ast.Constant) for a in rest):
            return False
    if name in own or len(uses) != len(calls):
        return False
    bare = {id(child) for n in _below(node) for child in _uncrowded(n)}
    for call in calls:
        left, right = call.args[:2]
        before, after = ("", "") if id(call) in bare else ("(", ")")
        (l_open, l_close), (r_open, r_close) = _brackets(left, LOOSE_OPERATORS), _brackets(right, (*LOOSE_OPERATORS, ast.Add, ast.Sub))
        (start, end), (a, b), (c, d) = text.span(call), text.span(left), text.span(right)
        for first, last, new in ((start, a, before + l_open), (b, c, f"{l_close} + {r_open}"), (d, end, r_close + after)):
            text.edits.append((first, last, new.encode()))
    return True


def _brackets(node: ast.expr, operators: tuple[type[ast.operator], ...]) -> tuple[str, str]:
    """Those that a term of a sum needs, ``operators`` being the ones that bind less."""
    loose = isinstance(node, LOOSE) or (isinstance(node, ast.BinOp) and isinstance(node.op, operators))
    return ("(", ")") if loose else ("", "")


def _uncrowded(node: ast.AST) -> list[ast.expr]:
    """The expressions directly below ``node`` that need no brackets, whatever they are."""
    if isinstance(node, ast.Call):
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node, (ast.Tuple, ast.List)):
        return node.elts
    return [node.value] if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return)) and node.value is not None else []


def _operands(code: CodeType, operation: str) -> set[str]:
    """What the code and the functions inside it look up in their module (LOAD_GLOBAL) or import (IMPORT_NAME)."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == operation}
    return names.union(*(_operands(inner, operation) for inner in code.co_consts if isinstance(inner, CodeType)))


def _body(text: Text, node: ast.FunctionDef) -> str:
    """The statements of a function with their comments, as far left as a function at the top of a file has them."""
    first, last = node.body[0], node.body[-1]
    line = first.lineno
    while line - 1 > node.lineno and text.data[text.starts[line - 2] : text.starts[line - 1]].lstrip()[:1] == b"#":
        line -= 1  # comments above the first statement
    start = text.starts[line - 1] if line > node.lineno else text.span(first)[0]
    return textwrap.indent(textwrap.dedent(text.cut(start, text.lines(last)[1])), "    ").rstrip()


def _import(original: str, name: str, value: object) -> str | None:
    """The import that binds ``value`` to ``name``, if it is math, torch, or something that they have under its own name."""
    if isinstance(value, ModuleType):
        if value.__name__.split(".")[0] not in ("torch", "math"):
            return None
        return f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")
    for home in HOMES:
        theirs = getattr(value, "__name__", original)
        if not isinstance(value, (int, float, str)) and value is not None and getattr(home, theirs, None) is value:
            return f"from {home.__name__} import {theirs}" + (f" as {name}" if name != theirs else "")
    return None


def _literal(value: object, name: str, where: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, tuple):
        return f"({', '.join(_literal(v, name, where) for v in value)}{',' if len(value) == 1 else ''})"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise TypeError(
        f"{where} uses {name}, which holds a {type(value).__name__}; an exported constant is a number, a string or a tuple of them"
    )
