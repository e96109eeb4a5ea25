"""A real PostgreSQL server of the test run's own: a temporary cluster on a free port of the loopback."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

SERVER_USER = "postgres"  # the server refuses root; Debian's package makes this user


def binaries() -> Path | None:
    """The folder of initdb and postgres, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [Path(path) for path in sorted(glob.glob("/usr/lib/postgresql/*/bin"))]
    return folders[-1] if folders else None


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server whose one user needs a password. It listens once it is made; `kill` and `start` as often as one likes.

    Args:
        durable: with fsync, as a server that is to survive `kill` must be.
    """

    def __init__(self, *, durable: bool = False) -> None:
        tools = binaries()
        if tools is None:
            message = "no PostgreSQL server (Debian: apt-get install postgresql)"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        self._folder = Path(tempfile.mkdtemp(prefix="mrnn-postgresql-"))  # not pytest's: those are closed to other users
        data, password, self.port = self._folder / "data", secrets.token_hex(8), free_port()
        secret = self._folder / "password"
        secret.write_text(password)
        self._user = SERVER_USER if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
            shutil.chown(secret, self._user)
        command = [tools / "initdb", "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, user=self._user)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}"]
        options += ["-c", f"fsync={'on' if durable else 'off'}"]
        self._command = [tools / "postgres", "-D", data, "-p", str(self.port), *options]
        self._log = (self._folder / "log").open("wb")
        self.password, self.url = password, f"postgresql://me:{password}@127.0.0.1:{self.port}/postgres"
        self.start()

    def start(self) -> None:
        """Returns when connections are taken; what a killed server left behind may be in the way for a moment."""
        self._process = self._launch()
        import psycopg

        for _ in range(1200):
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url):
                return
            if self._process.poll() is not None:
                time.sleep(0.2)
                self._process = self._launch()
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, user=self._user, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        """As a power cut, for the server alone."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """For good."""
        self._process.send_signal(signal.SIGINT)  # "fast": does not wait for clients
        self._process.wait(20)
        self._log.close()
        shutil.rmtree(self._folder)


def serve() -> Iterator[str]:
    """URL of a server; ends with the generator."""
    server = Server()
    try:
        yield server.url
    finally:
        server.stop()
