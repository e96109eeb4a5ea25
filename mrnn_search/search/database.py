"""Optuna's database storage, in which what is written together is one transaction of a few statements."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

PENDING = -1  # the number of a trial that is not written yet


@dataclass
class _Batch:
    """What waits to be written: new trials (study, place in it, the trial, where its number goes), attributes (trial, key, value),
    intermediate values (trial, step, value) and last states (trial, state, value)."""

    new: list[tuple[int, int, FrozenTrial, list[int]]] = field(default_factory=list)
    attributes: list[tuple[int, str, Any]] = field(default_factory=list)
    curves: list[tuple[int, int, float]] = field(default_factory=list)
    ends: list[tuple[int, TrialState, float | None]] = field(default_factory=list)


class Database(RDBStorage):
    """What the head writes inside `together` reaches the database at the block's end: all of it or, if anything fails, nothing.

    Optuna 5 takes about fourteen statements and four transactions for a trial; a block takes about eight, however many trials are in
    it. The rows are the same, and so is the check of each distribution against the one that the study has, which is read once.
    Reading inside a block does not show what the block writes. For one writer at a time.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._distributions: dict[tuple[int, str], BaseDistribution] = {}
        self._batch: _Batch | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `Database`.

        Raises:
            RuntimeError: another process has added trials.
            UpdateFinishedTrialError: a trial that is written to has ended.
        """
        if self._batch is not None:
            yield
            return
        self._batch = batch = _Batch()
        try:
            yield
        finally:
            self._batch = None
        self._write(batch)

    def add(self, study_id: int, number: int, template: FrozenTrial, ids: list[int]) -> None:
        """A new trial, at place ``number`` of its study: ``ids[number]`` is its number in the storage once it is written."""
        with self.together():
            assert self._batch is not None and template.values is None and not template.intermediate_values
            self._batch.new.append((study_id, number, template, ids))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if self._batch is None:
            super().set_trial_user_attr(trial_id, key, value)
        else:
            self._batch.attributes.append((trial_id, key, value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        if self._batch is None:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        else:
            self._batch.curves.append((trial_id, step, intermediate_value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if self._batch is None or not state.is_finished() or (values is not None and len(values) != 1):
            return super().set_trial_state_values(trial_id, state, values)
        self._batch.ends.append((trial_id, state, None if values is None else values[0]))
        return True

    def _write(self, batch: _Batch) -> None:
        made: list[int] = []
        with _create_scoped_session(self.scoped_session) as session:
            # First: where it fails, Optuna commits what the session has written so far
            self._check_running(session, {trial for trial, *_ in (*batch.attributes, *batch.curves, *batch.ends)})
            if batch.new:
                made = self._add_trials(session, batch.new)
            attributes = {(trial, key): json.dumps(value) for trial, key, value in batch.attributes}
            _put(session, models.TrialUserAttributeModel, "key", "value_json", attributes)
            curves = {(trial, step): value for trial, step, value in batch.curves}
            _put(session, models.TrialIntermediateValueModel, "step", "intermediate_value", curves)
            self._end_trials(session, batch.ends)
        for (_, number, _, ids), trial in zip(batch.new, made, strict=True):
            ids[number] = trial

    def _add_trials(self, session: Session, new: Sequence[tuple[int, int, FrozenTrial, list[int]]]) -> list[int]:
        """Their numbers in the storage."""
        firsts: dict[int, int] = {}
        for study, number, *_ in new:
            firsts.setdefault(study, number)
        for study, first in firsts.items():
            session.execute(select(models.StudyModel.study_id).where(models.StudyModel.study_id == study).with_for_update())
            there = session.scalar(select(func.count()).select_from(models.TrialModel).where(models.TrialModel.study_id == study))
            if there != first:
                raise RuntimeError("another process adds trials to this study")
        rows = [
            {"study_id": study, "number": number, "state": t.state} | _times(t.datetime_start, t.datetime_complete)
            for study, number, t, _ in new
        ]
        _insert(session, models.TrialModel, rows)
        places = {}
        for study, first in firsts.items():
            made = select(models.TrialModel.number, models.TrialModel.trial_id)
            for number, trial in session.execute(made.where(models.TrialModel.study_id == study, models.TrialModel.number >= first)):
                places[study, number] = int(trial)
        ids = [places[study, number] for study, number, *_ in new]
        params, user, system = [], [], []
        for trial, (study, _, t, _) in zip(ids, new, strict=True):
            for name, value in t.params.items():
                distribution = t.distributions[name]
                check_distribution_compatibility(self._known(study, name, distribution, session), distribution)
                stored, kind = distribution.to_internal_repr(value), distribution_to_json(distribution)
                params.append({"trial_id": trial, "param_name": name, "param_value": stored, "distribution_json": kind})
            user += _attributes(trial, t.user_attrs)
            system += _attributes(trial, t.system_attrs)
        _insert(session, models.TrialParamModel, params)
        _insert(session, models.TrialUserAttributeModel, user)
        _insert(session, models.TrialSystemAttributeModel, system)
        return ids

    def _check_running(self, session: Session, trials: set[int]) -> None:
        if trials:
            states = session.execute(
                select(models.TrialModel.trial_id, models.TrialModel.state).where(models.TrialModel.trial_id.in_(trials))
            )
            for trial, state in states:
                self.check_trial_is_updatable(trial, state)

    @staticmethod
    def _end_trials(session: Session, ends: Sequence[tuple[int, TrialState, float | None]]) -> None:
        _put(session, models.TrialValueModel, "objective", "value", {(trial, 0): value for trial, _, value in ends if value is not None})
        by_state: dict[TrialState, list[int]] = defaultdict(list)
        for trial, state, _ in ends:
            by_state[state].append(trial)
        for state, trials in by_state.items():
            moved = update(models.TrialModel).where(models.TrialModel.trial_id.in_(trials))
            ended = {name: time for name, time in _times(None, datetime.now()).items() if time is not None}
            session.execute(moved.values(state=state, **ended).execution_options(synchronize_session=False))

    def _known(self, study_id: int, name: str, new: BaseDistribution, session: Session) -> BaseDistribution:
        """The distribution that the study has for a parameter; ``new`` if it has none."""
        if (study_id, name) not in self._distributions:
            found = (
                session.query(models.TrialParamModel)
                .join(models.TrialModel)
                .filter(models.TrialModel.study_id == study_id, models.TrialParamModel.param_name == name)
                .first()
            )
            self._distributions[study_id, name] = new if found is None else json_to_distribution(str(found.distribution_json))
        return self._distributions[study_id, name]


def _times(start: datetime | None, complete: datetime | None) -> dict[str, datetime | None]:
    """Local times as the columns have them, in UTC: Optuna's own conversion."""
    row = models.TrialModel(datetime_start=start, datetime_complete=complete)
    return {name: getattr(row, name) for name in ("_datetime_start_utc", "_datetime_complete_utc")}


def _attributes(trial: int, attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"trial_id": trial, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]


def _insert(session: Session, model: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.execute(insert(model), rows)


KINDS = {  # Optuna stores infinities and NaN by a name of their own
    "intermediate_value": ("intermediate_value_type", models.TrialIntermediateValueModel.intermediate_value_to_stored_repr),
    "value": ("value_type", models.TrialValueModel.value_to_stored_repr),
}


def _put(session: Session, model: Any, by: str, column: str, values: Mapping[tuple[int, Any], Any]) -> None:
    """``values`` of (trial, key) in their table, in place of what is there."""
    if not values:
        return

    def row(key: tuple[int, Any]) -> dict[str, Any]:
        if column not in KINDS:
            return {column: values[key]}
        name, stored = KINDS[column]
        return dict(zip((column, name), stored(values[key]), strict=True))

    trials: Iterable[int] = {trial for trial, _ in values}
    there = set(map(tuple, session.execute(select(model.trial_id, getattr(model, by)).where(model.trial_id.in_(trials)))))
    _insert(session, model, [{"trial_id": key[0], by: key[1], **row(key)} for key in values if key not in there])
    for key in values.keys() & there:
        where = model.trial_id == key[0], getattr(model, by) == key[1]
        session.execute(update(model).where(*where).values(**row(key)).execution_options(synchronize_session=False))
