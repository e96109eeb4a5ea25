"""Ranks over benchmarks, against the worked example of Demsar (2006), "Statistical comparisons of classifiers", JMLR 7."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, rankdata

from mrnn_search.results.ranking import COLUMNS, cliques, critical_difference, friedman_test, rank_over_benchmarks

CELLS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
# Table 6, areas under the ROC curve on 14 data sets.
AUC = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975],  # printed as equal, ranked 2 and 3
    [0.957, 0.978, 0.946, 0.970],
]


def frame(values: list[list[float]], direction: str = "maximize") -> pd.DataFrame:
    rows = [(f"data {i}", CELLS[j], value, direction) for i, row in enumerate(values) for j, value in enumerate(row)]
    return pd.DataFrame(rows, columns=["benchmark", "cell", "mean", "direction"])


def test_demsars_worked_example() -> None:
    got = rank_over_benchmarks(frame(AUC))
    table = got.table.set_index("cell")
    assert table["mean_rank"].to_dict() == pytest.approx({"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=5e-4)
    assert table.index.tolist() == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"] and got.benchmarks == 14
    plain = 12 * 14 / (4 * 5) * (sum(r**2 for r in table["mean_rank"]) - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)  # the paper's, which has no correction for ties
    assert got.friedman == pytest.approx(friedmanchisquare(*np.array(AUC).T).statistic) and got.friedman > plain
    assert got.p_value == pytest.approx(0.02, abs=0.01)  # the paper: above the 0.05 value of F(3, 39)
    assert got.cd == pytest.approx(1.25, abs=0.005)
    assert rank_over_benchmarks(frame(AUC), alpha=0.10).cd == pytest.approx(1.12, abs=0.005)
    # The paper: nothing differs at 0.05; at 0.10 C4.5 differs from the best two, and C4.5+cf belongs to either group.
    assert got.groups == (tuple(table.index),) and table["tied_with_best"].all()
    assert rank_over_benchmarks(frame(AUC), alpha=0.10).groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5"))


# Demsar (2006), table 5(a): critical values of the two-tailed Nemenyi test.
@pytest.mark.parametrize(("k", "q_05", "q_10"), [(2, 1.960, 1.645), (3, 2.343, 2.052), (5, 2.728, 2.459), (10, 3.164, 2.920)])
def test_critical_values_are_those_of_the_table(k: int, q_05: float, q_10: float) -> None:
    scale = math.sqrt(k * (k + 1) / (6 * 20))
    assert critical_difference(k, 20) / scale == pytest.approx(q_05, abs=1.1e-3)
    assert critical_difference(k, 20, 0.10) / scale == pytest.approx(q_10, abs=1.1e-3)


# Siegel & Castellan (1988), table M: exact upper tails of Friedman's statistic.
@pytest.mark.parametrize(("n", "value", "tail"), [(3, 6.0, 0.028), (4, 6.5, 0.042), (4, 8.0, 0.0046)])
def test_p_value_is_the_exact_one_of_few_benchmarks(n: int, value: float, tail: float) -> None:
    rows = [np.array(p, dtype=float) for p in itertools.permutations([1, 2, 3])]
    picked = next(r for r in itertools.product(rows, repeat=n) if friedman_test(np.array(r), 1)[0] == pytest.approx(value))
    assert friedman_test(np.array(picked))[1] == pytest.approx(tail, abs=0.006)


def test_friedman_is_scipys_with_and_without_ties() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.integers(0, 6, size=(7, 4)).astype(float)
        assert friedman_test(rankdata(values, axis=1), 9)[0] == pytest.approx(friedmanchisquare(*values.T).statistic)
    assert friedman_test(np.full((4, 3), 2.0)) == (0.0, 1.0)


def test_scores_and_directions() -> None:
    values = [[0.9, 0.8, 0.6, 0.7], [10.0, 30.0, 20.0, 20.0]]
    rows = frame(values)
    rows.loc[rows["benchmark"] == "data 1", "direction"] = "minimize"
    got = rank_over_benchmarks(rows)
    assert got.table.iloc[0]["cell"] == "C4.5" and got.table["score"].tolist()[0] == 1.0 and got.table["first"].tolist() == [2, 0, 0, 0]
    assert got.scores.loc["C4.5+m"].tolist() == pytest.approx([2 / 3, 0.0])
    assert got.ranks["data 1"].to_dict() == {"C4.5": 1.0, "C4.5+m": 4.0, "C4.5+cf": 2.5, "C4.5+m+cf": 2.5}
    assert {name: str(dtype) for name, dtype in got.table.dtypes.items()} == COLUMNS and "screening" in got.note
    shuffled = rank_over_benchmarks(rows.sample(frac=1, random_state=0)).table.set_index("cell")
    pd.testing.assert_frame_equal(
        shuffled.sort_index()[["mean_rank", "score"]], got.table.set_index("cell").sort_index()[["mean_rank", "score"]]
    )


def test_a_cell_that_diverged_is_last_and_scores_nothing() -> None:
    got = rank_over_benchmarks(frame([[math.nan, 0.8, 0.6, math.inf], [0.1, 0.2, 0.3, 0.4]]))
    assert got.ranks["data 0"].to_dict() == {"C4.5+m": 1.0, "C4.5+cf": 2.0, "C4.5": 3.5, "C4.5+m+cf": 3.5}
    assert got.scores["data 0"].to_dict() == {"C4.5+m": 1.0, "C4.5+cf": 0.0, "C4.5": 0.0, "C4.5+m+cf": 0.0}


def test_too_little_to_test() -> None:
    one = rank_over_benchmarks(frame(AUC[:1]))
    assert math.isnan(one.cd) and math.isnan(one.p_value) and one.table["tied_with_best"].all() and "no ranks to test" in one.note
    assert one.table["rank"].tolist() == [1, 2, 3, 4] and one.groups == (tuple(one.table["cell"]),)
    equal = rank_over_benchmarks(frame([[0.5] * 4] * 3))
    assert equal.p_value == 1.0 and equal.table["score"].tolist() == [1.0] * 4 and equal.table["first"].tolist() == [3] * 4


def test_groups_are_the_bars_of_the_plot() -> None:
    assert cliques("abcd", [1, 2, 3.5, 4], 1.5) == (("a", "b"), ("b", "c"), ("c", "d"))
    assert cliques("abcd", [1, 1.2, 1.4, 4], 1.0) == (("a", "b", "c"), ("d",))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.drop(columns="mean"), "no column mean"),
        (lambda f: f.iloc[1:], 'cell "C4.5" was not measured on data 0'),
        (lambda f: pd.concat([f, f.iloc[:1]]), 'cell "C4.5" is there twice on data 0'),
        (lambda f: f.assign(direction="up"), "data 0 has direction up"),
        (lambda f: f.assign(direction=["maximize", "minimize"] * 28), "data 0 has direction maximize, minimize"),
    ],
)
def test_what_cannot_be_ranked_is_refused(change, told) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=told.replace("+", r"\+")):
        rank_over_benchmarks(change(frame(AUC)))
    with pytest.raises(ValueError, match="alpha = 5"):
        rank_over_benchmarks(frame(AUC), alpha=5)
