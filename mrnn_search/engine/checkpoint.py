"""A lane's state between rungs, as safetensors bytes: nothing is ever unpickled.

Names: ``model.*`` the weights after the last epoch, ``best.*`` those of the best validation epoch, ``optim.N.*`` the
optimizer's state of parameter N, ``meta.*`` scalars.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor, nn


@dataclass
class Progress:
    """Where a lane stands: ``epoch`` and ``step`` finished, and the best epoch's metric and weights."""

    epoch: int = 0
    step: int = 0
    best_value: float = float("nan")
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None


def pack_state(model: nn.Module, optimizer: torch.optim.Optimizer, at: Progress) -> bytes:
    """Everything that the next rung needs, as safetensors bytes."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (at.best or {}).items()}
    for n, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optim.{n}.{k}": torch.as_tensor(v) for k, v in state.items() if v is not None}
    tensors["meta.epoch"] = torch.tensor(at.epoch)
    tensors["meta.step"] = torch.tensor(at.step)
    tensors["meta.best_epoch"] = torch.tensor(at.best_epoch)
    tensors["meta.best_value"] = torch.tensor(at.best_value, dtype=torch.float64)
    return save({k: v.detach().clone().contiguous() for k, v in tensors.items()})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def unpack_state(data: bytes, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Fill ``model`` and ``optimizer`` from `pack_state`'s bytes; inverse of it."""
    tensors = load(data)
    model.load_state_dict(_under(tensors, "model."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _under(tensors, "optim.").items():
        n, name = key.split(".", 1)
        state.setdefault(int(n), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    meta = _under(tensors, "meta.")
    return Progress(
        int(meta["epoch"]), int(meta["step"]), float(meta["best_value"]), int(meta["best_epoch"]), _under(tensors, "best.") or None
    )


def best_model(data: bytes) -> dict[str, Tensor]:
    """The best epoch's state_dict, layer and readout, from a checkpoint's bytes."""
    return _under(load(data), "best.")


def best_layer(data: bytes) -> dict[str, Tensor]:
    """The best epoch's state_dict of the recurrent layer alone (no readout), from a checkpoint's bytes."""
    return _under(best_model(data), "layer.")
