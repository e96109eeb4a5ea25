"""Minimal gated unit: a GRU whose two gates are one."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Base, Join, Weights, bases


@bases.register("mgu")
class MGU(Base):
    """``h_t = (1 - f) h_{t-1} + f n``, ``n = tanh(d_n + U_n (f h_{t-1}) + b_n)``; gate order f, n.

    The paper's own variant: the gate acts on ``h_{t-1}`` before the product with ``U_n``, so a step has two products that
    cannot be one. torch.nn.GRU (and "gru" here) has its reset gate after the product.
    """

    gate_names = ("f", "n")
    equations = (
        "f = sigmoid(<d_f + U_f h_{t-1} + b_f>)",
        "n = tanh(<d_n + U_n (f h_{t-1}) + b_n>)",
        "h_t = (1 - f) h_{t-1} + f n",
    )
    latex = (
        r"f = \sigma(<d_f + U_f h_{t-1} + b_f>)",
        r"n = \tanh(<d_n + U_n (f \odot h_{t-1}) + b_n>)",
        r"h_t = (1 - f) \odot h_{t-1} + f \odot n",
    )
    source = "Zhou, Wu, Zhang, Zhou, Minimal gated unit for recurrent neural networks, 2016, arXiv 1603.09420 (gate before the product)"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        del options
        (h,) = state
        d_f, d_n = d.chunk(2, dim=-1)
        u_f, u_n = w["weight_hh"].chunk(2)
        b_f, b_n = w["bias_hh"].chunk(2) if "bias_hh" in w else (None, None)
        f = torch.sigmoid(join(d_f, F.linear(h, u_f, b_f), 0))
        n = torch.tanh(join(d_n, F.linear(f * h, u_n, b_n), 1))
        return (h + f * (n - h),)
