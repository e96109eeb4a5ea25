"""What a Ray cluster has to have before a study can run on it: room, an address that answers, the same versions. Imports no ray."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .. import __version__
from .._registry import InputError
from .executors import SLACK, Resources

CONNECT_S = 5.0  # for a head to take a connection
CHECK_S = 12.0  # and to answer
TRY = """
import sys
import ray
from ray.scripts.scripts import cli
print("ready", flush=True)
try:  # says at once what init tries again and again: a wrong token, another version
    cli(["health-check", "--address", sys.argv[1]], standalone_mode=False)
except SystemExit as end:
    if end.code:
        raise
ray.init(sys.argv[1], log_to_driver=False, logging_level=40)
"""
NEEDED = "this machine has to be one of its nodes, with the same Ray and Python, and know its token"


class Share(NamedTuple):
    """How many workers, and what Ray reserves for each."""

    workers: int
    cpus: float
    gpus: float


def of_this_machine(resources: Resources) -> Share:
    """One worker for each device."""
    devices = resources.here()
    return Share(len(devices), resources.cpus, _part(devices, resources.gpus))


def _part(devices: Sequence[str], gpus: float | None) -> float:
    """The share of a GPU that lets the device named most often hold all of its workers."""
    kinds = {device.partition(":")[0] for device in devices}
    if len(kinds) > 1:
        raise InputError(f"the ray executor wants devices of one kind; found: {', '.join(devices)}", "--devices")
    return 0.0 if kinds == {"cpu"} else gpus or 1 / max(Counter(devices).values())


def of_cluster(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> Share:
    """As many workers as are asked for, or as fit on nodes that have so many "CPU" and "GPU".

    Raises:
        InputError: not one fits.
    """
    named = [name.strip() for name in resources.devices.split(",")] if resources.devices not in (None, "cpu") else []
    for name in named:
        if name.partition(":")[0] not in ("cpu", "cuda"):
            raise InputError(f'found "{name}", allowed: cpu, cuda:N', "--devices")
    gpus = _part(named, resources.gpus) if named else resources.gpus or 0.0
    room = sum(_fits(node.get("CPU", 0.0), node.get("GPU", 0.0), resources.cpus, gpus) for node in nodes)
    if not room:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise InputError(f"no node has {resources.cpus:g} CPUs and {gpus:g} GPUs for a worker; nodes: {there}", "--executor ray")
    return Share(resources.workers or len(named) or room, resources.cpus, gpus)


def _fits(there_cpus: float, there_gpus: float, cpus: float, gpus: float) -> int:
    by_cpus = int(there_cpus / cpus + SLACK)
    return min(by_cpus, int(there_gpus) * int(1 / gpus + SLACK)) if gpus else by_cpus


def versions() -> dict[str, str]:
    """Of what the values of a study depend on. torch's is without the build: a head may have no GPU, and its workers one each."""
    return {"mrnn_search": __version__, "torch": torch.__version__.partition("+")[0], "numpy": np.__version__}


def compare(wanted: dict[str, str]) -> None:
    """Raises InputError if this process is not like the driver."""
    for name, version in versions().items():
        if version != wanted[name]:
            raise InputError(f"{platform.node()} has {name} {version}, the head has {wanted[name]}: values would not compare")


def check_address(address: str) -> None:
    """Try to join the Ray cluster at ``address``.

    Raises:
        InputError: it cannot be joined. After seconds, where Ray would try for minutes.
    """
    where = f"--ray-address {address}"
    if address != "auto":
        host, _, port = address.rpartition(":")
        if "/" in address or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError('allowed: host:port of a Ray head (its port is 6379 unless told otherwise), or "auto"', where)
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OSError as error:
            raise InputError(f"no Ray head answers there: {error.strerror or error}", where) from None
    # In a process of its own: where Ray cannot join, it tries for minutes, or ends the process that it is in
    environment = {**os.environ, **({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if is_loopback(address) else {})}  # see `_on_loopback`
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", TRY, address], stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # ray is imported
            _, err = process.communicate(timeout=CHECK_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise InputError("something listens there, but does not answer as a Ray head does", where) from None
    if process.returncode:
        raise InputError(f"cannot join this Ray cluster ({NEEDED}): {in_one_line(err)}", where)


def is_loopback(address: str) -> bool:
    """Is this "host:port" on this machine's loopback interface?"""
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def in_one_line(text: str) -> str:
    """What an error of Ray says, without the traceback before it."""
    return next((line.strip() for line in reversed(text.strip().splitlines()) if line.strip()), "no reason given")
