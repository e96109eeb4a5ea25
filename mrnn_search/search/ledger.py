"""The ledger: the study's Optuna storage, the only source of truth. This module alone writes it.

Layout (schema 1). One search is a few Optuna studies of one storage, one a **group**:

* ``NAME``: the screening of the search (group "search"); its user attributes hold ``schema``, ``recipe``, ``meta``,
  ``complete``, in a database ``holder``, and ``fork`` if it was begun from another;
* ``NAME/<baseline>``: the tuning of one baseline over its training hyper-parameters;
* ``NAME/confirmation``: one trial for each finalist and seed; only there a rung may have a ``test_value``.

A trial's user attributes: ``candidate`` (`Candidate.to_dict`), ``candidate_id``, ``cell_id``, ``seed``, ``cohort``; then
``rung/0``, ``rung/1`` … (`Rung`), each written in one piece when the lane got there; ``error`` of a failed one,
``duplicate_of`` of one that was asked for but had been there, ``role`` of a confirmed one, ``forked_from`` of one that was
copied. Its intermediate values are the validation metric by epoch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from .._registry import InputError
from ..cells.rules.base import define
from ..cells.spec import Candidate
from .sampler import Proposal
from .soundness import problem

Direction = Literal["maximize", "minimize"]
SCHEMA = 1
SEARCH = "search"
CONFIRMATION = "confirmation"


@dataclass(frozen=True)
class Rung:
    """What a lane had done when it reached a rung.

    Attributes:
        stop_epoch: epochs finished, from the first.
        rows: (epoch, step, train_loss, value, seconds) of every epoch since the rung before.
        value: the best validation metric so far; best_epoch: the epoch that has it.
        seconds: training time since the rung before.
        params: how many numbers train (recurrent layer and readout).
        test_value: the metric on the test split; confirmation's last rung only.
        execution: which path ran and why; worker, device: where.
        checkpoint: SHA-256 (hex) of the checkpoint's bytes, so that a damaged file is noticed.
    """

    stop_epoch: int
    rows: tuple[tuple[int, int, float, float, float], ...]
    value: float
    best_epoch: int
    seconds: float
    params: int
    execution: str
    worker: str
    device: str
    test_value: float | None = None
    checkpoint: str = ""


@dataclass(frozen=True)
class TrialView:
    """One trial as the ledger has it; `state` is Optuna's: COMPLETE, PRUNED (dropped at a rung), FAIL, RUNNING."""

    group: str
    number: int
    state: str
    candidate: Candidate
    candidate_id: str
    cell_id: str
    seed: int
    cohort: int
    rungs: tuple[Rung, ...]
    error: str | None
    duplicate_of: int | None
    role: str
    started: datetime | None
    finished: datetime | None

    @property
    def key(self) -> str:
        """Unique in the study."""
        return f"{self.group}/{self.number}"

    @property
    def running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return self.rungs[-1].stop_epoch if self.rungs else 0

    @property
    def value(self) -> float:
        """Best validation metric so far; NaN before the first rung."""
        return self.rungs[-1].value if self.rungs else math.nan


def _view(group: str, trial: FrozenTrial) -> TrialView:
    attrs = trial.user_attrs
    rungs: list[Rung] = []
    while (data := attrs.get(f"rung/{len(rungs)}")) is not None:
        rungs.append(Rung(**{**data, "rows": tuple(tuple(row) for row in data["rows"])}))
    return TrialView(
        group=group,
        number=trial.number,
        state=trial.state.name,
        candidate=Candidate.from_dict(attrs["candidate"]),
        candidate_id=attrs["candidate_id"],
        cell_id=attrs["cell_id"],
        seed=attrs["seed"],
        cohort=attrs["cohort"],
        rungs=tuple(rungs),
        error=attrs.get("error"),
        duplicate_of=attrs.get("duplicate_of"),
        role=attrs.get("role", ""),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
    )


class Ledger:
    """One search's ledger.

    Used from one thread of one process, the head, which holds the study's lock while it writes (`claims.one_writer`);
    readers need no lock and see whole records only.

    Args:
        storage: an Optuna storage.
        name: the study's name.

    Raises:
        InputError: there is no such study, or it was written by another schema.
    """

    def __init__(self, storage: BaseStorage, name: str) -> None:
        self.storage, self.name = storage, name
        try:
            self._main = optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            raise InputError(f'there is no study "{name}" in this storage') from None
        attrs = self._main.user_attrs
        if attrs.get("schema") != SCHEMA:
            what = f"its schema is {attrs['schema']}, this version reads {SCHEMA}" if "schema" in attrs else "it is no study of mrnn-search"
            raise InputError(what, f'study "{name}"')
        try:
            dict(attrs["meta"])
            for rule, told in attrs["recipe"].get("space", {}).get("rules", {}).items():
                define(rule, told)  # the user's own, who need not have registered it in this process
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"its ledger is damaged: {type(error).__name__}: {error}", f'study "{name}"') from None
        self._studies: dict[str, Study] = {SEARCH: self._main}
        self._finished: dict[tuple[str, int], TrialView] = {}  # a finished trial never changes: parsed once

    @classmethod
    def create(cls, storage: BaseStorage, name: str, recipe: Mapping[str, Any], meta: Mapping[str, Any], direction: Direction) -> Ledger:
        """A new ledger; ``schema`` is written last, so a study with a recipe and without it was never finished being made.

        Raises:
            InputError: the storage has a study of that name that is not ours.
        """
        study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        if study.get_trials(deepcopy=False) or study.user_attrs.keys() - {"recipe", "meta"}:
            raise InputError("this storage has a study of that name which is not of mrnn-search; give another --name", f'study "{name}"')
        study.set_user_attr("recipe", dict(recipe))
        study.set_user_attr("meta", dict(meta))
        study.set_user_attr("schema", SCHEMA)
        return cls(storage, name)

    @staticmethod
    def exists(storage: BaseStorage, name: str) -> bool:
        """Is there a finished ledger of that name?"""
        try:
            return "schema" in optuna.load_study(study_name=name, storage=storage).user_attrs
        except KeyError:
            return False

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as it was last run (`Recipe.to_dict`)."""
        return dict(self._main.user_attrs["recipe"])

    @property
    def meta(self) -> dict[str, Any]:
        """Versions, data fingerprint, device, time of creation, command."""
        return dict(self._main.user_attrs["meta"])

    @property
    def fork(self) -> dict[str, Any]:
        """Of a study that was begun from another: ``of``, its name; ``done``, whether everything was copied. Else empty."""
        return dict(self._main.user_attrs.get("fork", {}))

    def set_fork(self, of: str, done: bool) -> None:
        """Say which study this one is begun from, and whether everything of it was copied."""
        self._main.set_user_attr("fork", {"of": of, "done": done})

    @property
    def holder(self) -> object:
        """Who runs the study or ran it last, in a database (`claims.Holder`); None in a file, whose folder says it."""
        return self._main.user_attrs.get("holder")

    def set_holder(self, holder: Mapping[str, Any]) -> None:
        """Say who runs the study."""
        self._main.set_user_attr("holder", dict(holder))

    @property
    def complete(self) -> bool:
        """The recipe's whole budget is done and confirmed."""
        return bool(self._main.user_attrs.get("complete", False))

    @property
    def direction(self) -> Direction:
        """ "maximize" or "minimize"."""
        return "maximize" if self._main.direction == StudyDirection.MAXIMIZE else "minimize"

    def set_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Replace the recipe by one with a larger budget; the study is then not complete."""
        self._main.set_user_attr("complete", False)
        self._main.set_user_attr("recipe", dict(recipe))

    def set_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace the record of how the study was run."""
        self._main.set_user_attr("meta", dict(meta))

    def set_complete(self) -> None:
        """The whole budget is done and confirmed."""
        self._main.set_user_attr("complete", True)

    def _study(self, group: str) -> Study:
        """The Optuna study of ``group``, made if it is not there (writers only: see `trials`)."""
        if group not in self._studies:
            name = f"{self.name}/{group}"
            if name in optuna.study.get_all_study_names(self.storage):  # `create_study` would write, though it is there
                self._studies[group] = optuna.load_study(study_name=name, storage=self.storage)
            else:
                self._studies[group] = optuna.create_study(storage=self.storage, study_name=name, direction=self.direction)
        return self._studies[group]

    def groups(self) -> list[str]:
        """The groups that are there, search first."""
        names = optuna.study.get_all_study_names(self.storage)
        return [SEARCH, *sorted(name.removeprefix(f"{self.name}/") for name in names if name.startswith(f"{self.name}/"))]

    def trials(self, group: str) -> list[TrialView]:
        """Every trial of ``group`` by number, duplicates included; none if the group is not there."""
        if group not in self._studies:
            if f"{self.name}/{group}" not in optuna.study.get_all_study_names(self.storage):
                return []
            self._studies[group] = optuna.load_study(study_name=f"{self.name}/{group}", storage=self.storage)
        return [self._view(group, trial) for trial in self.frozen(group)]

    def _view(self, group: str, trial: FrozenTrial) -> TrialView:
        known = self._finished.get((group, trial.number))
        if known is None:
            known = self._sound(group, trial)
            if trial.state.is_finished():
                self._finished[group, trial.number] = known
        return known

    def _sound(self, group: str, trial: FrozenTrial) -> TrialView:
        """Raises:
        InputError: the trial is not what this package writes.
        """
        try:
            view = _view(group, trial)
            wrong = problem(view)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            wrong = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if wrong is not None:
            message = f"its ledger is damaged at {group}, trial {trial.number}: {wrong}; restore it from a copy"
            raise InputError(message, f'study "{self.name}"') from None
        return view

    def frozen(self, group: str) -> list[FrozenTrial]:
        """Every trial of ``group`` as Optuna has it: what a sampler learns from."""
        return self._study(group).get_trials(deepcopy=False)

    def add(
        self, group: str, candidate: Candidate, seed: int, *, proposal: Proposal | None = None, cohort: int = 0, role: str = ""
    ) -> TrialView:
        """A new RUNNING trial, in one write; FAIL with ``duplicate_of`` if the group has this candidate already.

        Args:
            proposal: how a sampler came to it; None for one that was not asked for (confirmation).
            role: what it is in a confirmation; the same candidate may be there once for each seed.
        """
        attrs: dict[str, Any] = {"candidate_id": candidate.candidate_id, "cell_id": candidate.spec.cell_id, "seed": seed, "cohort": cohort}
        attrs["candidate"] = candidate.to_dict()
        if role:
            attrs["role"] = role
        twins = [t.number for t in self.frozen(group) if t.user_attrs.get("candidate_id") == candidate.candidate_id] if proposal else []
        if twins:
            attrs["duplicate_of"] = twins[0]
        template = create_trial(
            state=TrialState.FAIL if twins else TrialState.RUNNING,
            params=dict(proposal.params) if proposal else {},
            distributions=dict(proposal.distributions) if proposal else {},
            user_attrs=attrs,
            system_attrs=dict(proposal.system_attrs) if proposal else {},
        )
        made = self.storage.create_new_trial(self._study(group)._study_id, template_trial=template)
        return self._view(group, self.storage.get_trial(made))

    def adopt(self, trial: TrialView, proposal: Proposal | None, origin: Mapping[str, Any]) -> None:
        """A trial of another ledger, as it stands, in one write: its number is the next of its group.

        Args:
            proposal: the point that it is in this study's space; None in a confirmation.
            origin: ``study`` and ``number`` that it had there; becomes ``forked_from``.
        """
        attrs: dict[str, Any] = {name: getattr(trial, name) for name in ("candidate_id", "cell_id", "seed", "cohort")}
        attrs |= {"candidate": trial.candidate.to_dict(), "forked_from": dict(origin)}
        attrs |= {"role": trial.role} if trial.role else {}
        attrs |= {name: value for name in ("error", "duplicate_of") if (value := getattr(trial, name)) is not None}
        attrs |= {f"rung/{i}": dataclasses.asdict(rung) for i, rung in enumerate(trial.rungs)}
        template = create_trial(
            state=TrialState[trial.state],
            value=trial.value if trial.state == "COMPLETE" else None,
            params=dict(proposal.params) if proposal else {},
            distributions=dict(proposal.distributions) if proposal else {},
            user_attrs=attrs,
            intermediate_values={row[0]: row[3] for rung in trial.rungs for row in rung.rows},
        )
        template.datetime_start = trial.started
        if trial.finished is not None:
            template.datetime_complete = trial.finished
        self.storage.create_new_trial(self._study(trial.group)._study_id, template_trial=template)

    def record(self, trial: TrialView, rung: Rung) -> TrialView:
        """The lane reached its next rung: one write, then the curve for Optuna's own readers."""
        frozen = self._frozen(trial)
        data = dataclasses.asdict(rung)
        self.storage.set_trial_user_attr(frozen._trial_id, f"rung/{len(trial.rungs)}", data)
        updated = dataclasses.replace(trial, rungs=(*trial.rungs, rung))
        self._write_curve(updated)
        return updated

    def _write_curve(self, trial: TrialView) -> None:
        """The recorded epochs as intermediate values; those that a killed process left out are added."""
        frozen = self._frozen(trial)
        for rung in trial.rungs:
            for epoch, _, _, value, _ in rung.rows:
                if epoch not in frozen.intermediate_values:
                    self.storage.set_trial_intermediate_value(frozen._trial_id, epoch, value)

    def _frozen(self, trial: TrialView) -> FrozenTrial:
        return self.frozen(trial.group)[trial.number]

    def finish(self, trial: TrialView) -> None:
        """The lane reached its last rung: COMPLETE."""
        self._write_curve(trial)
        self._study(trial.group).tell(trial.number, trial.value)

    def drop(self, trial: TrialView) -> None:
        """The lane was dropped at a rung: PRUNED."""
        self._write_curve(trial)
        self._study(trial.group).tell(trial.number, state=TrialState.PRUNED)

    def fail(self, trial: TrialView, error: str) -> None:
        """The lane cannot go on: FAIL, with the reason."""
        self.storage.set_trial_user_attr(self._frozen(trial)._trial_id, "error", error)
        self._study(trial.group).tell(trial.number, state=TrialState.FAIL)
