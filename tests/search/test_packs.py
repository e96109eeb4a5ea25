"""What a worker runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mrnn_search._registry import UnknownNameError
from mrnn_search.benchmarks import SealedError, load_benchmark
from mrnn_search.cells import Candidate, preset
from mrnn_search.search import packs
from mrnn_search.search.packs import NO_WORKER, Lane, Pack, failed_pack, train_pack

SMALL, HUGE = Candidate(preset("gru"), hidden_size=4), Candidate(preset("lstm"), hidden_size=10**6)
OTHER = Candidate(preset("gru"), hidden_size=4, lr=0.5)


def pack(*candidates: Candidate, read_test: bool = False, benchmark: str = "digits-rows") -> Pack:
    group = "confirmation" if read_test else "search"
    lanes = tuple(Lane(f"{group}/{n}", candidate, seed=3) for n, candidate in enumerate(candidates))
    return Pack("p", benchmark, lanes, 0, 1, read_test=read_test)


def test_out_of_memory_is_a_reason_and_leaves_the_neighbours_alone() -> None:
    first, lost, last = train_pack(pack(SMALL, HUGE, SMALL)).lanes
    assert lost.outcome.error is not None and "allocate" in lost.outcome.error and "\n" not in lost.outcome.error
    assert first.outcome.error is None
    assert first.outcome.checkpoint == last.outcome.checkpoint == train_pack(pack(SMALL)).lanes[0].outcome.checkpoint


def test_one_lane_that_torch_cannot_compute_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a factorisation that does not converge, which ends the pack's update for every lane."""
    train, sizes = packs.train_lanes, []

    def failing(task: Any, starts: Any, *args: Any, **more: Any) -> Any:
        sizes.append(len(starts))
        if any(start.candidate == OTHER for start in starts):
            raise RuntimeError("linalg.svd: did not converge\nmore")
        return train(task, starts, *args, **more)

    monkeypatch.setattr(packs, "train_lanes", failing)
    results = [lane.outcome for lane in train_pack(pack(SMALL, SMALL, OTHER, SMALL, SMALL)).lanes]
    assert [r.error for r in results] == [None, None, "RuntimeError: linalg.svd: did not converge", None, None]
    assert sizes == [5, 2, 3, 1, 2]
    assert all(r.checkpoint == results[0].checkpoint and packs.SPLIT in r.execution for r in results if r.error is None)


def test_the_test_split_is_read_when_asked_and_not_else() -> None:
    assert train_pack(pack(SMALL)).lanes[0].outcome.test_value is None
    (lane,) = train_pack(pack(SMALL, read_test=True)).lanes
    assert lane.outcome.test_value is not None and 0 < lane.outcome.test_value < 1


def test_a_pack_of_the_search_cannot_read_the_test_split() -> None:
    """Also where only one of its lanes is no confirmation's: nothing is trained, nothing is read."""
    confirmed = pack(SMALL, SMALL, read_test=True)
    mixed = dataclasses.replace(confirmed, lanes=(confirmed.lanes[0], dataclasses.replace(confirmed.lanes[1], key="search/1")))
    for wrong in (mixed, dataclasses.replace(pack(SMALL), read_test=True)):
        with pytest.raises(SealedError, match="confirmation only"):
            train_pack(wrong)
    result = train_pack(confirmed)
    assert result.test_split == load_benchmark("digits-rows").test.fingerprint and train_pack(pack(SMALL)).test_split is None


def test_a_wrong_pack_raises() -> None:
    with pytest.raises(UnknownNameError, match='did you mean "digits-rows"'):
        train_pack(pack(SMALL, benchmark="digit-rows"))


def test_a_pack_that_lost_its_workers() -> None:
    result = failed_pack(pack(SMALL, SMALL), "worker died")
    assert result.worker == NO_WORKER and [lane.outcome.error for lane in result.lanes] == ["worker died"] * 2
