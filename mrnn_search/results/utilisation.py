"""How much of the time that a study held its devices they trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..search.ledger import Reader, TrialView


@dataclass(frozen=True)
class Utilisation:
    """Time training / time held.

    Attributes:
        training: seconds that lanes trained, each its share of its pack, data loading and everything else left out.
        held: seconds that workers were held: of each session, from its start to the end of the last trial that ended in it, times the
            workers that it used. Starting the workers, asking and writing are in it; a worker that was replaced counts twice.
    """

    training: float
    held: float

    @property
    def share(self) -> float | None:
        """From 0 to 1; None where nothing was trained."""
        return self.training / self.held if self.held else None


def utilisation(ledger: Reader) -> Utilisation:
    """Of all sessions of a study so far. A trial counts for the session in which it ended; one that still runs for none."""
    ended = sorted((t for g in ledger.groups() for t in ledger.trials(g) if t.finished and t.rungs), key=lambda t: (t.finished, t.key))
    starts = [datetime.fromisoformat(session["started"]).astimezone().replace(tzinfo=None) for session in ledger.meta["sessions"]]
    training = held = 0.0
    for start, trials in _by_session(starts, ended):
        last = max(t.finished for t in trials if t.finished)
        workers = {rung.worker for t in trials for rung in t.rungs}
        training += sum(rung.seconds for t in trials for rung in t.rungs)
        held += (last - start).total_seconds() * len(workers)
    return Utilisation(training, held)


def _by_session(starts: Sequence[datetime], ended: Sequence[TrialView]) -> Iterator[tuple[datetime, list[TrialView]]]:
    """(start, the trials that ended in it), of sessions in which any did."""
    for start, after in zip(starts, [*starts[1:], datetime.max], strict=True):
        trials = [t for t in ended if t.finished and start <= t.finished < after]
        if trials:
            yield start, trials
