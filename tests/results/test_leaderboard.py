"""The columns that say what a candidate is, for every kind of cell."""

from __future__ import annotations

import io

import pandas as pd

from mrnn_search import Candidate, CellSpec
from mrnn_search.cells.rules.base import STANDARD
from mrnn_search.results.columns import CANDIDATE, coefficients, frame_of
from mrnn_search.results.leaderboard import _candidate

SPECS = [
    CellSpec("lstm"),
    CellSpec(
        "lstm", "adam", {"mu": 0.5, "beta": 0.7}, {"mu": "scalar", "beta": "unit", "epsilon": "input"}, gates="gi", drive_bias="outside"
    ),
    CellSpec("gru", "heavy_ball", scope="hidden"),
    CellSpec("rnn", "nesterov_released", {"restart": 5}),
    CellSpec("lstm", "m(tau)/sqrt(n(0.99) + 1e-8)", {"tau": 0.3}, scope="preactivation", gates="g"),
]


def test_every_kind_of_cell_is_plain_text_and_numbers() -> None:
    rows = [{"candidate_id": c.candidate_id, "cell_id": c.spec.cell_id, **_candidate(c)} for c in map(Candidate, SPECS)]
    columns = {**CANDIDATE, **dict.fromkeys(coefficients(), "float64")}
    table = frame_of(rows, columns)
    assert "object" not in {str(dtype) for dtype in table.dtypes} and set(STANDARD) <= set(table.columns)
    assert table["rule"].tolist() == ["plain", "adam", "heavy_ball", "nesterov_released", "ema(u, tau) / sqrt(ema(u^2, 0.99) + 1e-08)"]
    assert table["learned"].tolist() == ["", "beta:unit,epsilon:input,mu", "", "", ""]
    assert table["scope"].tolist() == ["drive", "drive", "hidden", "preactivation", "preactivation"]
    assert table["gates"].tolist() == ["all", "ig", "all", "all", "g"]
    assert table["drive_bias"].tolist() == ["inside", "outside", "inside", "inside", "inside"]
    assert table.loc[4, "tau"] == 0.3 and table.loc[3, "restart"] == 5.0 and table["tau"].notna().sum() == 1
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    pd.testing.assert_frame_equal(pd.read_parquet(buffer), table)
    assert frame_of([], columns).dtypes.equals(table.dtypes)
