"""Intervals and paired tests: arrays in, numbers out. Imports nothing of ours.

A value that is not finite (a seed that diverged) makes the whole result NaN. Leaving it out would flatter the cell that
diverged, so whoever wants that has to do it where it can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats takes a second to import

Direction = Literal["maximize", "minimize"]

CONFIDENCE = 0.95
CLAIM_SEEDS = 5  # with fewer paired seeds a comparison is called screening
METHOD = "two-sided paired t-test and 95 % Student-t interval over the seeds that both have"


@dataclass(frozen=True)
class Interval:
    """A mean and where the true mean lies; ``low`` and ``high`` are NaN where ``n`` is below 2."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of ``a - b`` over ``n`` common seeds, its 95 % interval, and the two-sided p-value of no difference."""

    mean: float
    low: float
    high: float
    n: int
    p_value: float
    method: str = METHOD


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student-t interval of a mean over seeds.

    Why Student and not a percentile bootstrap: at the five seeds of a confirmation the bootstrap resamples five numbers,
    knows nothing of the spread beyond them, and covers the true mean in about 84 % of cases where it says 95 %. Student's
    interval covers 95 % if the scores are about normal (``tests/results/test_stats.py`` measures both).

    Args:
        values: one score per seed.
        confidence: share of such intervals that hold the true mean, 0 < confidence < 1.

    Returns:
        The interval; without bounds for one value, all NaN for none or if a value is not finite.

    Raises:
        ValueError: ``confidence`` is outside its range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}, allowed 0 < confidence < 1")
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0 or not np.isfinite(x).all():
        return Interval(math.nan, math.nan, math.nan, x.size)
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stdtrit(x.size - 1, (1 + confidence) / 2)) * _standard_error(x)
    return Interval(mean, mean - half, mean + half, x.size)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """``a - b`` over the seeds that both have.

    Where all differences are equal (up to rounding) there is no spread to test against: the interval is that one number,
    and ``p_value`` is 1 if it is zero, else 0. Scores that come in steps, such as an accuracy on few examples, can do this
    by chance at small ``n``.

    Args:
        a: score of each seed.
        b: score of each seed of what ``a`` is compared with.

    Returns:
        The difference; bounds and p-value are NaN for one common seed, everything is NaN for none or if a score is not
        finite.
    """
    seeds = sorted(a.keys() & b.keys())
    x, y = (np.array([scores[seed] for seed in seeds], dtype=np.float64) for scores in (a, b))
    difference = x - y
    interval = mean_interval(difference.tolist())
    if math.isnan(interval.low):
        return Difference(interval.mean, interval.low, interval.high, interval.n, math.nan)
    rounding = 8 * np.finfo(np.float64).eps * max(np.abs(x).max(), np.abs(y).max())
    if np.ptp(difference) <= rounding:
        mean = 0.0 if abs(interval.mean) <= rounding else interval.mean
        return Difference(mean, mean, mean, interval.n, 0.0 if mean else 1.0)
    p_value = 2 * float(stdtr(interval.n - 1, -abs(interval.mean) / _standard_error(difference)))
    return Difference(interval.mean, interval.low, interval.high, interval.n, p_value)


def verdict(difference: Difference, better: Direction, a: str, b: str, metric: str) -> str:
    """What a paired difference allows one to say, in one sentence.

    Args:
        difference: of ``a`` minus ``b``.
        better: "minimize" where a lower score is better.
        a: what the sentence is about.
        b: what it is compared with ("the tuned lstm").
        metric: what was measured, and on which split ("test accuracy").

    Raises:
        ValueError: ``better`` is neither direction.
    """
    if better not in ("maximize", "minimize"):
        raise ValueError(f'better = "{better}"; allowed: maximize, minimize')
    d = difference
    if math.isnan(d.mean):
        reason = "they have no seed in common" if d.n == 0 else "a seed gave no finite score"
        return f"{a} cannot be compared with {b} on {metric}: {reason}."
    if math.isnan(d.low):
        return f"{a} cannot be told apart from {b} on {metric}: difference {d.mean:+z.4f} on one seed, which gives no interval."
    places = _places(d)
    over = f"over {d.n} paired seeds, {_p_text(d.p_value)}"
    caution = "" if d.n >= CLAIM_SEEDS else f"; fewer than {CLAIM_SEEDS} seeds make this screening, not a result"
    if d.low <= 0 <= d.high:
        interval = f"95 % interval {d.low:z.{places}f} to {d.high:z.{places}f} {over}"
        return f"{a} cannot be told apart from {b} on {metric}: difference {d.mean:+z.{places}f} ({interval}){caution}."
    low, high = sorted((abs(d.low), abs(d.high)))
    interval = f"95 % interval {low:.{places}f} to {high:.{places}f} {over}"
    wins = (d.mean > 0) == (better == "maximize")
    return f"{a} {'beats' if wins else 'is worse than'} {b} on {metric} by {abs(d.mean):.{places}f} ({interval}){caution}."


def _standard_error(x: np.ndarray) -> float:
    return float(x.std(ddof=1) / math.sqrt(x.size))


def _places(difference: Difference) -> int:
    """Decimals that show two digits of the interval's width (or, without one, of the mean), and four at least."""
    scale = (difference.high - difference.low) or abs(difference.mean)
    return max(4, 1 - math.floor(math.log10(scale))) if scale else 4


def _p_text(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= 0.0001 else "p < 0.0001"
