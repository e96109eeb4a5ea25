"""The simple recurrence (Elman), tanh or relu."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Base, Join, Weights, bases, recurrent_term


@bases.register("rnn")
class RNN(Base):
    """``h_t = σ(d_t + U h_{t-1} + b_u)``."""

    options = {"activation": ("tanh", "relu")}
    equations = ("h_t = act(<d_t + U h_{t-1} + b_u>)",)
    latex = (r"h_t = \phi(<d_t + U h_{t-1} + b_u>)",)
    source = "Elman 1990; torch.nn.RNN"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        a = join(d, recurrent_term(w, state[0]), 0)
        return (torch.tanh(a) if options["activation"] == "tanh" else torch.relu(a),)

    @classmethod
    def kernel(cls, options: Mapping[str, str]) -> str | None:
        return f"rnn_{options['activation']}"
