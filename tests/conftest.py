"""What every test shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A loaded machine is no failure: no test here asserts a time. Derandomised: a red run can be repeated.
settings.register_profile("mrnn", deadline=None, derandomize=True)
settings.load_profile("mrnn")


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own folders are neither read nor written by a test."""
    for name in ("MRNN_SEARCH_RUNS", "MRNN_SEARCH_DATA", "MRNN_SEARCH_DEBUG"):
        monkeypatch.delenv(name, raising=False)
