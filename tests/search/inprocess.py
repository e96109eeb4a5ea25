"""An executor without processes: packs run when they are collected, in an order that the test chooses."""

from __future__ import annotations

from collections.abc import Callable

from mrnn_search.search.executors import Executor
from mrnn_search.search.packs import Pack, PackResult, train_pack


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
