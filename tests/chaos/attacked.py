"""A study under attack: heads that are started and die, and what must be true of the ledger after each death."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

import mrnn_search as ms
from mrnn_search._registry import InputError, StudyError
from mrnn_search.search.ledger import Ledger

from ..search.test_driver import essence

DONE, REFUSED, FAILED, BROKEN = 0, 2, 1, 9  # how a head ends: as the command does; BROKEN: with a traceback
LIMIT_S = 300.0


class Attacked:
    """A tiny study that really trains. Heads are forked from this process: an attack costs what it costs, not the imports.

    Args:
        unbroken: where studies that nobody attacks are kept, to compare with.

    Attributes:
        deaths: attacks that were survived so far.
    """

    def __init__(self, runs: Path, unbroken: Path, luck: random.Random, trials: int, url: str | None = None) -> None:
        self.unbroken = unbroken / f"{trials}"
        self.runs, self.luck, self.url, self.trials, self.deaths = runs, luck, url, trials, 0
        self.folder, self.ledger = runs / "smoke", runs / "smoke" / "ledger.log"
        self._message = runs.with_name(f"{runs.name}.message")
        self._seen: dict[tuple[str, int], tuple[str, bool]] = {}
        self.changes: dict[str, Any] = {"budget": {"trials": trials}, "confirmation": {"epochs": 2}}

    # Heads

    def head(self, before: Callable[[], None] = lambda: None) -> int:
        """A head in a process of its own, which trains what it decides itself; ``before`` runs in it first."""
        child = os.fork()
        if child:
            return child
        code = BROKEN
        try:  # never back into the test
            before()
            os.environ["MRNN_SEARCH_RUNS"] = str(self.runs)
            ms.search("smoke", executor="in-process", storage=self.url, overrides=self.changes)
            code = DONE
        except (InputError, StudyError) as error:
            self._message.write_text(str(error))
            code = REFUSED if isinstance(error, InputError) else FAILED
        except BaseException:
            self._message.write_text(traceback.format_exc())
        finally:
            os._exit(code)

    def ended(self, head: int) -> tuple[int, str]:
        """How it ended (a signal is negative), and what it said."""
        _, status = os.waitpid(head, 0)
        code = os.waitstatus_to_exitcode(status)
        said = self._message.read_text() if code in (REFUSED, FAILED, BROKEN) else ""
        assert code != BROKEN, said
        return code, said

    def command(self, executor: str = "local") -> subprocess.Popen[str]:
        """The real command, with its workers. A pack may lose any number of them: how many lanes fail would depend on luck."""
        words = [sys.executable, "-m", "mrnn_search", "run", "smoke", "--executor", executor, "--devices", "cpu,cpu"]
        words += ["--set", f"budget.trials={self.trials}", "--set", "confirmation.epochs=2", "--retries", "1000"]
        words += ["--storage", self.url] if self.url is not None else []
        environment = {**os.environ, "MRNN_SEARCH_RUNS": str(self.runs)}
        pipe = subprocess.PIPE
        return subprocess.Popen(words, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    # Moments

    def records(self) -> int:
        return self.ledger.read_bytes().count(b"\n") if self.ledger.exists() else 0

    def wait_for_records(self, count: int, alive: Callable[[], bool]) -> bool:
        """Wait until ``count`` more are written; False: the head ended before."""
        until, limit = self.records() + count, time.monotonic() + LIMIT_S
        while self.records() < until:
            if not alive():
                return False
            assert time.monotonic() < limit, "no progress"
            time.sleep(0.01)
        return True

    def kill_soon(self, head: int, most: int = 8) -> bool:
        """kill -9 after a few records, or so; False: it had ended."""
        if self.url is None:
            self.wait_for_records(self.luck.randint(0, most), lambda: psutil.Process(head).status() != psutil.STATUS_ZOMBIE)
            time.sleep(self.luck.random() * 0.05)
        else:
            time.sleep(0.1 + self.luck.random() * 1.5)
        with contextlib.suppress(ProcessLookupError):
            os.kill(head, signal.SIGKILL)
        return self.ended(head)[0] != DONE

    # Truths

    @contextlib.contextmanager
    def opened(self) -> Iterator[Ledger]:
        with _runs(self.runs):
            study = ms.load_study("smoke", storage=self.url)
            yield study._ledger
            if self.url is not None:
                study.storage.remove_session()  # type: ignore[attr-defined]
                study.storage.engine.dispose()  # type: ignore[attr-defined]

    def survived(self) -> None:
        """Count an attack; nothing that was recorded may be lost or changed, and no rung may be recorded twice."""
        self.deaths += 1
        if self.url is None and self.records() < 8:
            return
        with contextlib.suppress(InputError), self.opened() as ledger:  # killed before there was one
            now = {(group, t.number): (repr(t.rungs), t.running) for group in ledger.groups() for t in ledger.trials(group)}
            for key, (rungs, running) in self._seen.items():
                assert key in now, f"{key} was lost"
                assert now[key][0].startswith(rungs[:-2]) if running else now[key] == (rungs, running), f"{key} changed"
            self._seen = now
        if self.url is None:
            self._no_rung_twice()

    def _no_rung_twice(self) -> None:
        seen: set[tuple[int, str]] = set()
        for line in self.ledger.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # the last one may be half-written
                record = json.loads(line)
                for name in record.get("user_attr", {}):
                    key = record.get("trial_id", -1), name
                    assert not name.startswith("rung/") or key not in seen, f"{key} was recorded twice"
                    seen.add(key)

    def finish(self) -> None:
        """The same command once more: complete, nothing left over, and as a study that nobody attacked."""
        code, said = self.ended(self.head())
        assert code == DONE, said
        with self.opened() as ledger:
            assert ledger.complete
            assert {t.state for group in ledger.groups() for t in ledger.trials(group)} <= {"COMPLETE", "PRUNED", "FAIL"}
            with _runs(self.unbroken):
                whole = ms.search("smoke", executor="in-process", overrides=self.changes)
            assert essence(ledger) == essence(whole._ledger)


@contextlib.contextmanager
def _runs(folder: Path) -> Iterator[None]:
    before = os.environ.get("MRNN_SEARCH_RUNS")
    os.environ["MRNN_SEARCH_RUNS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MRNN_SEARCH_RUNS"]
        else:
            os.environ["MRNN_SEARCH_RUNS"] = before
