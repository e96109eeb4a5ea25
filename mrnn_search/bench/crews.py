"""Crews: what a whole machine gets done, as processes of one thread each or as one process of many threads.

On c cores the user's alternative to a pack of lanes is c processes, each with a candidate of its own. A crew is such an
arrangement; crews take turns, and all members of a crew start a turn together.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType

from .rounds import LEAST_ROUNDS, prepare, wait_for
from .setting import Setting

UPDATES_PER_CANDIDATE = 120  # three passes over 5,000 sequences in batches of 128: a candidate's first rung
SHORTEST_TURN = 0.5  # seconds: long enough that starting together does not count
PATIENCE = 600  # seconds a member may take to start or to answer


@dataclass(frozen=True)
class Crew:
    """``processes`` of ``threads`` threads, each with ``lanes`` candidates of a side."""

    side: str
    processes: int
    threads: int
    lanes: int

    @property
    def candidates(self) -> int:
        """How many it trains at once."""
        return self.processes * self.lanes

    def __str__(self) -> str:
        def count(n: int, what: str, plural: str) -> str:
            return f"{n} {what if n == 1 else plural}"

        return f"{count(self.processes, 'process', 'processes')} of {count(self.threads, 'thread', 'threads')}"


@dataclass(frozen=True)
class Harvest:
    """Candidates per hour, round by round, at `UPDATES_PER_CANDIDATE` updates each."""

    crew: Crew
    updates: int
    per_hour: tuple[float, ...]


def usual_crews(cores: int, device: str, lanes: int) -> list[Crew]:
    """The arrangements that are compared.

    On a CPU as many processes as cores, of the loop and of the engine, against one process of as many threads, which has the
    candidates of all of them in one pack. On a GPU the loop alone and in 8 and 16 processes that share it, against the
    engine in one process.
    """
    if device != "cpu":
        return [*(Crew("loop", n, 1, 1) for n in (1, 8, 16)), Crew("engine", 1, 1, lanes)]
    return [
        Crew("loop", cores, 1, 1),
        Crew("loop", 1, cores, 1),
        Crew("engine", cores, 1, lanes),
        Crew("engine", 1, cores, cores * lanes),
    ]


def _member(pipe: Connection, setting: Setting, side: str, threads: int, lanes: int) -> None:
    """One process: builds its side, then makes as many updates as it is told, again and again, until told none."""
    from .sides import build

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the parent, which ends its members
    prepare(threads)
    one = build(side, setting, lanes)
    for _ in range(2):
        one.update()
    wait_for(setting.device)
    pipe.send(None)
    while count := pipe.recv():
        for _ in range(count):
            one.update()
        wait_for(setting.device)
        pipe.send(None)


class _Team:
    """The processes of one crew."""

    def __init__(self, crew: Crew, setting: Setting) -> None:
        context = get_context("spawn")  # torch's threads do not survive a fork
        self.crew, self.updates = crew, 1
        self.pipes: list[Connection] = []
        self.processes = []
        for _ in range(crew.processes):
            mine, theirs = context.Pipe()
            process = context.Process(target=_member, args=(theirs, setting, crew.side, crew.threads, crew.lanes), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(mine)
            self.processes.append(process)

    def wait(self) -> None:
        """Until every member has answered.

        Raises:
            RuntimeError: one has died, or has not answered in time.
        """
        for pipe in self.pipes:
            try:
                if not pipe.poll(PATIENCE):
                    raise RuntimeError(f"{self.crew.side} in {self.crew}: no answer within {PATIENCE} s")
                pipe.recv()
            except EOFError:
                raise RuntimeError(f"{self.crew.side} in {self.crew}: a process has ended; out of memory?") from None

    def turn(self) -> float:
        """Seconds until the last member has made its updates."""
        start = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(self.updates)
        self.wait()
        return time.perf_counter() - start

    def per_hour(self, seconds: float) -> float:
        """Candidates per hour from the time of a turn."""
        return 3600 * self.crew.candidates * self.updates / (seconds * UPDATES_PER_CANDIDATE)

    def stop(self) -> None:
        """End every member at once."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


class Teams:
    """The processes of several crews, started once; with ``with``, so that none outlives the measurement."""

    def __init__(self, crews: Sequence[Crew], setting: Setting) -> None:
        self.teams: list[_Team] = []
        self.crews, self.setting = crews, setting

    def __enter__(self) -> Teams:
        try:
            for crew in self.crews:
                self.teams.append(_Team(crew, self.setting))
            for team in self.teams:
                team.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for team in self.teams:
            team.stop()

    def alternate(self, seconds: float, least: int = LEAST_ROUNDS, shortest: float = SHORTEST_TURN) -> list[Harvest]:
        """Rounds of one turn a crew until the time is used up; no fewer than ``least``. A turn lasts about ``shortest`` seconds."""
        for team in self.teams:
            team.updates = max(1, round(shortest / team.turn()))
        rounds: list[list[float]] = []
        until = time.perf_counter() + seconds
        while len(rounds) < least or time.perf_counter() < until:
            rounds.append([team.per_hour(team.turn()) for team in self.teams])
        return [Harvest(t.crew, t.updates, tuple(r[i] for r in rounds)) for i, t in enumerate(self.teams)]
