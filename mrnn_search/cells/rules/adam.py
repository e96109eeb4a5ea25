"""Adam: momentum on the drive, divided by the root of its running square (AdamLSTM)."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from .base import BETA, DELTA, EPSILON, MU, PAPER, SECOND_MOMENT, VELOCITY, Coefficients, Rule, rules


@rules.register("adam")
class Adam(Rule):
    """``v_t = μ v_{t-1} + ε u_t``, ``s_t = β s_{t-1} + (1 - β) u_t²``, ``d_t = v_t / sqrt(s_t + δ)``."""

    coefficients = {"mu": MU, "epsilon": EPSILON, "beta": dataclasses.replace(BETA, default=0.1), "delta": DELTA}
    moments = (VELOCITY, SECOND_MOMENT)
    equations = (
        "v_t = mu v_{t-1} + epsilon u_t",
        "s_t = beta s_{t-1} + (1 - beta) u_t^2",
        "d_t = v_t / sqrt(s_t + delta)",
    )
    source = f"{PAPER}; delta inside the root and no bias correction, as in the released code (the paper has 1e-8 outside)"

    @classmethod
    def read(cls, c: Coefficients, u: Tensor, moments: Sequence[Tensor]) -> Tensor:
        del u
        d: Tensor = moments[0] / (moments[1] + c["delta"]).sqrt()
        return d
