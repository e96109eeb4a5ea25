"""Two confirmed cells side by side: scores by seed, their paired difference, and every test of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .intervals import studentised_bootstrap
from .paired_tests import permutation_p, smallest_p, wilcoxon_p
from .selection import oriented, probability_of_best
from .stats import Difference, Direction, common, paired_difference, verdict

Scores = Mapping[int, float]  # seed -> metric
NAN = float("nan")


@dataclass(frozen=True)
class Paired:
    """``a - b`` on one split, over the seeds that both have.

    Attributes:
        difference: mean, Student's interval, p-value of the paired t-test.
        bootstrap_low, bootstrap_high: 95 % interval by the studentised bootstrap; NaN for one pair.
        permutation_p: of the exact permutation test; smallest_p: no p-value of so few pairs can be smaller.
        wilcoxon_p: of the exact signed-rank test.
        prob_a_better: share of bootstrap resamples of the seeds in which ``a`` has the better mean.
    """

    difference: Difference
    bootstrap_low: float
    bootstrap_high: float
    permutation_p: float
    smallest_p: float
    wilcoxon_p: float
    prob_a_better: float

    @classmethod
    def of(cls, a: Scores, b: Scores, direction: Direction) -> Paired:
        x, y = common(a, b)
        enough = x.size > 1 and bool(np.isfinite(x - y).all())
        low, high = studentised_bootstrap(x - y) if enough else (NAN, NAN)
        better = probability_of_best(oriented(np.stack([x, y]), direction))[0]
        tests = permutation_p(x, y), smallest_p(x.size), wilcoxon_p(x, y)
        return cls(paired_difference(a, b), float(low), float(high), *tests, float(better))


@dataclass(frozen=True)
class SeedScores:
    """The scores of one seed; NaN: that cell has no complete run of it."""

    seed: int
    test_a: float
    test_b: float
    validation_a: float
    validation_b: float


@dataclass(frozen=True)
class Comparison:
    """Two confirmed cells, ``a`` against ``b``.

    Attributes:
        a, b: what they are called.
        metric: what `difference` is of ("test accuracy").
        difference: that of `test`.
        verdict: what it allows one to say, if this pair was chosen before its scores were seen: it is corrected for no other.
        test, validation: the two splits.
        seeds: every seed that either has.
    """

    a: str
    b: str
    metric: str
    difference: Difference
    verdict: str
    test: Paired
    validation: Paired
    seeds: tuple[SeedScores, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([f"a  {self.a}", f"b  {self.b}", self.verdict, "", *self._tests(), "", *self._by_seed()])

    def _tests(self) -> Iterator[str]:
        splits = (self.test, self.validation)
        n = self.difference.n
        rows = {
            "": ("test", "validation"),
            "mean of a - b": [f"{s.difference.mean:+z.6f}" for s in splits],
            "95 % interval, Student": [_span(s.difference.low, s.difference.high) for s in splits],
            "95 % interval, studentised bootstrap": [_span(s.bootstrap_low, s.bootstrap_high) for s in splits],
            "p, paired t-test": [f"{s.difference.p_value:.4f}" for s in splits],
            f"p, exact permutation ({n} pairs: {self.test.smallest_p:.2g} or more)": [f"{s.permutation_p:.4f}" for s in splits],
            "p, Wilcoxon's signed ranks": [f"{s.wilcoxon_p:.4f}" for s in splits],
            "probability that a is better": [f"{s.prob_a_better:.3f}" for s in splits],
        }
        yield from _aligned([(name, *values) for name, values in rows.items()])

    def _by_seed(self) -> Iterator[str]:
        head = ("seed", "test a", "test b", "a - b", "validation a", "validation b", "a - b")
        rows = [(str(s.seed), *_three(s.test_a, s.test_b), *_three(s.validation_a, s.validation_b)) for s in self.seeds]
        yield from _aligned([head, *rows])


def compared(
    names: tuple[str, str], validation: tuple[Scores, Scores], test: tuple[Scores, Scores], metric: str, direction: Direction
) -> Comparison:
    """The comparison of two cells.

    Args:
        names: of a and b.
        validation, test: seed -> metric, of a and b.
        metric: the benchmark's ("accuracy").
        direction: "minimize" where less is better.
    """
    on_test, on_validation = Paired.of(*test, direction), Paired.of(*validation, direction)
    every = sorted(set().union(*validation, *test))
    seeds = tuple(SeedScores(seed, *(of.get(seed, NAN) for of in (*test, *validation))) for seed in every)
    said = verdict(on_test.difference, direction, *names, f"test {metric}")
    return Comparison(*names, f"test {metric}", on_test.difference, said, on_test, on_validation, seeds)


def _span(low: float, high: float) -> str:
    return "–" if low != low else f"{low:z.6f} to {high:z.6f}"


def _three(a: float, b: float) -> list[str]:
    return ["–" if value != value else f"{value:{form}}" for value, form in ((a, ".6g"), (b, ".6g"), (a - b, "+z.4g"))]


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()
