"""Packs on Ray Tune, on this machine or a cluster. The only module that imports ray.

One `Tuner.fit` runs in a thread for the life of the executor. A trial is a worker: it lives on, and each of its iterations
takes the next pack from a mailbox (an actor on the driver's node), trains it and hands the result in; when it dies, Tune
places another. So no pack waits for an actor, and neither bytes nor candidates get into Tune's own files.

A trial a pack, on reused actors, was tried: with short packs, Tune then gives each new trial the actor that just became
free and takes back the one that still starts, so a dead worker is never replaced.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import secrets
import shutil
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .._registry import InputError
from .executors import MAX_RETRIES, Executor
from .mailbox import Mailbox
from .packs import Pack, PackResult
from .worker import ONE_THREAD, given_up, prepare_worker, run_pack

# Read when ray is imported. Ray tells the screen of a worker that died even when told to be silent; `collect` tells the driver.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|running low on memory")
try:
    import ray
    from ray import tune
    from ray.tune.search import Searcher
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise InputError("ray is not installed; pip install 'mrnn-search[ray]'") from error

CLOSE_S = 20.0  # for Tune to end, after its workers are dead
PROBE_S = 60.0
OBJECT_STORE_BYTES = 512 * 2**20  # packs pass through it, nothing stays; Ray would reserve 30 % of the machine's memory

# Where the user has set one of these, it stays.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it, a FutureWarning on stderr
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's new progress output prints even when told to be silent
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative data folders are the driver's
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # nothing is restored from it: the ledger is the truth
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


class Worker(tune.Trainable):
    """Trains a pack in each iteration, until the mailbox closes."""

    def setup(self, config: dict[str, Any]) -> None:
        prepare_worker()
        self._device: str = config["device"]
        self._mailbox: Any = ray.get_actor(config["mailbox"])

    def step(self) -> dict[str, Any]:
        data: bytes | None = ray.get(self._mailbox.take.remote(self.trial_id, ray.get_runtime_context().current_actor))
        if data is not None:
            result = run_pack(pickle.loads(data), self._device)
            ray.get(self._mailbox.give.remote(self.trial_id, pickle.dumps(result)))
        return {"done": data is None}


class _Slots(Searcher):
    """Asks Tune for a new trial whenever fewer than ``slots`` live, and tells the mailbox of each that died."""

    def __init__(self, slots: int, mailbox: Any) -> None:
        super().__init__()
        self._slots = slots
        self._mailbox = mailbox
        self._live: set[str] = set()
        self.closing = False

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self.closing:
            return Searcher.FINISHED  # type: ignore[return-value]  # a string: Ray's own annotation leaves it out
        if len(self._live) >= self._slots:
            return None
        self._live.add(trial_id)
        return {}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        del result
        self._live.discard(trial_id)
        if error:
            self._mailbox.bury.remote(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Closing(tune.Stopper):
    """Ends every trial, those that still wait for a place on the cluster too, once the executor closes."""

    def __init__(self, slots: _Slots) -> None:
        self._slots = slots

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._slots.closing


class RayExecutor(Executor):
    """Trains packs in trials of Ray Tune, first come, first served; see `Executor`.

    Joins the cluster of ``RAY_ADDRESS``, or starts one on this machine; uses a Ray that is already initialised and leaves it up.

    Args:
        devices: one trial at a time for each. On a cluster only their number and kind count: Ray places the trials.

    Raises:
        InputError: both CPUs and GPUs, which Tune cannot give to trials of one kind.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        kinds = {device.partition(":")[0] for device in devices}
        if len(kinds) > 1:
            raise InputError(f"the ray executor wants devices of one kind; found: {', '.join(devices)}", "--devices")
        self.slots = len(devices)
        self._out: dict[str, Pack] = {}
        self._seen = 0
        self._failure: BaseException | None = None
        with ExitStack() as stack:
            _settle(stack, self.slots)
            _connect(stack, devices)
            name = f"mrnn-search-{uuid.uuid4().hex}"
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor: Any = ray.remote(num_cpus=0)(Mailbox)
            self._mailbox = actor.options(name=name, scheduling_strategy=here).remote(MAX_RETRIES)
            self._searcher = _Slots(self.slots, self._mailbox)
            config = {"mailbox": name, "device": "cpu" if kinds == {"cpu"} else "cuda:0"}  # Ray shows a worker its own GPU only
            tuner = self._tuner(config, _resources(devices), _folder(stack))
            self._thread = threading.Thread(target=self._run, args=(tuner,), name="ray-tune", daemon=True)
            self._thread.start()
            self._stack = stack.pop_all()

    def submit(self, pack: Pack) -> None:
        self._out[pack.pack_id] = pack
        ray.get(self._mailbox.put.remote(pack.pack_id, pickle.dumps(pack)))  # a later call could overtake it otherwise

    def collect(self, timeout: float) -> list[PackResult]:
        if not self._out:
            return []
        if not self._thread.is_alive():
            raise RuntimeError(f"Ray Tune stopped: {self._failure!r}") from self._failure
        results: list[PackResult] = []
        for pack_id, data in ray.get(self._mailbox.collect.remote(self._seen, timeout)):
            result = given_up(self._out[pack_id], data) if isinstance(data, int) else pickle.loads(data)
            if isinstance(result, Exception) and results:
                break  # raised by the next call, which gets it again
            self._seen += 1
            del self._out[pack_id]
            if isinstance(result, Exception):
                raise result
            results.append(result)
        return results

    def cancel(self) -> int:
        for pack_id in ray.get(self._mailbox.forget.remote()):
            del self._out[pack_id]
        return len(self._out)

    def close(self) -> None:
        with self._stack:  # Ray ends and its folders go, whatever happens inside
            if not self._searcher.closing:
                self._searcher.closing = True
                for worker in ray.get(self._mailbox.close.remote()):
                    ray.kill(worker)
                self._thread.join(CLOSE_S)
                ray.kill(self._mailbox)

    def _tuner(self, config: dict[str, Any], resources: dict[str, float], folder: str) -> Any:
        return tune.Tuner(
            tune.with_resources(Worker, resources),
            param_space=config,
            tune_config=tune.TuneConfig(search_alg=self._searcher, num_samples=-1),
            # To Tune, a trial that died is over: the mailbox counts a pack's deaths, and gives it to whoever is free first
            run_config=tune.RunConfig(
                storage_path=folder,
                stop=_Closing(self._searcher),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )

    def _run(self, tuner: Any) -> None:
        try:
            tuner.fit()
        except BaseException as error:
            self._failure = error


def probe() -> str:
    """Start a small Ray, or use the one that is there, run one task and go; returns its version and size.

    Raises:
        Exception: whatever keeps Ray from working here.
    """
    with ExitStack() as stack:
        _settle(stack, 1)
        _connect(stack, ["cpu"] * (os.cpu_count() or 1))
        ray.get(ray.remote(num_cpus=0)(platform.node).remote(), timeout=PROBE_S)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return f"{ray.__version__}, {resources.get('CPU', 0):.0f} CPUs"


def _settle(stack: ExitStack, slots: int) -> None:
    """Make Ray and Tune quiet and quick, until ``stack`` closes."""
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots)}  # all workers start at the same time
    for name in settings.keys() - os.environ.keys():
        os.environ[name] = settings[name]
        stack.callback(os.environ.pop, name, None)
    for name in ("ray.tune", "ray.train", "ray.air"):  # what matters to a user comes back from `collect`
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)


def _folder(stack: ExitStack) -> str:
    """A temporary folder, removed when ``stack`` closes. A short path: Ray puts sockets into it."""
    folder = tempfile.mkdtemp(prefix=f"mrnn-{os.getpid()}-", dir="/tmp" if Path("/tmp").is_dir() else None)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _connect(stack: ExitStack, devices: Sequence[str]) -> None:
    """Be connected to Ray; what this starts ends when ``stack`` closes."""
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        stack.callback(ray.shutdown)
        ray.init(runtime_env={"env_vars": {**ONE_THREAD, "RAY_CHDIR_TO_TRIAL_DIR": "0"}}, **quiet)
        return
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        # A password, for other users of the machine reach the cluster too; without one here, Ray leaves one in ~/.ray. It stays
        # set: Ray reads it once a process
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = _folder(stack)
    stack.callback(ray.shutdown)
    with _visible(devices):
        ray.init(
            num_cpus=len(devices),
            num_gpus=len(set(devices) - {"cpu"}),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            **quiet,
        )


def _visible(devices: Sequence[str]) -> ExitStack:
    """Shows the GPUs of ``devices``, and no others, to a Ray that starts inside."""
    stack = ExitStack()
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    indices = sorted({int(device.partition(":")[2]) for device in devices if device != "cpu"})
    if indices:
        names = before.split(",") if before else [str(i) for i in range(indices[-1] + 1)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[i] for i in indices)
        stack.callback(os.environ.pop, "CUDA_VISIBLE_DEVICES")
        if before is not None:
            stack.callback(os.environ.__setitem__, "CUDA_VISIBLE_DEVICES", before)
    return stack


def _resources(devices: Sequence[str]) -> dict[str, float]:
    """What a trial takes: a CPU, and the share of a GPU that lets the device named most often hold all of its trials."""
    if devices[0] == "cpu":
        return {"cpu": 1}
    return {"cpu": 1, "gpu": 1 / max(Counter(devices).values())}
