"""What happens inside a worker, whoever started it: the set-up of the process and the running of one pack."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback

import torch

from ..benchmarks import Benchmark
from ..engine.heap import give_back_freed, huge_pages, keep_freed
from .packs import Pack, PackResult, failed_pack, train_pack

ENVIRONMENT = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} | huge_pages()
PARENT_CHECK_S = 1.0


def prepare_worker() -> None:
    """Make this process a worker: call it once, in the main thread, before anything is computed.

    One thread: parallel are the packs. Denormals count as zero: a decaying momentum is full of them, and each costs a CPU
    a hundred cycles. What a pack frees is kept for its next update (`mrnn_search.engine.heap`), and given back at its end, before
    the next pack asks how much memory there is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.set_flush_denormal(True)
    keep_freed()


def die_with(parent: int) -> None:
    """End this process soon after the process ``parent``, its parent, is gone, however that died."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)  # from a thread, and at once: nobody is left to hear anything

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def run_pack(pack: Pack, device: str, task: Benchmark | None = None) -> PackResult | Exception:
    """Train ``pack``, on ``task`` where the worker was sent its data; what it raises is returned, in a form that survives the way back."""
    try:
        return train_pack(pack, device, task)
    except Exception as error:
        return portable(error)
    finally:
        give_back_freed()


def portable(error: Exception) -> Exception:
    """``error`` if pickle can carry it, else an error of its nearest ancestor's type that it can; the traceback is a note."""
    note = "in a worker:\n" + "".join(traceback.format_exception(error))
    for kind in type(error).__mro__[:-2]:  # without BaseException and object
        try:
            carried: Exception = pickle.loads(pickle.dumps(error if kind is type(error) else kind(str(error))))
        except Exception:  # the constructors of strangers: anything can happen, and the next ancestor is tried
            continue
        if str(carried) == str(error):
            carried.add_note(note)
            return carried
    return RuntimeError(note)


def given_up(pack: Pack, deaths: int) -> PackResult:
    """The result of a pack that lost ``deaths`` workers."""
    return failed_pack(pack, f"worker died {deaths} time{'s' * (deaths != 1)} (killed, out of memory, or lost)")
