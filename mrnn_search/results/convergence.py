"""How fast a cell learns, from the validation curves of its confirmation. Imports nothing of ours.

Shapes: S seeds, E epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Convergence:
    """Of one cell.

    Attributes:
        epochs: the first epoch at whose end the best-so-far curve, mean over the seeds, is at the threshold; None: it never is.
        seconds: training time until then, mean over the seeds; NaN: never.
        curve_mean: mean of the metric over all epochs and seeds: the area under the learning curve, per epoch.
    """

    epochs: int | None
    seconds: float
    curve_mean: float


def best_so_far(values: Array, direction: str) -> Array:
    """(S, E) -> (E,): mean over the seeds of the best value until each epoch; the last is the mean that the leaderboard ranks by."""
    running = np.maximum if direction == "maximize" else np.minimum
    return np.asarray(running.accumulate(values, axis=1).mean(axis=0))


def final(values: Array, direction: str) -> float:
    """(S, E) -> where `best_so_far` ends; NaN without epochs."""
    return float(best_so_far(values, direction)[-1]) if values.size else math.nan


def convergence(values: Array, seconds: Array, threshold: float, direction: str) -> Convergence:
    """How soon ``threshold`` is reached, and the mean of the curve.

    The mean curve has to get there, and not each seed: where a seed never does, there is no honest mean of the seeds' own times.

    Args:
        values: (S, E), the metric after each epoch.
        seconds: (S, E), what each epoch took.
        threshold: a value of the metric; NaN: there is none.
        direction: "minimize" where less is better.
    """
    if not values.size:
        return Convergence(None, math.nan, math.nan)
    curve = best_so_far(values, direction)
    reached = curve >= threshold if direction == "maximize" else curve <= threshold
    if not reached.any():
        return Convergence(None, math.nan, float(values.mean()))
    first = int(reached.argmax())
    return Convergence(first + 1, float(seconds[:, : first + 1].sum(axis=1).mean()), float(values.mean()))
