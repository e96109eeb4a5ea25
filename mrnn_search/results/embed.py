"""The code of rules and bases as text that stands alone: what a function uses of its module comes with it.

There is no second copy of a rule or a base anywhere: their own code is found by `inspect` and cut out by the positions of
its syntax nodes.
"""

from __future__ import annotations

import ast
import builtins
import copy
import dis
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch

from ..cells.spec import CellSpec

ANNOTATIONS = {  # this package's names for types -> the same in plain Python
    "Coefficients": "dict[str, Any]",
    "Weights": "dict[str, Tensor]",
    "Mapping[str, str]": "dict[str, str]",
    "Sequence[Tensor]": "tuple[Tensor, ...]",
    "Scalar": "Any",
}
PLAIN_TYPES = {"Any", "Tensor", "bool", "dict", "float", "int", "list", "str", "torch", "tuple"}
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
    """

    def __init__(self, taken: dict[str, object]) -> None:
        self.names = dict(taken)
        self.imports: list[str] = []
        self.constants: list[str] = []
        self.functions: list[str] = []

    def method(self, method: Any, name: str, arguments: Sequence[str], where: str, doc: str) -> str:
        """Embed a class method of a rule or a base as the function ``name``.

        Returns:
            The call with ``arguments``, without those that the code never reads.
        """
        function = getattr(method, "__func__", method)
        text, kept = self._function(function, name, where, doc=doc, bound=inspect.ismethod(method), prune=len(arguments))
        self.functions.append(text)
        return f"{name}({', '.join(arguments[i] for i in kept if i < len(arguments))})"

    def scalar(self, function: Callable[..., Any], spec: CellSpec, where: str) -> str:
        """A decay or gain as an expression of ``c`` and ``t``: a lambda's body, a named function's call, or a number.

        Raises:
            TypeError: its code cannot be taken over and it is no constant.
        """
        if not isinstance(function, FunctionType) or function.__closure__ or list(inspect.signature(function).parameters.values())[2:]:
            return _number(function, spec, where)
        if function.__name__ != "<lambda>":
            return f"{self._resolve(function.__name__, function, where)}(c, t)"
        text, node = _find(function.__code__, where)
        own = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        self._rename(text, node, function, where, dict(zip(own, ("c", "t"), strict=True)))
        expression = text.cut(*text.span(node.body))
        return expression if isinstance(node.body, (ast.Subscript, ast.Call, ast.Constant, ast.Name)) else f"({expression})"

    def _function(
        self, function: FunctionType, name: str, where: str, *, doc: str = "", bound: bool = False, prune: int = 0
    ) -> tuple[str, list[int]]:
        """Text of ``def name(...)`` and the positions of the parameters that are kept.

        Args:
            doc: docstring, if the code has none.
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
        self._rename(text, node, function, where, {})
        body = _body(text, node)
        if doc and ast.get_docstring(node) is None:
            indent = body[: len(body) - len(body.lstrip())]
            body = f'{indent}"""{doc}"""\n{body}'
        kept = [i for i, p in enumerate(parameters[bound:]) if p not in gone]
        return f"{_signature(node, function, name, gone, where)}\n{body}", kept

    def _rename(self, text: Text, node: ast.FunctionDef | ast.Lambda, function: FunctionType, where: str, names: dict[str, str]) -> None:
        """Give every global name of the code the name that it has in the exported file, and annotations plain types."""
        renamed = dict(names)
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
                    text.replace(annotation, _annotation(annotation))

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


def _number(function: Callable[..., Any], spec: CellSpec, where: str) -> str:
    """The value of a decay or gain that is the same at every step."""
    values = [] if spec.learned else [function(spec.coefficients, t) for t in (1, 2, 3, 10)]
    if not values or any(v != values[0] for v in values) or not isinstance(values[0], (int, float)):
        raise TypeError(
            f"{where}: a decay or gain that depends on t or on a learned coefficient must be a named function or a lambda "
            f"without variables of an enclosing function, found {function!r}"
        )
    return repr(values[0])


def _find(code: CodeType, where: str) -> tuple[Text, Any]:
    """The file that ``code`` was compiled from, and the node of its ``def`` or ``lambda``.

    Raises:
        TypeError: there is no such file.
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
        elif isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno and _holds(node, code):
            found = [node]  # the walk goes inwards: the innermost one that holds the code stays
    if len(found) != 1:
        raise TypeError(f"{where}: {code.co_name} is not to be found in {code.co_filename}, line {code.co_firstlineno}")
    return text, found[0]


def _holds(node: ast.Lambda, code: CodeType) -> bool:
    """Every instruction of ``code`` was compiled from within ``node``: tells two lambdas of one line apart."""
    first, last = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    # (line, end line, column, end column); some instructions have no place, or an empty one at the start of the line
    places = [(a, b, c, d) for a, b, c, d in code.co_positions() if a and b and c is not None and d is not None and (a, c) != (b, d)]
    return all(first <= (a, c) and (b, d) <= last for a, b, c, d in places)


def _below(node: ast.FunctionDef | ast.Lambda) -> Iterator[ast.AST]:
    """The nodes in the body of a function, without what annotations contain (they are replaced whole)."""
    todo: list[ast.AST] = [*node.body] if isinstance(node, ast.FunctionDef) else [node.body]
    while todo:
        at = todo.pop()
        yield at
        skip = (getattr(at, "annotation", None), getattr(at, "returns", None))
        todo += [child for child in ast.iter_child_nodes(at) if child not in skip]


def _operands(code: CodeType, operation: str) -> set[str]:
    """What the code and the functions inside it look up in their module (LOAD_GLOBAL) or import (IMPORT_NAME)."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == operation}
    return names.union(*(_operands(inner, operation) for inner in code.co_consts if isinstance(inner, CodeType)))


def _annotation(node: ast.expr) -> str:
    """The annotation in plain types, ``Any`` where there are none."""
    written = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
    written = ANNOTATIONS.get(written, written)
    names = {n.id for n in ast.walk(ast.parse(written)) if isinstance(n, ast.Name)}
    return written if names <= PLAIN_TYPES else "Any"


def _signature(node: ast.FunctionDef, function: FunctionType, name: str, gone: set[str], where: str) -> str:
    """The ``def`` line: plain types, and the defaults' values."""
    arguments = copy.deepcopy(node.args)
    arguments.posonlyargs = [a for a in arguments.posonlyargs if a.arg not in gone]
    arguments.args = [a for a in arguments.args if a.arg not in gone]
    arguments.defaults = [ast.Name(_literal(v, name, where)) for v in function.__defaults__ or ()]
    keyword = function.__kwdefaults__ or {}
    arguments.kw_defaults = [ast.Name(_literal(keyword[a.arg], name, where)) if a.arg in keyword else None for a in arguments.kwonlyargs]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg) and argument.annotation is not None:
            argument.annotation = ast.Name(_annotation(argument.annotation))
    returns = f" -> {_annotation(node.returns)}" if node.returns is not None else ""
    return f"def {name}({ast.unparse(arguments)}){returns}:"


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
