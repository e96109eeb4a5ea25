"""What a worker runs."""

from __future__ import annotations

import pytest

from mrnn_search._registry import UnknownNameError
from mrnn_search.cells import Candidate, preset
from mrnn_search.search.packs import NO_WORKER, Lane, Pack, failed_pack, train_pack

SMALL, HUGE = Candidate(preset("gru"), hidden_size=4), Candidate(preset("lstm"), hidden_size=10**6)


def pack(*candidates: Candidate, read_test: bool = False, benchmark: str = "digits-rows") -> Pack:
    lanes = tuple(Lane(f"search/{n}", candidate, seed=3) for n, candidate in enumerate(candidates))
    return Pack("p", benchmark, lanes, 0, 1, read_test=read_test)


def test_out_of_memory_is_a_reason_and_leaves_the_neighbours_alone() -> None:
    first, lost, last = train_pack(pack(SMALL, HUGE, SMALL)).lanes
    assert lost.outcome.error is not None and "allocate" in lost.outcome.error and "\n" not in lost.outcome.error
    assert first.outcome.error is None
    assert first.outcome.checkpoint == last.outcome.checkpoint == train_pack(pack(SMALL)).lanes[0].outcome.checkpoint


def test_the_test_split_is_read_when_asked_and_not_else() -> None:
    assert train_pack(pack(SMALL)).lanes[0].outcome.test_value is None
    (lane,) = train_pack(pack(SMALL, read_test=True)).lanes
    assert lane.outcome.test_value is not None and 0 < lane.outcome.test_value < 1


def test_a_wrong_pack_raises() -> None:
    with pytest.raises(UnknownNameError, match='did you mean "digits-rows"'):
        train_pack(pack(SMALL, benchmark="digit-rows"))


def test_a_pack_that_lost_its_workers() -> None:
    result = failed_pack(pack(SMALL, SMALL), "worker died")
    assert result.worker == NO_WORKER and [lane.outcome.error for lane in result.lanes] == ["worker died"] * 2
