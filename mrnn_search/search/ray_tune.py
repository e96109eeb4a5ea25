"""Packs on Ray Tune, on this machine or a cluster. The only module that imports ray.

One `Tuner.fit` runs in a thread for the life of the executor. A trial is a worker: in one endless iteration it takes pack
after pack from a mailbox (an actor on the driver's node), and hands each result in with the request for the next; when it
dies, or the mailbox gives it up for lost, Tune places another. So no pack waits for an actor or for Tune's own loop, and
neither bytes nor candidates get into Tune's own files.

A trial a pack, on reused actors, was tried: with short packs, Tune then gives each new trial the actor that just became
free and takes back the one that still starts, so a dead worker is never replaced.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import platform
import secrets
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .._registry import InputError, StudyError
from ..benchmarks import Benchmark
from ..engine.heap import starting
from .cluster import Share, check_address, compare, in_one_line, is_loopback, of_cluster, of_this_machine, versions
from .executors import LOST_AFTER_S, Executor, Resources, patience
from .mailbox import Mail, Mailbox
from .packs import Pack, PackResult, data_of
from .worker import ENVIRONMENT, given_up, prepare_worker, run_pack

# Read when ray is imported. Ray tells the screen of a worker or a node that died even when told to be silent; `collect` tells the driver.
os.environ.setdefault(
    "RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|running low on memory|has been marked dead|Raylet is terminated"
)
try:
    import ray
    from ray import tune
    from ray.tune.search import Searcher
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise InputError("ray is not installed; pip install 'mrnn-search[ray]'") from error

CLOSE_S = 20.0  # for Tune to end, after its workers are dead
PROBE_S = 60.0
BEATS = 6  # of a worker, before its silence would count as death
MAX_REFUSALS = 2  # to start, for each slot, before it is sure that no worker will
MAX_PAUSE_S = 20.0
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
    """One endless iteration: trains pack after pack, until the mailbox closes."""

    def setup(self, config: dict[str, Any]) -> None:
        compare(config["versions"])
        prepare_worker()
        self._device: str = config["device"]
        self._mailbox: Any = ray.get_actor(config["mailbox"])
        self._sent: dict[str, Benchmark] = {}
        threading.Thread(target=self._beat, args=(config["beat_s"],), name="beat", daemon=True).start()

    def step(self) -> dict[str, Any]:
        # As bytes: the process that gets a handle imports the worker's class, and torch and Tune with it
        me: bytes = ray.cloudpickle.dumps(ray.get_runtime_context().current_actor)  # type: ignore[no-untyped-call]
        result: bytes | None = None
        while (data := ray.get(self._mailbox.take.remote(self.trial_id, me, result))) is not None:
            pack = pickle.loads(data)
            result = pickle.dumps(run_pack(pack, self._device, self._data_of(pack)))
        return {"done": True}

    def _beat(self, every_s: float) -> None:
        while True:
            time.sleep(every_s)
            self._mailbox.beat.remote(self.trial_id)

    def _data_of(self, pack: Pack) -> Benchmark | None:
        """The benchmark, with data from the driver where this node lacks it; None: nobody has it, and `run_pack` will say so."""
        name = f"{pack.benchmark} {pack.data_dir}"
        if name in self._sent:
            return self._sent[name]
        try:
            return data_of(pack, self._device)
        except InputError:
            data = ray.get(self._mailbox.fetch.remote(name, pack.pack_id))
        if not data:
            return None
        benchmark: Benchmark = ray.get(data[0]).to(self._device)
        if pack.fingerprint is not None and benchmark.fingerprint != pack.fingerprint:
            return None
        self._sent[name] = benchmark
        return benchmark


class _Slots(Searcher):
    """Asks Tune for a new trial whenever fewer than ``slots`` live; less and less often while workers refuse to start."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self._slots = slots
        self._live: set[str] = set()
        self._pause = self._not_before = 0.0
        self.closing = False

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self.closing:
            return Searcher.FINISHED  # type: ignore[return-value]  # a string: Ray's own annotation leaves it out
        if len(self._live) >= self._slots or time.monotonic() < self._not_before:
            return None
        self._live.add(trial_id)
        return {}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        del result, error
        self._live.discard(trial_id)

    def back_off(self) -> None:
        """Wait with the next, longer each time."""
        self._pause = min(MAX_PAUSE_S, 2 * self._pause + 0.1)
        self._not_before = time.monotonic() + self._pause

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Deaths(tune.Callback):
    """Tells the mailbox of each trial that died; and why, where its worker refused to start."""

    def __init__(self, slots: _Slots, mailbox: Any) -> None:
        self._slots, self._mailbox = slots, mailbox

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        try:
            text = Path(trial.error_file).read_text()
        except OSError:
            text = ""
        refused = "creation task" in text  # Ray's words; a worker that is killed has no such reason
        if refused:
            self._slots.back_off()
        self._mailbox.bury.remote(trial.trial_id, in_one_line(text) if refused else "")


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

    Joins the cluster that ``resources`` name, or starts one on this machine; uses a Ray that is already initialised and leaves it up.

    Args:
        resources: on a cluster only the number and kind of its devices count: Ray places the workers.
        lost_after_s: see `LOST_AFTER_S`.

    Raises:
        InputError: both CPUs and GPUs, which Tune cannot give to trials of one kind; no cluster at that address, or none with room.
    """

    def __init__(self, resources: Resources, lost_after_s: float = LOST_AFTER_S) -> None:
        self._out: dict[str, Pack] = {}
        self._seen = self._killed = 0
        self._sent: dict[str, Any] = {}
        self._failure: BaseException | None = None
        with ExitStack() as stack:
            if ray.is_initialized():
                share = of_cluster(resources, _nodes())
            elif resources.ray_address:
                _join(stack, resources.ray_address)
                share = of_cluster(resources, _nodes())
            else:
                share = of_this_machine(resources)
                _start(stack, share, resources.here())
            self.slots = share.workers
            _settle(stack, self.slots)
            name = f"mrnn-search-{uuid.uuid4().hex}"
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor: Any = ray.remote(num_cpus=0)(Mailbox)
            options = actor.options(name=name, scheduling_strategy=here)
            self._mailbox = options.remote(resources.retries, MAX_REFUSALS * self.slots, lost_after_s)
            self._searcher = _Slots(self.slots)
            config = {
                "mailbox": name,
                "beat_s": lost_after_s / BEATS,
                "versions": versions(),
                "device": "cuda:0" if share.gpus else "cpu",  # Ray shows a worker its own GPU only
            }
            tuner = self._tuner(config, share, _folder(stack))
            self._thread = threading.Thread(target=self._run, args=(tuner,), name="ray-tune", daemon=True)
            self._thread.start()
            self._stack = stack.pop_all()

    def submit(self, pack: Pack) -> None:
        self._out[pack.pack_id] = pack
        ray.get(self._mailbox.put.remote(pack.pack_id, pickle.dumps(pack), patience(pack)))  # a later call could overtake it otherwise

    def collect(self, timeout: float) -> list[PackResult]:
        if not self._out:
            return []
        if not self._thread.is_alive():
            raise RuntimeError(f"Ray Tune stopped: {self._failure!r}") from self._failure
        try:
            mail: Mail = ray.get(self._mailbox.collect.remote(self._seen, timeout))
        except ray.exceptions.RayActorError:
            raise StudyError(
                "its mailbox, a process of Ray's on this machine, was killed; the same command goes on", "--executor ray"
            ) from None
        for worker in mail.lost[self._killed :]:
            _kill(worker)
        self._killed = len(mail.lost)
        if mail.hopeless:
            raise InputError(f"no worker comes up: {mail.hopeless}", "--executor ray")
        for name, pack_id in mail.wanted.items():
            self._provide(name, self._out[pack_id])
        results: list[PackResult] = []
        for pack_id, data in mail.finished:
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
                    _kill(worker)
                self._thread.join(CLOSE_S)
                ray.kill(self._mailbox)

    def _provide(self, name: str, pack: Pack) -> None:
        """Put the data of ``pack`` into the object store, once: Ray takes it to each node that asks, once."""
        if name not in self._sent:
            try:
                self._sent[name] = [_put(data_of(pack))]
            except InputError:  # of the head too: the pack will say so
                self._sent[name] = []
        ray.get(self._mailbox.provide.remote(name, self._sent[name]))

    def _tuner(self, config: dict[str, Any], share: Share, folder: str) -> Any:
        resources = {"cpu": share.cpus} | ({"gpu": share.gpus} if share.gpus else {})
        return tune.Tuner(
            tune.with_resources(Worker, resources),
            param_space=config,
            tune_config=tune.TuneConfig(search_alg=self._searcher, num_samples=-1),
            # To Tune, a trial that died is over: the mailbox counts a pack's deaths, and gives it to whoever is free first
            run_config=tune.RunConfig(
                storage_path=folder,
                callbacks=[_Deaths(self._searcher, self._mailbox)],
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
        if not ray.is_initialized():
            if address := os.environ.get("RAY_ADDRESS"):
                _join(stack, address)
            else:
                _start(stack, of_this_machine(Resources()), [])
        ray.get(ray.remote(num_cpus=0)(platform.node).remote(), timeout=PROBE_S)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return f"{ray.__version__}, {resources.get('CPU', 0):.0f} CPUs"


def _settle(stack: ExitStack, slots: int) -> None:
    """Make Tune quiet and quick, until ``stack`` closes."""
    _set(stack, {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots)})  # all workers start at the same time
    for name in ("ray.tune", "ray.train", "ray.air"):  # what matters to a user comes back from `collect`
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)


def _set(stack: ExitStack, settings: Mapping[str, str]) -> None:
    """Environment variables, until ``stack`` closes; those that the user has set stay."""
    for name in settings.keys() - os.environ.keys():
        os.environ[name] = settings[name]
        stack.callback(os.environ.pop, name, None)


def _folder(stack: ExitStack) -> str:
    """A temporary folder, removed when ``stack`` closes. A short path: Ray puts sockets into it."""
    folder = tempfile.mkdtemp(prefix=f"mrnn-{os.getpid()}-", dir="/tmp" if Path("/tmp").is_dir() else None)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def _start(stack: ExitStack, share: Share, devices: Sequence[str]) -> None:
    """Start a Ray on this machine, for this user, on the loopback interface alone; it ends when ``stack`` closes."""
    _set(stack, SETTINGS)
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        # A password, for other users of the machine reach the cluster too; without one here, Ray leaves one in ~/.ray. It stays
        # set: Ray reads it once a process
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = _folder(stack)
    stack.callback(ray.shutdown)
    with _on_loopback(), starting({**ENVIRONMENT, **_visible(devices)}):  # whose processes and workers inherit it
        ray.init(
            address="local",
            num_cpus=math.ceil(share.workers * share.cpus),
            num_gpus=len(set(devices) - {"cpu"}),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            **QUIET,
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Lets Ray keep the address 127.0.0.1 that it is given.

    On Linux it takes the machine's address in its place, and its processes then listen on every interface. On macOS and Windows it does
    not, and what decides is this constant, or, before ray is imported, the environment variable RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _join(stack: ExitStack, address: str) -> None:
    """Be a driver of the cluster at ``address``, until ``stack`` closes.

    Its nodes are sent this package: they may lack it, or have another version.

    Raises:
        InputError: there is no cluster, or not one that this process can join.
    """
    _set(stack, SETTINGS)
    check_address(address)
    code = {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__"]}
    variables = {**ENVIRONMENT, "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    stack.callback(ray.shutdown)
    with _on_loopback() if is_loopback(address) else ExitStack():
        ray.init(address, runtime_env={"env_vars": variables, **code}, **QUIET)


def _kill(worker: bytes) -> None:
    ray.kill(ray.cloudpickle.loads(worker))


def _nodes() -> list[dict[str, float]]:
    """What each living node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _put(benchmark: Benchmark) -> Any:
    module = sys.modules[type(benchmark).__module__]
    if module.__name__.partition(".")[0] != __name__.partition(".")[0]:  # a user's own: the nodes may not have it
        ray.cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        return ray.put(benchmark)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError):
        size = sum(tensor.nbytes for split in (benchmark.train, benchmark.validation) for tensor in split if tensor is not None)
        raise RuntimeError(
            f"a node lacks the data of {benchmark.name}, and {size / 2**30:.1f} GiB or more do not pass through Ray's object store: "
            "copy its folder to every node, or start Ray with a larger --object-store-memory"
        ) from None


def _visible(devices: Sequence[str]) -> dict[str, str]:
    """The environment that shows the GPUs of ``devices``, and no others, to a Ray that starts in it."""
    indices = sorted({int(device.partition(":")[2]) for device in devices if device != "cpu"})
    if not indices:
        return {}
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = before.split(",") if before else [str(i) for i in range(indices[-1] + 1)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[i] for i in indices)}
