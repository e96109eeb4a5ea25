"""Where this package keeps what can be made again: kernels, and what was parsed of data."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$MRNN_SEARCH_CACHE``, or the user's cache folder; it need not be there.

    Raises:
        RuntimeError: the user has no home.
    """
    return Path(os.environ.get("MRNN_SEARCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mrnn-search")
