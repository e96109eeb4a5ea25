"""The columns of the tables and their dtypes; `docs/tables.md` says what each means. Plain types only, one meaning a column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ..cells.rules.base import STANDARD, rules
from ..search.ledger import Reader
from ..search.replay import uncollected

# Column -> dtype; what a candidate is. rule: a name or a formula. learned: "mu,beta:unit" (without a kind: one number a layer).
# gates: what the rule acts on, "all" or letters as "ifo".
CANDIDATE = {
    "candidate_id": "str",
    "cell_id": "str",
    "name": "str",
    "base": "str",
    "rule": "str",
    "learned": "str",
    "options": "str",
    "scope": "str",
    "gates": "str",
    "drive_bias": "str",
    "hidden_size": "int64",
    "num_layers": "int64",
    "init": "str",
    "optimizer": "str",
    "lr": "float64",
    "lr_orthogonal": "float64",
    "clip": "float64",
    "dropout": "float64",
    "batch_size": "int64",
}
TRIALS = {
    "number": "int64",
    "group": "str",
    "state": "str",
    **CANDIDATE,
    "value": "float64",
    "best_epoch": "Int64",
    "rung": "int64",
    "epochs": "int64",
    "params": "Int64",
    "seconds": "float64",
    "seed": "int64",
    "cohort": "int64",
    "execution": "str",
    "device": "str",
    "worker": "str",
    "started": "datetime64[us]",
    "finished": "datetime64[us]",
    "error": "str",
}
CURVES = {
    "group": "str",
    "trial": "int64",
    "cell_id": "str",
    "candidate_id": "str",
    "name": "str",
    "seed": "int64",
    "rung": "int64",
    "epoch": "int64",
    "step": "int64",
    "metric": "str",
    "value": "float64",
}
LEADERBOARD = {
    "rank": "int64",
    **CANDIDATE,
    "params": "int64",
    "val_mean": "float64",
    "val_low": "float64",
    "val_high": "float64",
    "test_mean": "float64",
    "test_low": "float64",
    "test_high": "float64",
    "seeds": "int64",
    "seeds_failed": "int64",
    "evidence": "str",
    "tied_with_best": "bool",
    "p_best": "float64",
    "prob_best": "float64",
    "diff_mean": "float64",
    "diff_low": "float64",
    "diff_high": "float64",
    "p_value": "float64",
    "threshold": "float64",
    "epochs_to_threshold": "Int64",
    "seconds_to_threshold": "float64",
    "curve_mean": "float64",
    "epochs": "int64",
    "seconds": "float64",
    "is_baseline": "bool",
    "role": "str",
}


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame that has every column with its type, also when there are no rows; a number that a row lacks is NaN."""
    with uncollected():
        lines = [tuple(map(row.get, columns)) for row in rows]
        values = zip(*lines, strict=True) if lines else iter([()] * len(columns))
        series = {name: pd.Series(value, dtype=dtype) for (name, dtype), value in zip(columns.items(), values, strict=True)}
    return pd.DataFrame(series)


def coefficients() -> list[str]:
    """Every coefficient that a registered rule or a formula can have: one column each, NaN where a rule has none of that name."""
    return sorted({name for rule in rules for name in rules[rule].coefficients} | STANDARD.keys())


def own_coefficients(ledger: Reader) -> list[str]:
    """Those of the rules that the study itself brings: they are registered once it is opened."""
    return sorted({name for rule in ledger.recipe.get("space", {}).get("rules", {}) for name in rules[rule].coefficients})


def columns_of(name: str, own: Iterable[str]) -> list[str]:
    """The columns of a table in this process; ``own``: `own_coefficients` of its study."""
    if name == "curves":
        return list(CURVES)
    return [*(TRIALS if name == "trials" else LEADERBOARD), *sorted({*coefficients(), *own})]
