"""Changes to plain nested data by dotted path: ``--set budget.trials=500``, and what differs between two recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._registry import InputError
from .files import parse_yaml, shown

Path = tuple[str, ...]
_ABSENT = object()


def parse_set(texts: Sequence[str]) -> dict[str, Any]:
    """``["budget.trials=500", "rungs.epochs=[1, 4]"]`` as nested data; values are YAML.

    Raises:
        InputError: no ``=``, an empty piece of a path, a value that is no YAML, or paths that exclude each other.
    """
    out: dict[str, Any] = {}
    for given in texts:
        where = f"--set {given}"
        path, equals, value = given.partition("=")
        if not equals:
            raise InputError('there is no "="; write PATH=VALUE, e.g. --set budget.trials=500', where)
        keys = [key.strip() for key in path.split(".")]
        if not all(keys):
            raise InputError(f'found the path "{path}", allowed: names joined by dots, e.g. budget.trials', where)
        inner = out
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise InputError(f"sets a part of {key}, which another --set sets as a whole", where)
        if keys[-1] in inner:
            raise InputError(f"{path} is set twice", where)
        inner[keys[-1]] = parse_yaml(value, where)
    return out


def leaves(data: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, value) of everything that is no mapping, or an empty one."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


def merged(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``data`` with ``overrides`` on top, mapping by mapping.

    Raises:
        InputError: an override goes into something that is no mapping.
    """
    out = dict(data)
    for path, value in leaves(overrides):
        out = _put(out, path, value, f"--set {'.'.join(path)}")
    return out


def _put(data: Mapping[str, Any], path: Path, value: Any, where: str) -> dict[str, Any]:
    # A key may itself have dots (heavy_ball.mu): the longest one that is there wins.
    size = next((n for n in range(len(path), 0, -1) if ".".join(path[:n]) in data), 1)
    key, rest = ".".join(path[:size]), path[size:]
    if not rest:
        return {**data, key: value}
    inner = data.get(key, {})
    if not isinstance(inner, Mapping):
        raise InputError(f"{key} is {shown(inner)}, which has no {'.'.join(rest)}", where)
    return {**data, key: _put(inner, rest, value, where)}


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two recipes as plain data, a line each: ``rungs.epochs: [1, 3] -> [1, 4]``."""
    before, after = ({".".join(path): value for path, value in leaves(data)} for data in (old, new))
    lines = []
    for path in [*before, *(path for path in after if path not in before)]:
        a, b = (_text(side.get(path, _ABSENT)) for side in (before, after))
        if a != b:
            lines.append(f"{path}: {a} -> {b}")
    return lines


def _text(value: object) -> str:
    if value is _ABSENT:
        return "(nothing)"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
