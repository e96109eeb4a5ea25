"""Is what a ledger holds what this package writes? A damaged one is refused by name, before anything is computed from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ledger import Rung, TrialView

WORDS = ("candidate_id", "cell_id", "role")


def problem(view: TrialView) -> str | None:
    """What is wrong with a trial, if anything is."""
    if view.state == "WAITING" or (view.state in ("COMPLETE", "PRUNED") and not view.rungs):
        return f"it is {view.state} and has {len(view.rungs)} rungs"
    wrong = [name for name in WORDS if not isinstance(getattr(view, name), str)]
    wrong += [name for name in ("seed", "cohort") if not _whole(getattr(view, name))]
    wrong += ["error"] if not isinstance(view.error, str | None) else []
    wrong += ["duplicate_of"] if view.duplicate_of is not None and not _whole(view.duplicate_of) else []
    before = 0
    for i, rung in enumerate(view.rungs):
        wrong += [f"rung/{i}: {name}" for name in _wrong_of(rung, before)]
        before = rung.stop_epoch if _whole(rung.stop_epoch) else before
    return f"{wrong[0]} is not what it should be" if wrong else None


def _wrong_of(rung: Rung, before: int) -> Iterable[str]:
    if not all(len(row) == 5 and _whole(row[0]) and _whole(row[1]) and all(map(_number, row[2:])) for row in rung.rows):
        yield "rows"
    elif not _whole(rung.stop_epoch) or [row[0] for row in rung.rows] != list(range(before + 1, rung.stop_epoch + 1)):
        yield "stop_epoch"
    yield from (name for name in ("best_epoch", "params") if not _whole(getattr(rung, name)))
    yield from (name for name in ("value", "seconds") if not _number(getattr(rung, name)))
    yield from (name for name in ("execution", "worker", "device", "checkpoint") if not isinstance(getattr(rung, name), str))
    if rung.test_value is not None and not _number(rung.test_value):
        yield "test_value"
    if rung.reading is not None and not (rung.test_value is not None and all(isinstance(x, str) for x in vars(rung.reading).values())):
        yield "reading"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
