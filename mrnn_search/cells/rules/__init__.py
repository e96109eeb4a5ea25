"""The optimizer-derived rules."""

from . import adaptive, momentum
from .base import Coefficient, Rule, find_rule, rule_name, rules

__all__ = ["Coefficient", "Rule", "adaptive", "find_rule", "momentum", "rule_name", "rules"]
