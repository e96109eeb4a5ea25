"""The rules as an author writes them into a cell: plain torch on one step, no language, no checks.

Every function is ``step(u, held, t, **coefficients) -> d, held``: drive and result (B, C), ``held`` what the rule remembers,
each (B, C) and zero before the first step, t the number of the step from 1. They are the yardstick of `mrnn_search.bench`, and
written here a second time on purpose: tests compare them with the package's own formulas. The lines follow the released code
of MomentumRNN (arXiv 2006.06919) where that has the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Held = tuple[Tensor, ...]
Step = Callable[..., tuple[Tensor, Held]]


@dataclass(frozen=True)
class LoopRule:
    """``step`` and how many tensors it remembers."""

    step: Step
    states: int


LOOP_RULES: dict[str, LoopRule] = {}


def _rule(states: int) -> Callable[[Step], Step]:
    """Decorator: the function's name is the rule's."""

    def add(step: Step) -> Step:
        LOOP_RULES[step.__name__] = LoopRule(step, states)
        return step

    return add


@_rule(0)
def plain(u: Tensor, held: Held, t: int) -> tuple[Tensor, Held]:
    return u, held


@_rule(1)
def heavy_ball(u: Tensor, held: Held, t: int, mu: float, epsilon: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + epsilon * u
    return v, (v,)


@_rule(1)
def ema(u: Tensor, held: Held, t: int, mu: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + (1 - mu) * u
    return v, (v,)


@_rule(1)
def nesterov(u: Tensor, held: Held, t: int, epsilon: float, restart: int) -> tuple[Tensor, Held]:
    k = (t - 1) % restart + 1
    v = (k - 1) / (k + 2) * held[0] + epsilon * u
    return v, (v,)


@_rule(1)
def nesterov_lookahead(u: Tensor, held: Held, t: int, mu: float, epsilon: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + u
    return epsilon * (u + mu * v), (v,)


@_rule(1)
def qhm(u: Tensor, held: Held, t: int, mu: float, epsilon: float, nu: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + (1 - mu) * u
    return epsilon * (1 - nu) * u + epsilon * nu * v, (v,)


@_rule(1)
def rmsprop(u: Tensor, held: Held, t: int, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    s = beta * held[0] + (1 - beta) * (u * u)
    return epsilon * u / torch.sqrt(s + delta), (s,)


@_rule(2)
def rmsprop_momentum(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    s = beta * held[0] + (1 - beta) * (u * u)
    v = mu * held[1] + epsilon * u / torch.sqrt(s + delta)
    return v, (s, v)


@_rule(2)
def adam(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + epsilon * u
    s = beta * held[1] + (1 - beta) * (u * u)
    return v / torch.sqrt(s + delta), (v, s)


@_rule(2)
def adam_outside(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + epsilon * u
    s = beta * held[1] + (1 - beta) * (u * u)
    return v / (torch.sqrt(s) + delta), (v, s)


@_rule(2)
def adam_corrected(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    m = mu * held[0] + (1 - mu) * u
    s = beta * held[1] + (1 - beta) * (u * u)
    return epsilon / (1 - mu**t) * m / torch.sqrt(s / (1 - beta**t) + delta), (m, s)


@_rule(3)
def amsgrad(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    v = mu * held[0] + epsilon * u
    s = beta * held[1] + (1 - beta) * (u * u)
    peak = torch.maximum(held[2], s)
    return v / torch.sqrt(peak + delta), (v, s, peak)


@_rule(2)
def nadam(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    m = mu * held[0] + (1 - mu) * u
    s = beta * held[1] + (1 - beta) * (u * u)
    g = epsilon * mu / (1 - mu ** (t + 1)) * m + epsilon * (1 - mu) / (1 - mu**t) * u
    return g / torch.sqrt(s / (1 - beta**t) + delta), (m, s)


@_rule(2)
def adabelief(u: Tensor, held: Held, t: int, mu: float, epsilon: float, beta: float, delta: float) -> tuple[Tensor, Held]:
    m = mu * held[0] + (1 - mu) * u
    gap = u - m
    s = beta * held[1] + (1 - beta) * (gap * gap)
    return epsilon * m / torch.sqrt(s + delta), (m, s)


@_rule(1)
def adagrad(u: Tensor, held: Held, t: int, epsilon: float, delta: float) -> tuple[Tensor, Held]:
    s = held[0] + u * u
    return epsilon * u / torch.sqrt(s + delta), (s,)


@_rule(1)
def lion(u: Tensor, held: Held, t: int, epsilon: float, beta: float, beta2: float, tau: float) -> tuple[Tensor, Held]:
    y = beta / tau * held[0] + (1 - beta) / tau * u
    return epsilon * torch.tanh(y), (beta2 * held[0] + (1 - beta2) * u,)
