"""The test split opens for runs of a confirmation, and for nothing else."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mrnn_search
from mrnn_search.benchmarks import Benchmark, Classification, Permit, SealedError, SealedSplit, Split, break_seal

RUN = Permit("confirmation", "c" * 64, 7)


class Tiny(Classification):
    name = "tiny"
    input_size, output_size = 1, 2

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        parts = {name: Split(torch.full((n, 2, 1), float(n)), torch.zeros(n, dtype=torch.int64)) for name, n in SIZES.items()}
        return cls(parts, "f")


SIZES = {"train": 3, "validation": 2, "test": 4}


@pytest.fixture
def tiny() -> Benchmark:
    return Tiny.load(None)


def test_a_confirmation_reads(tiny: Benchmark) -> None:
    test = tiny.open_test(RUN, Permit("confirmation", "d" * 64, 7))
    assert test.x.shape == (4, 2, 1) and tiny.sizes == SIZES and len(tiny.test) == 4


@pytest.mark.parametrize(
    "permits", [(), (Permit("search", "c", 7),), (Permit("lstm", "c", 7),), (Permit("", "", 0),), (Permit("confirmation", "", 7),)]
)
def test_nobody_else_does(tiny: Benchmark, permits: tuple[Permit, ...]) -> None:
    with pytest.raises(SealedError):
        tiny.open_test(*permits)
    with pytest.raises(SealedError):
        tiny.open_test(RUN, *permits or [Permit("search", "c", 7)])
    with pytest.raises(SealedError):
        tiny.test.open(*permits)


def test_no_public_attribute_has_the_tensors(tiny: Benchmark) -> None:
    """Looked for in every attribute and what every method without arguments gives, of the benchmark and of the seal."""

    def tensors(value: object) -> list[Tensor]:
        if isinstance(value, Tensor):
            return [value]
        return [t for item in value for t in tensors(item)] if isinstance(value, (tuple, list, dict)) else []

    for thing in (tiny, tiny.test):
        for name in (name for name in dir(thing) if not name.startswith("_")):
            value = getattr(thing, name)
            try:
                value = value() if callable(value) else value
            except (TypeError, SealedError):  # wants arguments
                continue
            assert all(len(t) != SIZES["test"] for t in tensors(value)), name
    with pytest.raises(SealedError):
        tuple(tiny.test)  # as a Split could be taken apart
    assert "tensor" not in f"{tiny.test!r} {tiny.test}"


def test_the_seal_survives_the_way_to_a_worker(tiny: Benchmark) -> None:
    there = pickle.loads(pickle.dumps(tiny)).to("cpu")
    assert isinstance(there.test, SealedSplit) and there.test.fingerprint == tiny.test.fingerprint
    with pytest.raises(SealedError):
        there.open_test()
    assert torch.equal(there.open_test(RUN).x, tiny.open_test(RUN).x)


def test_the_fingerprint_is_of_the_tensors() -> None:
    x, y = torch.zeros(2, 3, 1), torch.zeros(2, dtype=torch.int64)
    splits = [
        Split(x, y),
        Split(x + 1, y),
        Split(x, y + 1),
        Split(x.reshape(2, 1, 3), y),
        Split(x, y, torch.tensor([3, 3])),
        Split(x[:1], y),
    ]
    assert len({SealedSplit(split).fingerprint for split in splits}) == len(splits)
    assert SealedSplit(Split(x.clone(), y.clone())).fingerprint == SealedSplit(splits[0]).fingerprint


def test_breaking_the_seal_is_told(tiny: Benchmark) -> None:
    with pytest.warns(UserWarning, match="test split of tiny opened outside a confirmation: a look"):
        assert len(break_seal(tiny, "a look").x) == 4
    with pytest.raises(ValueError, match="reason"):
        break_seal(tiny, " ")


def test_the_package_itself_never_breaks_it() -> None:
    root = Path(mrnn_search.__file__).parent
    calls = [p.name for p in root.rglob("*.py") if re.search(r"\bbreak_seal\(", p.read_text())]
    assert calls == ["sealed.py"]
    opens = {str(p.relative_to(root)) for p in root.rglob("*.py") if re.search(r"\.open_test\(", p.read_text())}
    assert opens == {"search/packs.py", "benchmarks/sealed.py"}
