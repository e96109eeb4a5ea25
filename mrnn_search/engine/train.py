"""Trains one candidate on one task, from one rung to the next. Same seed, same device: same curve, resumed or not."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ..cells.spec import Candidate
from .checkpoint import Progress, best_layer, pack_state, unpack_state
from .recurrent import Recurrent, parameter_groups

__all__ = ["Epoch", "LaneOutcome", "SequenceModel", "Task", "best_layer", "derive_seed", "train_lane"]

EVALUATION_BATCH = 512  # sequences a forward pass without gradients


class Task(Protocol):
    """What a benchmark must offer to be trained on.

    Attributes:
        input_size, output_size: I, and the readout's width.
        metric: the name of what `score` returns; direction: "maximize" or "minimize".
        train, validation: pairs x (N, T, I) float32, y (N,) int64.
    """

    name: str
    input_size: int
    output_size: int
    metric: str
    direction: Literal["maximize", "minimize"]
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of readouts (B, output_size)."""

    def score(self, outputs: Tensor, y: Tensor) -> float:
        """The metric over a whole split, from readouts (N, output_size)."""


class SequenceModel(nn.Module):
    """A recurrent layer and a linear readout of its last output: x (B, T, I) -> (B, output_size)."""

    def __init__(self, candidate: Candidate, input_size: int, output_size: int) -> None:
        super().__init__()
        self.layer = Recurrent(
            candidate.spec,
            input_size,
            candidate.hidden_size,
            num_layers=candidate.num_layers,
            batch_first=True,
            dropout=candidate.dropout,
            init=candidate.init,
        )
        self.readout = nn.Linear(candidate.hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.readout(self.layer(x)[0][:, -1])
        return outputs

    def num_parameters(self) -> int:
        """How many numbers train."""
        return self.layer.num_parameters() + sum(p.numel() for p in self.readout.parameters())


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: ``value`` is the task's metric on validation, ``train_loss`` the mean over its updates."""

    epoch: int
    step: int
    train_loss: float
    value: float
    seconds: float


@dataclass(frozen=True)
class LaneOutcome:
    """What became of a lane.

    Attributes:
        error: None, or why it failed ("loss is nan at epoch 2, step 61"); the other fields then hold what there was.
        rows: the epochs that this call trained.
        value: the best validation metric over all epochs so far, from the first; NaN if none; best_epoch: the epoch that has it.
        checkpoint: safetensors bytes after the last epoch; None if failed.
        test_value: the metric on the test split with the best epoch's weights; None unless it was to be read.
        parameters: how many numbers train (recurrent layer and readout).
        execution: which path ran and why (`Recurrent.execution`).
    """

    error: str | None
    rows: tuple[Epoch, ...]
    value: float
    best_epoch: int
    checkpoint: bytes | None
    test_value: float | None
    parameters: int
    execution: str

    @classmethod
    def failed(cls, error: str) -> LaneOutcome:
        """The outcome of a lane that came to nothing."""
        return cls(error, (), math.nan, 0, None, None, 0, "none")


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from anything printable; differs in every bit when any part differs."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def make_optimizer(candidate: Candidate, model: nn.Module) -> torch.optim.Optimizer:
    """The candidate's optimizer; RMSprop has alpha = 0.9, as the paper's recipes for the LSTM family."""
    orthogonal = candidate.lr / 10 if candidate.lr_orthogonal is None else candidate.lr_orthogonal
    groups = parameter_groups(model, candidate.lr, orthogonal)
    make: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "rmsprop": lambda g: torch.optim.RMSprop(g, lr=candidate.lr, alpha=0.9),
        "adam": lambda g: torch.optim.Adam(g, lr=candidate.lr),
        "sgd": lambda g: torch.optim.SGD(g, lr=candidate.lr),
    }
    return make[candidate.optimizer](groups)


@torch.no_grad()
def readouts(model: nn.Module, x: Tensor) -> Tensor:
    """Readouts (N, output_size) of a whole split, in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in x.split(EVALUATION_BATCH)])


class LaneFailure(Exception):
    """A lane cannot go on; the text is the reason that the ledger keeps."""


def _train_epoch(
    task: Task, candidate: Candidate, model: nn.Module, optimizer: torch.optim.Optimizer, at: Progress, seed: int, deadline: float
) -> float:
    """One pass over the training split; returns the mean loss. Counts steps in ``at``."""
    x, y = task.train
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(derive_seed(seed, "order", at.epoch)))
    torch.manual_seed(derive_seed(seed, "dropout", at.epoch))
    model.train()
    total, batches = 0.0, 0
    for rows in order.split(candidate.batch_size):
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(model(x[rows]), y[rows])
        at.step += 1
        number = loss.item()
        if not math.isfinite(number):
            raise LaneFailure(f"loss is {number} at epoch {at.epoch + 1}, step {at.step}")
        loss.backward()
        if candidate.clip is not None:
            norm = nn.utils.clip_grad_norm_(model.parameters(), candidate.clip)
            if not torch.isfinite(norm):
                raise LaneFailure(f"gradient norm is {norm.item()} at epoch {at.epoch + 1}, step {at.step}")
        optimizer.step()
        total, batches = total + number, batches + 1
        if time.monotonic() > deadline:
            raise LaneFailure(f"ran past its time limit at epoch {at.epoch + 1}, step {at.step}")
    return total / batches


def _better(task: Task, new: float, old: float) -> bool:
    return math.isnan(old) or (new > old if task.direction == "maximize" else new < old)


def train_lane(
    task: Task,
    candidate: Candidate,
    seed: int,
    checkpoint: bytes | None,
    start_epoch: int,
    stop_epoch: int,
    *,
    test: tuple[Tensor, Tensor] | None = None,
    timeout_s: float | None = None,
    device: str = "cpu",
) -> LaneOutcome:
    """Train ``candidate`` from ``start_epoch`` to ``stop_epoch`` finished epochs.

    Args:
        seed: of initial weights, data order and dropout.
        checkpoint: the bytes that the call up to ``start_epoch`` returned; None at epoch 0.
        test: also score this split once, with the best validation epoch's weights.
        timeout_s: seconds after which the lane fails; None: no limit.

    Returns:
        The outcome; ``error`` is set when the loss or a gradient is not finite, or the time ran out.

    Raises:
        ValueError: the checkpoint does not stand at ``start_epoch``.
        RuntimeError, MemoryError: torch could not compute the cell, or memory ran out.
    """
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        model = SequenceModel(candidate, task.input_size, task.output_size).to(device)
        optimizer = make_optimizer(candidate, model)
        at = Progress() if checkpoint is None else unpack_state(checkpoint, model, optimizer)
        if at.epoch != start_epoch:
            raise ValueError(f"checkpoint stands at epoch {at.epoch}, not at {start_epoch}")
        rows: list[Epoch] = []
        error: str | None = None
        try:
            while at.epoch < stop_epoch:
                clock = time.monotonic()
                loss = _train_epoch(task, candidate, model, optimizer, at, seed, deadline)
                outputs = readouts(model, task.validation[0])
                if not torch.isfinite(outputs).all():
                    raise LaneFailure(f"validation outputs are not finite after epoch {at.epoch + 1}")
                value = task.score(outputs, task.validation[1])
                at.epoch += 1
                if _better(task, value, at.best_value):
                    at.best_value, at.best_epoch = value, at.epoch
                    at.best = {k: v.detach().clone() for k, v in model.state_dict().items()}
                rows.append(Epoch(at.epoch, at.step, loss, value, time.monotonic() - clock))
        except LaneFailure as failure:
            error = str(failure)
        data = None if error else pack_state(model, optimizer, at)
        test_value = None
        if test is not None and error is None and at.best is not None:
            model.load_state_dict(at.best)
            test_value = task.score(readouts(model, test[0]), test[1])
    return LaneOutcome(error, tuple(rows), at.best_value, at.best_epoch, data, test_value, model.num_parameters(), model.layer.execution)
