"""Gated recurrent unit, PyTorch's convention: the reset gate acts on ``U_n h + b_un``."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Base, Join, Weights, bases, recurrent_term


@bases.register("gru")
class GRU(Base):
    """``n = tanh(d_n + r (U_n h + b_un))``, ``h_t = (1 - z) n + z h_{t-1}``; gate order r, z, n."""

    gate_names = ("r", "z", "n")
    equations = (
        "[R, Z, N] = U h_{t-1} + b_u",
        "r = sigmoid(<d_r + R>), z = sigmoid(<d_z + Z>)",
        "n = tanh(<d_n + r N>)",
        "h_t = (1 - z) n + z h_{t-1}",
    )
    latex = (
        r"[R, Z, N] = U h_{t-1} + b_u",
        r"r = \sigma(<d_r + R>), \quad z = \sigma(<d_z + Z>)",
        r"n = \tanh(<d_n + r \odot N>)",
        r"h_t = (1 - z) \odot n + z \odot h_{t-1}",
    )
    source = "Cho et al. 2014, in the variant of torch.nn.GRU (reset after the product)"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        del options
        (h,) = state
        sizes = [2 * h.shape[-1], h.shape[-1]]
        d_gates, d_n = torch.split(d, sizes, dim=-1)
        r_gates, r_n = torch.split(recurrent_term(w, h), sizes, dim=-1)
        r, z = torch.sigmoid(join(d_gates, r_gates, 0)).chunk(2, dim=-1)
        n = torch.tanh(join(d_n, r * r_n, 2))
        return (n + z * (h - n),)

    @classmethod
    def kernel(cls, options: Mapping[str, str]) -> str | None:
        del options
        return "gru"
