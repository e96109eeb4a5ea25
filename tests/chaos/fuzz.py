"""Mutations of recipes, spaces, journals, checkpoints and command lines; what they must not lead to is checked in `test_fuzz`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = "null true -1 0 1e999 .nan 99999999999999999999 [] {} '' ../.. a/b *x lstm 1e-3 [[[[[[ formulas choices when - # ---".split()
WORDS += ["&a [*a]", "!!python/name:os.system", "\u0000", "{a: {b: {c: ", "low: 2", "\t", "<<: *a", "2024-01-01", "0x1F"]
VALUES: list[Any] = [None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf")]
VALUES += ["", "x", "../../x", "\u0000", [], {}, [[]], {"": {}}, [1, "a"], "1" * 5000]
MISTAKES = ["--help", "--", "-o", "--top", "-1", "a=b", "budget.trials=x", "=", "rungs.epochs=[", "--storage", "sqlite:///x/y/z.db", "x://"]


def bytes_of(data: bytes, luck: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(luck.choice((1, 1, 2, 5, 20))):
        at = luck.randrange(len(out) + 1)
        kind = luck.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << luck.randrange(8)
        elif kind == 1:
            del out[at : at + luck.choice((1, 3, 50, 1000))]
        elif kind == 2:
            out[at:at] = luck.randbytes(luck.choice((1, 8, 40)))
        elif kind == 3:
            out[at:at] = out[luck.randrange(len(out) + 1) :][: luck.choice((1, 20, 300))]
        else:
            del out[at:]
    return bytes(out)


def text_of(text: str, luck: random.Random) -> bytes:
    """Lines and words changed as a person would, or bytes as a bad disk would."""
    if luck.random() < 0.25:
        return bytes_of(text.encode(), luck)
    lines = text.splitlines()
    for _ in range(luck.choice((1, 1, 1, 2, 4))):
        at = luck.randrange(len(lines)) if lines else 0
        kind = luck.randrange(6)
        if not lines or kind == 0:
            lines.insert(at, luck.choice(WORDS))
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(at, lines[luck.randrange(len(lines))])
        elif kind == 3:
            key, colon, _ = lines[at].partition(":")
            lines[at] = f"{key}{colon} {luck.choice(WORDS)}"
        elif kind == 4:
            lines[at] = "  " * luck.randrange(4) + lines[at].strip()
        else:
            words = lines[at].split(" ")
            words[luck.randrange(len(words))] = luck.choice(WORDS)
            lines[at] = " ".join(words)
    return "\n".join(lines).encode("utf-8", "replace")


def _places(value: Any, set_it: Callable[[Any], None]) -> list[tuple[Any, Callable[[Any], None]]]:
    """Every value inside plain data, with what replaces it."""
    found = [(value, set_it)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, lambda new, key=key: value.__setitem__(key, new))
    return found


def journal_of(data: bytes, luck: random.Random) -> bytes:
    """A journal that is whole JSON and wrong, or bytes that are not even that."""
    if luck.random() < 0.2:
        return bytes_of(data, luck)
    lines = data.splitlines()
    for _ in range(luck.choice((1, 1, 2, 4))):
        at = luck.randrange(len(lines))
        kind = luck.randrange(8)
        record = json.loads(lines[at])
        if not isinstance(record, dict):  # changed before
            continue
        if kind == 0:
            record["op_code"] = luck.choice((*range(-1, 14), 2**40, "4", None, 4.0, [4]))
        elif kind == 1:
            record.pop(luck.choice(sorted(record)))
        elif kind == 2:
            record[luck.choice(("trial_id", "study_id"))] = luck.choice((-1, 10**6, 10**30, "0", None, 0.5, []))
        elif kind == 3:
            lines.insert(at, lines[luck.randrange(len(lines))])
            continue
        elif kind == 4:
            del lines[luck.randrange(len(lines))]
            if not lines:
                return b"\n"
            continue
        elif kind == 5:
            record = luck.choice(VALUES)
        else:
            value, set_it = luck.choice(_places(record, lambda new: None)[1:])
            if kind == 6 and isinstance(value, dict) and value:
                value.pop(luck.choice(sorted(value)))
            else:
                set_it(luck.choice(VALUES))
        lines[at] = json.dumps(record).encode()
    return b"\n".join(lines) + b"\n"


def arguments(luck: random.Random, names: list[str], verbs: dict[str, list[str]]) -> list[str]:
    """A command line that a tired person could have typed."""
    verb = luck.choice([*verbs, luck.choice(["", "rn", "--run", "-"])])
    options = verbs.get(verb, ["--json"])
    pool = [*names, *options, *WORDS, *MISTAKES]
    words = [verb]
    if luck.random() < 0.7:
        words.append(luck.choice(names))
    for _ in range(luck.randrange(4)):
        words.append(luck.choice(pool))
        if words[-1].startswith("--") and luck.random() < 0.8:
            words.append(luck.choice(pool))
    return [word.replace("\0", "\\0") for word in words]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its content; locks, which have none, left out."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}
