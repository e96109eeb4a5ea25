"""Independent draws from the space: nothing is learned, and nothing is missed for ever."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from .base import Told, samplers


class Random(Told, RandomSampler):
    """Optuna's; it has no use for what is there."""

    memory = 0


@samplers.register("random")
def random(seed: int) -> BaseSampler:
    """Each parameter uniform in its domain, or in the logarithm of it.

    Source: Bergstra and Bengio, Random search for hyper-parameter optimization, JMLR 13, 2012.
    """
    return Random(seed=seed)
