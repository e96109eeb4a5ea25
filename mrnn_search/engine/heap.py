"""What becomes of freed memory in a process of our own.

Every update makes and frees the same large tensors. glibc gives each of them back to the system at once and gets it again, page
by page and zeroed: up to a third of an update's time. A worker keeps what it freed until its pack is done, and what is too large to be
kept comes in huge pages, a 512th as many.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER, _USUAL = -1, 128 * 1024
# The largest that glibc takes. What is larger is mapped by itself and given back when it is freed: kept in the heap, whose holes an
# aligned request of the same size does not fit (glibc 2.36), tensors that live on between such could make it grow without end.
LARGEST_KEPT = 16 * 2**20


def keep_freed(keep: bool = True) -> bool:
    """Keep freed memory in this process from now on, tensors of up to 16 MiB that is, or (False) give it back as usual.

    For the whole process and all of its allocations, so never called where a library's code runs as a guest.

    Returns:
        whether this system's allocator has such a setting: glibc's does.
    """
    libc = _glibc()
    if libc is None:
        return False
    done = libc.mallopt(_MMAP_THRESHOLD, LARGEST_KEPT if keep else _USUAL), libc.mallopt(_TRIM_THRESHOLD, _NEVER if keep else _USUAL)
    if not keep:
        give_back_freed()
    return all(done)


def give_back_freed() -> None:
    """Give the system what is free now; where it cannot be kept there is nothing to give."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def huge_pages() -> dict[str, str]:
    """The environment in which a process starts whose large tensors come in huge pages, as far as Linux and glibc (2.35) have them.

    Read once, when a process starts, so it is for those that this one starts. What the user has set stays.
    """
    set_before = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" in set_before:
        return {"GLIBC_TUNABLES": set_before}
    return {"GLIBC_TUNABLES": ":".join(filter(None, (set_before, "glibc.malloc.hugetlb=1")))}


@contextmanager
def starting(environment: dict[str, str]) -> Iterator[None]:
    """Processes that are started inside have these environment variables."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None  # musl has none
