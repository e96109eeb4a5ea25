"""Rounds and their statistics. Times are never asserted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn_search.bench.rounds import Spread, alternate, ratios
from mrnn_search.bench.sides import Side

TIMES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20)


def test_median_and_quartiles_of_known_numbers() -> None:
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 10.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([4.0, 1.0, 3.0, 2.0]) == Spread(2.5, 1.75, 3.25)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_ratios_are_those_of_a_round() -> None:
    """A machine that is slow for one whole round leaves no trace, as it would in a ratio of medians."""
    loop, engine = [8.0, 80.0, 8.0, 9.0], [2.0, 20.0, 2.0, 3.0]
    assert ratios(loop, engine) == [4.0, 4.0, 4.0, 3.0]
    assert Spread.of(ratios(loop, engine)).median == 4.0
    with pytest.raises(ValueError):
        ratios([1.0], [1.0, 2.0])


@given(TIMES)
def test_the_median_lies_within_its_range_whatever_the_order(values: list[float]) -> None:
    spread = Spread.of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)
    assert Spread.of(sorted(values)) == spread


def test_sides_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up, then a, b, a, b …; at least so many rounds though the time is up; times per candidate."""
    made: list[str] = []
    sides = [Side("a", 1, lambda: made.append("a")), Side("b", 4, lambda: made.append("b"))]
    monkeypatch.setattr("mrnn_search.bench.rounds.SHORTEST_TURN", 0.0)
    timings = alternate(sides, 0.0, least=6)
    assert "".join(made) == "aabb" + "ab" * 6
    assert [(t.side, t.lanes, t.updates, len(t.wall_ms), len(t.cpu_ms)) for t in timings] == [("a", 1, 1, 6, 6), ("b", 4, 1, 6, 6)]


def test_a_turn_is_divided_by_updates_and_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))  # a second at every look
    monkeypatch.setattr("mrnn_search.bench.rounds.time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("mrnn_search.bench.rounds.SHORTEST_TURN", 3.0)
    (timing,) = alternate([Side("engine", 4, lambda: None)], 0.0, least=2)
    assert timing.updates == 3 and timing.wall_ms == (1000 / 12, 1000 / 12)
