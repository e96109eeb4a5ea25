"""Intervals and paired tests, against published numbers and by simulation."""

import math

import numpy as np
import pytest

from mrnn_search.results.intervals import studentised_bootstrap
from mrnn_search.results.stats import Difference, mean_interval, paired_difference, verdict

# Student (1908), "The probable error of a mean", Biometrika 6(1): hours of sleep gained by ten patients under two drugs.
# The same data as R's `sleep`; t.test(..., paired = TRUE) gives the numbers that are asserted below.
SLEEP_1 = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
SLEEP_2 = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))


def test_paired_difference_is_that_of_students_sleep_data():
    d = paired_difference(SLEEP_1, SLEEP_2)
    assert (d.n, d.mean) == (10, pytest.approx(-1.58))
    assert d.low == pytest.approx(-2.4598858, abs=5e-8)
    assert d.high == pytest.approx(-0.7001142, abs=5e-8)
    assert d.p_value == pytest.approx(0.002833, abs=5e-7)
    assert "paired t-test" in d.method


def test_mean_interval_is_the_smoothed_bootstraps():
    scores = list(SLEEP_1.values())
    got = mean_interval(scores, 0.9)
    assert (got.low, got.high) == studentised_bootstrap(np.array(scores), 0.9) and got.n == 10
    turned = mean_interval(scores[::-1], 0.9)  # the order of the seeds says nothing
    assert (turned.mean, turned.low, turned.high) == pytest.approx((got.mean, got.low, got.high))


def test_a_wider_confidence_is_a_wider_interval():
    narrow, wide = mean_interval([1, 2, 4], 0.5), mean_interval([1, 2, 4], 0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_confidence_outside_its_range_is_refused(confidence):
    with pytest.raises(ValueError, match="0 < confidence < 1"):
        mean_interval([1, 2], confidence)


def test_too_little_to_say():
    one = mean_interval([0.5])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(mean_interval([]).mean)
    d = paired_difference({1: 0.9}, {1: 0.8, 2: 0.7})
    assert (d.n, d.mean) == (1, pytest.approx(0.1))
    assert math.isnan(d.low) and math.isnan(d.p_value)
    assert paired_difference({1: 0.9}, {2: 0.8}).n == 0


def test_a_seed_that_diverged_is_not_left_out():
    d = paired_difference({1: 0.9, 2: math.nan, 3: 0.9}, {1: 0.8, 2: 0.8, 3: 0.7})
    assert d.n == 3
    assert all(math.isnan(x) for x in (d.mean, d.low, d.high, d.p_value))
    assert math.isnan(mean_interval([0.5, math.inf, 0.6]).mean)


def test_only_common_seeds_count_and_their_order_does_not():
    a, b = {3: 0.7, 1: 0.9, 2: 0.8, 9: 0.0}, {1: 0.85, 2: 0.7, 3: 0.69, 8: 1.0}
    assert paired_difference(a, b) == paired_difference(dict(sorted(a.items())), dict(reversed(b.items())))
    assert paired_difference(a, b).n == 3


@pytest.mark.parametrize(("shift", "p_value"), [(0.1, 0.0625), (0.0, 1.0), (-0.1, 0.0625)])  # 2 of the 32 ways to give them signs
def test_equal_differences_need_no_spread(shift, p_value):
    b = {seed: 0.3 * seed for seed in range(5)}
    d = paired_difference({seed: x + shift for seed, x in b.items()}, b)  # equal up to rounding only
    assert d.low == d.high == d.mean == pytest.approx(shift)
    assert d.p_value == p_value


def test_tiny_but_real_differences_are_tested():
    d = paired_difference({1: 1e-9, 2: 2e-9, 3: 3e-9}, {1: 0.0, 2: 0.0, 3: 0.0})
    assert d.low < d.mean < d.high
    assert 0 < d.p_value < 1


GAIN = Difference(0.0123, 0.0051, 0.0195, 5, 0.008)
LOSS = Difference(-0.0123, -0.0195, -0.0051, 5, 0.008)
CELL = "heavy_ball(mu=0.6)-lstm"


@pytest.mark.parametrize(("d", "better"), [(GAIN, "maximize"), (LOSS, "minimize")])
def test_verdict_beats(d, better):
    assert verdict(d, better, CELL, "the tuned lstm", "test accuracy") == (
        f"{CELL} beats the tuned lstm on test accuracy by 0.0123 (95 % interval 0.0051 to 0.0195 over 5 paired seeds, p = 0.008)."
    )


@pytest.mark.parametrize(("d", "better"), [(LOSS, "maximize"), (GAIN, "minimize")])
def test_verdict_is_worse(d, better):
    assert verdict(d, better, CELL, "the tuned lstm", "test accuracy") == (
        f"{CELL} is worse than the tuned lstm on test accuracy by 0.0123 (95 % interval 0.0051 to 0.0195 over 5 paired seeds, p = 0.008)."
    )


@pytest.mark.parametrize("better", ["maximize", "minimize"])
def test_verdict_cannot_tell(better):
    d = Difference(0.0012, -0.0060, 0.0084, 5, 0.67)
    assert verdict(d, better, CELL, "the tuned lstm", "test accuracy") == (
        f"{CELL} cannot be told apart from the tuned lstm on test accuracy: "
        "difference +0.0012 (95 % interval -0.0060 to 0.0084 over 5 paired seeds, p = 0.67)."
    )


def test_verdict_never_claims_more_than_there_is():
    nan = math.nan
    assert "no seed in common" in verdict(Difference(nan, nan, nan, 0, nan), "maximize", "a", "b", "loss")
    assert "no finite score" in verdict(Difference(nan, nan, nan, 5, nan), "maximize", "a", "b", "loss")
    assert "one seed, which gives no interval" in verdict(Difference(0.5, nan, nan, 1, nan), "maximize", "a", "b", "loss")
    assert "screening, not a result" in verdict(Difference(0.5, 0.4, 0.6, 3, 0.01), "maximize", "a", "b", "loss")
    assert "cannot be told apart" in verdict(Difference(0.0, 0.0, 0.0, 5, 1.0), "minimize", "a", "b", "loss")
    assert "p < 0.0001" in verdict(Difference(0.5, 0.5, 0.5, 5, 0.0), "maximize", "a", "b", "loss")


def test_a_cell_picked_out_of_many_is_judged_by_the_corrected_p_value():
    assert "beats" in verdict(GAIN, "maximize", "a", "b", "loss", 0.04, 5)
    told = verdict(GAIN, "maximize", "a", "b", "loss", 0.056, 7)
    assert "a cannot be told apart from b" in told and "p = 0.008, p = 0.056 after Holm's correction for 7 cells" in told
    assert verdict(GAIN, "maximize", "a", "b", "loss", 0.008, 1) == verdict(GAIN, "maximize", "a", "b", "loss")
    assert "cannot be told apart" in verdict(Difference(0.1, 0.1, 0.1, 5, 0.0625), "maximize", "a", "b", "loss")


def test_verdict_shows_the_digits_of_a_small_interval():
    small = Difference(1.23e-5, 0.52e-5, 1.94e-5, 5, 0.008)
    assert "by 0.000012 (95 % interval 0.000005 to 0.000019" in verdict(small, "maximize", "a", "b", "loss")


def test_verdict_refuses_another_direction():
    with pytest.raises(ValueError, match="allowed: maximize, minimize"):
        verdict(GAIN, "higher", "a", "b", "accuracy")
