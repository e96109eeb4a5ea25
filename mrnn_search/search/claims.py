"""One head at a time writes a study: how it claims it, who has it, and how a claim ends with its holder.

In a study's folder and beside a SQLite file the claim is a lock of the kernel's, which goes with the process. In PostgreSQL and
MySQL it is a lock of the server's, which goes with the connection. A server does not see that the other end of a connection was
stopped or cut off, so it is told to close one that is silent for `SILENCE_S`; a head that lives says something every `BEAT_S`.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from .._registry import InputError, StudyError
from .storage import parsed, reason, shown, sqlite_file

LOCK, HOLDER = "driver.lock", "driver.json"
PROBE_S = 0.5  # `held` has the lock for a moment: a head that starts just then tries again
SILENCE_S, BEAT_S = 60.0, 10.0
# libpq's: so that this end, too, notices a connection that was cut
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}


@dataclass(frozen=True)
class Holder:
    """The process that runs a study.

    Attributes:
        born: when it started, in the kernel's own words: tells it from a later process with the same ``pid``.
        since: when it took the study, ISO 8601 in UTC.
        command: what to type to run it again; never a password.
    """

    host: str
    pid: int
    born: str
    user: str
    since: str
    command: str

    @classmethod
    def here(cls, command: str) -> Holder:
        """This process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(platform.node(), os.getpid(), born(os.getpid()), _user(), now, command)

    @classmethod
    def of(cls, data: object) -> Holder | None:
        """From plain data; None if it is something else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or data.keys() != names or not isinstance(data["pid"], int):
            return None
        told: dict[str, Any] = {name: value if name == "pid" else str(value) for name, value in data.items()}
        return cls(**told)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Does it run, on this machine?"""
        return self.host == platform.node() and self.born == born(self.pid) != ""

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host} since {self.since} ({self.command})"


def born(pid: int) -> str:
    """When process ``pid`` started: Linux' clock ticks since boot, elsewhere what ``ps`` says; empty if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    if Path("/proc/self/stat").exists():
        return ""
    with contextlib.suppress(OSError):
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout.strip()
    return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        return str(os.getuid())


def _busy(name: str, holder: Holder | None, where: str) -> InputError:
    who = "another process" if holder is None else str(holder)
    return InputError(f'study "{name}" is being run by {who}; wait for it, or end it with: mrnn-search stop {name}', where)


@contextlib.contextmanager
def one_writer(folder: Path, command: str = "") -> Iterator[Holder]:
    """Hold the study in ``folder`` for this process; the kernel frees it when the process dies, however it dies.

    Raises:
        InputError: another process holds it; says which, and since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PROBE_S, poll_interval=PROBE_S / 10)
    except Timeout:
        raise _busy(folder.name, holder_of(folder), str(folder)) from None
    path, me = folder / HOLDER, Holder.here(command)
    try:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(me.to_dict()) + "\n", encoding="utf-8")
        temporary.replace(path)  # whoever reads it sees the old one or the new one
        yield me
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def held(folder: Path) -> bool:
    """Does a process run the study in ``folder``? Writes nothing."""
    return _locked(folder / LOCK)


def _locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def holder_of(folder: Path) -> Holder | None:
    """Who runs the study in ``folder``; None if nobody does, or who does cannot be read."""
    if not held(folder):
        return None
    try:
        return Holder.of(json.loads((folder / HOLDER).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


class Claim:
    """A study of a database, held by this process.

    `guard` makes a storage refuse work once the claim is lost, or cannot be shown to hold: after a pause (a process that was stopped,
    a machine that slept) the first thing that is asked of the server is whether the connection of the claim is still there.
    """

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection, self._where = connection, where
        self._lost: str | None = None
        self._confirmed = _now()
        self._one_at_a_time = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._beat, name="claim", daemon=True).start()

    def check(self) -> None:
        """Raises:
        StudyError: the claim is lost.
        """
        if self._lost is None and _now() - self._confirmed > SILENCE_S / 2:
            self._ask()
        if self._lost is not None:
            raise StudyError(
                f"the connection that held the study was lost ({self._lost}), and another process may have taken it; "
                "everything that finished before is saved, the same command goes on",
                self._where,
            )

    def _ask(self) -> None:
        with self._one_at_a_time:
            if self._over.is_set() or self._lost is not None:
                return
            before = _now()  # the server's time runs from when it heard of us, which is not before we spoke
            try:
                self._connection.execute(text("SELECT 1"))
                self._connection.commit()  # an open transaction would hold back vacuuming
            except SQLAlchemyError as error:
                self._lost = reason(error)
            else:
                self._confirmed = before

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            self._ask()

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        with self._one_at_a_time:
            pass

    @contextlib.contextmanager
    def guard(self, storage: BaseStorage) -> Iterator[None]:
        """Inside, every piece of work with ``storage`` begins with `check`."""
        pool = storage.engine.pool if isinstance(storage, RDBStorage) else None

        def checkout(*_: object) -> None:
            self.check()

        if pool is not None:
            event.listen(pool, "checkout", checkout)
        try:
            yield
        finally:
            if pool is not None:
                event.remove(pool, "checkout", checkout)


def _now() -> float:
    """Seconds that pass while the machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


@contextlib.contextmanager
def one_writer_of(
    url: str | None, name: str, storage: BaseStorage | None = None, told: Callable[[], Holder | None] = lambda: None
) -> Iterator[None]:
    """Hold study ``name`` of the database at ``url`` against heads in other folders and on other machines.

    SQLite: a lock file beside the database. PostgreSQL, MySQL and MariaDB: a lock that the server frees with the connection.
    Other databases have no such lock here: there, one head at a time is the user's care.

    Args:
        storage: of the ledger, which refuses work once the claim is lost.
        told: reads who the holder is, as it said in the ledger.

    Raises:
        InputError: another head holds it.
        StudyError: the claim was lost.
    """
    address = parsed(url) if url is not None else None
    file = sqlite_file(address) if address is not None else None
    if url is None or address is None or address.get_backend_name() not in ("sqlite", *_SERVERS):
        yield
    elif address.get_backend_name() == "sqlite":
        if file is None:  # in memory: nobody else sees it
            yield
            return
        lock = FileLock(f"{file}.{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _busy(name, told(), shown(url)) from None
        try:
            yield
        finally:
            lock.release()
    else:
        with _connection(address, name) as connection:
            if not _SERVERS[address.get_backend_name()](connection, name):
                raise _busy(name, told(), shown(url))
            claim = Claim(connection, shown(url))
            try:
                with claim.guard(storage) if storage is not None else contextlib.nullcontext():
                    yield
            finally:
                claim.end()


def taken(url: str, name: str) -> bool:
    """Does a process hold study ``name`` of the database at ``url``? Takes nothing; False too where there are no locks."""
    address = parsed(url)
    kind, file = address.get_backend_name(), sqlite_file(address)
    if file is not None:
        return _locked(Path(f"{file}.{name}.lock"))
    if kind not in _SERVERS:
        return False
    high, low = (int.from_bytes(part, "big") for part in (_digest(name)[:4], _digest(name)[4:8]))
    ask, values = (
        ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :high AND objid = :low", {"high": high, "low": low})
        if kind == "postgresql"
        else ("SELECT IS_USED_LOCK(:name)", {"name": _mysql_name(name)})
    )
    with _connection(address, name) as connection:
        return bool(connection.scalar(text(ask), values))


@contextlib.contextmanager
def _connection(address: URL, name: str) -> Iterator[Connection]:
    more: dict[str, Any] = {}
    if address.get_driver_name() in ("psycopg", "psycopg2"):  # the name is what `pg_stat_activity` shows of the connection
        more = {**KEEPALIVES, "application_name": f"mrnn-search {name} {os.getpid()}@{platform.node()}"[:63]}
    engine = create_engine(address, connect_args=more)
    try:
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                with contextlib.suppress(SQLAlchemyError):  # it may be the one that was lost
                    connection.invalidate()  # closes it: back in the pool it would still hold the lock
    finally:
        engine.dispose()


def _digest(name: str) -> bytes:
    return hashlib.sha256(f"mrnn-search {name}".encode()).digest()


def _postgresql(connection: Connection, name: str) -> bool:
    number = int.from_bytes(_digest(name)[:8], "big", signed=True)
    if not connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), {"number": number}):
        return False
    settings = {"tcp_keepalives_idle": "20", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
    if (connection.dialect.server_version_info or (0,)) >= (14,):
        settings["idle_session_timeout"] = f"{round(1000 * SILENCE_S)}"
    for setting, value in settings.items():
        connection.execute(text(f"SET {setting} = {value}"))
    connection.commit()
    return True


def _mysql_name(name: str) -> str:
    """At most 64 characters are allowed, and case does not count."""
    return f"mrnn-search {_digest(name).hex()[:40]}"


def _mysql(connection: Connection, name: str) -> bool:
    if connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": _mysql_name(name)}) != 1:
        return False
    connection.execute(text(f"SET SESSION wait_timeout = {max(1, round(SILENCE_S))}"))
    connection.commit()
    return True


_SERVERS = {"postgresql": _postgresql, "mysql": _mysql, "mariadb": _mysql}
