"""Who is confirmed: the best candidates of the search, and every baseline at its best. Pure: trials in, candidates out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..cells.spec import Candidate
from .ledger import TrialView
from .pareto import COSTS, QUALITY, non_dominated

FINALIST = "finalist"  # the role of a found cell; a baseline's role is its preset's name


def ranked(trials: Sequence[TrialView], direction: str) -> list[TrialView]:
    """Trials with a value, best first: those that got further go before those that a rung dropped, then by value."""
    sign = -1 if direction == "maximize" else 1
    usable = [t for t in trials if t.state in ("COMPLETE", "PRUNED") and t.rungs]
    return sorted(usable, key=lambda t: (-t.epochs, sign * t.value, t.number))


def finalists(
    search: Sequence[TrialView],
    baselines: Mapping[str, Sequence[TrialView]],
    cells: Mapping[str, str],
    top: int,
    direction: str,
    objectives: Sequence[str] = (QUALITY,),
) -> list[tuple[str, Candidate]]:
    """The best ``top`` cells of the search and the best candidate of every baseline.

    A baseline's cell that the search found as well is no find: its trials count for the baseline, which so gets
    whatever budget is the larger in effect, never the smaller.

    Args:
        search: the search's trials.
        baselines: name -> the trials of its own tuning.
        cells: baseline's name -> its cell_id.
        objectives: with costs beside the quality, every trial that no other beats in all of them is a finalist as well.

    Returns:
        (role, candidate): the finalists first, in order; two candidates never share a cell.
    """
    chosen: dict[str, tuple[str, Candidate]] = {}
    for trial in ranked(search, direction):
        if len(chosen) < top and trial.cell_id not in chosen and trial.cell_id not in cells.values():
            chosen[trial.cell_id] = (FINALIST, trial.candidate)
    for trial in front(search, direction, objectives) if len(objectives) > 1 else ():
        if trial.cell_id not in cells.values():
            chosen.setdefault(trial.cell_id, (FINALIST, trial.candidate))
    out = list(chosen.values())
    for name, trials in baselines.items():
        best = best_of(trials, search, cells[name], direction)
        out += [] if best is None else [(name, best.candidate)]
    return out


def best_of(trials: Sequence[TrialView], search: Sequence[TrialView], cell_id: str | None, direction: str) -> TrialView | None:
    """The best trial of a tuning, those of the search that have its cell counted in; None: none has a value."""
    return next(iter(ranked([*trials, *(t for t in search if t.cell_id == cell_id)], direction)), None)


def front(trials: Sequence[TrialView], direction: str, objectives: Sequence[str]) -> list[TrialView]:
    """The complete trials that no other beats in quality and every cost, best quality first."""
    sign = -1 if direction == "maximize" else 1
    complete = [t for t in ranked(trials, direction) if t.state == "COMPLETE"]
    rungs = [[{"params": r.params, "seconds": r.seconds, "stop_epoch": r.stop_epoch} for r in t.rungs] for t in complete]
    points = [[sign * t.value, *(COSTS[name](rows) for name in objectives[1:])] for t, rows in zip(complete, rungs, strict=True)]
    return [complete[at] for at in non_dominated(points)]
