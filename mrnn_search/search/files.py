"""Search spaces and recipes on disk: which file a name means, what is in it, and how a message points into it."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from .._registry import InputError, UnknownNameError, nearest

KINDS = {"search_spaces": "search space", "trials": "recipe"}  # folder -> what its files are called in messages
SUFFIXES = (".yaml", ".yml")
_PACKAGE = Path(__file__).resolve().parents[1]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 2  # a YAML file of aliases to aliases is small on disk and has a repr of gigabytes


def shown(value: object) -> str:
    """``value`` as a message shows it: cut where it is long, true, false and null as YAML has them."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return _short.repr(value)


@dataclass(frozen=True)
class Place:
    """A place inside a YAML file, as messages name it.

    Attributes:
        file: the file, or what stands for one.
        path: keys from the top, joined by dots; empty: the whole file.
        overridden: paths whose values come from ``--set``, not from the file.
    """

    file: str
    path: str = ""
    overridden: tuple[str, ...] = ()

    def at(self, *keys: object) -> Place:
        """The place below this one: a string is a key, a number an index."""
        path = self.path
        for key in keys:
            path += f"[{key}]" if isinstance(key, int) else f"{'.' if path else ''}{key}"
        return Place(self.file, path, self.overridden)

    def __str__(self) -> str:
        for path in self.overridden:
            inside, above = self.path.startswith((f"{path}.", f"{path}[")), path.startswith(f"{self.path}.")
            if self.path == path or inside or above:
                return f"--set {path}" if above or self.path == path else f"--set {path}: {self.path}"
        return ": ".join(part for part in (self.file, self.path) if part)

    def error(self, message: str) -> InputError:
        """An `InputError` that points here."""
        return InputError(message, str(self))

    def check_keys(self, found: Iterable[object], allowed: Iterable[str]) -> None:
        """Raises:
        UnknownNameError: a key that is not allowed here.
        """
        names = list(allowed)
        for key in found:
            if key not in names:
                raise UnknownNameError("key", key, names, str(self.at(str(key))))


def folders(kind: str) -> list[Path]:
    """Where files of a kind are looked for, in this order: the user's working folder, then what the package ships."""
    packaged = _PACKAGE / "_data" / kind
    return [Path(kind), packaged if packaged.parent.is_dir() else _PACKAGE.parent / kind]  # an editable checkout has no _data


def names(kind: str) -> list[str]:
    """Names of the files of a kind ("search_spaces" or "trials") that can be found, sorted, each once."""
    found = (path for folder in folders(kind) if folder.is_dir() for path in folder.iterdir())
    return sorted({path.stem for path in found if path.suffix in SUFFIXES and not path.name.startswith(".")})


def resolve(kind: str, name: str, where: str = "") -> Path:
    """The file that ``name`` means.

    Args:
        kind: "search_spaces" or "trials".
        name: a path, or a bare name: "quickstart", "quickstart.yaml" or "trials/quickstart.yaml".
        where: of the name itself, for the message.

    Raises:
        InputError: there is no such file.
    """
    is_path = "/" in name or os.sep in name
    suffixed = name.endswith(SUFFIXES)
    if (is_path or suffixed) and os.path.exists(name):
        return Path(name)
    stem = name.rsplit(".", 1)[0] if suffixed else name
    bare = stem.removeprefix(f"{kind}/") if is_path else stem
    looked = [name] if is_path else []
    if bare and not ("/" in bare or os.sep in bare):
        tried = [folder / f"{bare}{suffix}" for folder in folders(kind) for suffix in SUFFIXES]
        for path in tried:
            if os.path.isfile(path):
                return path
        looked += [str(path) for path in tried[:: len(SUFFIXES)]]
    raise InputError(_not_found(kind, name, Path(stem).name, looked), where)


def _not_found(kind: str, name: str, stem: str, looked: list[str]) -> str:
    known = names(kind)
    message = (
        f'there is no {KINDS[kind]} "{name}"; looked for {", ".join(looked) or "a name or a path"}; known: {", ".join(known) or "none"}'
    )
    near = nearest(stem, known)
    return f'{message}; did you mean "{near}"?' if near else message


def display(path: Path) -> str:
    """``path`` as messages name it: relative to the working folder if it is inside."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML 1.2 text (so that ``1e-3`` is a number and ``off`` is a string).

    Raises:
        InputError: a syntax error, a duplicate key, a tag or a key that is no plain data.
    """
    try:
        value = YAML(typ="safe", pure=True).load(text)
        _check_plain(value, Place(where), set())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{at}{error.problem or error.context}", where) from None
    except (YAMLError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        # a control character, or a date like 2024-13-45; the rest of these messages is an excerpt of the text
        raise InputError(f"cannot read it as YAML: {str(error).splitlines()[0]}", where) from None
    except RecursionError:
        raise InputError("nested too deeply", where) from None
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: the file cannot be read, is empty, is not UTF-8 or YAML, or is no mapping at the top.
    """
    where = display(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError:
        raise InputError("is a folder, not a YAML file", where) from None
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text: byte {error.object[error.start]:#04x} at offset {error.start}", where) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where) from None
    value = parse_yaml(text, where)
    if value is None:
        raise InputError("is empty", where)
    if not isinstance(value, dict):
        raise InputError(f"found {shown(value)} at the top, allowed: a mapping (key: value)", where)
    return value


def _check_plain(value: object, place: Place, seen: set[int]) -> None:
    """Only what JSON has: no dates, bytes or sets, and string keys. ``seen``: aliases make graphs of trees."""
    if id(value) in seen:
        return
    if isinstance(value, dict):
        seen.add(id(value))
        for key, item in value.items():
            if not isinstance(key, str):
                raise place.error(f'key {shown(key)}, allowed: text; write "{key}" in quotes')
            _check_plain(item, place.at(key), seen)
    elif isinstance(value, list):
        seen.add(id(value))
        for index, item in enumerate(value):
            _check_plain(item, place.at(index), seen)
    elif not isinstance(value, (str, bool, int, float, type(None))):
        raise place.error(f"found {value}, a {type(value).__name__}; allowed: text, numbers, true, false, null, lists, mappings")
