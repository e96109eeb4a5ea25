"""Intervals of means, against published numbers, a naive reference, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from mrnn_search.results.intervals import RESAMPLES, resamples, student, studentised_bootstrap, t_test

# Efron & Tibshirani (1993), An Introduction to the Bootstrap, table 2.1: survival in days of the control group of sixteen mice.
CONTROL = np.array([52, 104, 146, 10, 51, 30, 40, 27, 46], dtype=float)
SEEDS = np.array([[0.91, 0.93, 0.92, 0.90, 0.935], [1.0, 1.0, 2.0, 1.5, 1.0]])


def test_the_bootstrap_t_of_the_mice() -> None:
    """Section 12.5: 90 % interval (35.82, 116.74), from 1,000 resamples."""
    low, high = studentised_bootstrap(CONTROL, 0.90, bandwidth=0)
    assert low == pytest.approx(35.82, abs=0.5) and high == pytest.approx(116.74, abs=2.5)


@pytest.mark.parametrize("bandwidth", [0.0, 0.5])
def test_it_is_what_every_resample_says(bandwidth: float) -> None:
    """Resamples made one by one, from the same draws."""
    n = 5
    rng = np.random.default_rng(n)
    drawn, noise = rng.integers(0, n, size=(RESAMPLES // 2, n)), rng.standard_normal((RESAMPLES // 2, n))
    x = SEEDS[1]
    z = np.sort((x - x.mean()) / x.std(ddof=1))
    t = []
    for d, e in zip(drawn, noise, strict=True):
        for y in (z[d] + bandwidth * e, z[n - 1 - d] - bandwidth * e):
            t.append(y.mean() / (y.std(ddof=1) / math.sqrt(n)) if np.ptp(y) > 1e-6 else 0.0)
    low, high = studentised_bootstrap(x, 0.95, bandwidth)
    assert low == pytest.approx(x.mean() - np.quantile(t, 0.975) * stats.sem(x))
    assert high == pytest.approx(x.mean() - np.quantile(t, 0.025) * stats.sem(x))


def test_many_at_once_are_one_by_one() -> None:
    for interval in (student, studentised_bootstrap):
        low, high = interval(np.stack([SEEDS, SEEDS + 1]))
        assert low.shape == high.shape == (2, 2)
        assert (low[1, 0], high[1, 0]) == pytest.approx(interval(SEEDS[0] + 1))
    assert t_test(SEEDS - 1) == pytest.approx([float(t_test(x - 1)) for x in SEEDS])


def test_neither_order_nor_sign_nor_scale_matters() -> None:
    x = SEEDS[0]
    low, high = studentised_bootstrap(x)
    assert low < x.mean() < high
    assert studentised_bootstrap(x[::-1]) == (low, high)
    assert studentised_bootstrap(-x) == pytest.approx((-high, -low))
    assert studentised_bootstrap(100 * x - 3) == pytest.approx((100 * low - 3, 100 * high - 3))
    assert studentised_bootstrap(np.full(5, 0.3)) == pytest.approx((0.3, 0.3))


def test_student_and_t_test_are_scipys() -> None:
    low, high = student(CONTROL)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 8, loc=CONTROL.mean(), scale=stats.sem(CONTROL)))
    assert float(t_test(CONTROL - 50)) == pytest.approx(stats.ttest_1samp(CONTROL, 50).pvalue)


def test_without_spread_a_t_test_claims_no_more_than_signs_can() -> None:
    assert t_test(np.array([[0.1] * 5, [0.0] * 5])).tolist() == [2**-4, 1.0]
    noise = np.array([1e-17, -1e-17, 2e-17, 0.0, 1e-17])  # what rounding leaves of differences of numbers near 1
    assert float(t_test(noise, 1.0)) == 1.0 and float(t_test(0.1 + noise, 1.0)) == 2**-4


def _skewed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return (4 - rng.gamma(4, size=size)) / 2  # skew -1


def _stepped(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    at = rng.uniform(size=(size[0], 1))
    return (np.round(2 * rng.standard_normal(size) + at) - at) / 2  # steps of half a standard deviation


@pytest.mark.parametrize("noise", [lambda rng, size: rng.standard_normal(size), _skewed, _stepped], ids=["normal", "skewed", "stepped"])
def test_it_covers_at_five_seeds_where_others_do_not(noise: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]) -> None:
    rng = np.random.default_rng(20240501)
    x = noise(rng, (3000, 5))
    low, high = (np.concatenate(part) for part in zip(*map(studentised_bootstrap, np.split(x, 15)), strict=True))
    assert np.mean((low <= 0) & (0 <= high)) == pytest.approx(0.95, abs=0.01)
    usual = student(x)
    assert np.quantile(high - low, 0.99) < 1.4 * np.quantile(usual[1] - usual[0], 0.99)  # no absurd one among a hundred
    found = stats.bootstrap((x,), np.mean, axis=-1, n_resamples=499, batch=100, method="percentile", rng=rng).confidence_interval
    assert np.mean((found.low <= 0) & (0 <= found.high)) < 0.88


@pytest.mark.parametrize("n", [2, 5, 8])
def test_resamples_are_all_there_are(n: int) -> None:
    counts, weights = resamples(n)
    assert len(counts) == math.comb(2 * n - 1, n) and (counts.sum(axis=1) == n).all() and weights.sum() == pytest.approx(1)
    assert len(np.unique(counts, axis=0)) == len(counts) and weights @ counts == pytest.approx(np.ones(n))
    assert resamples(9)[0].shape == (RESAMPLES, 9)
