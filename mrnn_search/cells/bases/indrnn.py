"""Independently recurrent neural network: each unit sees its own past only."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Base, Join, Weights, bases


@bases.register("indrnn")
class IndRNN(Base):
    """``h_t = act(d_t + u h_{t-1} + b_u)``, element-wise; ``weight_hh`` is the vector u (H,).

    Of the paper's training this has no part: |u| is not clipped to ``γ^(1/T)`` after each update (a relu unit with
    |u| > 1 grows like ``|u|^T``), no layer is given long memory by hand, there is no batch normalisation and there are no
    residual connections. Units of one layer meet in the next one, so a single layer cannot mix them.
    """

    options = {"activation": ("relu", "tanh")}
    equations = ("h_t = act(<d_t + w h_{t-1} + b_u>), element-wise",)
    latex = (r"h_t = \phi(<d_t + w \odot h_{t-1} + b_u>)",)
    source = "Li, Li, Cook, Zhu, Gao, Independently recurrent neural network, CVPR 2018, arXiv 1803.04831; u is not clipped"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        r = w["weight_hh"] * state[0]
        if "bias_hh" in w:
            r = r + w["bias_hh"]
        a = join(d, r, 0)
        return (torch.relu(a) if options["activation"] == "relu" else torch.tanh(a),)

    @classmethod
    def shapes(cls, input_size: int, hidden_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        return super().shapes(input_size, hidden_size, bias) | {"weight_hh": (hidden_size,)}

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int, options: Mapping[str, str]) -> None:
        """ "paper": u uniform in (0, 1), the limit of the paper's (0, γ^(1/T)) for long sequences; W orthogonal and biases 0,
        as the other bases have them. "torch": all uniform in ±1/sqrt(H).
        """
        if how == "torch":
            super().init_(w, how, hidden_size, options)
            return
        torch.nn.init.orthogonal_(w["weight_ih"])
        torch.nn.init.uniform_(w["weight_hh"])
        for name in w.keys() & {"bias_ih", "bias_hh"}:
            torch.nn.init.zeros_(w[name])
