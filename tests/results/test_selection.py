"""Who wins, who is tied, who beats the baseline: against scipy and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mrnn_search.results.paired_tests import holm
from mrnn_search.results.selection import cross_fitted, means, oriented, p_against, probability_of_best, tied_with, winner

NAN = math.nan
RNG = np.random.default_rng(11)
SCORES = RNG.normal(size=(3, 4, 5)) + np.array([0.0, 0.0, 4.0, -1.0])[:, None]


def test_p_values_are_paired_t_tests_with_holms_correction() -> None:
    best = winner(SCORES)
    assert best.tolist() == [2, 2, 2]
    for scores, p in zip(SCORES, p_against(SCORES, best), strict=True):
        raw = [stats.ttest_rel(scores[i], scores[2]).pvalue for i in (0, 1, 3)]
        assert p[[0, 1, 3]] == pytest.approx(holm(np.array(raw))) and math.isnan(p[2])
    tied = tied_with(np.array([0.04, 0.05, NAN, NAN]), np.array(2))
    assert tied.tolist() == [False, True, True, True]  # itself, and what could not be tested


def test_runs_that_are_missing_leave_their_pairs_out() -> None:
    scores = SCORES[0].copy()
    scores[0, 1] = scores[1, 1:] = NAN
    p = p_against(scores, np.array(2))
    kept = [0, 2, 3, 4]
    raw = [stats.ttest_rel(scores[0, kept], scores[2, kept]).pvalue, stats.ttest_rel(scores[3], scores[2]).pvalue]
    assert p[[0, 3]] == pytest.approx(holm(np.array(raw))) and np.isnan(p[[1, 2]]).all()
    assert means(scores) == pytest.approx(np.nanmean(scores, axis=1))


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1), ("minimize", 2)])
def test_a_cell_that_diverged_never_wins(direction: str, best: int) -> None:
    scores = oriented(np.array([[0.1, math.inf, 9.0], [0.5, 0.6, 0.7], [0.4, 0.3, 0.2], [NAN, -9.0, 0.1]]), direction)
    assert winner(scores) == best and np.isneginf(means(scores)[[0, 3]]).all()
    p = p_against(scores, np.array(best))
    assert np.isnan(p[[0, 3]]).all() and np.isfinite(p[3 - best])
    probability = probability_of_best(scores)
    assert probability[[0, 3]].tolist() == [0.0, 0.0] and probability[best] == pytest.approx(1.0)
    assert (cross_fitted(scores, scores) == scores[best]).all()


def test_the_probability_of_being_best_is_the_share_of_all_resamples() -> None:
    scores = SCORES[1]
    wins = np.zeros(4)
    for drawn in itertools.product(range(5), repeat=5):
        wins[scores[:, drawn].mean(axis=1).argmax()] += 1
    assert probability_of_best(scores) == pytest.approx(wins / 5**5)
    close = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.0, 0.0, 0.0]])
    assert probability_of_best(close) == pytest.approx([0.5, 0.5, 0.0])  # ties share
    assert np.isnan(probability_of_best(np.array([[0.1, NAN], [0.2, 0.3]]))).all()  # one common seed
    assert probability_of_best(SCORES[0][:, np.arange(20) % 5]).sum() == pytest.approx(1)


def test_cross_fitting_by_hand() -> None:
    validation, test = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))
    expected = [test[np.delete(validation, seed, axis=1).mean(axis=1).argmax(), seed] for seed in range(5)]
    assert cross_fitted(validation, test).tolist() == expected
    assert (cross_fitted(np.stack([validation] * 2), np.stack([test] * 2)) == expected).all()


def test_of_equal_cells_the_first_wins_and_none_is_told_apart() -> None:
    scores = np.tile(np.array([0.9, 0.8, 0.85, 0.9, 0.7]), (3, 1))
    assert winner(scores) == 0 and tied_with(p_against(scores, np.array(0)), np.array(0)).all()
    assert p_against(scores, np.array(0))[1:].tolist() == [1.0, 1.0]
