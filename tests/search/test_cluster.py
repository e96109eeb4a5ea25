"""A cluster of three nodes: the same values as at home, with code and data sent to the nodes, and one of them lost on the way."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrnn_search as ms
from mrnn_search._registry import InputError
from mrnn_search.benchmarks.digits_rows import FILE, _package_folder
from mrnn_search.search import ray_tune
from mrnn_search.search.packs import train_pack

from ..cluster import RayCluster, serve
from .test_driver import essence
from .test_executors import as_a_worker, bits, pack

LIMIT_S = 240
TINY: dict[str, Any] = {
    "budget": {"trials": 4},
    "rungs": {"epochs": [1]},
    "baselines": {"cells": ["lstm"], "trials": 2},
    "confirmation": {"epochs": 1},
}

__all__ = ["as_a_worker"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    yield from serve(nodes=3)


def options(changes: dict[str, Any]) -> list[str]:
    """``changes`` as ``--set`` options."""
    return [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.mark.slow
def test_three_nodes_without_code_and_data_give_the_same_study(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_a_worker: None
) -> None:
    """The data folder is a relative path, which the nodes, started elsewhere, do not find."""
    (tmp_path / "digits").mkdir()
    shutil.copy(_package_folder() / FILE, tmp_path / "digits")
    command = [sys.executable, "-m", "mrnn_search", "run", "smoke", "--executor", "ray", "--ray-address", cluster.address]
    command += options({**TINY, "data": "digits"})
    done = subprocess.run(command, capture_output=True, text=True, env=cluster.environment, cwd=tmp_path, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "raylet" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "runs"]
    monkeypatch.chdir(tmp_path)
    there = ms.load_study("smoke")
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "again"))
    here = ms.search("smoke", executor="in-process", data="digits", **TINY)
    assert essence(there._ledger) == essence(here._ledger)
    assert len({t.rungs[0].worker for g in there._ledger.groups() for t in there._ledger.trials(g) if t.rungs}) == 3


DRIVER = """
import sys, time
from mrnn_search.search.executors import Resources, executors
from tests.search.test_executors import bits, pack
executor = executors["ray"](Resources(ray_address=sys.argv[1]))
assert executor.slots == 3
def collect(count):
    results = []
    while len(results) < count:
        results += executor.collect(1.0)
    return results
for i in range(3):
    executor.submit(pack(f"ready/{i}"))
assert len(collect(3)) == 3
for i in range(3):
    executor.submit(pack(f"long/{i}", 25))
time.sleep(1)
print("busy", flush=True)
sys.stdin.readline()
for result in sorted(collect(3), key=lambda result: result.pack_id):
    print(bits(result), flush=True)
executor.close()
"""


@pytest.mark.slow
def test_the_packs_of_a_node_that_is_lost_are_trained_elsewhere(cluster: RayCluster, as_a_worker: None) -> None:
    pipe = subprocess.PIPE
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=cluster.environment, cwd=root
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n", process.communicate()[1]
    cluster.kill(1)
    out, err = process.communicate("go on\n", timeout=LIMIT_S)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == [bits(train_pack(pack(f"long/{i}", 25))) for i in range(3)]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "allowed: host:port"),
        ("ray://127.0.0.1:10001", "allowed: host:port"),
        ("127.0.0.1:70000", "allowed: host:port"),
        ("127.0.0.1:1", "no Ray head answers there: Connection refused"),
        ("no-such-host.invalid:6379", "no Ray head answers there: "),
    ],
)
def test_a_wrong_address_is_an_error_at_once(address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    with pytest.raises(InputError, match=f"--ray-address {address}: {message}"):
        ms.search("smoke", executor="ray", ray_address=address)


def test_what_is_no_ray_head_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tune, "CHECK_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match="does not answer as a Ray head does"):
            ray_tune._check_address(address)


@pytest.mark.slow
def test_a_wrong_password_is_an_error(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="no Ray cluster to join: .*(?i:authentication).*RAY_AUTH_TOKEN"):
        ray_tune._check_address(cluster.address)
