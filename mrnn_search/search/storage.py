"""Where a ledger lives: a journal file in the study's folder, or any database URL that Optuna takes. Opened by the head alone."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from .._registry import InputError
from .database import Database
from .journal import FileStorage

LEDGER = "ledger.log"
SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)  # names of query parameters that are not shown
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, AssertionError, RecursionError)
POINTER = "storage"  # names the database of a study whose ledger is not in its folder; never its password


def shown(url: str) -> str:
    """``url`` without its secrets."""
    address = parsed(url)
    hidden = {key: "***" for key in address.query if SECRET.search(key)}
    return address.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(address: URL) -> list[str]:
    values = [address.query[key] for key in address.query if SECRET.search(key)]
    flat = [text for value in values for text in ([value] if isinstance(value, str) else value)]
    return [text for text in (address.password, *flat) if text]


def parsed(url: str) -> URL:
    """The parts of ``url``.

    Raises:
        InputError: it is no database URL; never repeats it.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        address = None
    if address is None or "@" in (address.host or ""):  # an "@" in a password must be written %40, else a part of it is the host
        # The text itself may hold a password, so it is not repeated.
        raise InputError("not a database URL, e.g. sqlite:///study.db or postgresql://user@host/name", "--storage")
    return address


def open_storage(folder: Path, url: str | None, *, reading: bool = False) -> BaseStorage:
    """The storage of the study in ``folder``: at ``url``, or its journal file.

    Args:
        reading: nothing is made that is not there, and a journal that is being written to is no fault.

    Raises:
        InputError: the database cannot be reached, its driver is not installed, or the journal is damaged.
    """
    if url is not None:
        return _database(url, reading)
    path = folder / LEDGER
    if not reading:
        _check_journal(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return FileStorage(path)
    except DAMAGE as error:  # what a line that is no record of Optuna's ends in
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> InputError:
    """What to tell of a journal that cannot be read."""
    what = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return InputError(f"damaged: it has a line that is not a record ({what}); restore it from a copy, or move it away", str(path))


def _check_journal(path: Path) -> None:
    """Refuse a journal whose last record is half-written: appending would join two records and lose both."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
    raise InputError(
        f"ends in a half-written record (a power cut?); every record before it is whole. To go on without it: truncate -s {whole} {path}",
        str(path),
    )


def _database(url: str, reading: bool) -> BaseStorage:
    address = parsed(url)
    file = sqlite_file(address)
    if reading and file is not None and not file.exists():
        raise InputError(f"there is no file {file}", "--storage")
    try:
        return Database(url)
    except (ImportError, NoSuchModuleError):
        extra = ": pip install 'mrnn-search[postgresql]'" if address.get_backend_name() == "postgresql" else ""
        raise InputError(f"no driver for {address.drivername} is installed{extra}", "--storage") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise InputError(f"cannot open {shown(url)}: {reason(error, url)}", "--storage") from None


def reason(error: BaseException, url: str | None = None) -> str:
    """What a database said, in one line, without the secrets of ``url``."""
    seen: BaseException | None = error
    while seen is not None and (getattr(seen, "orig", None) or seen.__cause__):
        seen = getattr(seen, "orig", None) or seen.__cause__
    cause = (str(seen).strip() or type(seen).__name__).splitlines()[0]
    for secret in _secrets(parsed(url)) if url is not None else ():
        cause = cause.replace(secret, "***")
    return cause


def sqlite_file(address: URL) -> Path | None:
    """The file of a SQLite database; None: another database, or one in memory."""
    in_memory = address.database in (None, "", ":memory:")
    return Path(str(address.database)) if address.get_backend_name() == "sqlite" and not in_memory else None


def refuse_links(folder: Path) -> None:
    """Refuse a study whose folder, or a thing in it, is a symbolic link: what is written or deleted there would be elsewhere.

    Raises:
        InputError: says which.
    """
    if folder.is_symlink():
        raise InputError("is a symbolic link; allowed: a folder", str(folder))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise InputError("is a symbolic link; allowed in a study's folder: files and folders", entry.path)


def check_home(folder: Path, url: str | None) -> None:
    """Refuse a second ledger for the study in ``folder``.

    Raises:
        InputError: its ledger is elsewhere.
    """
    pointer, journal = folder / POINTER, folder / LEDGER
    known = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None
    if url is None and known is not None:
        raise InputError(f"this study's ledger is in {known}; give it with --storage", str(folder))
    if url is not None and journal.exists() and journal.stat().st_size:
        raise InputError(f"this study's ledger is the file {journal}; leave --storage out, or give another --name", str(folder))
    if url is not None and known is not None and known != shown(url):
        raise InputError(f"this study's ledger is in {known}, not in {shown(url)}; give that, or another --name", str(folder))


def remember(folder: Path, url: str) -> None:
    """Leave a note in ``folder`` on where its ledger is."""
    (folder / POINTER).write_text(shown(url) + "\n", encoding="utf-8")
