"""Two cells side by side: every number of the comparison, against scipy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from mrnn_search.results.comparison import compared
from mrnn_search.results.intervals import studentised_bootstrap

RNG = np.random.default_rng(4)
A = dict(enumerate((0.93 + 0.01 * RNG.normal(size=6)).tolist()))
B = dict(enumerate((0.90 + 0.01 * RNG.normal(size=6)).tolist()))
VALIDATION = ({seed: value + 0.02 for seed, value in A.items()}, {seed: value + 0.03 for seed, value in B.items()})


def test_every_number_is_scipys() -> None:
    found = compared(("this", "that"), VALIDATION, (A, B), "accuracy", "maximize")
    for paired, (a, b) in ((found.test, (A, B)), (found.validation, VALIDATION)):
        x, y = np.array(list(a.values())), np.array(list(b.values()))
        assert paired.difference.p_value == pytest.approx(stats.ttest_rel(x, y).pvalue)
        assert (paired.difference.low, paired.difference.high) == pytest.approx(stats.ttest_rel(x, y).confidence_interval())
        assert (paired.bootstrap_low, paired.bootstrap_high) == pytest.approx(studentised_bootstrap(x - y))
        assert paired.wilcoxon_p == pytest.approx(stats.wilcoxon(x, y, method="exact").pvalue)
        exact = stats.permutation_test((x, y), lambda p, q: np.mean(p - q), permutation_type="samples", n_resamples=np.inf)
        assert paired.permutation_p == pytest.approx(exact.pvalue) and paired.smallest_p == 1 / 32
        assert paired.prob_a_better > 0.9
    assert (
        found.metric == "test accuracy"
        and found.difference == found.test.difference
        and "this beats that on test accuracy" in found.verdict
    )
    assert [(s.seed, s.test_a, s.validation_b) for s in found.seeds] == [(seed, A[seed], VALIDATION[1][seed]) for seed in range(6)]


def test_the_other_way_round() -> None:
    one, other = (compared(("a", "b"), pair, pair, "nll", "minimize").test for pair in ((A, B), (B, A)))
    assert one.prob_a_better == pytest.approx(1 - other.prob_a_better) and one.prob_a_better < 0.1
    assert (one.permutation_p, one.wilcoxon_p) == (other.permutation_p, other.wilcoxon_p)
    assert (one.bootstrap_low, one.bootstrap_high) == pytest.approx((-other.bootstrap_high, -other.bootstrap_low))


def test_as_text_and_as_json() -> None:
    text = str(compared(("this", "that"), VALIDATION, (A, B), "accuracy", "maximize"))
    for part in ("a  this", "paired t-test", "exact permutation (6 pairs: 0.031 or more)", "Wilcoxon", "probability that a is better"):
        assert part in text
    assert len(text.splitlines()) == 3 + 1 + 8 + 1 + 7 and all(len(line) < 140 for line in text.splitlines()[4:])
    data = json.loads(json.dumps(compared(("this", "that"), VALIDATION, (A, B), "accuracy", "maximize").to_dict()))
    assert data["test"]["difference"]["n"] == 6 and len(data["seeds"]) == 6


def test_seeds_that_only_one_has_are_shown_and_not_compared() -> None:
    fewer = {seed: value for seed, value in B.items() if seed > 0}
    found = compared(("a", "b"), (A, fewer), (A, fewer), "accuracy", "maximize")
    assert found.difference.n == 5 and len(found.seeds) == 6 and math.isnan(found.seeds[0].test_b) and "–" in str(found)
    assert found.test.smallest_p == 0.0625 and found.test.permutation_p >= 0.0625


def test_one_seed_none_and_one_that_diverged_give_no_test() -> None:
    one = compared(("a", "b"), ({1: 0.9}, {1: 0.8}), ({1: 0.9}, {1: 0.8}), "accuracy", "maximize")
    assert math.isnan(one.test.bootstrap_low) and one.test.permutation_p == 1.0 and math.isnan(one.test.prob_a_better)
    none = compared(("a", "b"), ({1: 0.9}, {2: 0.8}), ({1: 0.9}, {2: 0.8}), "accuracy", "maximize")
    assert math.isnan(none.test.permutation_p) and "no seed in common" in none.verdict and len(none.seeds) == 2
    lost = compared(("a", "b"), (A, {**B, 3: math.inf}), (A, {**B, 3: math.inf}), "accuracy", "maximize")
    assert math.isnan(lost.test.wilcoxon_p) and math.isnan(lost.test.bootstrap_high) and lost.test.prob_a_better == pytest.approx(1.0)
    assert str(lost) and str(none) and str(one)
