"""The real data that ``make data`` brings; where it could not, its tests are skipped, and in CI fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"


def real(name: str) -> Path:
    """The folder of a data set."""
    folder = DATA / name
    if not folder.is_dir():
        message = f"no data/{name}: make data"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
