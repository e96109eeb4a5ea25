"""Samplers: who proposes the next candidate. One file each, known by their names in `base.samplers`."""

from . import evolution, gp, grid, nsga2, random, sobol, tpe  # noqa: F401  registers them
from .base import Ask as Ask
from .base import OnSpace as OnSpace
from .base import Told as Told
from .base import samplers as samplers
from .by_name import make_sampler as make_sampler
