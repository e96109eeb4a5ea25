"""A lane's state between rungs, as safetensors bytes: nothing is ever unpickled.

Names: ``model.*`` the weights after the last epoch, ``best.*`` those of the best validation epoch, ``optim.*`` what the
optimizer remembers, each laid out as the lane's row of `Lanes.table`, ``meta.*`` scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def pack_state(model: nn.Module, memory: Mapping[str, Tensor], at: Progress) -> bytes:
    """Everything that the next rung needs, as safetensors bytes. ``memory``: what the optimizer remembers, (P,) each."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (at.best or {}).items()}
    tensors |= {f"optim.{k}": v for k, v in memory.items()}
    tensors["meta.epoch"] = torch.tensor(at.epoch)
    tensors["meta.step"] = torch.tensor(at.step)
    tensors["meta.best_epoch"] = torch.tensor(at.best_epoch)
    tensors["meta.best_value"] = torch.tensor(at.best_value, dtype=torch.float64)
    return save({k: v.detach().clone().contiguous() for k, v in tensors.items()})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def unpack_state(data: bytes, model: nn.Module, memory: Mapping[str, Tensor]) -> Progress:
    """Fill ``model`` and ``memory`` from `pack_state`'s bytes; inverse of it."""
    tensors = load(data)
    model.load_state_dict(_under(tensors, "model."))
    held = _under(tensors, "optim.")
    if held.keys() != memory.keys():
        raise ValueError(f"the checkpoint has an optimizer's {', '.join(held) or 'nothing'}, expected: {', '.join(memory) or 'nothing'}")
    for name, tensor in held.items():
        memory[name].copy_(tensor)
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
