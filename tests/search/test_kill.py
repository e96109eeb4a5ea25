"""`kill -9` of the real command, with its workers: no result lost, none repeated, nothing left over. `tests/chaos` has the rest."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import mrnn_search as ms

from .test_driver import essence

KILLS, RECORDS = 4, 14  # that a run writes at most before it is killed
TRIALS = 24  # several records each: no kill may come after the end


def start(runs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mrnn_search", "run", "smoke", "--set", f"budget.trials={TRIALS}"],
        env={**os.environ, "MRNN_SEARCH_RUNS": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def records(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    luck = random.Random(5)
    ledger = tmp_path / "runs" / "smoke" / "ledger.log"
    finished: dict[tuple[str, int], str] = {}
    for _ in range(KILLS):
        process = start(tmp_path / "runs")
        until = records(ledger) + luck.randint(1, RECORDS)
        while records(ledger) < until and process.poll() is None:
            time.sleep(0.01)
        time.sleep(luck.random() * 0.2)
        assert process.poll() is None, process.communicate()[1]
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive, "workers outlive their driver"
        study = ms.load_study(tmp_path / "runs" / "smoke")
        now = {(g, t.number): str(t) for g in study._ledger.groups() for t in study._ledger.trials(g) if not t.running}
        assert finished.items() <= now.items(), "a finished trial changed or was lost"
        finished = now
    process = start(tmp_path / "runs")
    assert process.communicate(timeout=600) and process.returncode == 0
    study = ms.load_study(tmp_path / "runs" / "smoke")
    assert study.state == "complete" and "RUNNING" not in set(study.trials()["state"])
    whole = start(tmp_path / "whole")
    whole.communicate(timeout=600)
    assert essence(study._ledger) == essence(ms.load_study(tmp_path / "whole" / "smoke")._ledger)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(tmp_path)
    while records(tmp_path / "smoke" / "ledger.log") < 12 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == "" and "mrnn-search run smoke" in err and "Traceback" not in err
    assert ms.load_study(tmp_path / "smoke").state == "unfinished"
