"""What the engine is meant to reach, and whether it does. All of it is about one thread: see `mrnn_search.bench.engine`."""

from __future__ import annotations

from dataclasses import dataclass

from ..cells.rules.base import find_rule
from .setting import Setting

# Shape -> how much less time the engine takes than the loop, per candidate and update, with momentum on an lstm.
MOMENTUM_LSTM = {"A": 1.7, "B": 1.7, "C": 3.7, "D": 4.2, "E": 5.4}
ELSEWHERE = 0.75  # the share of it that every other rule and base is to reach
BASES = ("lstm", "gru", "orthogonal")
EVEN = 0.15  # processes of one thread and one process of many threads are to differ by no more


@dataclass(frozen=True)
class Verdict:
    """One target and what was measured.

    Attributes:
        what: "engine vs loop" or "threads vs processes".
        low, high: bounds of what passes; ``high`` None: there is none.
        measured: a median of ratios, and the K that has it.
    """

    what: str
    base: str
    rule: str
    shape: str
    lanes: int
    low: float
    high: float | None
    measured: float

    @property
    def passed(self) -> bool:
        return self.low <= self.measured and (self.high is None or self.measured <= self.high)


def target(setting: Setting, shape: str, threads: int) -> float | None:
    """How many times less time than the loop the engine is to take; None where nothing is promised."""
    measured_as_promised = threads == 1 and setting.device == "cpu" and setting.loss == "last"
    if shape not in MOMENTUM_LSTM or setting.base not in BASES or not measured_as_promised:
        return None
    program = find_rule(setting.rule).program
    momentum = program.linear and not program.plain
    return MOMENTUM_LSTM[shape] * (1.0 if momentum and setting.base == "lstm" else ELSEWHERE)
