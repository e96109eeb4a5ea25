"""An executor without processes: packs run when they are collected, in an order that the test chooses; and a stand-in for training."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from mrnn_search.engine.train import Epoch, LaneOutcome
from mrnn_search.search.executors import Executor
from mrnn_search.search.packs import LaneResult, Pack, PackResult, train_pack


class InProcess(Executor):
    """Trains in this process; ``order`` picks the next of the waiting packs, ``before`` runs before each.

    Attributes:
        trained: (lane key, start epoch, stop epoch) of everything that was trained, in order.
    """

    def __init__(
        self,
        order: Callable[[int], int] = lambda waiting: 0,
        before: Callable[[Pack], None] = lambda pack: None,
        train: Callable[[Pack], PackResult] = train_pack,
        slots: int = 2,
    ) -> None:
        self.slots = slots
        self._order, self._before, self._train = order, before, train
        self._waiting: list[Pack] = []
        self.trained: list[tuple[str, int, int]] = []

    def submit(self, pack: Pack) -> None:
        self._waiting.append(pack)

    def collect(self, timeout: float) -> list[PackResult]:
        if not self._waiting:
            return []
        pack = self._waiting.pop(self._order(len(self._waiting)))
        self._before(pack)
        result = self._train(pack)
        self.trained += [(lane.key, pack.start_epoch, pack.stop_epoch) for lane in pack.lanes]
        return [result]

    def cancel(self) -> int:
        self._waiting = []
        return 0

    def close(self) -> None:
        self._waiting = []


def fake(pack: Pack) -> PackResult:
    """Training without training: values follow from candidate, seed and epoch, so that thousands of lanes take a second.

    A checkpoint is the epoch as text, checked when it comes back. Candidates with a learning rate above 0.015 diverge.
    """
    lanes = []
    for lane in pack.lanes:
        assert (lane.checkpoint is None) == (pack.start_epoch == 0)
        assert lane.checkpoint in (None, f"{lane.key} {pack.start_epoch}".encode())
        noise = random.Random(f"{lane.candidate.candidate_id} {lane.seed}")
        level = noise.random()
        values = {e: level * (1 - 0.5**e) + 0.01 * noise.random() for e in range(1, pack.stop_epoch + 1)}
        rows = tuple(Epoch(e, 10 * e, 1 / e, values[e], 0.1) for e in range(pack.start_epoch + 1, pack.stop_epoch + 1))
        best = max(values, key=lambda e: values[e])
        failed = lane.candidate.lr > 0.015
        outcome = LaneOutcome(
            error="loss is nan at epoch 1, step 3" if failed else None,
            rows=() if failed else rows,
            value=math.nan if failed else values[best],
            best_epoch=0 if failed else best,
            checkpoint=None if failed else f"{lane.key} {pack.stop_epoch}".encode(),
            test_value=level if pack.read_test and not failed else None,
            parameters=100,
            execution="fake",
        )
        lanes.append(LaneResult(lane.key, outcome, 0.1))
    return PackResult(pack.pack_id, tuple(lanes), "host:1", "cpu", "f" * 64 if pack.read_test else None)
