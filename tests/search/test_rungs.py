"""Where trials stand at a rung, and who cannot catch up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn_search.search.rungs import Standing, out_of_reach

tables = st.dictionaries(st.integers(0, 99), st.floats(-5, 5), min_size=1, max_size=40)
directions = st.sampled_from(["maximize", "minimize"])


def standing(table: dict[int, float], direction: str) -> Standing:
    out = Standing(direction)  # type: ignore[arg-type]
    for number, value in table.items():
        out.add(number, value)
    return out


@given(table=tables, share=st.floats(0.01, 1.0), direction=directions)
def test_the_best_share_goes_on(table: dict[int, float], share: float, direction: str) -> None:
    here = standing(table, direction)
    kept = {number for number, value in table.items() if here.keeps(number, value, share)}
    assert len(kept) == math.ceil(share * len(table) - 1e-9) >= 1
    sign = 1 if direction == "maximize" else -1
    assert all(sign * table[k] >= sign * table[d] for k in kept for d in table.keys() - kept)


def test_of_equal_values_the_earlier_goes_on() -> None:
    here = standing({3: 0.5, 1: 0.5, 2: 0.5}, "maximize")
    assert [here.keeps(number, 0.5, 1 / 3) for number in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize(("share", "n", "kept"), [(0.1, 10, 1), (1 / 3, 12, 4), (0.34, 12, 5), (1.0, 7, 7)])
def test_rounding(share: float, n: int, kept: int) -> None:
    here = standing({i: float(i) for i in range(n)}, "maximize")
    assert sum(here.keeps(i, float(i), share) for i in range(n)) == kept


@given(table=tables, part=st.sets(st.integers(0, 99)), count=st.integers(0, 40), direction=directions)
def test_among_the_best_of_another(table: dict[int, float], part: set[int], count: int, direction: str) -> None:
    sign = 1 if direction == "maximize" else -1
    order = sorted(table, key=lambda number: (-sign * table[number], number))
    some = standing({number: value for number, value in table.items() if number in part}, direction)
    assert some.among(min(count, len(table)), standing(table, direction)) == [n for n in order[:count] if n in part]


def test_what_is_removed_is_gone() -> None:
    here = standing({1: 0.5, 2: 0.7}, "maximize")
    here.remove(2, 0.7)
    assert len(here) == 1 and here.value(0) == 0.5


@given(rate=st.floats(0.05, 1.0), level=st.floats(-3, 3), epochs=st.integers(4, 20), more=st.integers(1, 60))
def test_a_curve_that_flattens_is_never_given_up_wrongly(rate: float, level: float, epochs: int, more: int) -> None:
    """Exponential approach to a level: wherever it ends, that end was not said to be out of reach."""
    curve = [(e, level - math.exp(-rate * e)) for e in range(1, epochs + 1)]
    end = level - math.exp(-rate * (epochs + more))
    assert not out_of_reach(curve, end - 1e-9, epochs + more, "maximize")
    assert not out_of_reach([(e, -v) for e, v in curve], -end + 1e-9, epochs + more, "minimize")


def test_a_flat_curve_cannot_reach_what_is_far_above() -> None:
    flat = [(e, 0.3) for e in range(1, 7)]
    assert out_of_reach(flat, 0.5, 100, "maximize") and not out_of_reach(flat, 0.5, 100, "minimize")
    assert not out_of_reach(flat[:3], 0.5, 100, "maximize"), "too short to tell"
    assert not out_of_reach([(e, 0.1 * e) for e in range(1, 7)], 0.9, 9, "maximize"), "still rising"
