"""Tables on stdout: for people (aligned text) and for programs (CSV, JSON, parquet)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._registry import InputError

if TYPE_CHECKING:
    import pandas as pd

WIDE = 200  # columns of a table that goes into a file or a pipe


class Format(StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


FormatOption = Annotated[Format, typer.Option("--format", help="How the table is written.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")]
TopOption = Annotated[int | None, typer.Option("--top", min=1, help="Only the first N rows.")]
WhereOption = Annotated[str | None, typer.Option("--where", help="Only rows for which this holds, e.g. \"base == 'lstm' and lr < 0.01\".")]


def chosen(format: Format, as_json: bool) -> Format:
    """``--json`` wins over the default of ``--format``.

    Raises:
        InputError: both were given and disagree.
    """
    if as_json and format not in (Format.table, Format.json):
        raise InputError(f"--json and --format {format} together; give one of them")
    return Format.json if as_json else format


def select(frame: pd.DataFrame, where: str | None, top: int | None) -> pd.DataFrame:
    """The rows that ``where`` keeps (see `mrnn_search.results.where`), then the first ``top``.

    Raises:
        InputError: ``where`` is no such expression, or names an unknown column.
    """
    if where is not None:
        from ..results.where import matching

        frame = matching(frame, where, "--where")
    return frame if top is None else frame.head(top)


def write(frame: pd.DataFrame, format: Format, output: Path | None, columns: Mapping[str, str] | None = None) -> None:
    """``frame`` to stdout or to ``output``.

    Args:
        columns: for ``Format.table``: which columns people see, and their headings; None: all, as they are named.

    Raises:
        InputError: parquet for a terminal, or a folder that does not exist.
    """
    if output is not None and not output.parent.is_dir():
        raise InputError(f"there is no folder {output.parent}", "--output")
    if format is Format.parquet:
        if output is None and sys.stdout.isatty():
            raise InputError("parquet is binary; give --output FILE, or send stdout to a file")
        frame.to_parquet(output if output is not None else sys.stdout.buffer, index=False)
        return
    text = _text(frame, format, columns, None if output is None else WIDE)
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        output.write_text(text, encoding="utf-8")


def write_json(value: object) -> None:
    """One JSON value on stdout."""
    print(json.dumps(finite(value), indent=2, default=str, ensure_ascii=False, allow_nan=False))


def finite(value: object) -> object:
    """``value`` with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """A short list, one line each (the first two values of a row), or all of it as JSON."""
    if as_json:
        write_json(list(rows))
        return
    texts = [[str(value) for value in row.values()] for row in rows]
    width = max((len(text[0]) for text in texts), default=0)
    for text in texts:
        print(f"{text[0]:<{width}}  {'  '.join(text[1:])}".rstrip())


def show(facts: Mapping[str, Any], as_json: bool = False) -> None:
    """Everything that is known of one thing: ``key  value`` lines, nested values indented below their key."""
    if as_json:
        write_json(facts)
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        print(f"{key:<{width}}  {_value(value, width + 2)}".rstrip())


def listing(title: str, rows: Sequence[tuple[str, ...]], headings: tuple[str, ...]) -> None:
    """A titled table of texts; wraps within the terminal."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, no_wrap=i == 0, overflow="fold", style="cyan" if i == 0 else "")
    for row in rows:
        table.add_row(*row)
    _print(table)
    print()


def panel(title: str, facts: Mapping[str, Any]) -> None:
    """One thing in full: its name in bold, then ``key  value``; nested values are lines of their own, and long ones wrap."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    table.add_row("", Text(title, style="bold"))
    for key, value in facts.items():
        if isinstance(value, dict):
            inner = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
            inner.add_column(no_wrap=True)
            inner.add_column(overflow="fold")
            for name, text in value.items():
                inner.add_row(str(name), str(text))
            table.add_row(key, inner)
        else:
            table.add_row(key, "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
    _print(table)


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False, emoji=False, file=sys.stdout)
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _value(value: object, indent: int) -> str:
    gap = "\n" + " " * indent
    if isinstance(value, dict):
        return gap.join(f"{key}: {_flat(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return gap.join(_flat(item) for item in value) or "none"
    return str(value)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flat(item) for item in value) + "]"
    return str(value)


def _text(frame: pd.DataFrame, format: Format, columns: Mapping[str, str] | None, width: int | None) -> str:
    if format is Format.csv:
        return str(frame.to_csv(index=False))
    if format is Format.json:
        return str(frame.to_json(orient="records", date_format="iso", double_precision=15, indent=2)) + "\n"
    return render(frame, columns, width)


def render(frame: pd.DataFrame, columns: Mapping[str, str] | None = None, width: int | None = None) -> str:
    """An aligned text table; ``width`` None: the terminal's, or `WIDE` where there is none."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = {c: t for c, t in (columns or {str(c): str(c) for c in frame.columns}).items() if c in frame.columns}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column, title in shown.items():
        numeric = frame[column].dtype.kind in "iuf"
        table.add_column(title, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in frame[list(shown)].itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    if width is None and not sys.stdout.isatty():
        width = WIDE
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _cell(value: Any) -> str:
    if value is None or value != value or str(value) in ("<NA>", "NaT"):  # NaN is the value that differs from itself
        return "–"
    if isinstance(value, bool) or str(value) in ("True", "False"):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
