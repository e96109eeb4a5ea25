"""What a recurrent cell is: specs, rules, bases, presets and the naive reference (layer 1; torch only)."""

from . import bases as _bases
from . import rules as _rules
from .presets import preset, presets
from .spec import Candidate, CellSpec

del _bases, _rules  # imported to register the built-in members

__all__ = ["Candidate", "CellSpec", "preset", "presets"]
