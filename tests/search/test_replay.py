"""Reading a journal for its tables gives what Optuna's own replay gives."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mrnn_search._registry import InputError
from mrnn_search.bench.filling import confirm, fill, new_ledger
from mrnn_search.search.journal import FileStorage
from mrnn_search.search.ledger import JournalReader, Ledger
from mrnn_search.search.replay import Replay
from mrnn_search.search.space import load_space
from mrnn_search.search.storage import LEDGER, open_storage

SPACE = load_space("smoke")


def same(path: Path, replay: Replay) -> None:
    """What both know of every study and trial is equal."""
    replay.sync()
    storage = FileStorage(path)
    studies = storage.get_all_studies()
    assert [s.study_name for s in studies] == [s.name for s in replay.studies.values()]
    for study in studies:
        own = replay.studies[study._study_id]
        assert (own.user_attrs, own.directions) == (study.user_attrs, study.directions)
        theirs = storage.get_all_trials(study._study_id)
        assert [vars(t) for t in own.trials] == [{name: getattr(t, name) for name in vars(own.trials[0])} for t in theirs]


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Whatever may be done to a journal, also by several writers, and read while it grows."""
    luck, path = random.Random(seed), tmp_path / LEDGER
    writers = [FileStorage(path), FileStorage(path)]
    replay, ids, studies = Replay(path), [], []
    for step in range(120):
        storage = luck.choice(writers)
        act = luck.randrange(9) if ids else 1
        try:
            if act == 0 or not studies:
                studies.append(storage.create_new_study([luck.choice(list(optuna.study.StudyDirection)[1:])], luck.choice("abcdef")))
            elif act <= 2:
                template = create_trial(
                    state=luck.choice([TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING]),
                    value=0.5,
                    user_attrs={"n": step},
                    intermediate_values={3: 1.0},
                    params={"x": 0.25},
                    distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                )
                ids.append(storage.create_new_trial(luck.choice(studies), luck.choice([None, template])))
            elif act == 3:
                storage.set_study_user_attr(luck.choice(studies), luck.choice("xyz"), {"list": [step, None, "é\n"]})
            elif act == 4 and luck.random() < 0.2:
                storage.delete_study(luck.choice(studies))
            elif act == 5:
                storage.set_trial_user_attr(luck.choice(ids), luck.choice("xyz"), step)
            elif act == 6:
                storage.set_trial_intermediate_value(luck.choice(ids), step, 0.1)
            elif act == 7:
                storage.set_trial_state_values(luck.choice(ids), luck.choice(list(TrialState)), [1.0])
            else:
                storage.set_trial_system_attr(luck.choice(ids), "k", step)
        except (KeyError, optuna.exceptions.UpdateFinishedTrialError, optuna.exceptions.DuplicatedStudyError):
            writers[writers.index(storage)] = FileStorage(path)  # Optuna's is out of step with its file after such an error
        if step % 7 == 0:
            same_or_empty(path, replay)
    same_or_empty(path, replay)


def same_or_empty(path: Path, replay: Replay) -> None:
    replay.sync()
    if all(study.trials for study in replay.studies.values()):
        same(path, replay)


def test_a_reader_shows_what_the_ledger_has(tmp_path: Path) -> None:
    ledger = new_ledger(open_storage(tmp_path, None), "s", SPACE)
    fill(ledger, SPACE, 30)
    reader = JournalReader(tmp_path / LEDGER)
    confirm(ledger)  # it follows
    again = Ledger(open_storage(tmp_path, None), "s")
    for one in (reader, ledger):
        assert (one.name, one.recipe, one.meta, one.direction, one.complete) == ("s", again.recipe, again.meta, "maximize", True)
        assert one.groups() == again.groups() == ["search", "confirmation"]
        assert [one.trials(g) for g in (*one.groups(), "none")] == [again.trials(g) for g in (*again.groups(), "none")]
    assert optuna.study.get_all_study_names(reader.storage) == ["s", "s/confirmation"]


def test_a_file_that_is_being_written_and_one_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    fill(new_ledger(open_storage(tmp_path, None), "s", SPACE), SPACE, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    replay = Replay(path)
    replay.sync()
    assert not replay.studies[0].trials[-1].state.is_finished()
    path.write_bytes(whole)
    same(path, replay)
    shutil.copy(path, tmp_path / "copy")
    with (tmp_path / "copy").open("r+b") as file:
        file.truncate(whole.index(b"\n", len(whole) // 2) + 1)
    (tmp_path / "copy").replace(path)
    same(path, replay)


@pytest.mark.parametrize(
    "line", [b"hello\n", b"{}\n", b"[1]\n", b'{"op_code": 99}\n', b'{"op_code":4}\n', b"\xff\n", b'{"op_code":6,"trial_id":"a"}\n']
)
def test_a_damaged_journal_is_refused_each_time(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / LEDGER
    new_ledger(open_storage(tmp_path, None), "s", SPACE)
    reader = JournalReader(path)
    with path.open("ab") as file:
        file.write(line)
    for _ in range(2):
        with pytest.raises(InputError, match=f"{LEDGER}: damaged: .*line 5"):
            reader.groups()
    with pytest.raises(InputError, match=f"{LEDGER}: damaged"):
        JournalReader(path)
