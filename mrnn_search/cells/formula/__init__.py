"""The language of rules: formulas as text, trees, programs and normal forms."""

from .node import Node, make
from .normal import normal_form, to_node
from .program import Program
from .text import parse, show

__all__ = ["Node", "Program", "make", "normal_form", "parse", "show", "to_node"]
