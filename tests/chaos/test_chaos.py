"""Bad luck: heads, workers, Ray and PostgreSQL killed at random moments, processes stopped, disks full, records half-written.

After each the same command: no finished trial lost, none trained twice, none left running, and in the end the study is what it would
have been. ``make chaos`` is the long form; both print what they did with ``-rP``.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ..postgresql import Server
from .attacked import DONE, FAILED, REFUSED, Attacked
from .length import LONG, times

pytestmark = [pytest.mark.timeout(3000)]
long_form = pytest.mark.skipif(not LONG, reason="only in `make chaos`: tests/search has a short form of it")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unbroken")


@pytest.fixture
def attacked(tmp_path: Path, unbroken: Path) -> Attacked:
    return Attacked(tmp_path / "runs", unbroken, random.Random(tmp_path.name), times(6, 72))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(durable=True)
    yield made
    made.stop()


def report(attacked: Attacked, what: str) -> None:
    print(f"{what}: {attacked.deaths}")


def test_heads_that_are_killed(attacked: Attacked) -> None:
    for _ in range(times(10, 90)):
        if not attacked.kill_soon(attacked.head(), times(12, 8)):
            break
        attacked.survived()
    assert attacked.deaths >= times(5, 40)
    attacked.finish()
    report(attacked, "heads killed (journal)")


def test_heads_that_are_killed_in_a_database(tmp_path: Path, unbroken: Path, server: Server) -> None:
    attacked = Attacked(tmp_path / "runs", unbroken, random.Random(1), times(6, 72), server.url)
    for _ in range(times(4, 40)):
        if not attacked.kill_soon(attacked.head()):
            break
        attacked.survived()
    assert attacked.deaths >= 2
    attacked.finish()
    report(attacked, "heads killed (PostgreSQL)")


def test_a_database_server_that_is_killed(tmp_path: Path, unbroken: Path, server: Server) -> None:
    """The head ends with one line that says so and has no password in it; the server comes back, and so does the study."""
    attacked = Attacked(tmp_path / "runs", unbroken, random.Random(2), times(6, 72), server.url)
    for _ in range(times(3, 20)):
        head = attacked.head()
        time.sleep(0.2 + attacked.luck.random() * 1.5)
        server.kill()
        code, said = attacked.ended(head)
        server.start()
        if code == DONE:
            break
        assert code in (FAILED, REFUSED) and "\n" not in said and server.password not in said
        assert "the same command goes on" in said if code == FAILED else "cannot open" in said, said
        attacked.survived()
    assert attacked.deaths >= 1
    attacked.finish()
    report(attacked, "PostgreSQL servers killed")


def test_a_half_written_record(attacked: Attacked) -> None:
    """Refused, with a command that takes it away; that done, the study goes on."""
    for _ in range(times(2, 12)):
        if not attacked.kill_soon(attacked.head()):
            break
        with attacked.ledger.open("ab") as file:
            file.write(b'{"op_code":8,"worker_id":"x","trial_id":0,"user_attr":{"rung/7":'[: attacked.luck.randint(1, 60)])
        before = attacked.ledger.read_bytes()
        code, said = attacked.ended(attacked.head())
        assert code == REFUSED and "To go on without it: truncate -s " in said and attacked.ledger.read_bytes() == before
        subprocess.run(said.split("To go on without it: ")[1], shell=True, check=True)
        attacked.survived()
    assert attacked.deaths
    attacked.finish()
    report(attacked, "half-written records")


def full(attacked: Attacked, head: int) -> bool:
    """Did the head end because there was no room? Then with one line."""
    code, said = attacked.ended(head)
    if code == DONE:
        return False
    assert code == FAILED and "make room: everything that finished before is saved" in said and "\n" not in said, said
    attacked.survived()
    return True


def test_files_that_may_grow_no_further(attacked: Attacked) -> None:
    """As on a disk that is full; any user can have that."""
    for _ in range(times(2, 10)):
        size = attacked.ledger.stat().st_size if attacked.ledger.exists() else 20_000
        limit = size + attacked.luck.randint(1, 15_000)
        if not full(attacked, attacked.head(lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))):
            break
    assert attacked.deaths
    attacked.finish()
    report(attacked, "files that may not grow")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a tmpfs needs root")
def test_a_disk_that_is_full(attacked: Attacked) -> None:
    attacked.runs.mkdir()

    def mount(options: str) -> bool:
        return (
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", attacked.runs], check=False, capture_output=True).returncode == 0
        )

    if not mount("size=100k"):
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        for step in range(times(3, 12)):
            if not full(attacked, attacked.head()):
                break
            assert mount(f"remount,size={160 + 60 * step}k")
        assert attacked.deaths
        assert mount("remount,size=100m")
        attacked.finish()
    finally:
        subprocess.run(["umount", attacked.runs], check=True)
    report(attacked, "full disks")


def family(process: subprocess.Popen[str], *words: str) -> list[psutil.Process]:
    """The descendants whose command has one of ``words``."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(word in " ".join(child.cmdline()) for word in words):
                    found.append(child)
    return found


def during(attacked: Attacked, process: subprocess.Popen[str], count: int, attack: Callable[[], bool]) -> None:
    """Attack a running command ``count`` times, a few records apart."""
    for _ in range(count):
        if not attacked.wait_for_records(attacked.luck.randint(3, 9), lambda: process.poll() is None):
            break
        time.sleep(attacked.luck.random() * 0.1)
        attacked.deaths += attack()


def tidy(pid: int) -> None:
    """What Ray left of a head that was killed: nobody else would remove it."""
    for folder in Path("/tmp").glob(f"mrnn-{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def ends_well(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=long_form)])
def test_workers_that_are_killed_and_stopped(attacked: Attacked, executor: str) -> None:
    """The command itself goes on."""
    words = ("popen_loky",) if executor == "local" else ("ray::Worker", "Trainable")
    count = {"local": (3, 30), "ray": (0, 12)}[executor]

    def attack() -> bool:
        workers = family(process, *words)
        if not workers:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = attacked.luck.choice(workers)
            if attacked.luck.random() < 0.7:
                victim.kill()
            else:
                victim.suspend()
                time.sleep(attacked.luck.random())
                victim.resume()
            return True
        return False

    process = attacked.command(executor)
    during(attacked, process, times(*count), attack)
    ends_well(process)
    assert attacked.deaths
    attacked.finish()
    report(attacked, f"workers killed or stopped ({executor})")


@pytest.mark.parametrize("executor", [pytest.param("local", marks=long_form), pytest.param("ray", marks=long_form)])
def test_commands_that_are_killed_and_stopped(tmp_path: Path, unbroken: Path, executor: str) -> None:
    """With their workers, which do not outlive them; on Ray, the node's raylet too."""
    attacked = Attacked(tmp_path / "runs", unbroken, random.Random(executor), {"local": 72, "ray": 320}[executor])
    for i in range({"local": 20, "ray": 8}[executor]):
        process = attacked.command(executor)
        attacked.wait_for_records(attacked.luck.randint(1, 14), lambda process=process: process.poll() is None)
        time.sleep(attacked.luck.random() * 0.2)
        if process.poll() is not None:
            process.communicate()
            break
        workers = family(process, "popen_loky")
        if i % 3 == 0:
            process.send_signal(signal.SIGSTOP)
            time.sleep(attacked.luck.random())
            process.send_signal(signal.SIGCONT)
        raylets = family(process, "raylet/raylet") if executor == "ray" and i % 2 else []
        for raylet in raylets:
            raylet.kill()
        if raylets:
            out, err = process.communicate(timeout=300)
            if process.returncode == 0:  # it needed Ray no more
                break
            assert "Traceback" not in out, err[-2000:]
        else:
            process.kill()
            process.communicate()
        tidy(process.pid)
        assert not psutil.wait_procs(workers, timeout=30)[1], "workers outlive their head"
        attacked.survived()
    assert attacked.deaths
    attacked.finish()
    report(attacked, f"commands killed or stopped ({executor})")
