"""Several objectives: what a trial costs beside its quality, and which trials no other beats in everything."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

QUALITY = "quality"
# objective -> what it is, of a trial's rungs as the ledger has them; every one is minimised
COSTS: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], float]] = {
    "parameters": lambda rungs: float(rungs[-1]["params"]),
    "seconds": lambda rungs: sum(rung["seconds"] for rung in rungs) / rungs[-1]["stop_epoch"],
}


def non_dominated(points: Sequence[Sequence[float]]) -> list[int]:
    """Positions of the points that no other point beats: as small in every coordinate, and smaller in one. Equal points all count.

    Args:
        points: every coordinate is minimised.
    """
    front: list[int] = []
    for at in sorted(range(len(points)), key=lambda at: tuple(points[at])):  # what dominates a point comes before it
        if not any(_dominates(points[other], points[at]) for other in front):
            front.append(at)
    return sorted(front)


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def with_costs(trial: FrozenTrial, objectives: Sequence[str]) -> FrozenTrial:
    """A trial as a study of several objectives has it: complete, with a value for each, as soon as it reached a rung and stopped.

    Optuna knows no dropped trials there: one has the quality of its last rung, of fewer epochs than a complete one's.
    """
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return trial
    rungs: list[Mapping[str, Any]] = []
    while (rung := trial.user_attrs.get(f"rung/{len(rungs)}")) is not None:
        rungs.append(rung)
    out = copy.copy(trial)
    out.state = TrialState.COMPLETE if rungs else TrialState.FAIL
    out.values = [rungs[-1]["value"], *(COSTS[name](rungs) for name in objectives[1:])] if rungs else None
    return out
