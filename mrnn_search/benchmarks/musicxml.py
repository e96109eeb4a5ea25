"""Scores in compressed MusicXML (.mxl) -> the notes that sound, and when. As much of the format as four-part chorales use."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from .._registry import InputError

_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class Note(NamedTuple):
    """A pitch that sounds from ``start`` up to ``end``; both in quarter notes from the beginning of the score."""

    start: Fraction
    end: Fraction
    midi: int


def read_score(data: bytes, path: Path) -> list[list[Note]]:
    """The notes of each part, from the top down. Repeats are not played again, grace notes are left out, tied notes are separate.

    Raises:
        InputError: it is no compressed MusicXML.
    """
    try:
        parts = [_part(part) for part in _root(data).iter("part")]
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        LookupError,
        StopIteration,
        ElementTree.ParseError,
        ValueError,
        ZeroDivisionError,
        NotImplementedError,
    ) as error:
        raise InputError(f"is no readable MusicXML score: {type(error).__name__}: {error}", str(path)) from None
    if not parts:
        raise InputError("is a MusicXML score without parts", str(path))
    return parts


def _root(data: bytes) -> ElementTree.Element:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        name = next(element.attrib["full-path"] for element in container.iter() if element.tag.endswith("rootfile"))
        return ElementTree.fromstring(archive.read(name))


def _part(part: ElementTree.Element) -> list[Note]:
    notes: list[Note] = []
    divisions, end = 1, Fraction(0)
    for measure in part.iter("measure"):
        now = end
        for element in measure:
            divisions = int(element.findtext("divisions") or divisions)
            if element.tag not in ("note", "backup", "forward") or element.find("grace") is not None:
                continue
            length = Fraction(int(_required(element, "duration")), divisions)
            if element.tag == "backup":
                now -= length
                continue
            if element.find("chord") is not None:
                now -= length  # it begins with the note before it
            notes.extend(Note(now, now + length, midi) for midi in _pitches(element))
            now += length
            end = max(end, now)
    return notes


def _pitches(element: ElementTree.Element) -> Iterator[int]:
    """The pitch of a note, as MIDI counts; none of a rest."""
    pitch = element.find("pitch")
    if pitch is not None:
        step = _SEMITONES[_required(pitch, "step")]
        yield 12 * (int(_required(pitch, "octave")) + 1) + step + round(float(pitch.findtext("alter") or 0))


def _required(element: ElementTree.Element, tag: str) -> str:
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"<{element.tag}> without <{tag}>")
    return text
