"""Rows of a table by an expression over its columns: ``base == 'lstm' and params < 80000``. Nothing of it is ever executed.

The language is a small part of pandas' query language, with its meaning: comparisons of columns and literals (``==``, ``!=``, ``<``,
``<=``, ``>``, ``>=``, chains of them, ``in`` and ``not in`` a list), columns of truth values, ``and``, ``or``, ``not``, brackets. A value
that is missing is unequal to everything, and neither smaller nor larger; ``mu == mu`` keeps the rows that have a mu.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import pandas as pd

from .._registry import InputError, UnknownNameError

LONGEST = 10_000  # characters
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ALLOWED = "comparisons of columns with numbers and texts, in [...], and, or, not, brackets"


def matching(frame: pd.DataFrame, where: str, place: str = "where") -> pd.DataFrame:
    """The rows for which ``where`` holds.

    Args:
        frame: any table.
        where: the expression.
        place: what to call it in messages.

    Raises:
        InputError: it is no such expression, names an unknown column, or compares a text with a number.
    """
    try:
        if len(where) > LONGEST:
            raise InputError(f"has {len(where)} characters, allowed {LONGEST}", place)
        tree = ast.parse(where.strip(), mode="eval").body
        rows = _Rows(frame, where, place).truth(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deep" if not isinstance(error, ValueError) else error
        raise InputError(f"cannot read {where[:200]!r} ({reason}); allowed: {ALLOWED}", place) from None
    return frame[rows.fillna(False).astype(bool)]


class _Rows:
    """One expression over one table."""

    def __init__(self, frame: pd.DataFrame, text: str, place: str) -> None:
        self._frame, self._text, self._place = frame, text, place

    def truth(self, node: ast.expr) -> pd.Series:
        """Of each row: true, false, or missing."""
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(part) for part in node.values]
            join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            rows = parts[0]
            for part in parts[1:]:
                rows = join(rows, part)
            return rows
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.truth(node.operand)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Name):
            column = self._column(node)
            if _kind(column) == "truth":
                return column
        if isinstance(node, (ast.Name, ast.Constant, ast.List, ast.Tuple)):
            raise self._wrong(node, "it is neither true nor false of a row")
        raise self._wrong(node, _hint(node))

    def _compared(self, node: ast.Compare) -> pd.Series:
        sides = [node.left, *node.comparators]
        rows: pd.Series | None = None
        for left, compare, right in zip(sides, node.ops, sides[1:], strict=False):
            if isinstance(compare, (ast.In, ast.NotIn)):
                found = self._member(left, right)
                found = found if isinstance(compare, ast.In) else ~found
            elif type(compare) in COMPARISONS:
                found = self._pair(left, COMPARISONS[type(compare)], right, node)
            else:
                raise self._wrong(node, 'write "==" and "!="')
            rows = found if rows is None else rows & found
        assert rows is not None  # a comparison has two sides
        return rows

    def _pair(self, left: ast.expr, compare: Callable[[Any, Any], Any], right: ast.expr, node: ast.expr) -> pd.Series:
        a, b = self._value(left), self._value(right)
        if not isinstance(a, pd.Series) and not isinstance(b, pd.Series):
            raise self._wrong(node, "it names no column")
        if "time" in (_kind(a), _kind(b)):
            a, b = (_time(side) if isinstance(side, str) else side for side in (a, b))
        kinds = _kind(a), _kind(b)
        if kinds[0] != kinds[1]:
            raise self._wrong(node, f"it compares a {kinds[0]} with a {kinds[1]}")
        if kinds[0] == "truth" and compare not in (operator.eq, operator.ne):
            raise self._wrong(node, "neither truth value is the larger one")
        found = compare(a, b)
        return found if isinstance(found, pd.Series) else pd.Series(found, index=self._frame.index)

    def _member(self, left: ast.expr, right: ast.expr) -> pd.Series:
        column = self._value(left)
        if not isinstance(column, pd.Series) or not isinstance(right, (ast.List, ast.Tuple)):
            raise self._wrong(right, "in takes a column and a list, as base in ['lstm', 'gru']")
        members = [self._value(item) for item in right.elts]
        kind = _kind(column)
        for item in members:
            if isinstance(item, pd.Series) or (_kind(item) != kind and not (kind == "time" and isinstance(item, str))):
                raise self._wrong(right, f"a {kind} is looked for among what is not")
        return column.isin([_time(item) if kind == "time" else item for item in members])

    def _value(self, node: ast.expr) -> Any:
        """A column, or a number, text or truth value."""
        if isinstance(node, ast.Name):
            return self._column(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)) and isinstance(node.operand, ast.Constant):
            number = self._value(node.operand)
            if _kind(number) == "number":
                return -number if isinstance(node.op, ast.USub) else number
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise self._wrong(node, _hint(node))

    def _column(self, node: ast.Name) -> pd.Series:
        if node.id not in self._frame.columns:
            raise UnknownNameError("column", node.id, map(str, self._frame.columns), self._place)
        return self._frame[node.id]

    def _wrong(self, node: ast.expr, reason: str) -> InputError:
        part = ast.get_source_segment(self._text.strip(), node) or self._text
        return InputError(f"cannot read {part[:200]!r} ({reason}); allowed: {ALLOWED}", self._place)


def _kind(value: Any) -> str:
    dtype = value.dtype if isinstance(value, pd.Series) else None
    if isinstance(value, bool) or (dtype is not None and pd.api.types.is_bool_dtype(dtype)):
        return "truth"
    if isinstance(value, (int, float)) or (dtype is not None and pd.api.types.is_numeric_dtype(dtype)):
        return "number"
    if isinstance(value, pd.Timestamp) or (dtype is not None and pd.api.types.is_datetime64_any_dtype(dtype)):
        return "time"
    return "text"


def _time(text: str) -> pd.Timestamp:
    """Raises:
    ValueError: it is none.
    """
    try:
        return pd.Timestamp(text)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{text!r} is no time, as 2026-01-31 12:00") from None


def _hint(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
        return 'write "and" and "or"'
    if isinstance(node, ast.Call) or isinstance(node, ast.Attribute):
        return "nothing is called or looked up here"
    return "it is none of these"
