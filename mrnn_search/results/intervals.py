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
ENUMERATED = 8  # seeds up to which `resamples` are all there are: C(15, 7) = 6,435 of them
RESAMPLES = 5_000  # otherwise, from a fixed seed: the same scores give the same interval
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


def studentised_bootstrap(x: Array, confidence: float = CONFIDENCE, bandwidth: float | None = None) -> tuple[Array, Array]:
    """Smoothed bootstrap-t interval of the mean: quantiles of (mean* - mean) / se* over the resamples take the place of Student's.

    Every resampled score gets normal noise of ``bandwidth`` standard deviations, because five numbers have hardly any resamples: without
    it se* is often close to zero, by ties (scores that come in steps) or because a resample leaves the one outlier out, and one interval
    in a hundred is seven times as long as Student's. With it they are about as steady, and still follow the skew.

    Args:
        x: (..., n), n at least 2.
        confidence: 0 < confidence < 1.
        bandwidth: without it 1 / sqrt(n), so that the noise is as large as the standard error of the mean; 0: the bootstrap-t as it was.

    Returns:
        low and high, both (...). They do not depend on the order of the scores, and those of -x are -high and -low.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, section 12.5; smoothed: Polansky (2000), "Stabilizing bootstrap-t
    confidence intervals for small samples", Canadian Journal of Statistics 28(3); bandwidth: Hesterberg (2015), "What teachers should
    know about the bootstrap", The American Statistician 69(4).
    """
    x = np.sort(x, axis=-1)
    n = x.shape[-1]
    h = 1 / math.sqrt(n) if bandwidth is None else bandwidth
    mean, error = x.mean(axis=-1), standard_error(x)
    spread = error * math.sqrt(n)
    z = (x - mean[..., None]) / np.where(spread > 0, spread, 1.0)[..., None]
    counts, noise, noise_mean, noise_square = _draws(n)
    # mean and sum of squares of z[drawn] + h noise, without ever making the (..., B, n) resamples
    means = z @ counts.T / n + h * noise_mean
    squares = (z * z) @ counts.T + 2 * h * (z @ noise.T) + h * h * noise_square
    errors = np.sqrt(np.maximum(squares / n - means**2, 0) / (n - 1))
    t = np.divide(means, errors, out=np.zeros_like(means), where=errors > 1e-7)
    low, high = np.quantile(t, [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)
    return mean - high * error, mean - low * error


@lru_cache(maxsize=64)
def _draws(n: int) -> tuple[Array, Array, Array, Array]:
    """Of `RESAMPLES` of n sorted scores: how often each is drawn (B, n), the sum of the noise that it gets (B, n), and of all the noise
    of a resample the mean (B,) and the sum of squares (B,). The second half mirrors the first, so that no direction is favoured.
    """
    rng = np.random.default_rng(n)
    drawn, noise = rng.integers(0, n, size=(RESAMPLES // 2, n)), rng.standard_normal((RESAMPLES // 2, n))
    drawn, noise = np.concatenate([drawn, n - 1 - drawn]), np.concatenate([noise, -noise])
    each = drawn[..., None] == np.arange(n)
    return each.sum(axis=1).astype(np.float64), (each * noise[..., None]).sum(axis=1), noise.mean(axis=1), (noise**2).sum(axis=1)


def resamples(n: int) -> tuple[Array, Array]:
    """How often each of n scores is in a resample (B, n), and how likely that resample is (B,), sum 1; all of them up to `ENUMERATED`."""
    if n > ENUMERATED:
        return _draws(n)[0], np.full(RESAMPLES, 1 / RESAMPLES)
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
