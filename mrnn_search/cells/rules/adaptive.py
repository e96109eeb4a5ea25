"""Rules that divide the drive by its own running size, and the smoothed sign."""

from dataclasses import replace

from .base import BETA, BETA2, DELTA, DELTA_OUTSIDE, EPSILON, MU, PAPER, TAU, Rule, rules

_ADAM_BETA = replace(BETA, default=0.1)
_MEAN = replace(MU, default=0.9)
_SLOW = replace(BETA, default=0.999)
_INSIDE = "delta inside the root and no bias correction, as in the released code (the paper has 1e-8 outside: adam_outside)"


@rules.register("rmsprop")
class RMSProp(Rule):
    """The drive divided by the root of its running square (RMSPropLSTM): adam with mu = 0."""

    coefficients = {"epsilon": EPSILON, "beta": BETA, "delta": DELTA}
    formula = "s = ema(u^2, beta); d = epsilon * u / sqrt(s + delta)"
    source = f"{PAPER}; {_INSIDE}"


@rules.register("rmsprop_momentum")
class RMSPropMomentum(Rule):
    """Momentum of what rmsprop makes of the drive. mu = 0 is rmsprop."""

    coefficients = {"mu": MU, "epsilon": EPSILON, "beta": BETA, "delta": DELTA}
    formula = "s = ema(u^2, beta); v = momentum(u / sqrt(s + delta), mu, epsilon); d = v"
    source = "torch.optim.RMSprop(momentum=mu), with delta inside the root"


@rules.register("adam")
class Adam(Rule):
    """Momentum on the drive, divided by the root of its running square (AdamLSTM)."""

    coefficients = {"mu": MU, "epsilon": EPSILON, "beta": _ADAM_BETA, "delta": DELTA}
    formula = "v = momentum(u, mu, epsilon); s = ema(u^2, beta); d = v / sqrt(s + delta)"
    source = f"{PAPER}; {_INSIDE}"


@rules.register("adam_outside")
class AdamOutside(Rule):
    """Adam as printed in the paper: the guard stands beside the root. mu = 0 is the paper's RMSProp."""

    coefficients = {"mu": MU, "epsilon": EPSILON, "beta": _ADAM_BETA, "delta": DELTA_OUTSIDE}
    formula = "v = momentum(u, mu, epsilon); s = ema(u^2, beta); d = v / (sqrt(s) + delta)"
    source = f"{PAPER}, the printed form; the root's derivative at exactly 0 counts as 0"


@rules.register("adam_corrected")
class AdamCorrected(Rule):
    """Adam with bias correction: both running means are divided by what they would be for a constant 1."""

    coefficients = {"mu": _MEAN, "epsilon": EPSILON, "beta": _SLOW, "delta": DELTA}
    formula = """
        m = ema(u, mu)
        s = ema(u^2, beta)
        d = epsilon * (m / (1 - mu^t)) / sqrt(s / (1 - beta^t) + delta)
    """
    source = "Kingma and Ba, Adam, ICLR 2015, arXiv 1412.6980; delta (their epsilon squared) inside the root"


@rules.register("amsgrad")
class AMSGrad(Rule):
    """Adam that divides by the largest running square so far."""

    coefficients = {"mu": MU, "epsilon": EPSILON, "beta": BETA, "delta": DELTA}
    formula = "v = momentum(u, mu, epsilon); s = ema(u^2, beta); p = peak(s); d = v / sqrt(p + delta)"
    source = "Reddi, Kale, Kumar, On the convergence of Adam and beyond, ICLR 2018, arXiv 1904.09237; no bias correction"


@rules.register("nadam")
class NAdam(Rule):
    """Adam with Nesterov's look-ahead, bias corrected."""

    coefficients = {"mu": _MEAN, "epsilon": EPSILON, "beta": _SLOW, "delta": DELTA}
    formula = """
        m = ema(u, mu)
        s = ema(u^2, beta)
        g = mu * m / (1 - mu^(t + 1)) + (1 - mu) * u / (1 - mu^t)
        d = epsilon * g / sqrt(s / (1 - beta^t) + delta)
    """
    source = "Dozat, Incorporating Nesterov momentum into Adam, 2016, with a constant mu; delta inside the root"


@rules.register("adabelief")
class AdaBelief(Rule):
    """Divided by the root of the running square of what the running mean did not foresee."""

    coefficients = {"mu": _MEAN, "epsilon": EPSILON, "beta": BETA, "delta": replace(DELTA, default=1e-8)}
    formula = "m = ema(u, mu); s = ema((u - m)^2, beta); d = epsilon * m / sqrt(s + delta)"
    source = (
        "Zhuang et al., AdaBelief, NeurIPS 2020, arXiv 2010.07468; no bias correction, delta inside the root only,"
        " and 1e-8 as a drive that stays the same is foreseen exactly"
    )


@rules.register("adagrad")
class Adagrad(Rule):
    """The drive divided by the root of the sum of its squares so far."""

    coefficients = {"epsilon": EPSILON, "delta": DELTA}
    formula = "s = momentum(u^2, 1); d = epsilon * u / sqrt(s + delta)"
    source = "Duchi, Hazan, Singer, Adaptive subgradient methods, JMLR 2011; delta inside the root"


@rules.register("lion")
class Lion(Rule):
    """Sign of a running mean that looks at the present drive more, smoothed to a tanh of width tau."""

    coefficients = {"epsilon": EPSILON, "beta": replace(BETA, meaning="weight of what is remembered"), "beta2": BETA2, "tau": TAU}
    formula = """
        m = ema(u, beta2)
        y = beta * prev(m) + (1 - beta) * u
        d = epsilon * tanh(y / tau)
    """
    source = "Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023, arXiv 2302.06675; sign(y) is tanh(y / tau) here"
