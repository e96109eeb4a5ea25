"""Optuna's database storage, with what is known in full written in a few statements and one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial
from sqlalchemy import insert
from sqlalchemy.orm import Session


class Database(RDBStorage):
    """Writes a new trial with its parameters and attributes in one statement a table, where Optuna 5 takes two or three for each of them.

    The rows are the same, and so is the check of each distribution against the one that the study has, which is read once.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._distributions: dict[tuple[int, str], BaseDistribution] = {}

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Session) -> models.TrialModel:
        if template_trial is None or template_trial.values is not None or template_trial.intermediate_values:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        t = template_trial
        trial = models.TrialModel(
            study_id=study_id, number=None, state=t.state, datetime_start=t.datetime_start, datetime_complete=t.datetime_complete
        )
        session.add(trial)
        session.flush()
        params = []
        for name, value in t.params.items():
            distribution = t.distributions[name]
            check_distribution_compatibility(self._known(study_id, name, distribution, session), distribution)
            params.append(
                {
                    "param_name": name,
                    "param_value": distribution.to_internal_repr(value),
                    "distribution_json": distribution_to_json(distribution),
                }
            )
        for model, rows in (
            (models.TrialParamModel, params),
            (models.TrialUserAttributeModel, _attributes(t.user_attrs)),
            (models.TrialSystemAttributeModel, _attributes(t.system_attrs)),
        ):
            if rows:
                session.execute(insert(model), [{"trial_id": trial.trial_id, **row} for row in rows])
        trial.number = trial.count_past_trials(session)
        return trial

    def set_user_attr_and_curve(self, trial_id: int, key: str, value: Any, curve: Mapping[int, float]) -> None:
        """A user attribute and intermediate values that are not there yet, in one transaction: all of it or nothing."""
        with _create_scoped_session(self.scoped_session, True) as session:
            self._set_trial_attr_without_commit(session, models.TrialUserAttributeModel, trial_id, key, value)
            rows = []
            for step, number in curve.items():
                stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(number)
                rows.append({"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind})
            if rows:
                session.execute(insert(models.TrialIntermediateValueModel), rows)

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


def _attributes(attrs: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
