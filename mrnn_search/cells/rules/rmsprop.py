"""RMSProp: the drive is divided by the root of its running square (RMSPropLSTM)."""

from collections.abc import Sequence

from torch import Tensor

from .base import BETA, DELTA, EPSILON, PAPER, SECOND_MOMENT, Coefficients, Rule, rules


@rules.register("rmsprop")
class RMSProp(Rule):
    """``s_t = β s_{t-1} + (1 - β) u_t²``, ``d_t = ε u_t / sqrt(s_t + δ)``: Adam with μ = 0."""

    coefficients = {"epsilon": EPSILON, "beta": BETA, "delta": DELTA}
    moments = (SECOND_MOMENT,)
    equations = ("s_t = beta s_{t-1} + (1 - beta) u_t^2", "d_t = epsilon u_t / sqrt(s_t + delta)")
    source = f"{PAPER}; delta inside the root and no bias correction, as in the released code (the paper has 1e-8 outside)"

    @classmethod
    def read(cls, c: Coefficients, u: Tensor, moments: Sequence[Tensor]) -> Tensor:
        d: Tensor = c["epsilon"] * u / (moments[0] + c["delta"]).sqrt()
        return d
