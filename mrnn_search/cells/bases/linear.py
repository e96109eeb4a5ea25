"""Diagonal linear recurrence: each unit is a leaky sum of its drive."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Base, Join, Weights, bases


@bases.register("linear")
class LinearRecurrence(Base):
    """``h_t = λ h_{t-1} + d_t``, element-wise, ``λ = sigmoid(weight_hh)`` (H,) in (0, 1).

    ``sigmoid(a) = exp(-softplus(-a))``: the exponential form of the LRU's decay, in one function. There is no ``bias_hh``:
    it would be a second bias of the drive.

    Differs from the LRU: λ is real (no rotation), the drive is not multiplied by a learned ``sqrt(1 - |λ|²)``, and ``h_t`` itself is
    the output (no output matrix, skip connection, gated block or normalisation). All nonlinearity is in the rule and the readout.
    """

    equations = ("h_t = <d_t + lambda h_{t-1}>, lambda = sigmoid(w), element-wise (w is weight_hh)",)
    latex = (r"h_t = <d_t + \lambda \odot h_{t-1}>, \quad \lambda = \sigma(w)",)
    source = "the real, diagonal core of the LRU, Orvieto et al. 2023, arXiv 2303.06349, without its normalisation and output"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        del options
        return (join(d, torch.sigmoid(w["weight_hh"]) * state[0], 0),)

    @classmethod
    def shapes(cls, input_size: int, hidden_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        out: dict[str, tuple[int, ...]] = {"weight_ih": (hidden_size, input_size), "weight_hh": (hidden_size,)}
        return out | {"bias_ih": (hidden_size,)} if bias else out

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int, options: Mapping[str, str]) -> None:
        """ "paper": λ² uniform, as for |λ|² in the LRU's unit disc, W orthogonal, its rows times ``sqrt(1 - λ²)`` (what the LRU's
        factor starts at), bias 0. "torch": all uniform in ±1/sqrt(H), so λ is near 1/2.
        """
        if how == "torch":
            super().init_(w, how, hidden_size, options)
            return
        torch.nn.init.orthogonal_(w["weight_ih"])
        torch.nn.init.uniform_(w["weight_hh"], 1e-6, 1 - 1e-6)  # λ²; at 0 and 1 themselves, a is infinite
        w["weight_ih"].mul_((1 - w["weight_hh"]).sqrt()[:, None])
        w["weight_hh"].sqrt_().logit_()
        if "bias_ih" in w:
            torch.nn.init.zeros_(w["bias_ih"])
