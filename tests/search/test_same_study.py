"""The same recipe and seed under either executor: the same study, to the last bit of every value."""

from __future__ import annotations

from pathlib import Path

import pytest

import mrnn_search as ms

from .test_driver import essence


@pytest.mark.slow
def test_local_and_ray_give_the_same_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    change = {"budget": {"trials": 5}, "baselines": {"cells": ["lstm"], "trials": 2}}
    studies = [ms.search("smoke", name=name, executor=name, **change) for name in ("local", "ray")]
    assert essence(studies[0]._ledger) == essence(studies[1]._ledger)
    assert {t.rungs[-1].execution for t in studies[1]._ledger.trials("confirmation")} != set()
