"""Multi-fidelity over a whole study: which trials train to which rung next. Pure; nothing here knows a ledger or a clock.

A schedule is asked for **waves**, each a set of trials that may train at the same time, and is told what came of them, wave by wave
in the order in which they were asked for. With ``ahead`` waves on their way, a wave follows from the results of all but
the last ``ahead - 1`` before it: from the recipe and the values alone, never from who was done first. So the same study comes out of any
number of workers, under any executor, and of a run that was killed and repeated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .._registry import Registry
from .rungs import Standing, out_of_reach, quota

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Plan:
    """What a schedule decides by.

    Attributes:
        epochs: finished epochs at each rung; keep: share that goes on; direction: of the metric.
        cohort: new trials of a wave; ahead: waves on their way at the same time.
        top: how many of the best are wanted in the end.
        curve_stop: also drop trials whose learning curve can't reach the ``top`` best values at the last rung (`out_of_reach`).
    """

    epochs: tuple[int, ...]
    keep: float
    direction: Literal["maximize", "minimize"]
    cohort: int
    ahead: int = 1
    top: int = 1
    curve_stop: bool = False


@dataclass(frozen=True)
class Wave:
    """Trials to train next.

    Attributes:
        cohort: of the new trials: counts the waves that ask for some; of a wave without, whatever the schedule likes.
        new: how many new trials to ask for; first: the rung (its index) that they train to.
        on: (number of a trial, the rung that it trains to).
    """

    cohort: int
    new: int = 0
    first: int = 0
    on: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of one trial of a wave.

    Attributes:
        number: of the trial; rung: that it trained to.
        value: the best validation metric so far; None if it failed.
        curve: (epoch, validation metric) so far.
    """

    number: int
    rung: int
    value: float | None
    curve: Curve = ()


class Schedule(ABC):
    """Contract: `wave` and `tell` are called in an order that follows from earlier waves alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._finals = Standing(plan.direction)

    @property
    def last(self) -> int:
        """Index of the last rung."""
        return len(self.plan.epochs) - 1

    @abstractmethod
    def wave(self, room: int) -> Wave | None:
        """What trains next; None: nothing before more is told, or nothing at all if no wave is on its way.

        Args:
            room: new trials that the budget still has.
        """

    def tell(self, wave: Wave, results: Sequence[Result]) -> list[int]:
        """What came of ``wave``, whose new trials may be fewer than it asked for; returns the trials that are dropped."""
        for result in results:
            if result.value is not None and result.rung == self.last:
                self._finals.add(result.number, result.value)
        hopeless = [r for r in results if r.value is not None and r.rung < self.last and self._hopeless(r.curve)]
        return self._take(wave, [(r.number, r.rung, r.value) for r in results if r.value is not None], {r.number for r in hopeless})

    @abstractmethod
    def _take(self, wave: Wave, reached: Sequence[tuple[int, int, float]], hopeless: set[int]) -> list[int]:
        """(trial, rung, value) of every trial of ``wave`` that did not fail, and those of them to drop anyway; returns all to drop."""

    def _hopeless(self, curve: Curve) -> bool:
        if not self.plan.curve_stop or len(self._finals) < self.plan.top:
            return False
        return out_of_reach(curve, self._finals.value(self.plan.top - 1), self.plan.epochs[-1], self.plan.direction)

    @classmethod
    @abstractmethod
    def epochs(cls, plan: Plan, trials: int) -> int:
        """Lane-epochs that ``trials`` candidates take if none fails."""


schedules: Registry[type[Schedule]] = Registry("schedule", "mrnn_search.schedules")


def _cascade(plan: Plan, trials: int, first: int = 0) -> int:
    """Lane-epochs of ``trials`` that start at rung ``first`` and are thinned out at each rung."""
    alive, before, total = trials, 0, 0
    for stop in plan.epochs[first:]:
        total += alive * (stop - before)
        alive, before = quota(plan.keep, alive), stop
    return total


@dataclass
class _Cohort:
    """Trials that were asked for together, on their way from rung to rung."""

    first: int
    members: list[tuple[int, int]] = field(default_factory=list)  # (trial, the rung that it trains to next)
    away: bool = True  # a wave of it is on its way


@schedules.register("halving")
class Halving(Schedule):
    """Successive halving: a cohort waits at each rung until all of it is there, and its best go on.

    The best of everything that has reached this rung so far, not of the cohort alone: cohorts that come later are held against
    the earlier ones, which are not called back. Source: Jamieson and Talwalkar, AISTATS 2016 (arXiv 1502.07943).
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._open: dict[int, _Cohort] = {}  # by their numbers, in order
        self._asked = 0
        self._standings = {first: [Standing(plan.direction) for _ in plan.epochs] for first in self._firsts()}

    def _firsts(self) -> list[int]:
        """The rungs at which cohorts start, in turn."""
        return [0]

    def _size(self, first: int) -> int:
        """Of a cohort that starts at rung ``first``."""
        del first
        return self.plan.cohort

    def wave(self, room: int) -> Wave | None:
        for number, cohort in self._open.items():
            if not cohort.away:
                cohort.away = True
                return Wave(number, on=tuple(cohort.members))
        if not room or len(self._open) >= self.plan.ahead:
            return None
        firsts = self._firsts()
        number, first = self._asked, firsts[self._asked % len(firsts)]
        self._open[number] = _Cohort(first)
        self._asked += 1
        return Wave(number, min(self._size(first), room), first)

    def _take(self, wave: Wave, reached: Sequence[tuple[int, int, float]], hopeless: set[int]) -> list[int]:
        cohort = self._open[wave.cohort]
        standings = self._standings[cohort.first]
        for number, rung, value in reached:
            standings[rung].add(number, value)
        cohort.away, cohort.members = False, []
        dropped = []
        for number, rung, value in reached:
            if rung == self.last:
                continue
            if number not in hopeless and standings[rung].keeps(number, value, self.plan.keep):
                cohort.members.append((number, rung + 1))
            else:
                dropped.append(number)
        if not cohort.members:
            del self._open[wave.cohort]
        return dropped

    @classmethod
    def epochs(cls, plan: Plan, trials: int) -> int:
        return _cascade(plan, trials)


@schedules.register("hyperband")
class Hyperband(Halving):
    """Cohorts that start at the first rung, at the second, … in turn: a hedge against early rungs that mislead.

    A cohort that starts later is smaller, so that each takes about the same number of epochs, and is held against cohorts of
    its own kind only. Source: Li et al., JMLR 18 (2018), arXiv 1603.06560.
    """

    def _firsts(self) -> list[int]:
        return list(range(len(self.plan.epochs)))

    def _size(self, first: int) -> int:
        return self._sizes(self.plan)[first]

    @staticmethod
    def _sizes(plan: Plan) -> list[int]:
        whole = _cascade(plan, plan.cohort)
        shares = [_cascade(plan, 10**6, first) / 10**6 for first in range(len(plan.epochs))]
        return [plan.cohort, *(max(1, round(whole / share)) for share in shares[1:])]

    @classmethod
    def epochs(cls, plan: Plan, trials: int) -> int:
        sizes, total, turn = cls._sizes(plan), 0, 0
        each = [_cascade(plan, size, first) for first, size in enumerate(sizes)]
        rounds = trials // sum(sizes)
        total, trials = rounds * sum(each), trials - rounds * sum(sizes)
        while trials > 0:
            size = min(sizes[turn], trials)
            total, trials, turn = total + _cascade(plan, size, turn), trials - size, turn + 1
        return total


@schedules.register("asha")
class Asha(Schedule):
    """Asynchronous successive halving in waves: whoever is among the best of a rung goes on, now or later.

    A wave is filled with the trials that can be promoted, from the highest rung down, and then with new ones; a trial that is not
    promoted waits, for a rung's quota grows with what arrives there. Source: Li et al., MLSys 2020 (arXiv 1810.05934); there
    a worker asks when it is free, here ``ahead`` waves are on their way, so that the outcome does not depend on timing.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._all = [Standing(plan.direction) for _ in plan.epochs]
        self._waiting = [Standing(plan.direction) for _ in plan.epochs]
        self._values: dict[int, float] = {}  # of trials that wait, where they wait
        self._asked = 0
        self._away = 0

    def wave(self, room: int) -> Wave | None:
        on = self._promoted(rounded_up=False)
        if not on and not room and not self._away:
            on = self._promoted(rounded_up=True)  # nobody comes any more who could fill the quotas
        wave = Wave(self._asked, min(self.plan.cohort - len(on), room), on=tuple(on))
        if not (wave.new or on):
            return None
        self._asked += bool(wave.new)
        self._away += 1
        return wave

    def _promoted(self, rounded_up: bool) -> list[tuple[int, int]]:
        on: list[tuple[int, int]] = []
        for rung in reversed(range(self.last)):
            count = len(self._all[rung])
            best = quota(self.plan.keep, count) if rounded_up else int(self.plan.keep * count + 1e-9)
            for number in self._waiting[rung].among(best, self._all[rung])[: self.plan.cohort - len(on)]:
                self._waiting[rung].remove(number, self._values.pop(number))
                on.append((number, rung + 1))
        return on

    def _take(self, wave: Wave, reached: Sequence[tuple[int, int, float]], hopeless: set[int]) -> list[int]:
        self._away -= 1
        for number, rung, value in reached:
            self._all[rung].add(number, value)
            if rung < self.last and number not in hopeless:
                self._waiting[rung].add(number, value)
                self._values[number] = value
        return sorted(hopeless)

    @classmethod
    def epochs(cls, plan: Plan, trials: int) -> int:
        return _cascade(plan, trials)
