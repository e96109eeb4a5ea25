"""Exact tests of paired differences, and Holm's correction for several of them: arrays in, numbers out. Imports nothing of ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
    from scipy.stats import permutation_test  # takes a second to import

    if not a.size or not np.isfinite(a - b).all():
        return math.nan

    def mean_difference(x: Array, y: Array, axis: int) -> Any:
        return np.round((x - y).mean(axis=axis), 12)  # so that sums in another order are the same sum

    scale = np.abs(a - b).max() or 1.0
    found = permutation_test(
        (a / scale, b / scale),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**ENUMERATED if a.size <= ENUMERATED else RESAMPLES,
        rng=0,
    )
    return min(1.0, float(found.pvalue))


def smallest_p(pairs: int) -> float:
    """What `permutation_p` and `wilcoxon_p` are where every pair points the same way: no p-value of so few pairs can be smaller."""
    return 2.0 ** (1 - pairs) if pairs else math.nan


def wilcoxon_p(a: Array, b: Array) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, from all signs also where differences tie; pairs without a difference are left out.

    Exact up to `ENUMERATED` pairs. 1 where no pair differs; NaN for no pair, or a score that is not finite.

    Args:
        a, b: (n,).

    Source: Wilcoxon (1945), Biometrics Bulletin 1(6).
    """
    from scipy.stats import PermutationMethod, wilcoxon

    d = a - b
    if not d.size or not np.isfinite(d).all():
        return math.nan
    rounding = 8 * np.finfo(np.float64).eps * max(np.abs(a).max(), np.abs(b).max())
    d = np.round(d[np.abs(d) > rounding] / (np.abs(d).max() or 1.0), 12)  # equal up to rounding is a tie
    if not d.size:
        return 1.0
    method = PermutationMethod(n_resamples=2**ENUMERATED if d.size <= ENUMERATED else RESAMPLES, rng=0)
    return min(1.0, float(wilcoxon(d, method=method).pvalue))


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
