"""A new study from an old one's trials: what the change of the recipe leaves valid comes along, so that it is not trained again.

A value depends on the candidate, its seed, the data and the epochs, and on nothing else that a recipe says. So with the same
benchmark, data and seed whatever was trained counts: the epochs are recorded one by one, and make the rungs of the new recipe.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FixedTrial, FrozenTrial

from .._registry import InputError
from ..cells.presets import preset
from ..cells.spec import Candidate
from .checkpoints import Checkpoints
from .finalists import FINALIST
from .ledger import CONFIRMATION, SEARCH, Direction, Ledger, Rung, TrialView
from .parameter import Constant
from .recipe import Recipe
from .sampler import Proposal
from .space import Space

KEPT_ERRORS = ("loss is ", "gradient norm is ", "validation outputs are not finite")  # the others may have been bad luck


@dataclass(frozen=True)
class Forked:
    """What came along.

    Attributes:
        source: the old study's name.
        trials: of the old study, each once (without its duplicates); taken: those that came along.
        runs: of its confirmation; taken_runs: those that came along.
    """

    source: str
    trials: int
    taken: int
    runs: int
    taken_runs: int

    def __str__(self) -> str:
        left = "" if self.taken == self.trials else "; the others are not in this space, or have no epochs that count here"
        runs = f", {self.taken_runs} of {self.runs} confirmation runs" if self.runs else ""
        return f"from {self.source}: {self.taken} of {self.trials} trials{runs} came along{left}"


def check_comparable(old: Ledger, recipe: Recipe, fingerprint: str) -> None:
    """Raises:
    InputError: no value of ``old`` would count under ``recipe``; says why.
    """
    known, facts = old.recipe, old.meta["benchmark"]
    sides = {"benchmark": (facts["name"], recipe.benchmark), "data": (facts["fingerprint"][:12], fingerprint[:12])}
    for what, (before, now) in {**sides, "seed": (known["seed"], recipe.seed)}.items():
        if before != now:
            message = f"{what}: {before} -> {now}; with another one none of its values would count, so begin anew with --name"
            raise InputError(message, f'study "{old.name}"')


def fork(old: Ledger, old_files: Checkpoints, new: Ledger, files: Checkpoints, recipe: Recipe) -> Forked:
    """Copy into ``new``, the ledger of ``recipe``, what counts of ``old``; goes on with a copy that was cut short."""
    counts = {SEARCH: [0, 0], CONFIRMATION: [0, 0]}
    spaces = {SEARCH: recipe.space, **{name: recipe.space.for_cell(preset(name)) for name in recipe.baselines.cells}}
    candidates: set[str] = set()
    for group, space in spaces.items():
        copier = _Copier(old, old_files, new, files, group)
        for trial, frozen in copier.due():
            counts[SEARCH][0] += trial.duplicate_of is None
            view = _counting(trial, recipe.rungs.epochs, new.direction)
            proposal = _point(space, Space.from_dict(old.recipe["space"]), trial.candidate, frozen.params) if view else None
            if view is None or proposal is None or not copier.copy(view, proposal):
                continue
            counts[SEARCH][1] += trial.duplicate_of is None
            candidates.add(trial.candidate_id)
    copier = _Copier(old, old_files, new, files, CONFIRMATION)
    last, roles = recipe.confirmation.epochs, (FINALIST, *recipe.baselines.cells)
    stops = [*(stop for stop in recipe.rungs.epochs if stop < last), last]
    for trial, _ in copier.due():
        counts[CONFIRMATION][0] += 1
        # the test split was read at its end, with its weights: another end is another run
        if trial.state == "COMPLETE" and trial.epochs == last and trial.candidate_id in candidates and trial.role in roles:
            view = _counting(trial, stops, new.direction)
            counts[CONFIRMATION][1] += view is not None and copier.copy(view, None)
    return Forked(old.name, *counts[SEARCH], *counts[CONFIRMATION])


class _Copier:
    """Copies the trials of one group, in order; those that are there already count as copied."""

    def __init__(self, old: Ledger, old_files: Checkpoints, new: Ledger, files: Checkpoints, group: str) -> None:
        self._old, self._old_files, self._new, self._files, self._group = old, old_files, new, files, group
        there = new.frozen(group) if group in new.groups() else []
        self._next = len(there)
        self._numbers: dict[int, int] = {}  # of the old study -> of the new one
        for frozen in there:
            origin = frozen.user_attrs.get("forked_from")
            if origin is not None:
                self._numbers[origin["number"]] = frozen.number

    def due(self) -> Iterator[tuple[TrialView, FrozenTrial]]:
        trials = self._old.trials(self._group)
        return zip(trials, self._old.frozen(self._group) if trials else [], strict=False)

    def copy(self, trial: TrialView, proposal: Proposal | None) -> bool:
        """Is it there now?"""
        if trial.number in self._numbers:
            return True
        if trial.duplicate_of is not None and trial.duplicate_of not in self._numbers:
            return False
        twin = None if trial.duplicate_of is None else self._numbers[trial.duplicate_of]
        if trial.rungs and trial.rungs[-1].checkpoint:
            data = self._old_files.load(trial.key, trial.epochs, trial.rungs[-1].checkpoint)
            if data is not None:  # before the ledger says that it is there
                self._files.save(f"{self._group}/{self._next}", trial.epochs, data)
        origin = {"study": self._old.name, "number": trial.number}
        self._new.adopt(dataclasses.replace(trial, duplicate_of=twin), proposal, origin)
        self._numbers[trial.number] = self._next
        self._next += 1
        return True


def _counting(trial: TrialView, stops: Sequence[int], direction: Direction) -> TrialView | None:
    """``trial`` as it is under other rungs; None if it has nothing that counts.

    One that reached the last of them is complete, one that still trained goes on, any other counts as dropped.
    """
    if trial.duplicate_of is not None:
        return trial
    rungs = _rungs(trial, stops, direction)
    if rungs and rungs[-1].stop_epoch == stops[-1]:
        return dataclasses.replace(trial, rungs=rungs, state="COMPLETE", error=None)
    if trial.state == "FAIL":
        kept = trial.error is not None and trial.error.startswith(KEPT_ERRORS)
        return dataclasses.replace(trial, rungs=rungs) if kept else None
    if not rungs:
        return None
    return dataclasses.replace(trial, rungs=rungs, state="RUNNING" if trial.running else "PRUNED")


def _rungs(trial: TrialView, stops: Sequence[int], direction: Direction) -> tuple[Rung, ...]:
    """The recorded epochs, cut at ``stops``."""
    made: list[Rung] = []
    rows = [(row, rung) for rung in trial.rungs for row in rung.rows]
    before = 0
    for stop in (stop for stop in stops if stop <= trial.epochs):
        best = max((row for row, _ in rows if row[0] <= stop), key=lambda row: (row[3] if direction == "maximize" else -row[3], -row[0]))
        own = [row for row, _ in rows if before < row[0] <= stop]
        recorded = next(rung for row, rung in rows if row[0] == stop)
        before, whole = stop, recorded.stop_epoch == stop
        made.append(
            recorded
            if whole and recorded.rows == tuple(own)
            else dataclasses.replace(
                recorded,
                stop_epoch=stop,
                rows=tuple(own),
                value=best[3],
                best_epoch=best[0],
                seconds=sum(row[4] for row in own),
                test_value=recorded.test_value if whole else None,
                reading=recorded.reading if whole else None,
                checkpoint=recorded.checkpoint if whole else "",
            )
        )
    return tuple(made)


def _point(space: Space, old: Space, candidate: Candidate, params: Mapping[str, Any]) -> Proposal | None:
    """The point of ``space`` that is ``candidate``; None if it is not in there."""
    spec = candidate.spec
    known: dict[str, Any] = {field.name: getattr(candidate, field.name) for field in dataclasses.fields(candidate)}
    known |= {"base": spec.base, "rule": spec.rule, "scope": spec.scope, "drive_bias": spec.drive_bias}
    known |= {f"{spec.rule}.{name}": value for name, value in spec.coefficients.items()}
    known |= {f"{spec.base}.{name}": value for name, value in spec.options.items()}
    known |= {p.name: p.domain.values[0] for p in old.parameters if isinstance(p.domain, Constant)}
    trial = FixedTrial({**known, **params})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna's, of a value that is not in the domain
            found = space.suggest(trial)
    except (ValueError, KeyError, TypeError, UserWarning):
        return None
    return Proposal(candidate, trial.params, trial.distributions, {}) if found == candidate else None
