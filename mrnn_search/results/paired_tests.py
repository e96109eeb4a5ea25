"""Exact tests of paired differences, and Holm's correction for several of them: arrays in, numbers out."""

from __future__ import annotations

import math

import numpy as np

from .intervals import ROUNDING, Array

ALPHA = 0.05
ENUMERATED = 15  # pairs up to which all 2^n signs are looked at
RESAMPLES = 9_999  # of more pairs, from a fixed seed


def permutation_p(a: Array, b: Array) -> float:
    """Two-sided p-value of the permutation test of paired scores: which of a pair is ``a`` is as good as chance.

    Exact up to `ENUMERATED` pairs; with n of them it cannot be below 2^(1 - n): see `smallest_p`. NaN for no pair, or a score that is not
    finite.

    Args:
        a, b: (n,).

    Source: Fisher (1935), The Design of Experiments, section 21.
    """
    return _by_signs(_differences(a, b))


def smallest_p(pairs: int) -> float:
    """What `permutation_p` and `wilcoxon_p` are where every pair points the same way: no p-value of so few pairs can be smaller."""
    return 2.0 ** (1 - pairs) if pairs else math.nan


def wilcoxon_p(a: Array, b: Array) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test: `permutation_p` of the ranks, so that ties need no approximation.

    Pairs without a difference are left out; 1 where no pair differs. NaN for no pair, or a score that is not finite.

    Args:
        a, b: (n,).

    Source: Wilcoxon (1945), "Individual comparisons by ranking methods", Biometrics Bulletin 1(6).
    """
    from scipy.stats import rankdata  # takes a second to import

    d = _differences(a, b)
    if not d.size or not np.isfinite(d).all():
        return math.nan
    kept = d[d != 0]
    return _by_signs(np.sign(kept) * rankdata(np.abs(kept))) if kept.size else 1.0


def _differences(a: Array, b: Array) -> Array:
    """``a - b`` in units of the largest, with what rounding adds taken off, so that equal ones are equal and none is tiny but not 0."""
    d = a - b
    if not d.size or not np.isfinite(d).all() or not d.any():
        return d
    size, rounding = np.abs(d).max(), ROUNDING * max(np.abs(a).max(), np.abs(b).max())
    return np.round(d / size, 12) if size > rounding else np.zeros_like(d)


def _by_signs(d: Array) -> float:
    """Of the sum of ``d``, among all ways to give its members signs."""
    from scipy.stats import permutation_test

    if not d.size or not np.isfinite(d).all():
        return math.nan
    if d.size == 1:
        return 1.0
    found = permutation_test(
        (d / 2, -d / 2),  # to swap a pair is to change the sign of its difference
        lambda x, y, axis: np.round((x - y).sum(axis=axis), 9),  # sums in another order are the same sum
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**ENUMERATED if d.size <= ENUMERATED else RESAMPLES,
        rng=0,
    )
    return min(1.0, float(found.pvalue))


def holm(p: Array) -> Array:
    """p-values corrected so that, of all tests along the last axis, one rejected in error at level alpha happens with probability alpha.

    Args:
        p: (..., m); NaN where nothing was tested, which does not count.

    Returns:
        (..., m), each at least its ``p``; NaN stays.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).
    """
    order = np.argsort(p, axis=-1)  # NaN goes last
    tested = np.isfinite(p).sum(axis=-1, keepdims=True)
    steps = np.take_along_axis(p, order, axis=-1) * np.maximum(tested - np.arange(p.shape[-1]), 1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0), axis=-1)
    return corrected
