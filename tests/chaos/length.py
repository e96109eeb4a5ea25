"""How long the chaos tests are: short where they run with all the others, long in ``make chaos``."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("MRNN_SEARCH_CHAOS"))


def times(short: int, long: int) -> int:
    return long if LONG else short
