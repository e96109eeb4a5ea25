"""The same recipe and seed on any number of workers of any executor: the same study, to the last bit of every value.

Three nodes of a cluster, one of which is lost, are in `test_cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mrnn_search as ms
from mrnn_search.search import ray_tune
from mrnn_search.search.cluster import Share

from .test_driver import essence

TINY: dict[str, Any] = {
    "budget": {"trials": 5},
    "rungs": {"epochs": [1]},
    "baselines": {"cells": ["lstm"], "trials": 2},
    "confirmation": {"epochs": 1},
}


@pytest.fixture(scope="module")
def four_processors() -> Iterator[None]:
    """One Ray for all studies of this file."""
    with ExitStack() as stack:
        ray_tune._start(stack, Share(4, 1.0, 0.0), [])
        yield


def study(name: str, **options: Any) -> ms.Study:
    return ms.search("smoke", name=name, **options, **TINY)


@pytest.mark.slow
@pytest.mark.usefixtures("four_processors")
def test_any_number_of_workers_of_any_executor_gives_the_same_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    local = essence(study("local", workers=2)._ledger)
    assert sum(map(len, local.values())) == 5 + 2 + 4 and all(t[1] == "COMPLETE" for t in local["confirmation"])
    for workers in (1, 2, 4):
        assert essence(study(f"ray-{workers}", executor="ray", workers=workers)._ledger) == local
