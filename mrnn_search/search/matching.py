"""Hidden sizes that give every candidate about the same number of parameters (`match_parameters` of a recipe).

A rule that adds nothing and one that learns a gate of its own are then compared at equal size, and so is each with its baseline.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from .._registry import InputError
from ..cells.describe import num_parameters
from ..cells.spec import Candidate

NEAR = 0.02  # share of the target within which sizes count as equal (evaluation: "agree within 2 %")


def count_parameters(candidate: Candidate, input_size: int, output_size: int, vocabulary: int | None = None) -> int:
    """How many numbers of ``candidate`` train: its layers, its readout, and the table that embeds a vocabulary.

    What `mrnn_search.engine.model.SequenceModel.num_parameters` counts, without making one.
    """
    widths = [input_size, *[candidate.hidden_size] * (candidate.num_layers - 1)]
    layers = sum(num_parameters(candidate.spec, width, candidate.hidden_size) for width in widths)
    return layers + (candidate.hidden_size + 1) * output_size + (vocabulary or 0) * input_size


@dataclass(frozen=True)
class Matching:
    """Chooses hidden sizes.

    Attributes:
        target: parameters that each candidate is to have.
        input_size, output_size, vocabulary: of the benchmark.
    """

    target: int
    input_size: int
    output_size: int
    vocabulary: int | None = None

    @classmethod
    def of(cls, target: int, facts: Mapping[str, Any]) -> Matching:
        """For a benchmark with these facts (``meta["benchmark"]`` of a ledger)."""
        return cls(target, facts["input_size"], facts["output_size"], facts.get("vocabulary"))

    def count(self, candidate: Candidate) -> int:
        """Its parameters."""
        return count_parameters(candidate, self.input_size, self.output_size, self.vocabulary)

    def __call__(self, candidate: Candidate) -> Candidate:
        """``candidate`` with the hidden size whose number of parameters is nearest to the target; of two the smaller.

        Raises:
            InputError: with a single hidden unit it has more than the target, by over 2 %.
        """
        return replace(candidate, hidden_size=_nearest(self, replace(candidate, hidden_size=1)))

    def deviation(self, candidate: Candidate) -> float:
        """By what share its parameters miss the target; negative: too few."""
        return self.count(candidate) / self.target - 1

    def check(self, candidates: Iterable[Candidate]) -> None:
        """Raises:
        InputError: one of them cannot be brought to the target.
        """
        for candidate in candidates:
            self(candidate)


@lru_cache(maxsize=65_536)
def _nearest(matching: Matching, candidate: Candidate) -> int:
    """The count rises with the hidden size: doubled past the target, then bisected."""

    def count(hidden: int) -> int:
        return matching.count(replace(candidate, hidden_size=hidden))

    least = count(1)
    if least > matching.target * (1 + NEAR):
        found = f"{candidate.spec.name} has {least:,} parameters with one hidden unit, {matching.target:,} are asked for"
        raise InputError(found, "match_parameters")
    above = 1
    while count(above) < matching.target:
        above *= 2
    above = bisect_left(range(above + 1), matching.target, lo=1, key=count)
    below = max(1, above - 1)
    return min((below, above), key=lambda hidden: (abs(count(hidden) - matching.target), hidden))
