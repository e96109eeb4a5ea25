"""The optimizer-derived rules, one file each."""

from . import adam, heavy_ball, nesterov, plain, rmsprop
from .base import Coefficient, Moment, Rule, rules

__all__ = ["Coefficient", "Moment", "Rule", "adam", "heavy_ball", "nesterov", "plain", "rmsprop", "rules"]
