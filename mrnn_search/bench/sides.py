"""The sides of a comparison: each makes training updates of one cell on one shape, and nothing else.

An update is: forward over the whole sequence, readout and cross entropy, backward with the gradient of the input, one step of
RMSprop. Every side has the same inputs, drawn once, and the first candidate starts from the same weights on every side.

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._registry import UnknownNameError
from ..cells.bases.base import bases
from ..cells.spec import Candidate
from ..engine.batches import Batch
from ..engine.lanes import Lanes
from ..engine.losses import cross_entropy
from ..engine.train import SequenceModel
from .loop import LoopModel
from .setting import CLASSES, Setting, classification_loss

VENDOR: dict[str, Callable[..., nn.Module]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass(frozen=True)
class Side:
    """``update()`` trains ``lanes`` candidates by one update each; ``name`` is one of `SIDES`."""

    name: str
    lanes: int
    update: Callable[[], object]


class _WithReadout(nn.Module):
    """A layer that gives outputs (B, T, H) first, and a readout: x (B, T, I) -> (B, classes), or (B, T, classes) if ``every_step``."""

    def __init__(self, layer: nn.Module, readout: nn.Linear, every_step: bool) -> None:
        super().__init__()
        self.layer, self.readout, self.every_step = layer, readout, every_step

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.layer(x)[0]
        logits: Tensor = self.readout(outputs if self.every_step else outputs[:, -1])
        return logits


def _trainer(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Updates of one candidate on x (B, T, I), y (B,): the usual training loop's inside."""
    x = x.clone().requires_grad_()

    def update() -> Tensor:
        optimizer.zero_grad()
        x.grad = None
        loss = classification_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return update


def _start(setting: Setting, candidate: Candidate, seed: int) -> SequenceModel:
    """A candidate's initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SequenceModel(candidate, setting.shape.inputs, CLASSES)


def engine(setting: Setting, lanes: int) -> Side:
    """This package: K candidates in lockstep."""
    x, y = setting.batch(lanes)  # (K, B, T, I), (K, B)
    candidates = setting.candidates(lanes)
    pack = Lanes(candidates, list(range(lanes)), setting.shape.inputs, CLASSES, cross_entropy, setting.device)
    x.requires_grad_()

    def batch(x: Tensor, y: Tensor) -> Batch:
        return Batch.last(x, y) if setting.loss == "last" else Batch.every(x, y[:, None].expand(x.shape[:2]))

    def update() -> None:
        x.grad = None
        pack.update([batch(*own) for own in zip(x, y, strict=True)])

    return Side("engine", lanes, update)


def loop(setting: Setting, lanes: int = 1) -> Side:
    """The usual way, one candidate at a time; see `mrnn_search.bench.loop`."""
    x, y = setting.batch(1)
    (candidate,) = setting.candidates(1)
    s = setting.shape
    model = LoopModel(candidate.spec, s.inputs, s.hidden, CLASSES, setting.loss == "sequence")
    model = model.copy_(_start(setting, candidate, 0)).to(setting.device)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=candidate.lr, alpha=0.9)
    return Side("loop", 1, _trainer(model, optimizer, x[0], y[0]))


def vendor(setting: Setting, lanes: int = 1) -> Side:
    """torch.nn's own layer of the base, one at a time, *without* the rule: context, not the same function."""
    x, y = setting.batch(1)
    layer = VENDOR[setting.base](setting.shape.inputs, setting.shape.hidden, batch_first=True)
    model = _WithReadout(layer, nn.Linear(setting.shape.hidden, CLASSES), setting.loss == "sequence").to(setting.device)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=setting.candidates(1)[0].lr, alpha=0.9)
    return Side("torch.nn", 1, _trainer(model, optimizer, x[0], y[0]))


def gemm(setting: Setting, lanes: int = 1) -> Side:
    """The floor: only the products of matrices that any exact execution has to make, into buffers that are there already.

    Forward: input with W for all t at once, then h with U at every step that has a state. Backward: the gates' gradient with U
    step by step; the gradients of U, W and x, one product each over all steps. No element-wise operation, no readout, no
    optimizer, no matrix exponential.
    """
    s, rows = setting.shape, bases[setting.base].gates * setting.shape.hidden
    make = torch.Generator().manual_seed(0)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make).to(setting.device)

    w, u = matrix(rows, s.inputs), matrix(rows, s.hidden)
    x, h = matrix(s.steps * s.batch, s.inputs), matrix(s.steps, s.batch, s.hidden)
    drive, pre, dh = matrix(s.steps * s.batch, rows), matrix(s.batch, rows), matrix(s.batch, s.hidden)
    gates = matrix(s.steps, s.batch, rows)  # their gradients
    dw, du, dx = torch.empty_like(w), torch.empty_like(u), torch.empty_like(x)
    flat, before, after = gates.view(-1, rows), h[:-1].reshape(-1, s.hidden), gates[1:].reshape(-1, rows)
    hs, gs, w_t, u_t = h[:-1].unbind(0), gates[1:].unbind(0), w.t(), u.t()

    def update() -> None:
        torch.mm(x, w_t, out=drive)
        for h_t in hs:
            torch.mm(h_t, u_t, out=pre)
        for g_t in gs:
            torch.mm(g_t, u, out=dh)
        torch.mm(after.t(), before, out=du)
        torch.mm(flat.t(), x, out=dw)
        torch.mm(flat, w, out=dx)

    return Side("gemm", 1, update)


SIDES: dict[str, Callable[[Setting, int], Side]] = {"engine": engine, "loop": loop, "gemm": gemm, "torch.nn": vendor}


def build(name: str, setting: Setting, lanes: int) -> Side:
    """A side by its name.

    Raises:
        UnknownNameError: there is no such side.
    """
    if name not in SIDES:
        raise UnknownNameError("side", name, SIDES)
    return SIDES[name](setting, lanes)
