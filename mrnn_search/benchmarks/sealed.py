"""The test split under seal: what opens it is leave to read it for runs of a confirmation, and the ledger has every such run.

Python keeps nobody out who wants in. What is here keeps the test split from being read by mistake, or in passing: no attribute
and no method hands its tensors out without a `Permit`, and the one way round (`break_seal`) says so aloud.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from .base import Benchmark, Split

CONFIRMATION = "confirmation"


class SealedError(PermissionError):
    """The test split was asked for outside a confirmation."""


@dataclass(frozen=True)
class Permit:
    """Leave to read the test split once, for one run.

    Attributes:
        group: of the ledger that the run is in; "confirmation" alone may read.
        cell_id: of the cell that is read for; seed: of the run.
    """

    group: str
    cell_id: str
    seed: int

    def check(self) -> None:
        """Raises:
        SealedError: it is leave for nothing.
        """
        if self.group != CONFIRMATION or not self.cell_id:
            raise SealedError(f'the test split is read in confirmation only; this is group "{self.group}", cell "{self.cell_id[:12]}"')


class SealedSplit:
    """A split whose tensors `open` alone hands out. Pickle carries it, for workers that lack the data."""

    def __init__(self, split: Split) -> None:
        self.__split = split

    def __len__(self) -> int:
        """N, of a stream L: how many there are is no secret."""
        return len(self.__split.x)

    def __iter__(self) -> Iterator[Tensor]:
        raise SealedError("the test split is under seal; it is no tuple of tensors")

    def __repr__(self) -> str:
        return f"SealedSplit({len(self)})"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the tensors, their types and shapes."""
        digest = hashlib.sha256()
        for tensor in self.__split:
            if tensor is None:
                digest.update(b"none")
                continue
            values = tensor.cpu().contiguous().numpy()
            digest.update(f"{values.dtype.str} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def open(self, *permits: Permit) -> Split:
        """The split, for the runs that ``permits`` name, one each.

        Raises:
            SealedError: no permit, or one for anything but a run of a confirmation.
        """
        if not permits:
            raise SealedError("the test split is under seal; it opens for runs of a confirmation, with a Permit for each")
        for permit in permits:
            permit.check()
        return self.__split

    def to(self, device: str) -> SealedSplit:
        """The same on ``device``."""
        return SealedSplit(self.__split.to(device))


def break_seal(benchmark: Benchmark, reason: str) -> Split:
    """The test split of ``benchmark`` without a permit: for tests of a loader and for analyses, never for choosing a cell.

    Warns, as no ledger will have this reading.

    Args:
        reason: why; it is in the warning.

    Raises:
        ValueError: no reason.
    """
    if not reason.strip():
        raise ValueError("the test split is opened outside a confirmation for a reason, or not at all")
    warnings.warn(f"test split of {benchmark.name} opened outside a confirmation: {reason}", stacklevel=2)
    return benchmark.open_test(Permit(CONFIRMATION, f"none: {reason}", 0))
