"""A sampler by its name and options: a registered one, or any of Optuna's as ``optuna:NAME``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import optuna.samplers
from optuna.samplers import BaseSampler

from ..._registry import InputError, UnknownNameError
from ..files import shown
from .base import SamplerFactory, samplers

OPTUNA = "optuna:"
REFUSED = {  # Optuna's samplers that a study cannot be resumed with, or that a recipe cannot describe
    "CmaEsSampler": "keeps its state as a pickle in the trials, and what is read from a ledger is never unpickled; try gp or evolution",
    "QMCSampler": "counts its points at Optuna's study, which a resumed study does not have; use sobol",
    "PartialFixedSampler": "takes another sampler as an argument; fix parameters in the space instead",
}
KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}


def optuna_samplers() -> dict[str, type[BaseSampler]]:
    """Optuna's samplers by class name."""
    found: dict[str, Any] = {name: getattr(optuna.samplers, name) for name in optuna.samplers.__all__}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and not inspect.isabstract(kind)}


def find(name: str) -> SamplerFactory:
    """What makes the sampler called ``name``.

    Raises:
        UnknownNameError: there is no such sampler.
        InputError: it cannot be used here.
    """
    if not name.startswith(OPTUNA):
        return samplers[name]
    own, known = name.removeprefix(OPTUNA), optuna_samplers()
    if own not in known:
        raise UnknownNameError("sampler of Optuna", own, [other for other in known if other not in REFUSED])
    if own in REFUSED:
        raise InputError(f"{own} {REFUSED[own]}")
    return known[own]


def make_sampler(name: str, seed: int, options: Mapping[str, Any] | None = None) -> BaseSampler:
    """The sampler for one ask.

    Args:
        options: by keyword, as in the recipe's ``search.options``.

    Raises:
        UnknownNameError: there is no such sampler, or it has no such option.
        InputError: it cannot be used here, or an option's value is wrong.
    """
    make, given = find(name), dict(options or {})
    parameters = _parameters(make)
    allowed = {key: p for key, p in parameters.items() if key != "seed" and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    for key, value in given.items():
        if key not in allowed:
            raise UnknownNameError(f"option of sampler {name}", key, allowed)
        _check(key, value, allowed[key])
    for key, parameter in allowed.items():
        if parameter.default is parameter.empty and key not in given:
            raise InputError(f"sampler {name} needs the option {key}")
    seeded = {"seed": seed % 2**32} if "seed" in parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # options that are experimental or old are the recipe's choice
        try:
            return make(**seeded, **given)
        except InputError:
            raise
        except (TypeError, ValueError, AttributeError) as error:  # what a constructor says of a wrong value
            raise InputError(f"sampler {name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None


@lru_cache(maxsize=64)
def _parameters(make: SamplerFactory) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(make).parameters


def _check(key: str, value: Any, parameter: inspect.Parameter) -> None:
    """Raises:
    InputError: the value is not of the type that the argument is annotated with; other types than numbers and texts are not checked.
    """
    wanted, _, rest = str(parameter.annotation).partition(" | ")
    kind = KINDS.get(wanted)
    if kind is None or rest not in ("", "None") or type(value).__name__ == wanted:
        return
    if (value is None and rest) or (wanted == "float" and type(value) is int):
        return
    raise InputError(f"{key} = {shown(value)}, allowed: {kind}{' or null' if rest else ''}")
