"""What is read of a split: every step that counts once, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from mrnn_search.benchmarks import Split
from mrnn_search.benchmarks import base as benchmarks
from mrnn_search.engine.batches import EVALUATION_STREAMS, IGNORED, Batch, Sequences, Streams

LENGTHS = torch.tensor([3, 1, 5, 4, 2, 5, 1])
N, T = len(LENGTHS), 6  # longer than any
PLACES = torch.arange(N)[:, None] * 10 + torch.arange(T)  # sequence and step, as one number


def numbers(values: Tensor) -> Tensor:
    return values[..., None].float()


def read(batches: Iterable[Batch]) -> list[tuple[int, int]]:
    """What was read: the input's number and the target."""
    found = []
    for x, y, reads in batches:
        seen = x.squeeze(-1) if x.dim() == 3 else x
        found += list(zip(seen.T.flatten()[reads].long().tolist(), y.tolist(), strict=True))
    return found


def test_benchmarks_and_the_engine_ignore_the_same_targets() -> None:
    assert IGNORED == benchmarks.IGNORED == torch.nn.CrossEntropyLoss().ignore_index


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_the_last_step_of_each_sequence(lengths: Tensor | None, size: int) -> None:
    feed = Sequences(Split(numbers(PLACES), torch.arange(N), lengths), "last")
    ends = [10 * n + (T if lengths is None else int(lengths[n])) - 1 for n in range(N)]
    batches = list(feed.epoch(size, seed=3))
    assert len(batches) == feed.updates(size) == -(-N // size)
    assert read(feed.evaluation(size)) == [(end, n) for n, end in enumerate(ends)]
    assert sorted(read(batches)) == [(end, n) for n, end in enumerate(ends)] and (size == 1 or read(batches) != sorted(read(batches)))
    assert read(feed.epoch(size, seed=3)) == read(batches) != read(feed.epoch(size, seed=4))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_step_that_counts(lengths: Tensor | None, ignored: bool, size: int) -> None:
    y = PLACES.clone()
    if ignored:
        y[:, 1::2] = IGNORED
    feed = Sequences(Split(numbers(PLACES), y, lengths), "every")
    counted = (y != IGNORED) & (torch.arange(T) < (LENGTHS[:, None] if lengths is not None else T))
    want = [(int(place), int(place)) for place in PLACES[counted]]
    assert sorted(read(feed.epoch(size, seed=0))) == want == sorted(read(feed.evaluation(size)))


def test_targets_of_numbers() -> None:
    """Floats are all read, -100 too."""
    y = torch.stack([PLACES.float(), PLACES.float() * 0 - 100], -1)
    (batch,) = Sequences(Split(numbers(PLACES), y, LENGTHS), "every").evaluation(N)
    seen = batch.x.squeeze(-1).T.flatten()[batch.reads]
    assert batch.y.shape == (int(LENGTHS.sum()), 2) and torch.equal(batch.y, torch.stack([seen, torch.full_like(seen, -100)], -1))


@pytest.mark.parametrize("how", ["last", "every"])
def test_a_batch_is_as_long_as_its_longest_and_padding_is_the_last_step(how: str) -> None:
    x, y = numbers(PLACES), PLACES if how == "every" else torch.arange(N)
    batch = Sequences(Split(x, y, LENGTHS), how).batch(torch.tensor([1, 0, 4]))
    assert batch.x.squeeze(-1).tolist() == [[10, 10, 10], [0, 1, 2], [40, 41, 41]]
    spoilt = x.clone()
    spoilt[torch.arange(T) >= LENGTHS[:, None]] = torch.nan
    again = Sequences(Split(spoilt, y, LENGTHS), how).batch(torch.tensor([1, 0, 4]))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


@pytest.mark.parametrize("lengths", [None, torch.ones(N, dtype=torch.long)])
def test_a_sequence_of_which_nothing_is_read_is_refused(lengths: Tensor | None) -> None:
    y = PLACES.clone()
    y[4, : T if lengths is None else 1] = IGNORED
    with pytest.raises(ValueError, match="sequence 4 has no target"):
        Sequences(Split(numbers(PLACES), y, lengths), "every")
    with pytest.raises(ValueError, match="sequence 4 has no target"):
        Sequences(Split(numbers(PLACES), y[:, 0], lengths), "last")


def stream(count: int) -> Split:
    return Split(torch.arange(count), torch.arange(count) + 1)


@pytest.mark.parametrize(("count", "size", "window"), [(101, 4, 7), (100, 4, 5), (30, 30, 3), (31, 1, 100)])
def test_streams_are_contiguous(count: int, size: int, window: int) -> None:
    feed, steps = Streams(stream(count), window), count // size
    batches = list(feed.epoch(size, seed=1))
    assert len(batches) == feed.updates(size) and [b.x.shape[1] for b in batches][:-1] == [window] * (len(batches) - 1)
    assert torch.equal(torch.cat([b.x for b in batches], dim=1), torch.arange(size * steps).view(size, steps))
    assert sorted(read(batches)) == [(n, n + 1) for n in range(size * steps)]


@pytest.mark.parametrize("count", [1, 3, EVALUATION_STREAMS, 57, 60, 11])
def test_an_evaluation_reads_every_token_once_whatever_the_batch_size(count: int) -> None:
    feed = Streams(stream(count), 4)
    found = list(feed.evaluation(64))
    assert sorted(read(found)) == [(n, n + 1) for n in range(count)]
    assert repr(found) == repr(list(feed.evaluation(3)))
    rows = torch.cat([b.x for b in found], dim=1)
    assert len(rows) == min(count, EVALUATION_STREAMS) and torch.equal(rows.flatten()[:count], torch.arange(count))


def test_streams_that_cannot_be_read() -> None:
    with pytest.raises(RuntimeError, match="5 tokens are no stream for each of a batch of 6"):
        Streams(stream(5), 3).updates(6)
    x, y = stream(20)[:2]
    y[:] = IGNORED
    y[0] = 1
    with pytest.raises(ValueError, match="no target is read from step 3"):
        list(Streams(Split(x, y), 3).epoch(2, seed=0))
