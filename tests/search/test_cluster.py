"""A cluster of three nodes: the same values as at home, with code and data sent to the nodes, and one of them lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mrnn_search as ms
from mrnn_search._registry import InputError
from mrnn_search.benchmarks.digits_rows import FILE, _package_folder
from mrnn_search.search import cluster as cluster_module
from mrnn_search.search.cluster import Share, check_address, compare, of_cluster, versions
from mrnn_search.search.executors import Resources
from mrnn_search.search.packs import data_of, train_pack
from mrnn_search.search.recipe import load_recipe

from ..cluster import RayCluster, missing_for_two_hosts, serve, two_hosts
from .test_driver import essence
from .test_executors import as_a_worker, bits, pack

LIMIT_S = 240
ROOT = Path(__file__).parents[2]
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


TWO_HOSTS = """
import sys, time
from mrnn_search._registry import InputError
from mrnn_search.search.executors import Resources, executors
from tests.search.test_executors import bits, collect, pack, until_both_train
while True:
    try:
        executor = executors["ray"](Resources(workers=2, ray_address=sys.argv[1]))
        break
    except InputError:  # the nodes are starting
        time.sleep(1)
until_both_train(executor)  # each has one processor: a worker on each
for i in range(2):
    executor.submit(pack(f"there/{i}", 1))
results = sorted(collect(executor, 2), key=lambda result: result.pack_id)
print(len({result.worker for result in results}), "processes")
for result in results:
    print(bits(result))
executor.close()
"""


@pytest.mark.slow
def test_the_packs_of_a_node_that_is_lost_are_trained_elsewhere(cluster: RayCluster, as_a_worker: None) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=cluster.environment, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n", process.communicate()[1]
    cluster.kill(1)
    out, err = process.communicate("go on\n", timeout=LIMIT_S)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == [bits(train_pack(pack(f"long/{i}", 25))) for i in range(3)]


@pytest.mark.slow
def test_two_hosts(as_a_worker: None) -> None:
    """What is between them is a network: no folder is shared but by luck, no loopback interface is."""
    missing = missing_for_two_hosts()
    if missing:
        pytest.skip(missing)
    for address, environment, there in two_hosts():
        command = [*there, sys.executable, "-c", TWO_HOSTS, address]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=LIMIT_S)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == ["2 processes", *(bits(train_pack(pack(f"there/{i}", 1))) for i in range(2))]


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
    monkeypatch.setattr(cluster_module, "CHECK_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match="does not answer as a Ray head does"):
            check_address(address)


@pytest.mark.slow
def test_a_wrong_password_is_an_error(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="cannot join this Ray cluster .*AuthenticationError: .*RAY_AUTH_TOKEN"):
        check_address(cluster.address)


NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {}]


@pytest.mark.parametrize(
    ("resources", "share"),
    [
        (Resources(), Share(11, 1, 0)),
        (Resources(cpus=2), Share(5, 2, 0)),
        (Resources(cpus=0.5), Share(22, 0.5, 0)),
        (Resources(workers=40), Share(40, 1, 0)),  # more than fit: they come when nodes come
        (Resources(gpus=0.125), Share(8, 1, 0.125)),  # the processors are the limit
        (Resources(gpus=0.125, cpus=0.5), Share(16, 0.5, 0.125)),
        (Resources(gpus=0.6), Share(2, 1, 0.6)),
        (Resources(devices="cuda:0,cuda:0,cuda:1"), Share(3, 1, 0.5)),
        (Resources(devices="cpu,cpu"), Share(2, 1, 0)),
    ],
)
def test_as_many_workers_as_fit(resources: Resources, share: Share) -> None:
    assert of_cluster(resources, NODES) == share


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(cpus=9), "no node has 9 CPUs and 0 GPUs for a worker; nodes: 8 CPUs, 2 GPUs; 3 CPUs, 0 GPUs; 0 CPUs, 0 GPUs"),
        (Resources(devices="gpu"), 'found "gpu", allowed: cpu, cuda:N'),
        (Resources(devices="cpu,cuda:0"), "devices of one kind"),
    ],
)
def test_what_does_not_fit_is_refused(resources: Resources, message: str) -> None:
    with pytest.raises(InputError, match=message):
        of_cluster(resources, NODES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers: found 0, allowed: a whole number >= 1"),
        ({"cpus": float("nan")}, "--cpus-per-worker: found nan, allowed: a number > 0"),
        ({"gpus": 1.5}, "--gpus-per-worker: found 1.5, allowed: 0 < share of one GPU <= 1"),
        ({"gpus": 0.5, "devices": "cpu"}, "--gpus-per-worker: a share of a GPU is asked for; devices: cpu"),
        ({"retries": -1}, "--retries: found -1, allowed: a whole number >= 0"),
    ],
)
def test_wrong_resources_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Resources(**options).here()


def test_workers_on_this_machine() -> None:
    assert Resources(workers=3).here() == ["cpu"] * 3
    assert Resources(devices="cpu,cpu", workers=3).here() == ["cpu"] * 3
    assert len(Resources().here()) == len(os.sched_getaffinity(0)) and Resources(cpus=999).here() == ["cpu"]


def test_another_version_on_a_node_is_refused() -> None:
    compare(versions())
    with pytest.raises(InputError, match=f"has torch {versions()['torch']}, the head has 1.0: values would not compare"):
        compare({**versions(), "torch": "1.0"})


def test_how_a_study_is_run_is_no_part_of_it() -> None:
    recipe = load_recipe("smoke", {"resources": {"workers": 8, "gpus": 0.125}})
    assert recipe.resources.gpus == 0.125 and recipe.to_dict() == load_recipe("smoke").to_dict()
    with pytest.raises(InputError, match="resources.gpus: found 2, allowed: 0 < gpus <= 1, or null"):
        load_recipe("smoke", {"resources": {"gpus": 2}})


def test_other_data_than_the_studys_is_refused() -> None:
    there = pack("p")
    data_of(replace(there, fingerprint=data_of(there).fingerprint))
    with pytest.raises(InputError, match="the study's data is 000000000000…, found: 949458c64e94…; values would not compare"):
        data_of(replace(there, fingerprint="0" * 64))
