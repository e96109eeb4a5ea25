"""Where data sets come from, and how a user gets them. A new data set is one more entry of `SOURCES`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """One file that can be fetched.

    Attributes:
        file: its name on this machine.
        sha256: of its bytes (hex).
        urls: the same bytes in several places, tried in this order.
    """

    file: str
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        title: what it is.
        advice: what the user can do to have it, a clause each.
        remotes: its files, if ``mrnn-search data get`` may fetch them.
    """

    title: str
    advice: tuple[str, ...]
    remotes: tuple[Remote, ...] = ()


SOURCES: dict[str, Source] = {}


def how_to_get(name: str) -> str:
    """What a message says of getting data set ``name``."""
    source = SOURCES[name]
    ways = [f"`mrnn-search data get {name}` fetches it"] if source.remotes else []
    return f"to get it: {'; or '.join([*ways, *source.advice])}"
