"""Plain: the gates see the drive itself."""

from collections.abc import Sequence

from torch import Tensor

from .base import Coefficients, Rule, rules


@rules.register("plain")
class Plain(Rule):
    """``d_t = u_t``: one step of gradient descent per time step, in the paper's reading."""

    linear = True
    equations = ("d_t = u_t",)
    source = "the plain cell; torch.nn.RNN, LSTM, GRU"

    @classmethod
    def read(cls, c: Coefficients, u: Tensor, moments: Sequence[Tensor]) -> Tensor:
        del c, moments
        return u
