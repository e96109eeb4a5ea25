"""docs/tables.md: every column of every table, with its dtype; and what a table is after a trip through a file."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest

import mrnn_search as ms
from mrnn_search.results.columns import coefficients

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
SHARED = {"leaderboard": ["Candidate", "Coefficients"], "trials": ["Candidate", "Coefficients"], "curves": []}


def documented(section: str) -> dict[str, str]:
    """column -> dtype, of the tables under a heading."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w\[\]]+) \|([^|]*)\|([^|]*)\|$", text, flags=re.M)
    assert len(rows) == sum(line.startswith("| `") for line in text.splitlines())
    assert all(unit.strip() or meaning.strip() for _, _, unit, meaning in rows)
    return {name: dtype for name, dtype, _, _ in rows}


@pytest.mark.parametrize("table", ["leaderboard", "trials", "curves"])
def test_every_column_is_documented_with_its_dtype(fake_study: ms.Study, table: str) -> None:
    frame: pd.DataFrame = getattr(fake_study, table)()
    told = documented(table) | {name: dtype for section in SHARED[table] for name, dtype in documented(section).items()}
    assert told == {name: str(dtype) for name, dtype in frame.dtypes.items()}


def test_coefficients_are_those_of_the_registered_rules() -> None:
    assert set(documented("Coefficients")) == set(coefficients())


@pytest.mark.parametrize("table", ["leaderboard", "trials", "curves"])
def test_parquet_brings_every_dtype_back(fake_study: ms.Study, table: str) -> None:
    frame: pd.DataFrame = getattr(fake_study, table)()
    for rows in (frame, frame.iloc[:0]):
        buffer = io.BytesIO()
        rows.to_parquet(buffer, index=False)
        back = pd.read_parquet(buffer)
        pd.testing.assert_frame_equal(back, rows.reset_index(drop=True))
        assert [str(dtype) for dtype in back.dtypes] == [str(dtype) for dtype in frame.dtypes]
