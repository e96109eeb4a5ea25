"""The public face: these names and no others."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

import mrnn_search as ms

NAMES = {
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
}
CHECKOUT = Path(__file__).parents[1]


def test_the_names() -> None:
    assert set(ms.__all__) == NAMES == set(dir(ms))
    for name in NAMES:
        assert getattr(ms, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="serch"):
        ms.serch  # noqa: B018


def test_search_is_a_function_and_a_package() -> None:
    import mrnn_search.search.packs as packs

    assert packs.Pack.__module__ == "mrnn_search.search.packs"
    with pytest.raises(ms.InputError, match="no-such-recipe"):
        ms.search("no-such-recipe")


def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("mrnn-search") == ms.__version__


def test_constraints_pin_exactly_and_cover_what_is_required() -> None:
    lines = [line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
        assert match, f"not an exact pin: {line}"
        pins[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    assert pins["torch"] == "2.13.0"
    for requirement in importlib.metadata.requires("mrnn-search") or []:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name and re.sub(r"[-_.]+", "-", name[0]).lower() in pins, f"no pin for {requirement}"
