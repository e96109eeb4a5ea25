"""What keeps a study's ranking from being a result: the conditions under which one cell may be said to beat another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..search.matching import NEAR
from ..search.recipe import EQUAL
from .stats import CLAIM_SEEDS

RESULT, SCREENING = "result", "screening"


def unequal_budget(recipe: Mapping[str, Any]) -> str:
    """Says so, where a baseline of the recipe (`Recipe.to_dict`) was tuned with fewer trials than the search had; else empty."""
    search, baselines = recipe["budget"]["trials"], recipe["baselines"]
    trials = baselines.get("trials", EQUAL)
    if not baselines["cells"] or trials == EQUAL or trials >= search:
        return ""
    return f"unequal budget: each baseline was tuned with {trials} trials, the search had {search}"


def label(recipe: Mapping[str, Any]) -> str:
    """ "result", or "screening" and why: a result needs a baseline, with as many trials as the search, and five fresh seeds or more."""
    seeds = recipe["confirmation"]["seeds"]
    few = f"{seeds} seeds, of {CLAIM_SEEDS} that a result needs" if seeds < CLAIM_SEEDS else ""
    alone = "" if recipe["baselines"]["cells"] else "no baseline"
    lacking = [text for text in (few, alone, unequal_budget(recipe)) if text]
    return f"{SCREENING} ({'; '.join(lacking)})" if lacking else RESULT


def sizes(a: int, b: int) -> str:
    """Both numbers of parameters, where they differ by more than 2 %; else empty."""
    return f"{a:,} and {b:,} parameters" if abs(a - b) > NEAR * b else ""
