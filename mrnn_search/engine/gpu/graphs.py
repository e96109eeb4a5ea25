"""The recurrence of `step` as CUDA graphs: the launches of a whole sequence, recorded once, are one launch for the host.

A graph reads and writes fixed buffers. From its forward pass until its backward pass is done, or until nobody can ask for that any
more, it is leased: a second layer of the same shapes gets a graph of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from . import step
from .buffers import Buffers, How

MOST = 16  # graphs kept, each with buffers for a whole sequence
_Key = tuple[Any, ...]


class Graph:
    """One recorded pass forward and, with ``save``, backward."""

    def __init__(self, key: _Key, family: str, how: How, like: tuple[Tensor | None, ...], hidden_size: int, save: bool) -> None:
        self.key = key
        drive, weight, bias, modrelu_bias = (None if v is None else torch.zeros_like(v) for v in like)
        assert drive is not None and weight is not None
        self.buffers = Buffers.around(family, drive, weight, bias, modrelu_bias, hidden_size, save)
        self.buffers.start(*[torch.zeros_like(self.buffers.hs[:, 0])] * 2)
        self._dy = torch.zeros_like(self.buffers.hs[:, 1:]) if save else None
        self._dh, self._dc = (torch.zeros_like(self.buffers.hs[:, 0]) for _ in range(2))
        self._forward = _record(lambda: step.forward(self.buffers, how))
        if self._dy is not None:
            dy = self._dy
            self._backward = _record(lambda: step.backward(self.buffers, dy, self._dh, self._dc, how))

    def forward(self, *inputs: Tensor | None) -> None:
        """From drive, weight, bias, modrelu_bias and the state that `Buffers.start` put in."""
        b = self.buffers
        for mine, given in zip((b.drive, b.weight, b.bias, b.modrelu_bias), inputs, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        self._forward.replay()

    def backward(self, dy: Tensor, d_last: Tensor | None) -> tuple[Tensor, Tensor]:
        """The gradients of h_0 and c_0; those of the gates are in the buffers."""
        assert self._dy is not None
        self._dy.copy_(dy)
        self._dh.zero_()
        if d_last is not None:
            self._dc.copy_(d_last)
        self._backward.replay()
        return self._dh, self._dc


def _record(run: Any) -> torch.cuda.CUDAGraph:
    """``run`` on fixed buffers as a graph; runs it before, on a stream of its own, for what is set up at first use."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on allocating
        run()
    return graph


class Lease:
    """A graph for one pass; it goes back when this object does."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __del__(self) -> None:
        _pool.put(self.graph)


class _Pool:
    """Graphs that nobody uses, the longest unused first, and how many there are in all."""

    def __init__(self) -> None:
        self._free: OrderedDict[int, Graph] = OrderedDict()
        self._count = 0
        self._seen: set[_Key] = set()
        self._lock = threading.RLock()  # a lease may end while garbage is collected, in the midst of `take`

    def take(self, key: _Key, make: Any) -> Graph | None:
        """A graph; None the first time that shapes are seen (they may never come back), or if all are in use."""
        with self._lock:
            if key not in self._seen:
                self._seen.add(key)
                return None
            for name, free in reversed(self._free.items()):
                if free.key == key:
                    return self._free.pop(name)
            if self._count >= MOST:
                if not self._free:
                    return None
                self._free.popitem(last=False)
                self._count -= 1
        graph: Graph = make()
        with self._lock:
            self._count += 1
        return graph

    def put(self, graph: Graph) -> None:
        with self._lock:
            self._free[id(graph)] = graph


_pool = _Pool()


def lease(
    family: str, how: How, drive: Tensor, weight: Tensor, bias: Tensor | None, modrelu_bias: Tensor | None, save: bool
) -> Lease | None:
    """A graph for these shapes; None: run it without."""
    if how.kernel != "step" or not how.captured or drive.device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return None
    stream = torch.cuda.current_stream(drive.device)
    key = (family, how, drive.shape, weight.shape, bias is None, save, drive.device.index, stream.cuda_stream)
    with torch.cuda.device(drive.device):
        graph = _pool.take(key, lambda: Graph(key, family, how, (drive, weight, bias, modrelu_bias), weight.shape[-1], save))
    return None if graph is None else Lease(graph)
