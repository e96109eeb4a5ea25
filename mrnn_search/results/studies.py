"""What studies there are and how they stand; how one is stopped, and removed."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from .._registry import InputError, UnknownNameError
from ..search.claims import HOLDER, LOCK, Holder, held, holder_of, one_writer, one_writer_of, taken
from ..search.finalists import ranked
from ..search.ledger import CONFIRMATION, SEARCH, Ledger
from ..search.recipe import check_name, is_name
from ..search.storage import LEDGER, POINTER, check_home, open_storage, refuse_links, shown
from .study import quiet, runs_folder
from .wholeness import whole

LARGE, ALL = 16 * 2**20, 64 * 2**20  # bytes of a journal, and of all of them, that are read for the list: seconds; of the others, the end
TAIL = 2**16
POLL_S = 0.1


@dataclass(frozen=True)
class Overview:
    """How a study stands.

    Attributes:
        state: "complete", "running", "unfinished" (the same command goes on), "damaged", "in a database", or "unknown" (not read).
        note: who runs it; what is wrong with it; where its ledger is; why it was not read.
        tried, budget: candidates that are decided, and all of them; None: not read.
        confirmed: runs of the confirmation that ended; test_readings: those that read the test split, once each.
        best: the name of the best candidate so far, and `value`, its validation metric.
        active: when the ledger was last written, ISO 8601 in UTC.
    """

    name: str
    state: str
    note: str = ""
    tried: int | None = None
    budget: int | None = None
    confirmed: int | None = None
    test_readings: int | None = None
    benchmark: str | None = None
    best: str | None = None
    value: float | None = None
    active: str | None = None


def overviews(storage: str | None = None) -> list[Overview]:
    """Every study of the runs folder, or of the database at ``storage``, by name.

    Raises:
        InputError: the database cannot be opened.
    """
    quiet()
    if storage is not None:
        opened = open_storage(Path(), storage, reading=True)
        names = [name for name in optuna.study.get_all_study_names(opened) if "/" not in name and Ledger.exists(opened, name)]
        return [_in_database(opened, name, storage) for name in sorted(names)]
    folders = list(runs_folder().iterdir()) if runs_folder().is_dir() else []
    found, room = [], ALL
    for path in sorted(folders, key=_written, reverse=True):  # the newest are read
        if is_name(path.name) and any((path / known).exists() for known in (LEDGER, POINTER, LOCK)):
            size = (path / LEDGER).stat().st_size if (path / LEDGER).is_file() else 0
            read = size <= min(LARGE, room)
            found.append(_in_folder(path, size, read))
            room -= size if read else 0
    return sorted(found, key=lambda one: one.name)


def _written(folder: Path) -> float:
    try:
        return (folder / LEDGER).stat().st_mtime
    except OSError:
        return 0.0


def _in_database(opened: BaseStorage, name: str, url: str) -> Overview:
    try:
        ledger, running = whole(Ledger(opened, name)), taken(url, name)
        ends = [t.finished or t.started for group in ledger.groups() for t in ledger.trials(group)]
        active = max((end.timestamp() for end in ends if end is not None), default=None)
        return _read(ledger, Holder.of(ledger.holder) if running else None, running, None if active is None else _iso(active))
    except InputError as error:  # one unreadable study must not hide the others
        return Overview(name, "damaged", str(error).splitlines()[0])


def _in_folder(folder: Path, size: int, read: bool) -> Overview:
    name, path = folder.name, folder / LEDGER
    try:
        refuse_links(folder)
        running, holder = held(folder), holder_of(folder)
        who = f"{holder or 'by another process'}" if running else ""
        if (folder / POINTER).is_file():
            where = f"its ledger is in {(folder / POINTER).read_text(encoding='utf-8').strip()}"
            return Overview(name, "running" if running else "in a database", "; ".join(part for part in (who, where) if part))
        if not size:
            return Overview(name, "running" if running else "unfinished", who or "nothing is recorded yet")
        active = _iso(path.stat().st_mtime)
        if not read:
            unread = f"{size / 2**20:.0f} MiB of ledger are not read here; mrnn-search studies {name}"
            state = "running" if running else "complete" if _complete_at_its_end(path) else "unknown"
            return Overview(name, state, who or unread, active=active)
        return _read(whole(Ledger(open_storage(folder, None, reading=True), name)), holder, running, active)
    except (InputError, OSError) as error:  # one unreadable study must not hide the others
        return Overview(name, "damaged", str(error).splitlines()[0])


def _read(ledger: Ledger, holder: Holder | None, running: bool, active: str | None) -> Overview:
    state = "running" if running else "complete" if ledger.complete else "unfinished"
    search = [t for t in ledger.trials(SEARCH) if t.duplicate_of is None]
    best = next(iter(ranked(search, ledger.direction)), None)
    return Overview(
        name=ledger.name,
        state=state,
        note=str(holder or "by another process") if running else "",
        tried=sum(not t.running for t in search),
        budget=ledger.recipe["budget"]["trials"],
        confirmed=sum(not t.running for t in ledger.trials(CONFIRMATION)),
        test_readings=sum(r.test_value is not None for t in ledger.trials(CONFIRMATION) for r in t.rungs),
        benchmark=ledger.meta["benchmark"]["name"],
        best=None if best is None else best.candidate.spec.name,
        value=None if best is None else best.value,
        active=active,
    )


def _complete_at_its_end(path: Path) -> bool:
    """Does the end of a journal say that the study is complete? That is the last thing that is written."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().splitlines()[1:]
    found = False
    for line in lines:
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            found = json.loads(line).get("user_attr", {}).get("complete", found)
    return found is True


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def study_folder(study: str) -> Path:
    """The folder of a study in the runs folder, known by its name or its path.

    Raises:
        InputError: there is no such study, or the path leads elsewhere.
    """
    runs = runs_folder()
    folder = Path(study) if os.sep in study else runs / check_name(study)
    if folder.name in ("", "..") or folder.parent.resolve() != runs.resolve():
        raise InputError(f"is not in the runs folder {runs}", study)
    check_name(folder.name)
    refuse_links(folder)
    if not any((folder / known).is_file() for known in (LEDGER, POINTER, LOCK)):
        names = [path.parent.name for known in (LEDGER, POINTER) for path in runs.glob(f"*/{known}")]
        raise UnknownNameError("study", study, set(names), str(runs))
    return folder


def stop(study: str, *, now: bool = False, storage: str | None = None, on_asked: Callable[[Holder], None] = lambda holder: None) -> Holder:
    """Ask the process that runs a study to stop, as Ctrl-C does, and wait until it has.

    Args:
        now: do not wait for what trains; it is trained again when the study goes on.
        storage: where its ledger is: says who runs it, should that be on another machine.
        on_asked: called when it has been asked, before the waiting.

    Returns:
        who ran it.

    Raises:
        InputError: nobody runs it, or nobody that can be stopped from here.
    """
    folder = runs_folder() / check_name(study) if storage is not None else study_folder(study)
    if not held(folder):
        elsewhere = storage is not None and taken(storage, study)
        raise InputError(f"is being run, but not from {runs_folder()}{_who(study, storage)}" if elsewhere else "is not being run", study)
    holder = holder_of(folder)
    if holder is None:
        raise InputError(f"is being run, but {folder / HOLDER} does not say by whom; try again", study)
    if holder.host != platform.node():
        raise InputError(f"is being run by {holder}; stop it there", study)
    _signal(folder, holder, now)
    on_asked(holder)
    while holder.is_here and held(folder):
        time.sleep(POLL_S)
    return holder


def _who(study: str, storage: str | None) -> str:
    opened = open_storage(Path(), storage, reading=True)
    holder = Holder.of(Ledger(opened, study).holder) if Ledger.exists(opened, study) else None
    return f", by {holder}" if holder is not None else ""


def _signal(folder: Path, holder: Holder, now: bool) -> None:
    """Signal the holder and no other process, should its number be taken meanwhile.

    SIGTERM, which a head takes as it does Ctrl-C, because a shell may start its children deaf to that; then SIGINT, because two
    signals of one kind can come as one.
    """
    refused = InputError(f"process {holder.pid}, which ran it, is gone", holder.command)
    try:
        handle = os.pidfd_open(holder.pid) if hasattr(os, "pidfd_open") else None
    except ProcessLookupError:
        raise refused from None
    try:
        if not holder.is_here or holder_of(folder) != holder:  # the handle is the process' own: what is true of it now stays so
            raise refused
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT) if now else (signal.SIGTERM, signal.SIGCONT):
            if handle is not None and hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(handle, number)
            else:
                os.kill(holder.pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise InputError(f"process {holder.pid} belongs to {holder.user}, who alone can stop it", str(folder)) from None
    finally:
        if handle is not None:
            os.close(handle)


def removable(study: str, storage: str | None = None) -> dict[str, Any]:
    """What `remove` would remove: ``folder`` (None: there is none), ``groups`` of the database.

    Raises:
        InputError: there is no such study, or it may not be removed.
    """
    quiet()
    if storage is None:
        folder = study_folder(study)
        check_home(folder, None)
        return {"folder": folder, "groups": []}
    name = check_name(study)
    opened = open_storage(Path(), storage, reading=True)
    ledger = Ledger(opened, name)  # says so if it is no study of ours
    home = runs_folder() / name
    refuse_links(home)
    if home.is_dir():
        check_home(home, storage)
    groups = [f"{name}/{group}" for group in ledger.groups() if group != SEARCH]
    return {"folder": home if home.is_dir() else None, "groups": [*groups, name]}


def remove(study: str, storage: str | None = None) -> None:
    """Remove a study for good: its folder in the runs folder, and with ``storage`` its groups in that database, no others.

    Raises:
        InputError: there is no such study, it may not be removed, or it is being run.
    """
    what = removable(study, storage)
    with contextlib.ExitStack() as stack:
        if what["folder"] is not None:
            stack.enter_context(one_writer(what["folder"], f"mrnn-search rm {study}"))
        if storage is not None:
            opened = open_storage(Path(), storage, reading=True)
            stack.enter_context(one_writer_of(storage, study, opened))
            for group in what["groups"]:  # the study itself last: until then the same command goes on
                with contextlib.suppress(KeyError):
                    optuna.delete_study(study_name=group, storage=opened)
        if what["folder"] is not None:
            _remove_folder(what["folder"])


def _remove_folder(folder: Path) -> None:
    """First out of the way, in one step: a study is there whole or not at all. `rmtree` follows no links."""
    gone = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.removed")
    folder.rename(gone)
    shutil.rmtree(gone)


def where_shown(storage: str | None) -> str:
    """For messages."""
    return str(runs_folder()) if storage is None else shown(storage)
