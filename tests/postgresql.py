"""A real PostgreSQL server of the test run's own: a temporary cluster on a free port of the loopback."""

from __future__ import annotations

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


def serve() -> Iterator[str]:
    """URL of a server whose one user needs a password; ends with the generator."""
    tools = binaries()
    if tools is None:
        message = "no PostgreSQL server (Debian: apt-get install postgresql)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="mrnn-postgresql-"))  # not pytest's: those are closed to other users
    data, password, port = folder / "data", secrets.token_hex(8), free_port()
    secret = folder / "password"
    secret.write_text(password)
    user = SERVER_USER if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
        shutil.chown(secret, user)
    command = [tools / "initdb", "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, user=user)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    log = (folder / "log").open("wb")
    server = subprocess.Popen([tools / "postgres", "-D", data, "-p", str(port), *options], user=user, stdout=log, stderr=log)
    try:
        for _ in range(200):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"postgresql://me:{password}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # "fast": does not wait for clients
        server.wait(20)
        log.close()
        shutil.rmtree(folder)
