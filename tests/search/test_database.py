"""A trial written in a few statements is the trial that Optuna's own storage writes."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from mrnn_search.search.database import Database

DISTRIBUTIONS = {"x": FloatDistribution(1e-3, 1, log=True), "n": IntDistribution(1, 9), "c": CategoricalDistribution(["a", "b", True])}


def template(state: TrialState = TrialState.RUNNING, **more: object) -> FrozenTrial:
    return create_trial(
        state=state,
        params={"x": 0.25, "n": 3, "c": "b"},
        distributions=DISTRIBUTIONS,
        user_attrs={"é": [1, None, {"a": 0.1}], "empty": ""},
        system_attrs={"s": 1},
        **more,  # type: ignore[arg-type]
    )


TEMPLATES = [
    template(),
    template(TrialState.FAIL),
    template(TrialState.COMPLETE, value=0.5, intermediate_values={1: 0.2}),
    create_trial(state=TrialState.RUNNING),
    None,
]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_same_trials(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else str(request.getfixturevalue("postgresql"))
    seen = []
    for number, storage in enumerate((Database(url), RDBStorage(url))):
        study = optuna.create_study(storage=storage, study_name=f"{tmp_path.name}-{number}")
        made = [study._storage.create_new_trial(study._study_id, each) for each in TEMPLATES]
        study._storage.set_trial_user_attr(made[0], "empty", "no longer")
        study._storage.set_trial_state_values(made[0], TrialState.COMPLETE, [0.5])
        fresh = optuna.load_study(study_name=study.study_name, storage=RDBStorage(url)).trials
        times = [(t.datetime_start is None, t.datetime_complete is None) for t in fresh]
        seen.append(
            [(t.number, t.state, t.params, t.distributions, t.user_attrs, t.system_attrs, t.values, t.intermediate_values) for t in fresh]
            + times
        )
        assert fresh[1].datetime_start == TEMPLATES[1].datetime_start and [t.number for t in fresh] == list(range(len(TEMPLATES)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("reopened", [False, True])
def test_another_distribution_is_refused(tmp_path: Path, reopened: bool) -> None:
    storage = Database(f"sqlite:///{tmp_path}/a.db")
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
    storage.create_new_trial(study, template())
    storage = Database(f"sqlite:///{tmp_path}/a.db") if reopened else storage
    other = create_trial(state=TrialState.RUNNING, params={"c": "z"}, distributions={"c": CategoricalDistribution(["y", "z"])})
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        storage.create_new_trial(study, other)
    assert len(storage.get_all_trials(study)) == 1
