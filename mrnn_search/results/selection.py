"""Who wins, who cannot be told apart from the winner, who beats the baseline: arrays in, arrays out. Imports nothing of ours.

Shapes: ``...`` any number of studies, C cells, S seeds. Scores are larger-is-better (`oriented`); NaN: that cell has no run of that seed,
-inf: it diverged. Runs of one seed are a pair: they share the order of the data, and much of their luck.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .intervals import ROUNDING, Array, resamples, t_test
from .paired_tests import ALPHA, holm

DIVERGED = -1e300  # in place of -inf, where sums are taken


def oriented(scores: Array, direction: str) -> Array:
    """``scores`` with larger better; what is not finite, and so diverged, is -inf. Missing runs are to be put in afterwards, as NaN."""
    signed = scores if direction == "maximize" else -scores
    return np.where(np.isfinite(signed), signed, -np.inf)


def means(scores: Array) -> Array:
    """(..., C, S) -> (..., C): over the seeds that a cell has; -inf if one diverged, or there is none."""
    there = ~np.isnan(scores)
    total = np.where(there, np.maximum(scores, DIVERGED), 0.0).sum(axis=-1)
    mean = total / np.maximum(there.sum(axis=-1), 1)
    return np.where(there.any(axis=-1) & (mean > DIVERGED / 1e6), mean, -np.inf)


def winner(validation: Array) -> NDArray[np.int64]:
    """(..., C, S) -> (...): the cell with the best mean; of equal ones the first."""
    return np.asarray(means(validation).argmax(axis=-1))


def p_against(scores: Array, one: NDArray[np.int64]) -> Array:
    """p-values of "no different from cell ``one``", Holm-corrected over the others.

    By the paired t-test over the seeds that both have. Not by permutations: of five pairs they give nothing below 0.0625, and so no claim.

    Args:
        scores: (..., C, S).
        one: (...), an index of C.

    Returns:
        (..., C); NaN for ``one`` itself, and where fewer than two seeds are common or one diverged.
    """
    base = np.take_along_axis(scores, one[..., None, None], axis=-2)
    with np.errstate(invalid="ignore"):
        p = _paired_p(scores - base, float(np.abs(scores[np.isfinite(scores)]).max(initial=0.0)))
    np.put_along_axis(p, one[..., None], np.nan, axis=-1)
    return holm(p)


def _paired_p(d: Array, scale: float) -> Array:
    """(..., C, S) -> (..., C)."""
    missing = np.isnan(d)
    if not missing.any() and d.shape[-1] > 1 and np.isfinite(d).all():
        return t_test(d, scale)
    rows = d.reshape(-1, d.shape[-1])
    kept = [row[~np.isnan(row)] for row in rows]
    p = [float(t_test(row, scale)) if row.size > 1 and np.isfinite(row).all() else np.nan for row in kept]
    return np.array(p).reshape(d.shape[:-1])


def tied_with(p: Array, one: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of `p_against`: the cells that cannot be told apart from ``one``, itself included; without a p-value nothing tells them apart."""
    tied = ~(p < ALPHA)
    np.put_along_axis(tied, one[..., None], True, axis=-1)
    return tied


def probability_of_best(scores: Array) -> Array:
    """How often a cell has the best mean when the seeds are drawn anew from those that there are, the same for every cell (bootstrap).

    A description of these seeds, and no test: of five it says too much, as every bootstrap of five does.

    Args:
        scores: (C, S); only seeds that every cell has count.

    Returns:
        (C,), sum 1; cells that tie share, and one that diverged is never best; NaN below two common seeds.
    """
    common = scores[:, ~np.isnan(scores).any(axis=0)]
    cells, seeds = common.shape
    if seeds < 2:
        return np.full(cells, np.nan)
    counts, weights = resamples(seeds)
    kept = np.where(np.isneginf(common).any(axis=1, keepdims=True), DIVERGED, common)
    drawn = counts @ kept.T / seeds  # (B, C)
    top = drawn.max(axis=1, keepdims=True)
    best = drawn >= top - ROUNDING * np.abs(top)
    return np.asarray(weights @ (best / best.sum(axis=1, keepdims=True)))


def cross_fitted(validation: Array, test: Array) -> Array:
    """The test score of what is selected, without the luck that selected it: for each seed that of the cell that wins on all others.

    The winner's own test mean is optimistic: a seed that trains well does well on both splits, so who wins has had good seeds. Its mean
    over these has the same expectation as that of a fresh seed of a cell that is selected on one seed fewer.

    Args:
        validation, test: (..., C, S), no NaN, S at least 2.

    Returns:
        (..., S).
    """
    usable = np.isfinite(means(validation))[..., None]
    others = np.where(usable, validation.sum(axis=-1, keepdims=True) - np.where(usable, validation, 0.0), -np.inf)
    picked = others.argmax(axis=-2)  # (..., S)
    return np.take_along_axis(test, picked[..., None, :], axis=-2)[..., 0, :]
