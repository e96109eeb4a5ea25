"""Gated recurrent unit, PyTorch's convention: the reset gate acts on ``U_n h + b_un``."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Base, Weights, bases, recurrent_term


@bases.register("gru")
class GRU(Base):
    """``n = tanh(d_n + r (U_n h + b_un))``, ``h_t = (1 - z) n + z h_{t-1}``; gate order r, z, n."""

    gates = 3
    equations = (
        "[R, Z, N] = U h_{t-1} + b_u;  r = sigmoid(d_r + R), z = sigmoid(d_z + Z)",
        "n = tanh(d_n + r N)",
        "h_t = (1 - z) n + z h_{t-1}",
    )
    source = "Cho et al. 2014, in the variant of torch.nn.GRU (reset after the product)"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str]) -> tuple[Tensor, ...]:
        del options
        (h,) = state
        d_r, d_z, d_n = d.chunk(3, dim=-1)
        r_r, r_z, r_n = recurrent_term(w, h).chunk(3, dim=-1)
        n = torch.tanh(d_n + torch.sigmoid(d_r + r_r) * r_n)
        z = torch.sigmoid(d_z + r_z)
        return (n + z * (h - n),)

    @classmethod
    def kernel(cls, options: Mapping[str, str]) -> str | None:
        del options
        return "gru"
