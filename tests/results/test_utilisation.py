"""Time training / time held, of sessions whose times are known."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

import mrnn_search as ms
from mrnn_search.bench.filling import rung
from mrnn_search.cells import Candidate, preset
from mrnn_search.results.utilisation import utilisation
from mrnn_search.search.ledger import Reader, Record, TrialView

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Told(Reader):
    """A ledger of given trials and sessions; times are seconds after `START`."""

    name = "s"
    direction = "maximize"

    def __init__(self, sessions: list[int], trials: list[tuple[int | None, float, str]]) -> None:
        self._sessions, self._trials = sessions, trials

    def _attrs(self) -> dict[str, object]:
        return {"meta": {"sessions": [{"started": (START + timedelta(seconds=s)).isoformat()} for s in self._sessions]}}

    def groups(self) -> list[str]:
        return ["search"]

    def records(self, group: str) -> list[Record]:
        return []

    def trials(self, group: str) -> list[TrialView]:
        candidate, out = Candidate(preset("lstm")), []
        for number, (finished, seconds, worker) in enumerate(self._trials):
            reached = dataclasses.replace(rung(1, 0, 0.5), seconds=seconds, worker=worker)
            ended = None if finished is None else (START + timedelta(seconds=finished)).astimezone().replace(tzinfo=None)
            state = "RUNNING" if finished is None else "COMPLETE"
            out.append(TrialView("search", number, state, candidate, "", "", 0, 0, (reached,), None, None, "", ended, ended))
        return out


def test_two_workers_in_one_session() -> None:
    found = utilisation(Told([0], [(8, 6.0, "a"), (10, 9.0, "b"), (10, 1.0, "a"), (None, 5.0, "a")]))
    assert (found.training, found.held, found.share) == (16.0, 20.0, 0.8)


def test_the_time_between_sessions_is_not_held() -> None:
    found = utilisation(Told([0, 50, 1000], [(10, 5.0, "a"), (1010, 10.0, "b")]))
    assert (found.training, found.held) == (15.0, 20.0)


def test_nothing_trained() -> None:
    assert utilisation(Told([0], [])).share is None


def test_of_a_real_study(real_study: ms.Study) -> None:
    found = real_study.utilisation()
    trained = sum(real_study.trials()["seconds"])
    assert found.training > trained > 0 and found.share == pytest.approx(found.training / found.held) and 0 < found.share <= 1
