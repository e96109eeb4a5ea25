"""Positions in a range: there and back, and uniform positions are random draws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mrnn_search.search.flat import distributions, fits, position_of, value_at
from mrnn_search.search.space import load_space

DISTRIBUTIONS = [
    CategoricalDistribution([False, True, "unit"]),
    IntDistribution(2, 40, log=True),
    IntDistribution(8, 32, step=8),
    IntDistribution(-3, 3),
    FloatDistribution(0.1, 3.0, log=True),
    FloatDistribution(0.2, 0.8, step=0.2),
    FloatDistribution(-1.0, 2.0),
]


@given(st.sampled_from(DISTRIBUTIONS), st.floats(0, 1))
def test_there_and_back(distribution: BaseDistribution, position: float) -> None:
    value = value_at(distribution, position)
    assert fits(distribution, value)
    back = position_of(distribution, value)
    assert 0 <= back <= 1
    again = value_at(distribution, back)
    assert again == pytest.approx(value, rel=1e-12) if isinstance(value, float) else again == value


@pytest.mark.parametrize(("number", "count"), [(0, 3), (2, 4), (3, 7), (5, 4)])
def test_every_value_has_an_equal_share(number: int, count: int) -> None:
    values = [value_at(DISTRIBUTIONS[number], (k + 0.5) / 840) for k in range(840)]
    assert {values.count(value) for value in set(values)} == {840 // count}


@pytest.mark.parametrize("wrong", [1, 0, "scalar", None, 1.0])
def test_a_truth_value_is_no_number(wrong: Any) -> None:
    assert fits(DISTRIBUTIONS[0], True) and not fits(DISTRIBUTIONS[0], wrong)


def test_a_space_has_every_parameter_with_more_than_one_value() -> None:
    found = distributions(load_space("optimizer_cells"))
    assert "optimizer" not in found
    assert found["nesterov.restart"] == IntDistribution(2, 40, log=True) and found["lr"] == FloatDistribution(2e-3, 2e-2, log=True)
    assert found["adam.mu.learned"] == CategoricalDistribution([False, True])
