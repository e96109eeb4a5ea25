"""The ledger: the study's Optuna storage, the only source of truth. This module alone writes it.

Layout (schema 1). One search is a few Optuna studies of one storage, one a **group**:

* ``NAME``: the screening of the search (group "search"); its user attributes hold ``schema``, ``recipe``, ``meta``,
  ``complete``, in a database ``holder``, and ``fork`` if it was begun from another;
* ``NAME/<baseline>``: the tuning of one baseline over its training hyper-parameters; ``NAME/control-…`` of one control;
* ``NAME/confirmation``: one trial for each finalist and seed; only there a rung may have a ``test_value``.

A trial's user attributes: ``candidate`` (`Candidate.to_dict`), ``candidate_id``, ``cell_id``, ``seed``, ``cohort``; then
``rung/0``, ``rung/1`` … (`Rung`), each written in one piece when the lane got there; ``error`` of a failed one,
``duplicate_of`` of one that was asked for but had been there, ``role`` of a confirmed one, ``forked_from`` of one that was
copied. Its intermediate values are the validation metric by epoch.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from .._registry import InputError
from ..benchmarks.sealed import CONFIRMATION as CONFIRMATION
from ..cells.rules.base import define
from ..cells.spec import Candidate
from . import replay
from .database import PENDING, Database
from .journal import FileStorage
from .sampler import Proposal
from .soundness import problem
from .storage import damaged, open_storage

Direction = Literal["maximize", "minimize"]
SCHEMA = 1
Record = FrozenTrial | replay.Trial  # a trial as it was written
SEARCH = "search"


@dataclass(frozen=True)
class Reading:
    """One reading of the test split, as it is recorded: with the value that was read, in one write.

    Attributes:
        at: when its result came in, ISO 8601 in UTC.
        pack: the pack that read, by its number in that sitting; the worker is the rung's.
        split: SHA-256 (hex) of the test split's tensors.
    """

    at: str
    pack: str
    split: str


@dataclass(frozen=True)
class Rung:
    """What a lane had done when it reached a rung.

    Attributes:
        stop_epoch: epochs finished, from the first.
        rows: (epoch, step, train_loss, value, seconds) of every epoch since the rung before.
        value: the best validation metric so far; best_epoch: the epoch that has it.
        seconds: training time since the rung before.
        params: how many numbers train (recurrent layer and readout).
        test_value: the metric on the test split; confirmation's last rung only. reading: how it was read; None in ledgers that
            were written before readings were recorded.
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
    reading: Reading | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rung:
        """Inverse of `dataclasses.asdict`."""
        reading = data.get("reading")
        return cls(**{**data, "rows": tuple(map(tuple, data["rows"])), "reading": None if reading is None else Reading(**reading)})


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


def _view(group: str, trial: Record) -> TrialView:
    attrs = trial.user_attrs
    rungs: list[Rung] = []
    while (data := attrs.get(f"rung/{len(rungs)}")) is not None:
        rungs.append(Rung.from_dict(data))
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


class _Index(NamedTuple):
    """What the writer keeps of a group, so that a write reads nothing.

    Attributes:
        study: the storage's number of the group's study; ids: those of its trials, by trial number.
        first: candidate_id -> number of the first trial that has it.
    """

    study: int
    ids: list[int]
    first: dict[str, int]


class Reader(ABC):
    """What can be read of one search, wherever its ledger is; it shows whole records only, also while another process writes.

    Attributes:
        name: the study's; storage: Optuna's, for its own tools.
    """

    name: str
    storage: BaseStorage

    @property
    @abstractmethod
    def direction(self) -> Direction:
        """ "maximize" or "minimize"."""

    @abstractmethod
    def groups(self) -> list[str]:
        """The groups that are there, search first."""

    @abstractmethod
    def records(self, group: str) -> Sequence[Record]:
        """Every trial of ``group`` by number, duplicates included, as it was written; none if the group is not there. Not to be changed."""

    @abstractmethod
    def _attrs(self) -> Mapping[str, Any]:
        """User attributes of the study itself."""

    def trials(self, group: str) -> list[TrialView]:
        """Every trial of ``group`` by number, duplicates included; none if the group is not there."""
        return [self._view(group, trial) for trial in self.records(group)]

    def _view(self, group: str, trial: Record) -> TrialView:
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

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as it was last run (`Recipe.to_dict`)."""
        return dict(self._attrs()["recipe"])

    @property
    def meta(self) -> dict[str, Any]:
        """Versions, data fingerprint, device, time of creation, command."""
        return dict(self._attrs()["meta"])

    @property
    def complete(self) -> bool:
        """The recipe's whole budget is done and confirmed."""
        return bool(self._attrs().get("complete", False))

    def _check(self) -> None:
        """Raises:
        InputError: it was written by another schema, or is not ours.
        """
        attrs = self._attrs()
        if attrs.get("schema") != SCHEMA:
            what = f"its schema is {attrs['schema']}, this version reads {SCHEMA}" if "schema" in attrs else "it is no study of mrnn-search"
            raise InputError(what, f'study "{self.name}"')
        try:
            dict(attrs["meta"])
            for rule, told in attrs["recipe"].get("space", {}).get("rules", {}).items():
                define(rule, told)  # the user's own, who need not have registered it in this process
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"its ledger is damaged: {type(error).__name__}: {error}", f'study "{self.name}"') from None


class JournalReader(Reader):
    """The one search of a journal file. It follows the file as it grows; a hundred thousand trials take it seconds.

    Raises:
        InputError: the file is damaged, does not hold one study, or that is not ours.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._replay = path, replay.Replay(path)
        names = [study.name for study in self._studies().values() if "/" not in study.name]
        if len(names) != 1:
            raise InputError(f"holds {len(names)} studies, where one was expected", str(path))
        self.name = names[0]
        self._check()

    def _studies(self) -> dict[str, replay.Study]:
        try:
            self._replay.sync()
        except ValueError as error:
            raise damaged(self._path, error) from None
        return {study.name: study for study in self._replay.studies.values()}

    @cached_property
    def storage(self) -> BaseStorage:  # type: ignore[override]
        return open_storage(self._path.parent, None, reading=True)

    def _attrs(self) -> Mapping[str, Any]:
        return self._studies()[self.name].user_attrs

    @property
    def direction(self) -> Direction:
        return "maximize" if self._studies()[self.name].directions == [StudyDirection.MAXIMIZE] else "minimize"

    def groups(self) -> list[str]:
        return [SEARCH, *sorted(name.removeprefix(f"{self.name}/") for name in self._studies() if name.startswith(f"{self.name}/"))]

    def records(self, group: str) -> Sequence[Record]:
        study = self._studies().get(self.name if group == SEARCH else f"{self.name}/{group}")
        return study.trials if study is not None else ()


class Ledger(Reader):
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
        self._check()
        self._studies: dict[str, Study] = {SEARCH: self._main}
        self._finished: dict[tuple[str, int], TrialView] = {}  # a finished trial never changes: parsed once
        self._indices: dict[str, _Index] = {}
        self._curves: dict[tuple[str, int], set[int]] = {}  # of a running trial: epochs that are among its intermediate values

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

    def _attrs(self) -> Mapping[str, Any]:
        return self._main.user_attrs

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
    def direction(self) -> Direction:
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

    def study_id(self, group: str) -> int:
        """The storage's number of the Optuna study of ``group``, which is made if it is not there."""
        return self._study(group)._study_id

    def groups(self) -> list[str]:
        names = optuna.study.get_all_study_names(self.storage)
        return [SEARCH, *sorted(name.removeprefix(f"{self.name}/") for name in names if name.startswith(f"{self.name}/"))]

    def records(self, group: str) -> Sequence[Record]:
        if group not in self._studies:
            if f"{self.name}/{group}" not in optuna.study.get_all_study_names(self.storage):
                return []
            self._studies[group] = optuna.load_study(study_name=f"{self.name}/{group}", storage=self.storage)
        return self.frozen(group)

    def _view(self, group: str, trial: Record) -> TrialView:
        known = self._finished.get((group, trial.number))
        if known is None:
            known = super()._view(group, trial)
            if trial.state.is_finished():
                self._finished[group, trial.number] = known
        return known

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

        Raises:
            RuntimeError: another process writes this ledger as well.
        """
        index = self._index(group)
        attrs: dict[str, Any] = {"candidate_id": candidate.candidate_id, "cell_id": candidate.spec.cell_id, "seed": seed, "cohort": cohort}
        attrs["candidate"] = candidate.to_dict()
        if role:
            attrs["role"] = role
        twin = index.first.get(candidate.candidate_id) if proposal else None
        if twin is not None:
            attrs["duplicate_of"] = twin
        template = create_trial(
            state=TrialState.RUNNING if twin is None else TrialState.FAIL,
            params=dict(proposal.params) if proposal else {},
            distributions=dict(proposal.distributions) if proposal else {},
            user_attrs=attrs,
            system_attrs=dict(proposal.system_attrs) if proposal else {},
        )
        number = len(index.ids)
        if isinstance(self.storage, Database):
            index.ids.append(PENDING)
            self.storage.add(index.study, number, template, index.ids)
        else:
            index.ids.append(self.storage.create_new_trial(index.study, template_trial=template))
            if self.storage.get_trial_id_from_study_id_trial_number(index.study, number) != index.ids[-1]:
                raise RuntimeError("another process adds trials to this study")
        index.first.setdefault(candidate.candidate_id, number)
        template.number = number
        if twin is None:
            self._curves[group, number] = set()
        return self._view(group, template)

    def _index(self, group: str) -> _Index:
        """What a writer needs to know of ``group``: read once, then kept, as nobody else writes."""
        if group not in self._indices:
            first: dict[str, int] = {}
            trials = self.frozen(group)
            for trial in trials:
                first.setdefault(trial.user_attrs["candidate_id"], trial.number)
            self._indices[group] = _Index(self.study_id(group), [trial._trial_id for trial in trials], first)
        return self._indices[group]

    def together(self) -> AbstractContextManager[None]:
        """What is written inside reaches the disk, or the database, at the end, in one go.

        In a file, a process that is killed inside loses nothing, and a power cut takes back what was last written, never what went
        before. In a database it is all or nothing.
        """
        if isinstance(self.storage, FileStorage):
            return self.storage.file.together()
        return self.storage.together() if isinstance(self.storage, Database) else nullcontext()

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
        index = self._index(trial.group)
        index.ids.append(self.storage.create_new_trial(index.study, template_trial=template))
        index.first.setdefault(trial.candidate_id, len(index.ids) - 1)

    def record(self, trial: TrialView, rung: Rung) -> TrialView:
        """The lane reached its next rung: one record, then the curve for Optuna's own readers.

        Raises:
            ValueError: a reading of the test split outside the confirmation, a second one of a run, or one without its record.
        """
        if (rung.test_value is None) != (rung.reading is None):
            raise ValueError(f"{trial.key}: a test value and the record of its reading come together")
        if rung.reading is not None and (trial.group != CONFIRMATION or any(known.test_value is not None for known in trial.rungs)):
            raise ValueError(f"{trial.key}: the test split is read in confirmation only, and once a run")
        updated = dataclasses.replace(trial, rungs=(*trial.rungs, rung))
        with self.together():
            self.storage.set_trial_user_attr(self._id(trial), f"rung/{len(trial.rungs)}", dataclasses.asdict(rung))
            self._write_curve(updated)
        return updated

    def _write_curve(self, trial: TrialView) -> None:
        """The recorded epochs as intermediate values; those that a killed process left out are added."""
        number, key = self._id(trial), (trial.group, trial.number)
        if key not in self._curves:
            self._curves[key] = set(self.storage.get_trial(number).intermediate_values)
        for rung in trial.rungs:
            for epoch, _, _, value, _ in rung.rows:
                if epoch not in self._curves[key]:
                    self.storage.set_trial_intermediate_value(number, epoch, value)
                    self._curves[key].add(epoch)

    def _id(self, trial: TrialView) -> int:
        """The storage's own number of ``trial``; a trial that is still to be written has none."""
        number = self._index(trial.group).ids[trial.number]
        assert number != PENDING
        return number

    def _end(self, trial: TrialView, state: TrialState, value: float | None) -> None:
        """The last write of a trial: what `optuna.Study.tell` does, less what it reads."""
        self.storage.set_trial_state_values(self._id(trial), state, None if value is None else [value])
        self._curves.pop((trial.group, trial.number), None)

    def finish(self, trial: TrialView) -> None:
        """The lane reached its last rung: COMPLETE."""
        with self.together():
            self._write_curve(trial)
            self._end(trial, TrialState.COMPLETE, trial.value)

    def drop(self, trial: TrialView) -> None:
        """The lane was dropped at a rung: PRUNED, with the value of its last epoch, as Optuna's samplers expect."""
        with self.together():
            self._write_curve(trial)
            self._end(trial, TrialState.PRUNED, trial.rungs[-1].rows[-1][3] if trial.rungs else None)

    def fail(self, trial: TrialView, error: str) -> None:
        """The lane cannot go on: FAIL, with the reason."""
        with self.together():
            self.storage.set_trial_user_attr(self._id(trial), "error", error)
            self._end(trial, TrialState.FAIL, None)
