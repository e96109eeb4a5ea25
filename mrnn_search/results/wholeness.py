"""Has a ledger what is shown of it? Looked at before anything is: a damaged one is refused by name."""

from __future__ import annotations

from typing import Any, TypeVar

from .._registry import InputError
from ..search.ledger import Reader

FACTS = {name: str for name in ("name", "description", "metric", "direction", "licence", "source", "citation", "fingerprint")}
META: dict[str, Any] = {
    "benchmark": {**FACTS, "input_size": int, "output_size": int, "sizes": {"test": int}},
    "sessions": [{"started": str, "command": str, "versions": {}, "machine": {}}],
}
RECIPE: dict[str, Any] = {"name": str, "benchmark": str, "space": {"parameters": {}}, "budget": {"trials": int}, "rungs": {"epochs": [int]}}
RECIPE |= {"baselines": {"cells": [str]}, "confirmation": {"seeds": int}, "seed": int, "description": str}


R = TypeVar("R", bound=Reader)


def whole(ledger: R) -> R:
    """``ledger``, if its recipe and what is told of its benchmark and its sessions have what is shown of them.

    Raises:
        InputError: something is missing.
    """
    for name, data, form in (("meta", ledger.meta, META), ("recipe", ledger.recipe, RECIPE)):
        wrong = _misfit(data, form, name)
        if wrong is not None:
            raise InputError(f"its ledger is damaged: {wrong} is not what it should be; restore it from a copy", f'study "{ledger.name}"')
    return ledger


def _misfit(data: object, form: Any, path: str) -> str | None:
    """Where ``data`` has not the form of ``form``: a type, a mapping of forms, or a list of things of one form."""
    if isinstance(form, type):
        return None if isinstance(data, form) and not isinstance(data, bool) else path
    if not isinstance(data, type(form)):
        return path
    if isinstance(form, dict):
        inner = ((f"{path}.{key}", data.get(key), part) for key, part in form.items())
    else:
        inner = ((f"{path}[{i}]", item, form[0]) for i, item in enumerate(data))
        if not data and path.endswith("sessions"):
            return path
    return next((wrong for at, item, part in inner if (wrong := _misfit(item, part, at)) is not None), None)
