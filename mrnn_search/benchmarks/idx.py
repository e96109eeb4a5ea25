"""The IDX format of the MNIST files: two zero bytes, a type code, the number of dimensions, their sizes (big-endian), the values.

Source: LeCun, Cortes, Burges, The MNIST database of handwritten digits.
"""

from __future__ import annotations

import math

import numpy as np

from .._registry import InputError

UNSIGNED_BYTE = 0x08
TYPES = {0x08: "unsigned byte", 0x09: "signed byte", 0x0B: "short", 0x0C: "int", 0x0D: "float", 0x0E: "double"}
CONTENT = {1: "labels", 3: "images"}  # dimensions -> what has them


def parse_idx(data: bytes, dimensions: int, where: str) -> np.ndarray:
    """The unsigned bytes in an IDX file, read-only, shaped as the file says.

    Args:
        data: the whole file, unpacked.
        dimensions: that it must have: 1 of labels, 3 of images.
        where: the file, for messages.

    Raises:
        InputError: it is no such file, or has fewer or more values than its header says.
    """

    def wrong(message: str) -> InputError:
        return InputError(message, where)

    if len(data) < 4:
        raise wrong(f"is no IDX file: {len(data)} bytes, its header alone has {4 + 4 * dimensions}; truncated?")
    if data[:2] != b"\0\0" or data[2] not in TYPES:
        raise wrong(f"is no IDX file: it begins with {data[:4].hex(' ')}, allowed: 00 00 08 {dimensions:02x}")
    if data[2] != UNSIGNED_BYTE:
        raise wrong(f"its values are of type {data[2]:#04x} ({TYPES[data[2]]}), allowed: 0x08 (unsigned byte)")
    if data[3] != dimensions:
        found = CONTENT.get(data[3], "neither images nor labels")
        raise wrong(f"has {data[3]} dimensions ({found}), needed: {dimensions} ({CONTENT[dimensions]}); are two files swapped?")
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise wrong(f"is truncated: {len(data)} bytes, its header alone has {header}")
    shape = tuple(int.from_bytes(data[4 + 4 * d : 8 + 4 * d], "big") for d in range(dimensions))
    values, needed = len(data) - header, math.prod(shape)
    if values != needed:
        problem = "is truncated" if values < needed else "has bytes that do not belong to it"
        raise wrong(f"{problem}: its header says {' x '.join(map(str, shape))} = {needed:,} values, there are {values:,}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
