"""What is written together is what Optuna's own storage writes, all of it or nothing, in a few statements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from mrnn_search.search.database import PENDING, Database

DISTRIBUTIONS = {"x": FloatDistribution(1e-3, 1, log=True), "n": IntDistribution(1, 9), "c": CategoricalDistribution(["a", "b", True])}


def template(state: TrialState = TrialState.RUNNING) -> FrozenTrial:
    return create_trial(
        state=state,
        params={"x": 0.25, "n": 3, "c": "b"},
        distributions=DISTRIBUTIONS,
        user_attrs={"é": [1, None, {"a": 0.1}], "empty": ""},
        system_attrs={"s": 1},
    )


TEMPLATES = [template(), template(TrialState.FAIL), create_trial(state=TrialState.RUNNING), template()]
RUNNING = [0, 2, 3]


def by_hand(storage: RDBStorage, study: int) -> None:
    """Optuna's own storage, write by write."""
    ids = [storage.create_new_trial(study, each) for each in TEMPLATES]
    write(storage, ids)


def write(storage: RDBStorage, ids: list[int]) -> None:
    for number in RUNNING:
        storage.set_trial_user_attr(ids[number], "empty", f"no longer {number}")
        storage.set_trial_user_attr(ids[number], "rung", {"value": 0.5, "rows": [[1, 0.1]]})
        for step, value in enumerate((0.5, math.nan, math.inf, -math.inf)):
            storage.set_trial_intermediate_value(ids[number], step, value)
    for step in (1, 9):  # one that is there, one that is not
        storage.set_trial_intermediate_value(ids[0], step, 7.0)
    for number, state, value in ((0, TrialState.COMPLETE, [0.5]), (2, TrialState.FAIL, None), (3, TrialState.PRUNED, [math.inf])):
        assert storage.set_trial_state_values(ids[number], state, value)


def together(storage: Database, study: int, places: list[int]) -> None:
    ids = [PENDING] * len(TEMPLATES)
    with storage.together():
        for number, each in enumerate(TEMPLATES):
            storage.add(study, number, each, ids)
        assert ids == [PENDING] * len(ids)
    assert PENDING not in ids
    write_together(storage, ids)
    places += ids


def write_together(storage: Database, ids: list[int]) -> None:
    with storage.together():
        write(storage, ids)
        assert not storage.get_trial(ids[0]).intermediate_values


@pytest.fixture(params=["sqlite", "postgresql"])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else str(request.getfixturevalue("postgresql"))


def essence(url: str, name: str) -> list[Any]:
    trials = optuna.load_study(study_name=name, storage=RDBStorage(url)).trials
    seen = [(t.number, t.state, t.params, t.distributions, t.user_attrs, t.system_attrs, t.values) for t in trials]
    times = [(t.datetime_start is None, t.datetime_complete is None) for t in trials]
    return [seen, times, repr([sorted(t.intermediate_values.items()) for t in trials])]  # as text: NaN is like NaN


def test_the_same_trials(url: str, tmp_path: Path) -> None:
    names = f"{tmp_path.name}-a", f"{tmp_path.name}-b"
    theirs, ours = RDBStorage(url), Database(url)
    by_hand(theirs, theirs.create_new_study([StudyDirection.MAXIMIZE], names[0]))
    together(ours, ours.create_new_study([StudyDirection.MAXIMIZE], names[1]), [])
    assert essence(url, names[0]) == essence(url, names[1])
    fresh = optuna.load_study(study_name=names[1], storage=RDBStorage(url)).trials
    assert [t.datetime_start for t in fresh] == [t.datetime_start for t in TEMPLATES]


def test_one_by_one_it_is_optunas_storage(url: str, tmp_path: Path) -> None:
    names = f"{tmp_path.name}-a", f"{tmp_path.name}-b"
    for storage, name in zip((RDBStorage(url), Database(url)), names, strict=True):
        by_hand(storage, storage.create_new_study([StudyDirection.MAXIMIZE], name))
    assert essence(url, names[0]) == essence(url, names[1])


def test_statements_do_not_grow_with_trials(tmp_path: Path) -> None:
    storage = Database(f"sqlite:///{tmp_path}/a.db")
    counts = []
    for number, copies in enumerate((1, 50)):
        study = storage.create_new_study([StudyDirection.MAXIMIZE], f"{number}")
        seen: list[str] = []
        listener = lambda *args, seen=seen: seen.append(args[2])  # noqa: E731
        event.listen(storage.engine, "before_cursor_execute", listener)
        ids = [PENDING] * copies
        with storage.together():
            for place in range(copies):
                storage.add(study, place, template(), ids)
        with storage.together():
            for trial in ids:
                storage.set_trial_user_attr(trial, "rung/0", {})
                storage.set_trial_intermediate_value(trial, 1, 0.5)
                storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.5])
        event.remove(storage.engine, "before_cursor_execute", listener)
        counts.append(len(seen))
    assert counts[1] <= counts[0] + 1 and counts[0] < 25, counts  # the first looks the three distributions up


def test_all_or_nothing(url: str, tmp_path: Path) -> None:
    storage = Database(url)
    study, ids = storage.create_new_study([StudyDirection.MAXIMIZE], tmp_path.name), [PENDING] * 2
    other = create_trial(state=TrialState.RUNNING, params={"c": "z"}, distributions={"c": CategoricalDistribution(["y", "z"])})
    with pytest.raises(ValueError, match="does not support dynamic value space"), storage.together():
        storage.add(study, 0, template(), ids)
        storage.add(study, 1, other, ids)
    assert ids == [PENDING] * 2 and storage.get_all_trials(study) == []
    with pytest.raises(KeyError), storage.together():
        storage.add(study, 0, template(), ids)
        raise KeyError
    assert storage.get_all_trials(study) == []
    together(storage, study, done := [])
    with pytest.raises(UpdateFinishedTrialError), storage.together():
        storage.add(study, len(done), template(), [*done, PENDING])
        storage.set_trial_user_attr(done[0], "late", 1)
    assert len(storage.get_all_trials(study)) == len(done)


def test_two_writers_are_noticed(url: str, tmp_path: Path) -> None:
    storage = Database(url)
    study = storage.create_new_study([StudyDirection.MAXIMIZE], tmp_path.name)
    storage.add(study, 0, template(), [PENDING])
    with pytest.raises(RuntimeError, match="another process adds trials"):
        storage.add(study, 0, template(), [PENDING])
    assert len(storage.get_all_trials(study)) == 1


@pytest.mark.parametrize("reopened", [False, True])
def test_another_distribution_is_refused(tmp_path: Path, reopened: bool) -> None:
    storage = Database(f"sqlite:///{tmp_path}/a.db")
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "s")
    storage.add(study, 0, template(), [PENDING])
    storage = Database(f"sqlite:///{tmp_path}/a.db") if reopened else storage
    other = create_trial(state=TrialState.RUNNING, params={"c": "z"}, distributions={"c": CategoricalDistribution(["y", "z"])})
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        storage.add(study, 1, other, [PENDING] * 2)
    assert len(storage.get_all_trials(study)) == 1
