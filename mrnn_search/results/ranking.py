"""Cells over several benchmarks: mean rank, normalised score, and which of them cannot be told apart. Imports nothing of ours.

Friedman's test asks whether any of k cells differs over N benchmarks; Nemenyi's critical difference (CD) says how far two mean ranks
must lie apart. Source: Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

ALPHA = 0.05
FEW = 5  # benchmarks below which Friedman's and Nemenyi's tests, which hold for many, are too few for a claim
RESAMPLES = 9_999
COLUMNS = {"rank": "int64", "cell": "str", "mean_rank": "float64", "score": "float64", "first": "int64", "tied_with_best": "bool"}


@dataclass(frozen=True)
class Ranking:
    """Cells ranked over benchmarks.

    Attributes:
        table: one row a cell, best first, with `COLUMNS`. ``mean_rank``: 1 is best on every benchmark, ties share the mean of their
            places; ``score``: mean over the benchmarks of (value - worst) / (best - worst), 1 is best on every one; ``first``: on how
            many it is best, ties included; ``tied_with_best``: its mean rank is within ``cd`` of the best.
        ranks: cell x benchmark, the rank on each; rows in the table's order.
        scores: the same of the normalised score.
        cd: the difference of two mean ranks above which two cells differ at ``alpha`` (Nemenyi); NaN for one benchmark or one cell.
        groups: every largest set of cells, best first, whose mean ranks span no more than ``cd``: the bars of a critical-difference plot.
        friedman: Friedman's chi-square, corrected for ties; p_value: by permutation. Both NaN below two cells, or two benchmarks.
        alpha: the error rate that ``cd`` holds over all pairs.
    """

    table: pd.DataFrame
    ranks: pd.DataFrame
    scores: pd.DataFrame
    cd: float
    groups: tuple[tuple[str, ...], ...]
    friedman: float
    p_value: float
    alpha: float

    @property
    def benchmarks(self) -> int:
        """How many."""
        return len(self.ranks.columns)

    @property
    def note(self) -> str:
        """What the ranks allow one to say, in one sentence."""
        if math.isnan(self.cd):
            return "One benchmark, or one cell: there are no ranks to test."
        tied = self.table.loc[self.table["tied_with_best"], "cell"].tolist()
        few = f"; fewer than {FEW} benchmarks make this screening, not a result" if self.benchmarks < FEW else ""
        best = f"{tied[0]} ranks first" if len(tied) == 1 else f"{len(tied)} of {len(self.table)} cells cannot be told apart from the first"
        return (
            f"{best} over {self.benchmarks} benchmarks (Friedman p = {self.p_value:.2g}, "
            f"critical difference {self.cd:.2f} of mean ranks at {self.alpha:.0%}){few}."
        )


def rank_over_benchmarks(results: pd.DataFrame, alpha: float = ALPHA) -> Ranking:
    """Rank cells that were measured on the same benchmarks.

    Args:
        results: one row a benchmark and cell: ``benchmark``, ``cell`` (str), ``mean`` (float: the metric's mean over seeds; not finite
            where the cell diverged: it is then last, and scores 0), ``direction`` ("maximize" or "minimize", one a benchmark). Other
            columns are ignored. Of equal names the first seen goes first.
        alpha: error rate of ``cd``, 0 < alpha < 1.

    Raises:
        ValueError: a column or a (benchmark, cell) is missing or there twice, a benchmark has an unknown direction or two of them, or
            ``alpha`` is outside its range.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha}, allowed 0 < alpha < 1")
    merit = _merit(results)
    ranks = merit.rank(ascending=False, method="average")
    scores = _scores(merit)
    order = ranks.mean(axis=1).sort_values(kind="stable").index
    ranks, scores = ranks.loc[order], scores.loc[order]
    k, n = ranks.shape
    cd = critical_difference(k, n, alpha) if k > 1 and n > 1 else math.nan
    mean_ranks = ranks.mean(axis=1)
    table = pd.DataFrame(
        {
            "rank": range(1, k + 1),
            "cell": list(order),
            "mean_rank": mean_ranks.to_numpy(),
            "score": scores.mean(axis=1).to_numpy(),
            "first": merit.loc[order].eq(merit.max()).sum(axis=1).to_numpy(),
            "tied_with_best": ~(mean_ranks - mean_ranks.min() > cd).to_numpy(),  # nothing is told apart without a cd
        }
    ).astype(COLUMNS)
    friedman, p_value = friedman_test(ranks.to_numpy().T) if k > 1 and n > 1 else (math.nan, math.nan)
    return Ranking(table, ranks, scores, cd, cliques(list(order), mean_ranks.tolist(), cd), friedman, p_value, alpha)


def critical_difference(cells: int, benchmarks: int, alpha: float = ALPHA) -> float:
    """CD = q_alpha sqrt(k (k + 1) / (6 N)), q_alpha that of the studentised range over sqrt(2).

    Source: Demsar (2006), p. 12 and table 5.
    """
    from scipy.stats import studentized_range  # takes a second to import

    q = float(studentized_range.ppf(1 - alpha, cells, math.inf)) / math.sqrt(2)
    return q * math.sqrt(cells * (cells + 1) / (6 * benchmarks))


def friedman_test(ranks: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Friedman's chi-square of ranks, corrected for ties, and its p-value.

    The p-value is that of permutations within each benchmark, because the distributions of chi-square, and of Iman and Davenport's F,
    are those of many benchmarks: where three agree on everything, the latter's p-value is 0.

    Args:
        ranks: (N benchmarks, k cells), ties with their mean rank.
        resamples: permutations, from a fixed seed: the same ranks give the same p-value.

    Returns:
        chi-square and p-value; 0 and 1 where every benchmark ties all cells.

    Source: Demsar (2006), p. 11; with ties Conover (1999), Practical Nonparametric Statistics, section 5.8.
    """
    n, k = ranks.shape
    spread = float((ranks**2).sum() - n * k * (k + 1) ** 2 / 4)
    if spread < 1e-9:
        return 0.0, 1.0
    # Of ranks that are permuted within rows only the sum over columns changes.
    shuffled = np.random.default_rng(0).permuted(np.broadcast_to(ranks, (resamples, n, k)), axis=2)
    found, drawn = (((r.sum(axis=-2) - n * (k + 1) / 2) ** 2).sum(axis=-1) for r in (ranks, shuffled))
    return (k - 1) * float(found) / spread, (1 + int((drawn >= found - 1e-9).sum())) / (1 + resamples)


def cliques(cells: Sequence[str], mean_ranks: Sequence[float], cd: float) -> tuple[tuple[str, ...], ...]:
    """Every largest run of ``cells`` (best first) whose mean ranks span no more than ``cd``; all of them, where that is NaN."""
    found: list[tuple[int, int]] = []
    for start, low in enumerate(mean_ranks):
        end = max(i for i, high in enumerate(mean_ranks) if i >= start and not high - low > cd)
        if not found or end > found[-1][1]:
            found.append((start, end))
    return tuple(tuple(cells[start : end + 1]) for start, end in found)


def _merit(results: pd.DataFrame) -> pd.DataFrame:
    """Cell x benchmark, in the order in which they are seen, larger is better, -inf where a cell diverged."""
    missing = {"benchmark", "cell", "mean", "direction"} - set(results.columns)
    if missing:
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    twice = results[results.duplicated(["benchmark", "cell"])]
    if len(twice):
        raise ValueError(f'cell "{twice["cell"].iloc[0]}" is there twice on {twice["benchmark"].iloc[0]}')
    signs = {}
    for benchmark, rows in results.groupby("benchmark", sort=False):
        directions = rows["direction"].unique().tolist()
        if directions not in (["maximize"], ["minimize"]):
            raise ValueError(f"{benchmark} has direction {', '.join(map(str, directions))}; allowed: maximize or minimize, one a benchmark")
        signs[benchmark] = 1.0 if directions == ["maximize"] else -1.0
    there = set(zip(results["benchmark"], results["cell"], strict=True))
    cells = results["cell"].unique()
    for benchmark in signs:
        absent = [cell for cell in cells if (benchmark, cell) not in there]
        if absent:
            raise ValueError(f'cell "{absent[0]}" was not measured on {benchmark}; ranks need every cell on every benchmark')
    wide = results.pivot(index="cell", columns="benchmark", values="mean").loc[list(cells), list(signs)].astype("float64")
    merit = wide.where(np.isfinite(wide), math.nan) * pd.Series(signs)
    return merit.fillna(-math.inf)[list(signs)]


def _scores(merit: pd.DataFrame) -> pd.DataFrame:
    """(value - worst) / (best - worst) on each benchmark, over the cells that did not diverge, which score 0; 1 where all are equal."""
    values = merit.to_numpy()
    finite = np.where(np.isfinite(values), values, math.nan)
    low, high = np.fmin.reduce(finite), np.fmax.reduce(finite)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(high > low, (finite - low) / (high - low), 1.0)
    return pd.DataFrame(np.where(np.isnan(finite), 0.0, scores), merit.index, merit.columns)
