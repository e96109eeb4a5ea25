"""Who goes on at a rung."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn_search.search.rungs import keep

tables = st.dictionaries(st.integers(0, 99), st.floats(-5, 5), min_size=1, max_size=40)


@given(table=tables, share=st.floats(0.01, 1.0), direction=st.sampled_from(["maximize", "minimize"]))
def test_the_best_share_goes_on(table: dict[int, float], share: float, direction: str) -> None:
    kept = keep(table, table, share, direction)
    assert len(kept) == math.ceil(share * len(table) - 1e-9) >= 1
    sign = 1 if direction == "maximize" else -1
    dropped = table.keys() - kept
    assert all(sign * table[k] >= sign * table[d] for k in kept for d in dropped)


@given(table=tables, share=st.floats(0.01, 1.0), data=st.data())
def test_it_does_not_matter_who_is_asked_about_together(table: dict[int, float], share: float, data: st.DataObject) -> None:
    """Splitting the members over packs or cohorts leaves the kept set as it is."""
    part = data.draw(st.sets(st.sampled_from(sorted(table))))
    apart = keep(table, part, share, "maximize") | keep(table, table.keys() - part, share, "maximize")
    assert apart == keep(table, table, share, "maximize")


def test_of_equal_values_the_earlier_goes_on() -> None:
    assert keep({3: 0.5, 1: 0.5, 2: 0.5}, {1, 2, 3}, 1 / 3, "maximize") == {1}


def test_a_member_without_a_value_is_dropped() -> None:
    assert keep({1: 0.1}, {1, 2}, 1.0, "minimize") == {1}


@pytest.mark.parametrize(("share", "n", "kept"), [(0.1, 10, 1), (1 / 3, 12, 4), (0.34, 12, 5), (1.0, 7, 7)])
def test_rounding(share: float, n: int, kept: int) -> None:
    assert len(keep({i: float(i) for i in range(n)}, range(n), share, "maximize")) == kept
