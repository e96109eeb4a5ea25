"""What the generated benchmarks share: a length in their name, and numbers that follow from a fixed seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from .._registry import InputError
from .base import Benchmark

SIZES = {"train": 10_000, "validation": 1_000, "test": 1_000}


class Generated(Benchmark):
    """A benchmark ``NAME:T`` without files.

    Attributes:
        default, shortest, longest: T of the bare name, and what T may be.
    """

    parameter = "T"
    published = " / ".join(f"{size:,}" for size in SIZES.values())
    default: ClassVar[int]
    shortest: ClassVar[int]
    longest: ClassVar[int] = 10_000

    @classmethod
    def check_argument(cls, argument: str | None) -> None:
        if argument is None or (re.fullmatch("[1-9][0-9]{0,8}", argument) and cls.shortest <= int(argument) <= cls.longest):
            return
        allowed = f"{cls.name}:T with a whole number {cls.shortest} <= T <= {cls.longest}, e.g. {cls.name}:{cls.default}"
        raise InputError(f'found "{cls.name}:{argument}", allowed: {allowed}')

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        return cls.load_with(None, data_dir)

    @classmethod
    def load_with(cls, argument: str | None, data_dir: Path | None) -> Benchmark:
        cls.check_argument(argument)
        made = cls.generate(cls.default if argument is None else int(argument))
        made.name = cls.name if argument is None else f"{cls.name}:{argument}"
        return made

    @classmethod
    def generate(cls, length: int) -> Benchmark:
        """The benchmark of this T: the same numbers for ever."""
        raise NotImplementedError

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return "generated"

    @staticmethod
    def random(seed: int, length: int, part: str) -> np.random.RandomState:
        """The generator of one split; of the kind whose stream never changes from one numpy to the next."""
        return np.random.RandomState([seed, length, list(SIZES).index(part)])
