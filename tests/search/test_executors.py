"""One contract, every executor: exactly once, the same bits, deaths survived, errors raised, nothing left behind, nothing said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from mrnn_search._registry import InputError
from mrnn_search.cells import Candidate, preset
from mrnn_search.search.executors import RETRIES, Executor, Resources, executors
from mrnn_search.search.local import LocalExecutor
from mrnn_search.search.mailbox import Mailbox
from mrnn_search.search.packs import Lane, Pack, PackResult, train_pack
from mrnn_search.search.ray_tune import RayExecutor
from mrnn_search.search.worker import portable

TWO = Resources(workers=2)
LONG = 100_000  # epochs that no test waits for
LIMIT_S = 180.0
LOST_AFTER_S = 5.0
WORKER = ("popen_loky", "ray::Worker", "Trainable")  # in the command of a worker of the local executor, and of Ray's


def pack(pack_id: str, epochs: int = 1, benchmark: str = "digits-rows", lanes: int = 1) -> Pack:
    candidate = Candidate(preset("momentum_lstm"), hidden_size=4, batch_size=500)
    return Pack(pack_id, benchmark, tuple(Lane(f"{pack_id}/{i}", candidate, i) for i in range(lanes)), 0, epochs)


def collect(executor: Executor, count: int) -> list[PackResult]:
    """Exactly ``count`` results, or a failure."""
    results: list[PackResult] = []
    limit = time.monotonic() + LIMIT_S
    while len(results) < count:
        assert time.monotonic() < limit, f"{len(results)} of {count} packs came back"
        results += executor.collect(1.0)
    assert len(results) == count
    return results


def bits(result: PackResult) -> str:
    """What must not depend on who trained it. As text: NaN is like NaN, and a float's repr is exact."""
    return repr(
        [
            (
                lane.key,
                o.error,
                [(r.epoch, r.step, r.train_loss, r.value) for r in o.rows],
                o.value,
                o.best_epoch,
                o.checkpoint,
                o.test_value,
            )
            for lane in result.lanes
            for o in [lane.outcome]
        ]
    )


def processes() -> dict[int, tuple[int, float, str]]:
    """Parent, seconds of computing and command of every process that runs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if state != "Z":
            found[int(folder.name)] = (int(parent), (int(rest[9]) + int(rest[10])) / os.sysconf("SC_CLK_TCK"), command)
    return found


def descendants(root: int) -> dict[int, str]:
    table = processes()
    family = {root}
    while more := {pid for pid, (parent, *_) in table.items() if parent in family} - family:
        family |= more
    # loky's and Python's trackers of semaphores serve the driver until it ends
    return {pid: table[pid][2] for pid in family - {root} if pid in table and "resource_tracker" not in table[pid][2]}


def hit_trainer(executor: Executor, number: signal.Signals = signal.SIGKILL) -> tuple[list[PackResult], int]:
    """Kill -9 the worker that trains, once one does; or return what finished before that. And the process that was hit, or 0."""
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        before = processes()
        if results := executor.collect(0.5):  # as a driver does: a retry may have to be started
            return results, 0
        after = processes()
        workers = [pid for pid, command in descendants(os.getpid()).items() if any(word in command for word in WORKER)]
        spent = {pid: after[pid][1] - before[pid][1] for pid in workers if pid in before and pid in after}
        if max(spent.values(), default=0.0) > 0.1:
            trainer = max(spent, key=lambda pid: spent[pid])
            os.kill(trainer, number)
            return [], trainer
    raise AssertionError("no worker trains")


def until_both_train(executor: Executor) -> None:
    """After a death, or at the start, a worker may still be on its way."""
    workers: set[str] = set()
    while len(workers) < 2:
        executor.submit(pack(f"ready/{time.monotonic()}"))
        executor.submit(pack(f"ready/{time.monotonic()}"))
        workers = {result.worker for result in collect(executor, 2)}


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    before = set(descendants(os.getpid()))
    made = LocalExecutor(TWO.here(), LOST_AFTER_S) if request.param == "local" else RayExecutor(TWO, LOST_AFTER_S)
    yield made
    made.close()
    made.close()
    time.sleep(0.5)
    assert {p: c for p, c in descendants(os.getpid()).items() if p not in before} == {}, "close() leaves processes"


@pytest.fixture
def as_a_worker() -> Iterator[None]:
    """The arithmetic of a worker, in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def test_every_pack_comes_back_once_with_the_same_bits(executor: Executor, as_a_worker: None) -> None:
    assert executor.slots == 2
    assert executor.collect(0.0) == []
    packs = [pack(f"once/{i}", epochs=i % 3, lanes=2) for i in range(7)]
    for one in packs:
        executor.submit(one)
    results = {result.pack_id: result for result in collect(executor, 7)}
    assert executor.collect(0.2) == []
    assert len({result.worker for result in results.values()}) <= 2 and {result.device for result in results.values()} == {"cpu"}
    for one in packs:
        assert bits(results[one.pack_id]) == bits(train_pack(one))


def test_nothing_listens_beyond_the_loopback_interface(executor: Executor) -> None:
    for pid in [os.getpid(), *descendants(os.getpid())]:
        with contextlib.suppress(psutil.NoSuchProcess):
            open_to = {c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}
            assert open_to <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, psutil.Process(pid).cmdline()


def test_resumed_from_bytes(executor: Executor) -> None:
    executor.submit(pack("whole", 2))
    executor.submit(pack("first", 1))
    whole, first = sorted(collect(executor, 2), key=lambda result: result.pack_id != "whole")
    data = first.lanes[0].outcome.checkpoint
    candidate = pack("").lanes[0].candidate
    executor.submit(Pack("second", "digits-rows", (Lane("second/0", candidate, 0, data),), 1, 2))
    second = collect(executor, 1)[0]
    assert second.lanes[0].outcome.checkpoint == whole.lanes[0].outcome.checkpoint is not None


def test_what_a_pack_raises_is_raised_and_the_others_come_back(executor: Executor) -> None:
    executor.submit(pack("bad", benchmark="digit-rows"))
    executor.submit(pack("good/0"))
    executor.submit(pack("good/1"))
    errors, results = [], []
    limit = time.monotonic() + LIMIT_S
    while len(errors) + len(results) < 3 and time.monotonic() < limit:
        try:
            results += executor.collect(1.0)
        except InputError as error:
            errors.append(error)
    assert {result.pack_id for result in results} == {"good/0", "good/1"}
    (error,) = errors
    assert re.fullmatch('unknown benchmark "digit-rows"; allowed: .*; did you mean "digits-rows"\\?', str(error))
    assert "in load_benchmark" in "".join(errors[0].__notes__)  # where in the worker it happened


def test_a_worker_that_dies_is_replaced_and_its_pack_trained_again(
    executor: Executor, as_a_worker: None, capfd: pytest.CaptureFixture[str]
) -> None:
    long = pack("survivor", 80)
    executor.submit(long)
    assert hit_trainer(executor)[0] == []
    executor.submit(pack("other"))
    results = {result.pack_id: result for result in collect(executor, 2)}
    assert bits(results["survivor"]) == bits(train_pack(long))
    assert results["other"].lanes[0].outcome.error is None
    assert capfd.readouterr() == ("", "")


def test_a_pack_whose_workers_all_die_fails_and_the_others_do_not(executor: Executor) -> None:
    executor.submit(pack("before"))
    executor.submit(pack("doomed", LONG))
    results = collect(executor, 1)
    kills = 0
    while not (ended := hit_trainer(executor)[0]):
        kills += 1
    executor.submit(pack("after"))
    results += [*ended, *collect(executor, 1)]
    assert kills > RETRIES  # on Ray a worker may be hit while it starts, before it has taken the pack
    assert [result.pack_id for result in results] == ["before", "doomed", "after"]
    errors = [result.lanes[0].outcome.error for result in results]
    assert errors == [None, f"worker died {RETRIES + 1} times (killed, out of memory, or lost)", None]


def test_no_more_retries_than_are_allowed() -> None:
    made = executors["local"](Resources(workers=1, retries=0))
    try:
        made.submit(pack("doomed", LONG))
        assert hit_trainer(made)[0] == []
        (result,) = collect(made, 1)
        assert result.lanes[0].outcome.error == "worker died 1 time (killed, out of memory, or lost)"
    finally:
        made.close()


def test_a_worker_that_is_stopped_is_killed_and_its_pack_trained_elsewhere(executor: Executor, as_a_worker: None) -> None:
    until_both_train(executor)
    long = pack("stopped", 80)
    executor.submit(long)
    ended, stopped = hit_trainer(executor, signal.SIGSTOP)
    assert ended == []
    assert bits(collect(executor, 1)[0]) == bits(train_pack(long))
    limit = time.monotonic() + LIMIT_S
    while stopped in processes():
        assert time.monotonic() < limit, "the stopped worker is left behind"
        time.sleep(0.2)


def test_cancel_forgets_what_has_not_started(executor: Executor) -> None:
    until_both_train(executor)
    for i in range(2):
        executor.submit(pack(f"started/{i}", 80))
    time.sleep(1.0)
    for i in range(5):
        executor.submit(pack(f"waiting/{i}"))
    assert executor.cancel() == 2
    assert {result.pack_id for result in collect(executor, 2)} == {"started/0", "started/1"}
    assert executor.cancel() == 0 and executor.collect(0.5) == []


SCRIPT = """
import os, signal, sys, time
from mrnn_search.cells import Candidate, preset
from mrnn_search.search.executors import Resources, executors
from mrnn_search.search.packs import Lane, Pack
signal.signal(signal.SIGINT, signal.SIG_IGN)
def pack(i, epochs):
    return Pack(f"p{i}", "digits-rows", (Lane(f"l{i}", Candidate(preset("lstm"), hidden_size=4, batch_size=500), i),), 0, epochs)
executor = executors[sys.argv[1]](Resources(workers=2))
for i in range(3):
    executor.submit(pack(i, 1))
done = []
while len(done) < 2:
    done += executor.collect(1)
time.sleep(1)
os.killpg(0, signal.SIGINT)  # as Ctrl-C does: every process of the group
time.sleep(0.5)
executor.submit(pack(3, 1))
while len(done) < 4:
    done += executor.collect(1)
assert len({result.worker for result in done}) <= 2
"""


def driver(code: str, kind: str, home: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-c", code, kind], stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=environment, cwd=home
    )


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_quiet_deaf_to_ctrl_c_and_leaves_no_files(kind: str, tmp_path: Path) -> None:
    process = driver(SCRIPT + "executor.close()\n", kind, tmp_path)
    assert process.communicate(timeout=LIMIT_S) == ("", "") and process.returncode == 0
    assert list(tmp_path.iterdir()) == list(Path("/tmp").glob(f"mrnn-{process.pid}-*")) == []


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_no_worker_outlives_a_driver_that_is_killed(kind: str, tmp_path: Path) -> None:
    process = driver(SCRIPT + f"executor.submit(pack(9, {LONG}))\nprint('busy', flush=True)\ntime.sleep(99)\n", kind, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "busy\n"
    time.sleep(0.5)
    family = [pid for pid, command in descendants(process.pid).items() if any(word in command for word in WORKER)]
    assert len(family) == 2
    process.kill()
    process.communicate()
    for folder in Path("/tmp").glob(f"mrnn-{process.pid}-*"):  # Ray's; nobody was left to remove it
        shutil.rmtree(folder, ignore_errors=True)
    limit = time.monotonic() + 15
    while left := set(family) & set(processes()):  # Ray's own agents, idle, need a minute more
        assert time.monotonic() < limit, left
        time.sleep(0.2)


def test_closing_ends_a_pack_that_trains() -> None:
    before = set(descendants(os.getpid()))
    made = executors["local"](Resources(workers=1))
    made.submit(pack("endless", LONG))
    time.sleep(0.5)
    made.close()
    assert set(descendants(os.getpid())) <= before


def test_errors_travel() -> None:
    class Local(KeyError):
        """Pickle finds no local class."""

    class Two(OSError):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(f"{first} {second}")

    assert type(portable(ValueError("x"))) is ValueError
    assert type(portable(Local("k"))) is RuntimeError or isinstance(portable(Local("k")), LookupError)
    assert str(portable(Two("a", "b"))) == "a b" and type(portable(Two("a", "b"))) is OSError


def test_the_mailbox_gives_nothing_to_the_dead_and_repeats_what_was_not_acknowledged() -> None:
    async def story() -> None:
        box: Mailbox = Mailbox(max_deaths=1, max_refusals=9, lost_after_s=60)
        early = asyncio.create_task(box.take("t1", b"w1"))
        await asyncio.sleep(0)
        await box.bury("t1")  # died while it waited
        assert await early is None
        await box.put("p", b"pack")
        assert await box.take("t2", b"w2") == b"pack"
        await box.bury("t2")
        await box.bury("t2")  # heard of twice
        assert await box.take("t3", b"w3") == b"pack"
        assert await box.close() == [b"w3"]
        await box.bury("t3")
        assert (await box.collect(0, 0.0)).finished == [("p", 2)] == (await box.collect(0, 0.0)).finished
        assert (await box.collect(1, 0.0)).finished == []

    asyncio.run(story())


def test_the_mailbox_gives_up_the_silent_and_those_that_hold_a_pack_for_too_long() -> None:
    async def story() -> None:
        async def lost() -> list[bytes]:
            return (await box.collect(0, 0.0)).lost

        box: Mailbox = Mailbox(max_deaths=1, max_refusals=9, lost_after_s=0.12)
        await box.put("p", b"p")
        assert await box.take("silent", b"w1") == b"p"
        assert await box.take("beats", b"w2") == b"p" and await lost() == [b"w1"]
        for _ in range(30):
            await box.beat("beats")
            await asyncio.sleep(0.01)
        assert await lost() == [b"w1"]
        assert await box.take("silent", b"w1", b"late") is None  # it woke up: its result is nobody's any more
        late = asyncio.create_task(box.take("beats", b"w2", b"result"))
        await asyncio.sleep(0)
        assert (await box.collect(0, 0.0)).finished == [("p", b"result")]
        await box.put("hangs", b"h", patience_s=0.2)
        assert await late == b"h"
        while await lost() == [b"w1"]:
            await box.beat("beats")
            await asyncio.sleep(0.01)
        assert await lost() == [b"w1", b"w2"]

    asyncio.run(story())


def test_the_mailbox_says_when_no_worker_comes_up() -> None:
    async def story() -> None:
        box: Mailbox = Mailbox(max_deaths=1, max_refusals=2, lost_after_s=60)
        lives = asyncio.create_task(box.take("lives", b"w"))
        await asyncio.sleep(0)
        for i in range(5):
            await box.bury(f"t{i}", "no torch")
        assert (await box.collect(0, 0.0)).hopeless is None  # one node is enough
        await box.bury("lives")
        assert await lives is None
        await box.bury("t5", "no torch")
        assert (await box.collect(0, 0.0)).hopeless == "no torch"

    asyncio.run(story())
