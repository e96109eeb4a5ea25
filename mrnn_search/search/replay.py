"""A journal file, read for its tables: what Optuna's own replay would know of studies and trials, less params and distributions.

Those, and the intermediate values, are most of a journal and of the time that Optuna takes for it, and no table shows them.
Differences from Optuna's `JournalStorageReplayResult`: none in what both keep; the tests compare them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from optuna.trial import TrialState

# Optuna's JournalOperation
CREATE_STUDY, DELETE_STUDY, STUDY_USER_ATTR, STUDY_SYSTEM_ATTR, CREATE_TRIAL, PARAM, STATE = range(7)
INTERMEDIATE, USER_ATTR, SYSTEM_ATTR, DISCARD = range(7, 11)
BLOCK = 2**20  # bytes that are parsed at once
SKIPPED = tuple(f'{{"op_code":{code},'.encode() for code in (PARAM, INTERMEDIATE, SYSTEM_ATTR))


@dataclass
class Trial:
    """One trial; names as of `optuna.trial.FrozenTrial`."""

    number: int
    state: TrialState
    user_attrs: dict[str, Any]
    datetime_start: datetime | None
    datetime_complete: datetime | None


@dataclass
class Study:
    """One Optuna study."""

    name: str
    directions: list[int]
    user_attrs: dict[str, Any] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)


class Replay:
    """The studies of a journal file, as of the last `sync`.

    A record that is being written is left for the next time. Where the file is another one, or shorter, it is read anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin(None)

    def _begin(self, inode: int | None) -> None:
        self._inode, self._offset, self._line, self._next_study = inode, 0, 0, 0
        self.studies: dict[int, Study] = {}
        self._trials: list[Trial] = []

    def sync(self) -> None:
        """Read what was appended.

        Raises:
            OSError: it cannot be read.
            ValueError: a line that is no record of Optuna's.
        """
        now = os.stat(self._path)
        if now.st_ino != self._inode or now.st_size < self._offset:
            self._begin(now.st_ino)
        if now.st_size > self._offset:
            with self._path.open("rb") as file, uncollected():
                file.seek(self._offset)
                self._read(file)

    def _read(self, file: BinaryIO) -> None:
        while lines := file.readlines(BLOCK):
            whole = lines if lines[-1].endswith(b"\n") else lines[:-1]
            numbered = [(self._line + n, line) for n, line in enumerate(whole, start=1) if not line.startswith(SKIPPED)]
            for number, log in self._parsed(numbered):
                self._apply(number, log)
            self._line += len(whole)
            self._offset += sum(map(len, whole))
            if len(whole) < len(lines):
                break

    def _parsed(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, Any]]:
        """Line numbers and records. All at once, which takes half of the time; one by one where that says only that something is wrong."""
        with contextlib.suppress(ValueError):
            logs = json.loads(b"[" + b",".join(line for _, line in lines) + b"]")
            if len(logs) == len(lines):
                yield from zip((number for number, _ in lines), logs, strict=True)
                return
        for number, line in lines:
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise self._wrong(number, error) from None

    def _wrong(self, number: int, error: Exception) -> ValueError:
        self._inode = None
        return ValueError(f"line {number}: {type(error).__name__} {error}")

    def _apply(self, number: int, log: Any) -> None:
        try:
            act = _ACTS[log["op_code"]]
            if act is not None:
                act(self, log)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise self._wrong(number, error) from None

    def _create_study(self, log: dict[str, Any]) -> None:
        if any(study.name == log["study_name"] for study in self.studies.values()):
            return
        self.studies[self._next_study] = Study(log["study_name"], log["directions"])
        self._next_study += 1

    def _delete_study(self, log: dict[str, Any]) -> None:
        self.studies.pop(log["study_id"], None)

    def _study_user_attr(self, log: dict[str, Any]) -> None:
        if log["study_id"] in self.studies:
            self.studies[log["study_id"]].user_attrs.update(log["user_attr"])

    def _create_trial(self, log: dict[str, Any]) -> None:
        if log["study_id"] not in self.studies:
            return
        trials = self.studies[log["study_id"]].trials
        state = TrialState(log.get("state", TrialState.RUNNING.value))
        times = _time(log["datetime_start"]), _time(log.get("datetime_complete"))
        trials.append(Trial(len(trials), state, log.get("user_attrs", {}), *times))
        self._trials.append(trials[-1])

    def _state(self, log: dict[str, Any]) -> None:
        trial, state = self._open(log), TrialState(log["state"])
        if trial is None or state == trial.state == TrialState.RUNNING:
            return
        trial.state = state
        if state == TrialState.RUNNING:
            trial.datetime_start = _time(log["datetime_start"])
        elif state.is_finished():
            trial.datetime_complete = _time(log["datetime_complete"])

    def _user_attr(self, log: dict[str, Any]) -> None:
        trial = self._open(log)
        if trial is not None:
            trial.user_attrs.update(log["user_attr"])

    def _open(self, log: dict[str, Any]) -> Trial | None:
        """The trial that a record is about; None where Optuna ignores the record."""
        known = log["trial_id"] < len(self._trials)
        trial = self._trials[log["trial_id"]] if known else None
        return None if trial is None or trial.state.is_finished() else trial


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through all that was read so far again and again; there are no cycles in it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone().replace(tzinfo=None)


_ACTS: dict[int, Callable[[Replay, dict[str, Any]], None] | None] = {
    CREATE_STUDY: Replay._create_study,
    DELETE_STUDY: Replay._delete_study,
    STUDY_USER_ATTR: Replay._study_user_attr,
    STUDY_SYSTEM_ATTR: None,
    CREATE_TRIAL: Replay._create_trial,
    PARAM: None,
    STATE: Replay._state,
    INTERMEDIATE: None,
    USER_ATTR: Replay._user_attr,
    SYSTEM_ATTR: None,
    DISCARD: None,
}
