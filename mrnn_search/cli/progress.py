"""The live bar of a running study, on stderr; silent where stderr is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..search.driver import Progress as Standing

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(bar_width=None),
    TextColumn("{task.percentage:>3.0f} %"),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


class Bar:
    """Shows every `Standing` it is called with: candidates done, best so far, time left."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(*COLUMNS, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, now: Standing) -> None:
        text = f"{now.stage} {now.done}/{now.total}"
        if now.best is not None:
            text += f"  best {now.best[1]:.4g} {now.best[0]}"
        if now.failed:
            text += f"  {now.failed} failed"
        expected = max(now.expected, now.epochs)
        if self._task is None:  # what an earlier run trained is there from the start, so that it does not count as speed
            self._task = self._bar.add_task(text, total=expected, completed=now.epochs)
        else:
            self._bar.update(self._task, description=text, total=expected, completed=now.epochs)
