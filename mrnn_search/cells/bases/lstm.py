"""Long short-term memory, gate order i, f, g, o as in torch.nn.LSTM."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from .base import Base, Join, Number, Weights, bases, recurrent_term


@bases.register("lstm")
class LSTM(Base):
    """``c_t = f c_{t-1} + i tanh(g)``, ``h_t = o tanh(c_t)``.

    Options:
        forget_bias: what ``init="paper"`` fills the forget gate's part of ``bias_ih`` and of ``bias_hh`` with; the plain cell has
            their sum. 1 as in the released MNIST code; its TIMIT recipe has -4. ``init="torch"`` does not read it.
    """

    gate_names = ("i", "f", "g", "o")
    states = 2
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"forget_bias": Number(("1",))}
    later_options: ClassVar[frozenset[str]] = frozenset({"forget_bias"})
    equations: ClassVar[tuple[str, ...]] = (
        "[i, f, g, o] = <d_t + U h_{t-1} + b_u>",
        "c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)",
        "h_t = sigmoid(o) tanh(c_t)",
    )
    latex: ClassVar[tuple[str, ...]] = (
        r"[i, f, g, o] = <d_t + U h_{t-1} + b_u>",
        r"c_t = \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g)",
        r"h_t = \sigma(o) \odot \tanh(c_t)",
    )
    source = "Hochreiter and Schmidhuber 1997 with forget gates (Gers et al. 2000); torch.nn.LSTM"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        del options
        h, c = state
        i, f, g, o = join(d, recurrent_term(w, h), 0).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    @classmethod
    def kernel(cls, options: Mapping[str, str]) -> str | None:
        del options
        return "lstm"

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int, options: Mapping[str, str]) -> None:
        super().init_(w, how, hidden_size, options)
        if how == "paper":
            for name in w.keys() & {"bias_ih", "bias_hh"}:  # 1 in both, as released: an initial forget bias of 2 for the plain cell
                torch.nn.init.constant_(w[name][hidden_size : 2 * hidden_size], float(options["forget_bias"]))
