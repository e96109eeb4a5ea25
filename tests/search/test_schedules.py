"""Schedules, played through without a ledger: values are made up, trials never fail unless told to."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn_search.search.schedules import Plan, Result, Schedule, Wave, schedules

METHODS = ["halving", "hyperband", "asha"]


class Play:
    """A study of made-up trials.

    Attributes:
        rungs: trial -> the rungs that it trained to, in order; first: its first one; dropped, failed: trials.
    """

    def __init__(self, method: str, plan: Plan, trials: int, seed: int = 0, failing: float = 0.0) -> None:
        self.plan = plan
        schedule: Schedule = schedules[method](plan)
        luck = random.Random(seed)
        self.level: list[float] = []
        self.rungs: dict[int, list[int]] = {}
        self.values: dict[tuple[int, int], float] = {}
        self.first: dict[int, int] = {}
        self.dropped: list[int] = []
        self.failed: set[int] = set()
        self.cohorts: dict[int, list[int]] = {}
        flying: deque[tuple[Wave, list[tuple[int, int]]]] = deque()
        while True:
            while len(flying) < plan.ahead and (wave := schedule.wave(trials - len(self.level))):
                jobs = list(wave.on)
                for _ in range(wave.new):
                    number = len(self.level)
                    self.level.append(luck.random())
                    self.first[number] = wave.first
                    self.cohorts.setdefault(wave.cohort, []).append(number)
                    jobs.append((number, wave.first))
                for number, rung in jobs:
                    self.rungs.setdefault(number, []).append(rung)
                flying.append((wave, jobs))
            if not flying:
                break
            wave, jobs = flying.popleft()
            results = []
            for number, rung in jobs:
                value = self.level[number] + 0.3 * luck.random() / (1 + rung)
                if luck.random() < failing:
                    self.failed.add(number)
                    results.append(Result(number, rung, None))
                else:
                    self.values[number, rung] = value
                    results.append(Result(number, rung, value))
            self.dropped += schedule.tell(wave, results)

    @property
    def epochs(self) -> int:
        """Lane-epochs trained."""
        stops = (0, *self.plan.epochs)
        return sum(stops[r + 1] - (stops[r] if r > self.first[n] else 0) for n, rungs in self.rungs.items() for r in rungs)


plans = st.builds(
    Plan,
    epochs=st.sampled_from([(4,), (1, 3), (1, 2, 4, 8)]),
    keep=st.sampled_from([0.25, 1 / 3, 0.5, 1.0]),
    direction=st.just("maximize"),
    cohort=st.integers(1, 13),
    ahead=st.integers(1, 4),
)


@given(method=st.sampled_from(METHODS), plan=plans, trials=st.integers(1, 60), seed=st.integers(0, 99), failing=st.sampled_from([0.0, 0.3]))
def test_every_trial_climbs_rung_by_rung_and_someone_arrives(method: str, plan: Plan, trials: int, seed: int, failing: float) -> None:
    play = Play(method, plan, trials, seed, failing)
    assert len(play.level) == trials
    for number, rungs in play.rungs.items():
        assert rungs == list(range(play.first[number], rungs[-1] + 1)), "no rung is left out or trained to twice"
    assert not set(play.dropped) & play.failed and len(set(play.dropped)) == len(play.dropped)
    if not play.failed:
        assert any(rungs[-1] == len(plan.epochs) - 1 for rungs in play.rungs.values())


@given(plan=plans, trials=st.integers(1, 60), seed=st.integers(0, 99))
def test_asha_fills_its_quotas_and_promotes_no_one_else(plan: Plan, trials: int, seed: int) -> None:
    play = Play("asha", plan, trials, seed)
    for rung in range(len(plan.epochs) - 1):
        here = [n for n, rungs in play.rungs.items() if len(rungs) > rung]
        there = {n for n in here if len(play.rungs[n]) > rung + 1}
        order = sorted(here, key=lambda n: -play.values[n, rung])
        quota = max(1, int(plan.keep * len(here) + 1e-9))
        assert set(order[:quota]) <= there, "the best of a rung go on in the end, whenever they came"


@given(plan=plans, trials=st.integers(1, 60), seed=st.integers(0, 99))
def test_no_cohort_is_larger_than_asked_for(plan: Plan, trials: int, seed: int) -> None:
    play = Play("halving", plan, trials, seed)
    assert all(len(members) <= plan.cohort for members in play.cohorts.values())


def test_hyperband_starts_its_cohorts_at_every_rung_in_turn_for_about_the_same_epochs() -> None:
    plan = Plan((1, 3, 9), 1 / 3, "maximize", cohort=18)
    play = Play("hyperband", plan, 200)
    firsts = [{play.first[n] for n in members} for members in play.cohorts.values()]
    assert firsts[:6] == [{0}, {1}, {2}, {0}, {1}, {2}]
    sizes = [len(members) for members in play.cohorts.values()]
    assert sizes[:3] == [18, 8, 5]  # 18 + 6 * 2 + 2 * 6 = 42; 42 / (3 + 6 / 3); 42 / 9
    assert Counter(play.first.values())[2] == sum(sizes[2::3])


def test_hyperbands_cohorts_are_held_against_their_own_kind() -> None:
    """All values rise with the number: with one table for all, no cohort of the second kind could fail to go on."""
    plan = Plan((1, 3), 0.5, "maximize", cohort=4)
    schedule = schedules["hyperband"](plan)
    first = schedule.wave(99)
    assert first is not None
    assert schedule.tell(first, [Result(n, 0, 10.0 + n) for n in range(4)]) == [0, 1]
    assert schedule.wave(99) == Wave(0, on=((2, 1), (3, 1)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("trials", "cohort"), [(96, 12), (50, 7), (5, 12)])
def test_the_estimate_of_epochs(method: str, trials: int, cohort: int) -> None:
    plan = Plan((2, 5, 8), 1 / 3, "maximize", cohort=cohort, ahead=2)
    estimate = schedules[method].epochs(plan, trials)
    assert 0.75 <= Play(method, plan, trials).epochs / estimate <= 1.25


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_that_cannot_catch_up_is_dropped_whatever_its_rank(method: str) -> None:
    """The first cohort gets to the end; in the second everyone would go on, but one of them has gone flat far below."""
    made: dict[bool, list[int]] = {}
    for stop in (True, False):
        plan = Plan((6, 12), 1.0, "maximize", cohort=2, top=2, curve_stop=stop)
        schedule = schedules[method](plan)
        kwargs: dict[int, Any] = {0: [(e, 0.1 * e) for e in range(1, 7)], 1: [(e, 0.3) for e in range(1, 7)]}
        dropped: list[int] = []
        number = 0
        while number < 4 and (wave := schedule.wave(4 - number)):
            jobs = [*wave.on, *((number + i, wave.first) for i in range(wave.new))]
            number += wave.new
            results = [Result(n, r, 1.2 if r else 0.6 - 0.3 * (n % 2), kwargs[n % 2] if not r else ()) for n, r in jobs]
            dropped += schedule.tell(wave, results)
        made[stop] = dropped
    assert made[False] == []
    assert made[True] == ([] if method == "hyperband" else [3])


def test_the_best_come_through_most_of_the_time() -> None:
    """Noise shrinks from rung to rung; a schedule that promoted at random would find a winner in the top 5 % one time in 20."""
    for method in METHODS:
        plan = Plan((1, 3, 9), 1 / 3, "maximize", cohort=9, ahead=2)
        hits = 0
        for seed in range(20):
            play = Play(method, plan, 81, seed)
            finals = {n: v for (n, rung), v in play.values.items() if rung == 2}
            winner = max(finals, key=lambda n: finals[n])
            hits += play.level[winner] >= sorted(play.level)[-4]
        assert hits >= 12, (method, hits)
