"""Heavy ball: the drive is accumulated with momentum (MomentumRNN, MomentumLSTM)."""

from collections.abc import Sequence

from torch import Tensor

from .base import EPSILON, MU, PAPER, VELOCITY, Coefficients, Rule, rules


@rules.register("heavy_ball")
class HeavyBall(Rule):
    """``v_t = μ v_{t-1} + ε u_t``, ``d_t = v_t``. Gain at rest ``ε / (1 - μ)``; μ = 0, ε = 1 is plain."""

    coefficients = {"mu": MU, "epsilon": EPSILON}
    moments = (VELOCITY,)
    linear = True
    equations = ("v_t = mu v_{t-1} + epsilon u_t", "d_t = v_t")
    source = f"{PAPER}; bias inside the momentum, as in the released code"

    @classmethod
    def read(cls, c: Coefficients, u: Tensor, moments: Sequence[Tensor]) -> Tensor:
        del c, u
        return moments[0]
