"""Rules that are linear in the drive: plain, and every kind of momentum."""

from dataclasses import replace

from .base import BETA2, EPSILON, MU, NU, PAPER, RESTART, Rule, rules

_GAIN = replace(EPSILON, default=1.0)


@rules.register("plain")
class Plain(Rule):
    """The gates see the drive itself: one step of gradient descent per time step, in the paper's reading."""

    formula = "d = u"
    source = "the plain cell; torch.nn.RNN, LSTM, GRU"


@rules.register("heavy_ball")
class HeavyBall(Rule):
    """The drive is accumulated with momentum (MomentumRNN). Gain at rest epsilon / (1 - mu); mu = 0, epsilon = 1 is plain."""

    coefficients = {"mu": MU, "epsilon": EPSILON}
    formula = "v = momentum(u, mu, epsilon); d = v"
    source = f"{PAPER}; bias inside the momentum, as in the released code"


@rules.register("ema")
class EMA(Rule):
    """Running mean of the drive: heavy ball at gain 1 (epsilon = 1 - mu)."""

    coefficients = {"mu": MU}
    formula = "v = ema(u, mu); d = v"
    source = "exponential moving average; the form of torch.optim.SGD with dampening = momentum"


@rules.register("nesterov")
class Nesterov(Rule):
    """Nesterov's schedule with restarts, on the drive (SRLSTM as in the paper). F = 1 is plain up to epsilon."""

    coefficients = {"epsilon": _GAIN, "restart": RESTART}
    formula = """
        k = cycle(restart)
        gamma = (k - 1) / (k + 2)
        v = momentum(u, gamma, epsilon)
        d = v
    """
    source = f"{PAPER}, the paper's form (drive); schedule of SRSGD, arXiv 2002.10583"


@rules.register("nesterov_released")
class NesterovReleased(Rule):
    """Nesterov on the pre-activation, with the drive's sign turned, as in the released LSTM of MNIST and TIMIT."""

    coefficients = {"epsilon": _GAIN, "restart": RESTART}
    formula = """
        k = cycle(restart)
        gamma = (k - 1) / (k + 2)
        q = r - epsilon * u
        a = q + gamma * (q - prev(q))
    """
    source = f"released code of {PAPER} (NesterovLSTMCell); the paper's form is nesterov"


@rules.register("nesterov_lookahead")
class NesterovLookahead(Rule):
    """Nesterov's momentum with a constant mu, in the look-ahead form of torch.optim.SGD."""

    coefficients = {"mu": MU, "epsilon": EPSILON}
    formula = "v = momentum(u, mu); d = epsilon * (u + mu * v)"
    source = "Nesterov 1983 in the form of Sutskever et al. 2013; torch.optim.SGD(nesterov=True)"


@rules.register("qhm")
class QuasiHyperbolicMomentum(Rule):
    """Quasi-hyperbolic momentum: a mean of the drive and its running mean. nu = 1 is ema up to epsilon."""

    coefficients = {"mu": replace(BETA2, default=0.9, meaning="decay of the running mean"), "epsilon": EPSILON, "nu": NU}
    formula = "v = ema(u, mu); d = epsilon * ((1 - nu) * u + nu * v)"
    source = "Ma and Yarats, Quasi-hyperbolic momentum and Adam, ICLR 2019, arXiv 1810.06801"
