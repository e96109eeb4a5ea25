"""Exact paired tests and Holm's correction, against published worked examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mrnn_search.results.paired_tests import holm, permutation_p, smallest_p, wilcoxon_p

# Fisher (1935), The Design of Experiments, chapter III: Darwin's maize, height of crossed minus self-fertilised, eighths of an inch.
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
ZERO = np.zeros_like(DARWIN)


def test_fishers_permutation_test_of_darwins_maize() -> None:
    """Section 21: 863 of the 32,768 ways to give the differences signs have a sum of at least the observed 314."""
    assert permutation_p(DARWIN, ZERO) == pytest.approx(2 * 863 / 32768)
    assert permutation_p(ZERO, DARWIN) == permutation_p(DARWIN + 100, ZERO + 100) == permutation_p(DARWIN, ZERO)


def test_wilcoxons_test_of_darwins_maize() -> None:
    """Worked out in scipy's documentation of ``wilcoxon``, after Cureton (1967), JASA 62: T = 24, p = 0.0413."""
    assert wilcoxon_p(DARWIN, ZERO) == pytest.approx(0.041259765625)
    assert wilcoxon_p(DARWIN, ZERO) == pytest.approx(stats.wilcoxon(DARWIN, method="exact").pvalue)


def test_with_ties_every_sign_is_looked_at() -> None:
    d = np.array([1.0, 1.0, -2.0, 3.0, 3.0, 0.0])
    kept = d[d != 0]
    ranks = stats.rankdata(np.abs(kept))
    sums = [abs(np.dot(signs, ranks)) for signs in itertools.product([1, -1], repeat=5)]
    assert wilcoxon_p(d, np.zeros(6)) == pytest.approx(np.mean(np.array(sums) >= abs(np.dot(np.sign(kept), ranks)) - 1e-9))
    totals = [abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=6)]
    assert permutation_p(d, np.zeros(6)) == pytest.approx(np.mean(np.array(totals) >= abs(d.sum()) - 1e-9))


def test_five_pairs_cannot_be_significant() -> None:
    a, b = np.array([0.91, 0.92, 0.93, 0.94, 0.95]), np.array([0.80, 0.81, 0.83, 0.82, 0.85])
    assert permutation_p(a, b) == wilcoxon_p(a, b) == smallest_p(5) == 0.0625


def test_equal_differences_are_equal_up_to_rounding() -> None:
    b = np.array([0.0, 0.3, 0.6, 0.9, 1.2])
    assert permutation_p(b + 0.1, b) == wilcoxon_p(b + 0.1, b) == 0.0625
    assert permutation_p(b, b) == wilcoxon_p(b, b) == 1.0


@pytest.mark.parametrize("test", [permutation_p, wilcoxon_p])
def test_nothing_to_test(test) -> None:  # type: ignore[no-untyped-def]
    assert math.isnan(test(np.array([]), np.array([])))
    assert math.isnan(test(np.array([0.1, math.inf]), np.array([0.1, 0.2])))
    assert test(np.array([0.3]), np.array([0.1])) == smallest_p(1) == 1.0
    assert math.isnan(smallest_p(0))


def test_more_pairs_than_can_be_enumerated_are_drawn_and_always_the_same() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.6, 1, 25), rng.normal(0, 1, 25)
    assert permutation_p(a, b) == permutation_p(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=0.35)
    assert wilcoxon_p(a, b) == wilcoxon_p(a, b) == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue, rel=0.35)


def test_holms_procedure_of_demsar() -> None:
    """Demsar (2006), JMLR 7, p. 13: 0.016 < 0.017 and 0.019 < 0.025 are rejected at 0.05, 0.607 is not."""
    corrected = holm(np.array([0.607, 0.016, 0.019]))
    assert corrected == pytest.approx([0.607, 0.048, 0.048]) and (corrected < 0.05).tolist() == [False, True, True]


def test_holm_by_hand_and_in_many_rows() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(size=(50, 6))
    for row, got in zip(p, holm(p), strict=True):
        for level in (0.05, 0.2, 0.5):  # the step-down procedure as it is told
            rejected = set()
            for step, at in enumerate(np.argsort(row)):
                if row[at] > level / (6 - step):
                    break
                rejected.add(at)
            assert {i for i in range(6) if got[i] <= level} == rejected
    assert holm(np.array([0.01, math.nan, 0.04])).tolist() == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0] and holm(np.array([])).size == 0
