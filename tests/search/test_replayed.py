"""`analysis/03_rungs.py` in a short form: real studies on a grid whose every cell was trained in full."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "analysis" / "03_rungs.py"


@pytest.fixture(scope="module")
def rungs() -> Any:
    found = importlib.util.spec_from_file_location("rungs_analysis", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["rungs_analysis"] = module
    found.loader.exec_module(module)
    return module


def test_the_grid_is_whole(rungs: Any) -> None:
    frame = pd.read_parquet(rungs.DATA)
    assert frame.groupby("candidate_id")["epoch"].apply(list).map(lambda epochs: epochs == list(range(1, 13))).all()
    assert frame["candidate_id"].nunique() == 360 and frame["value"].between(0, 1).all()


@pytest.mark.parametrize("name", ["halving, half of the cells", "asha, half of the cells"])
def test_halving_finds_a_cell_of_the_best_for_a_fifth_of_the_epochs(rungs: Any, name: str) -> None:
    curves = rungs.read_curves()
    setting = next(s for s in rungs.SETTINGS if s.name == name)
    found = [rungs.replay(setting, curves, seed) for seed in range(5)]
    assert max(cost for cost, _ in found) <= 0.2
    assert statistics.median(rank for _, rank in found) <= 0.02
