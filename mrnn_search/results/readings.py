"""The ledger's account of the test split: who read it, when, and for which run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pandas as pd

from ..cells.spec import Candidate
from ..search.ledger import CONFIRMATION, Reader
from .columns import frame_of
from .leaderboard import rungs_of

READINGS = {
    "run": "int64",
    "role": "str",
    "candidate_id": "str",
    "cell_id": "str",
    "name": "str",
    "seed": "int64",
    "read": "datetime64[us]",
    "pack": "str",
    "worker": "str",
    "split": "str",
    "forked_from": "str",
}


def readings_frame(ledger: Reader) -> pd.DataFrame:
    """Every recorded reading of the test split, one row for each confirmed (cell, seed).

    What is counted: test values in the ledger. A pack that is run again, because its worker or the head died, reads again, with the
    same weights and so to the same value; the value that was lost was seen by nobody and is not counted.

    ``run``: number of the confirmation's trial; ``read``: when its result came in, local time as that of the trials; ``pack``: which
    pack, by its number in that sitting; ``split``: SHA-256 of the test split's tensors; ``forked_from``: the study that read it, where
    this one was begun from another. Of readings from before they were recorded, ``read`` is when the run ended, ``pack`` and
    ``split`` are empty.
    """
    return frame_of(_readings(ledger), READINGS)


def _readings(ledger: Reader) -> Iterator[dict[str, Any]]:
    for trial in ledger.records(CONFIRMATION):
        attrs = trial.user_attrs
        for rung in rungs_of(attrs):
            if rung.get("test_value") is None:
                continue
            told = rung.get("reading") or {}
            at = told.get("at")
            yield {
                "run": trial.number,
                "role": attrs.get("role", ""),
                **{name: attrs[name] for name in ("candidate_id", "cell_id", "seed")},
                "name": Candidate.from_dict(attrs["candidate"]).spec.name,
                "read": trial.datetime_complete if at is None else datetime.fromisoformat(at).astimezone().replace(tzinfo=None),
                "pack": told.get("pack", ""),
                "worker": rung["worker"],
                "split": told.get("split", ""),
                "forked_from": attrs.get("forked_from", {}).get("study", ""),
            }
