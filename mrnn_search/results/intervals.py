"""Intervals of means over seeds, many at once: arrays in, arrays out. Imports nothing of ours.

Shapes: ``...`` any number of sets of scores, n seeds, B resamples.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, stdtr, stdtrit  # scipy.stats takes a second to import

Array = NDArray[np.float64]

CONFIDENCE = 0.95
FEWEST = 5  # seeds from which the bootstrap's 126 resamples say more than Student's assumption
ENUMERATED = 8  # seeds up to which every resample is looked at: C(15, 7) = 6,435 of them
RESAMPLES = 9_999  # of more seeds, from a fixed seed: the same scores give the same interval
ROUNDING = 8 * np.finfo(np.float64).eps  # relative; what is closer than this is equal


def student(x: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Student's interval of the mean.

    Args:
        x: (..., n), n at least 2.

    Returns:
        low and high, both (...).
    """
    n = x.shape[-1]
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * standard_error(x)
    mean = x.mean(axis=-1)
    return mean - half, mean + half


def studentised_bootstrap(x: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Bootstrap-t interval of the mean: the quantiles of (mean* - mean) / se* over the resamples take the place of Student's.

    Up to `ENUMERATED` seeds every resample counts with its probability: nothing is drawn. Resamples without any spread are left out.
    Scores that come in steps (an accuracy on few examples) are first spread by `unrounded`: ties make se* too small, and the interval
    with it.

    Args:
        x: (..., n), n at least 3; `FEWEST` for it to cover.

    Returns:
        low and high, both (...); both the mean where all scores are equal.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, section 12.5.
    """
    x = unrounded(x)
    counts, weights = resamples(x.shape[-1])
    n = x.shape[-1]
    mean, error = x.mean(axis=-1), standard_error(x)
    z = x - mean[..., None]
    means = z @ counts.T / n  # (..., B)
    squares = np.maximum((z * z) @ counts.T / n - means**2, 0) / (n - 1)
    there = squares > (1e-9 * error[..., None]) ** 2
    t = np.divide(means, np.sqrt(squares), out=np.zeros_like(means), where=there)
    share = np.where(there, weights, 0.0)
    low, high = _quantiles(t, share, (1 - confidence) / 2, (1 + confidence) / 2)
    return mean - high * error, mean - low * error


def unrounded(x: Array) -> Array:
    """Equal scores spread evenly over the smallest step between two scores, which is as much as rounding may have hidden; same mean.

    Args:
        x: (..., n).

    Returns:
        (..., n), each set sorted.
    """
    x = np.sort(x, axis=-1)
    tolerance = ROUNDING * np.abs(x).max(axis=-1, keepdims=True)
    gaps = np.diff(x, axis=-1)
    step = np.where(gaps > tolerance, gaps, math.inf).min(axis=-1, keepdims=True, initial=math.inf)
    equal = np.abs(x[..., :, None] - x[..., None, :]) <= tolerance[..., None]
    many, place = equal.sum(axis=-1), np.tril(equal, -1).sum(axis=-1)
    return np.asarray(x + np.where(np.isfinite(step), step, 0.0) * ((place + 0.5) / many - 0.5))


@lru_cache(maxsize=64)
def resamples(n: int) -> tuple[Array, Array]:
    """How often each of n scores is in a resample (B, n), and how likely that resample is (B,), sum 1."""
    if n > ENUMERATED:
        counts = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        return counts, np.full(RESAMPLES, 1 / RESAMPLES)
    bars = np.array(list(itertools.combinations(range(2 * n - 1), n - 1)), dtype=np.int64).reshape(-1, n - 1)
    ends = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, 2 * n - 1)))
    counts = (np.diff(ends, axis=1) - 1).astype(np.float64)  # stars between bars: every way to draw n of n with repeats
    return counts, np.exp(gammaln(n + 1) - gammaln(counts + 1).sum(axis=1) - n * math.log(n))


def standard_error(x: Array) -> Array:
    """Of the mean over the last axis."""
    return np.asarray(x.std(axis=-1, ddof=1) / math.sqrt(x.shape[-1]))


def t_test(x: Array, scale: Array | float | None = None) -> Array:
    """Two-sided p-value of mean 0 over the last axis (paired differences: the paired t-test).

    Where all are equal up to rounding there is no spread to test against. The p-value is then 1 if they are zero, else the smallest that
    a permutation of n signs can give, 2^(1 - n): scores that come in steps do this by chance.

    Args:
        x: (..., n), n at least 2.
        scale: the size of the numbers whose differences ``x`` are, which says how large their rounding is; without it that of ``x``.

    Returns:
        (...).
    """
    n, mean, error = x.shape[-1], x.mean(axis=-1), standard_error(x)
    rounding = ROUNDING * (np.abs(x).max(axis=-1) if scale is None else scale)
    flat = np.ptp(x, axis=-1) <= rounding
    t = np.divide(-np.abs(mean), error, out=np.zeros_like(mean), where=~flat)
    return np.asarray(np.where(flat, np.where(np.abs(mean) <= rounding, 1.0, 2.0 ** (1 - n)), 2 * stdtr(n - 1, t)))


def _quantiles(values: Array, weights: Array, *levels: float) -> list[Array]:
    """The smallest value (of the last axis) that has at least each level's share of the weight below or at it; 0 without weight."""
    order = np.argsort(values, axis=-1)
    below = np.cumsum(np.take_along_axis(weights, order, axis=-1), axis=-1)
    total = below[..., -1:]
    picked = []
    for level in levels:
        at = np.minimum((below < level * total - 1e-12).sum(axis=-1, keepdims=True), values.shape[-1] - 1)
        found = np.take_along_axis(values, np.take_along_axis(order, at, axis=-1), axis=-1)
        picked.append(np.where(total > 0, found, 0.0)[..., 0])
    return picked
