"""Search for recurrent cells derived from optimizers.

A study recipe and a search space go in; a ledger of trained cells, a ranked leaderboard and an exported ``nn.Module``
come out. Names are loaded when they are first used, so that ``import mrnn_search`` costs milliseconds and the cells
work where optuna, ray and pandas are not installed.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import search

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from ._registry import InputError as InputError
    from .cells.presets import preset as preset
    from .cells.presets import presets as presets
    from .cells.rules.base import Coefficient as Coefficient
    from .cells.rules.base import Rule as Rule
    from .cells.rules.base import rules as rules
    from .cells.spec import Candidate as Candidate
    from .cells.spec import CellSpec as CellSpec
    from .engine.gradients import gradient_norms as gradient_norms
    from .engine.recurrent import Recurrent as Recurrent
    from .engine.recurrent import parameter_groups as parameter_groups
    from .results.study import Study as Study
    from .results.suite import Suite as Suite
    from .results.suite import load_study as load_study

__version__ = "0.1.0"
# Name -> the module that has it.
_HOMES = {
    "Candidate": "cells.spec",
    "CellSpec": "cells.spec",
    "Coefficient": "cells.rules",
    "InputError": "_registry",
    "Recurrent": "engine.recurrent",
    "Rule": "cells.rules",
    "Study": "results.study",
    "Suite": "results.suite",
    "gradient_norms": "engine.gradients",
    "load_study": "results.suite",
    "parameter_groups": "engine.recurrent",
    "preset": "cells.presets",
    "presets": "cells.presets",
    "rules": "cells.rules",
}

__all__ = [
    "Candidate",
    "CellSpec",
    "Coefficient",
    "InputError",
    "Recurrent",
    "Rule",
    "Study",
    "Suite",
    "__version__",
    "gradient_norms",
    "load_study",
    "parameter_groups",
    "preset",
    "presets",
    "rules",
    "search",
]


class _CallablePackage(ModuleType):
    """The sub-package ``mrnn_search.search``, which is also the public function ``mrnn_search.search(recipe, …)``.

    The import system binds a sub-package to its name in the parent, over any function of that name.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from .results.launch import search as run

        return run(*args, **kwargs)


search.__class__ = _CallablePackage


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
