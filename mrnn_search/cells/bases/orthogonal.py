"""Orthogonal recurrence with modReLU (expRNN): ``weight_hh`` is the exponential of a skew matrix."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Base, Weights, bases


def modrelu(z: Tensor, b: Tensor) -> Tensor:
    """``sign(z) relu(|z| + b)``, element-wise (Arjovsky et al. 2016, arXiv 1511.06464, for real z)."""
    return torch.sign(z) * torch.relu(z.abs() + b)


def cayley_skew(size: int) -> Tensor:
    """Skew matrix (size, size) of 2×2 rotations, the "cayley" init of expRNN's code: ``s = -sqrt((1-cos θ)/(1+cos θ))``, θ ~ U(0, π/2)."""
    theta = torch.rand(size // 2) * (math.pi / 2)
    diagonal = torch.zeros(size - 1)
    diagonal[::2][: size // 2] = -torch.sqrt((1 - torch.cos(theta)) / (1 + torch.cos(theta)))
    upper = torch.diag(diagonal, 1) if size > 1 else torch.zeros(size, size)
    return upper - upper.T


@bases.register("orthogonal")
class Orthogonal(Base):
    """``h_t = modReLU(d_t + h_{t-1} Q)``, Q orthogonal with determinant 1, no bias on the drive.

    ``weight_hh`` is ``Qᵀ``, as in torch's convention ``h @ weight_hh.T``.
    """

    biases = False
    orthogonal = True
    equations = ("h_t = modReLU(d_t + h_{t-1} Q), Q = expm(A - A^T)", "modReLU(z) = sign(z) relu(|z| + b)")
    source = "Lezcano-Casado and Martinez-Rubio, Cheap orthogonal constraints, ICML 2019, arXiv 1901.08428 (static exponential map)"

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str]) -> tuple[Tensor, ...]:
        del options
        return (modrelu(d + F.linear(state[0], w["weight_hh"]), w["modrelu_bias"]),)

    @classmethod
    def shapes(cls, input_size: int, hidden_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        return super().shapes(input_size, hidden_size, bias) | {"modrelu_bias": (hidden_size,)}

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int) -> None:
        """ "paper": W Kaiming normal; "torch": W uniform in ±1/sqrt(H). modReLU bias uniform in ±0.01 in both."""
        if how == "paper":
            torch.nn.init.kaiming_normal_(w["weight_ih"], nonlinearity="relu")
        else:
            torch.nn.init.uniform_(w["weight_ih"], -(hidden_size**-0.5), hidden_size**-0.5)
        torch.nn.init.uniform_(w["modrelu_bias"], -0.01, 0.01)

    @classmethod
    def initial_map(cls, hidden_size: int, how: str) -> tuple[Tensor, Tensor]:
        """ "paper": the identity and the Cayley skew init, as expRNN; "torch": a uniformly random rotation as the centre."""
        if how == "paper":
            return torch.eye(hidden_size), cayley_skew(hidden_size).T
        rotation = torch.nn.init.orthogonal_(torch.empty(hidden_size, hidden_size))
        if torch.linalg.det(rotation) < 0:  # the exponential map reaches rotations only
            rotation[0].neg_()
        return rotation, torch.zeros(hidden_size, hidden_size)
