"""Nesterov with scheduled restart, on the drive (SRLSTM as in the paper)."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .base import EPSILON, PAPER, Coefficient, Coefficients, Moment, Rule, Scalar, rules


def momentum_at(c: Coefficients, t: Any) -> Scalar:
    """``γ_k = (k - 1) / (k + 2)`` with ``k = 1 … F``, starting over: 0 at every restart, at most (F - 1) / (F + 2)."""
    k = (t - 1) % c["restart"] + 1
    return (k - 1) / (k + 2)


@rules.register("nesterov")
class Nesterov(Rule):
    """``v_t = γ_k v_{t-1} + ε u_t``, ``d_t = v_t``. F = 1 is plain up to ε."""

    coefficients = {
        "epsilon": Coefficient(1.0, 0.0, math.inf, low_open=True, high_open=True, meaning=EPSILON.meaning),
        "restart": Coefficient(2, 1, 10**6, integer=True, learnable=False, meaning="F: time steps between restarts"),
    }
    moments = (Moment("v", 1, decay=momentum_at, gain=lambda c, t: c["epsilon"], constant=False),)
    linear = True
    equations = ("k = (t - 1) mod restart + 1, gamma_k = (k - 1) / (k + 2)", "v_t = gamma_k v_{t-1} + epsilon u_t", "d_t = v_t")
    source = f"{PAPER}, the paper's form (drive); schedule of SRSGD, arXiv 2002.10583"

    @classmethod
    def read(cls, c: Coefficients, u: Tensor, moments: Sequence[Tensor]) -> Tensor:
        del c, u
        return moments[0]
