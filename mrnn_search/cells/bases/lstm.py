"""Long short-term memory, gate order i, f, g, o as in torch.nn.LSTM."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from .base import Base, Weights, bases, recurrent_term


@bases.register("lstm")
class LSTM(Base):
    """``c_t = f c_{t-1} + i tanh(g)``, ``h_t = o tanh(c_t)``."""

    gates = 4
    states = 2
    equations: ClassVar[tuple[str, ...]] = (
        "[i, f, g, o] = d_t + U h_{t-1} + b_u",
        "c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)",
        "h_t = sigmoid(o) tanh(c_t)",
    )
    source = "Hochreiter and Schmidhuber 1997 with forget gates (Gers et al. 2000); torch.nn.LSTM"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str]) -> tuple[Tensor, ...]:
        del options
        h, c = state
        i, f, g, o = (d + recurrent_term(w, h)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    @classmethod
    def kernel(cls, options: Mapping[str, str]) -> str | None:
        del options
        return "lstm"

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int) -> None:
        super().init_(w, how, hidden_size)
        if how == "paper":
            for name in w.keys() & {"bias_ih", "bias_hh"}:  # 1 in both, as released: an initial forget bias of 2 for the plain cell
                torch.nn.init.ones_(w[name][hidden_size : 2 * hidden_size])
