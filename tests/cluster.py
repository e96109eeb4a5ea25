"""A real Ray cluster of several nodes on this machine, on the loopback interface, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCRIPT = """
import os, signal, sys
from ray.cluster_utils import Cluster
here = {"node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **here})
nodes = [cluster.add_node(wait=False, num_cpus=1, **here) for _ in range(int(sys.argv[1]))]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    os.kill(nodes[int(line)].all_processes["raylet"][0].process.pid, signal.SIGKILL)
    print("killed", flush=True)
cluster.shutdown()
"""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class RayCluster:
    """Attributes: address: of its head; environment: what a process needs to join it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process, self.address = process, address
        self.environment = {**os.environ, **TOKEN}

    def kill(self, node: int) -> None:
        """Kill -9 a node, its workers with it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{node}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "killed\n"


def serve(nodes: int) -> Iterator[RayCluster]:
    """A head without processors and ``nodes`` nodes with one each, in a folder without this package, until the generator ends."""
    folder = Path(tempfile.mkdtemp(prefix="mrnn-", dir="/tmp"))  # a short path: Ray puts sockets into it
    broken = folder / "mrnn_search"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('not the code of the head')\n")
    environment = {**os.environ, **TOKEN, "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", SCRIPT, str(nodes)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=folder)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(process.communicate()[1])
        yield RayCluster(process, address)
    finally:
        process.communicate()  # closes its stdin, and that ends it
        shutil.rmtree(folder, ignore_errors=True)


def missing_for_two_hosts() -> str:
    """What keeps `two_hosts` from running here; empty: nothing."""
    if shutil.which("ip") is None:
        return "no `ip` (iproute2)"
    probe = f"mrnn-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return f"no network namespaces: {done.stderr.strip()}" if done.returncode else ""


def two_hosts() -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """A cluster of two nodes on two hosts: network namespaces with a cable between them, and nothing else.

    Yields:
        The head's address, the environment to join it, and the words that start a command on its host.
    """
    name = f"mrnn{os.getpid()}"
    one, two = f"{name}a", f"{name}b"
    folder = Path(tempfile.mkdtemp(prefix="mrnn-", dir="/tmp"))
    environment = {**os.environ, **TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    started: list[subprocess.Popen[bytes]] = []

    def ray_start(host: str, *options: str) -> None:
        words = ["ip", "netns", "exec", host, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
        words += [f"--temp-dir={folder / host[-1]}", "--object-store-memory=100000000", *options]
        null = subprocess.DEVNULL
        started.append(subprocess.Popen(words, stdout=null, stderr=null, env=environment, cwd=folder))

    try:
        for host in (one, two):
            subprocess.run(["ip", "netns", "add", host], check=True)
        subprocess.run(["ip", "link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two], check=True)
        for host, address in ((one, "10.99.0.1/24"), (two, "10.99.0.2/24")):
            subprocess.run(["ip", "-n", host, "addr", "add", address, "dev", "cable"], check=True)
            for device in ("lo", "cable"):
                subprocess.run(["ip", "-n", host, "link", "set", device, "up"], check=True)
        ray_start(one, "--head", "--node-ip-address=10.99.0.1", "--port=6379", "--include-dashboard=false")
        ray_start(two, "--address=10.99.0.1:6379", "--node-ip-address=10.99.0.2")
        yield "10.99.0.1:6379", environment, ["ip", "netns", "exec", one]
    finally:
        for host in (one, two):
            inside = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True).stdout.split()
            for pid in inside:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", host], capture_output=True)
        for process in started:
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
