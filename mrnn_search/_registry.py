"""Names, and what to say when one is wrong. Layer 0: standard library only.

A new rule, base, benchmark, sampler or executor is one file plus one registration:

    @rules.register("heavy_ball")
    class HeavyBall(Rule): ...
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """What the user gave is wrong: one line, no traceback, exit code 2.

    Args:
        message: what was found and what was allowed.
        where: file and the path inside it (``trials/a.yaml: search.sampler``), prefixed to the message.
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class StudyError(RuntimeError):
    """A study cannot go on, and not for what the user gave: a full disk, a database that went away. One line, exit code 1.

    Everything that finished is saved; the same command goes on.

    Args:
        message: what happened, and what to do.
        where: the folder or the database.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)


class SpecError(InputError):
    """A cell, layer or candidate that does not exist: a bad name, or a coefficient outside its range."""


class UnknownNameError(InputError):
    """A name that is not in a list of names; the message has the list and the nearest member."""

    def __init__(self, kind: str, name: object, allowed: Iterable[str], where: str = "") -> None:
        names = sorted(allowed)
        message = f'unknown {kind} "{name}"; allowed: {", ".join(names) or "none"}'
        near = nearest(str(name), names)
        if near:
            message += f'; did you mean "{near}"?'
        super().__init__(message, where)


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The member of ``allowed`` that looks most like ``name``, or None."""
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None


class Registry(Generic[T]):
    """A dict with one door: refuses duplicates, loads third parties' entries lazily.

    Args:
        kind: what its members are called in messages ("rule").
        group: entry-point group of third-party members (``mrnn_search.rules``).
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._members: dict[str, T] = {}
        self._third_parties_loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: make the object known as ``name``.

        Raises:
            ValueError: the name is taken.
        """

        def add(member: T) -> T:
            if name in self._members:
                holder = getattr(self._members[name], "__module__", "another module")
                raise ValueError(f'{self.kind} "{name}" is already registered by {holder}')
            self._members[name] = member
            return member

        return add

    def _load_third_parties(self) -> None:
        if not self._third_parties_loaded:
            self._third_parties_loaded = True  # first, so that a plug-in which looks names up does not recurse
            for point in entry_points(group=self.group):
                point.load()

    def __getitem__(self, name: str) -> T:
        if name not in self._members:
            self._load_third_parties()
        if name not in self._members:
            raise UnknownNameError(self.kind, name, self._members)
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        self._load_third_parties()
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        self._load_third_parties()
        return iter(sorted(self._members))

    def __len__(self) -> int:
        self._load_third_parties()
        return len(self._members)
