"""``data get``: fetch a data set, if the user asks for it. Loaders never do."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from .exits import guarded, say

data = typer.Typer(help="Data sets: fetch one.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Data sets: fetch one."""  # keeps ``get`` a command of its own, though it is the only one


class _Bar:
    """Bytes of one file after the other, on stderr; silent where stderr is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    @property
    def total(self) -> int:
        """Bytes of the file."""
        return int(self._bar.tasks[0].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self._bar.reset(self._task, total=size)

    def update(self, amount: int) -> None:
        """So many more are there."""
        self._bar.advance(self._task, amount)

    def reset(self) -> None:
        """None is there."""
        self._bar.reset(self._task)

    def close(self) -> None:
        """The file is there; another may follow."""

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()


@data.command()
@guarded
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set (mnist, ucr, …), or a benchmark that reads it.")],
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Into this folder.")] = None,
) -> None:
    """Fetch a data set into $MRNN_SEARCH_DATA or the user's data folder; checksums are checked, what is there is not fetched again."""
    from ..benchmarks.fetch import data_set, fetch, target_folder

    known = data_set(name)
    folder = to if to is not None else target_folder(known)
    with _Bar() as bar:
        files = fetch(known, folder, bar)
    say(f"{known}: {len(files)} file{'s' * (len(files) != 1)}")
    print(folder)
