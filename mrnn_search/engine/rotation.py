"""Orthogonal weights: the exponential of a skew matrix, in a precision that torch's exponential survives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from .scan import wide


class Rotation(nn.Module):
    """``Q = base @ expm(A - A^T)``, A the strictly lower triangle of what trains; all (H, H).

    What `torch.nn.utils.parametrizations.orthogonal` does with ``matrix_exp`` and a trivialization, with the same names
    in the state_dict, except that bfloat16 and float16 weights are multiplied out in float32: torch's ``matrix_exp``
    of those is infinite.

    Attributes:
        base: a buffer, orthogonal: where the exponential map is centred.
    """

    base: Tensor

    def forward(self, x: Tensor) -> Tensor:
        lower = wide(x).tril(-1)
        q = wide(self.base) @ torch.matrix_exp(lower - lower.mT)
        return q.to(x.dtype)

    @torch.no_grad()
    def right_inverse(self, q: Tensor) -> Tensor:
        """Centre the map at the orthogonal matrix nearest to ``q``; the skew matrix there is zero."""
        left, _, right = torch.linalg.svd(wide(q))
        self.register_buffer("base", (left @ right).to(q.dtype))
        return torch.zeros_like(q)


def make_orthogonal(module: nn.Module, name: str) -> None:
    """Constrain the square parameter ``name`` of ``module`` to orthogonal matrices, starting at the identity."""
    nn.init.eye_(module.get_parameter(name))
    register_parametrization(module, name, Rotation())
