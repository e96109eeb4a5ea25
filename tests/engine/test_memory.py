"""What packs need, estimated and measured; packs that are too big are split, and nothing else changes."""

import os
import statistics
import subprocess
import sys

import pytest

from mrnn_search.benchmarks import load_benchmark
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine import fused as engine_fused
from mrnn_search.engine.memory import Part, Sizes, arrange, free_bytes, pack_bytes, split
from mrnn_search.engine.native.build import Native, native
from mrnn_search.engine.train import RECOMPUTED
from mrnn_search.search import packs
from mrnn_search.search.packs import Lane, Pack, train_pack
from mrnn_search.search.worker import ENVIRONMENT

SHAPES = (  # base, rule, optimizer, T, B, I, H, K; of words their number, of sequences of any length "steps"
    "lstm heavy_ball rmsprop 28 128 28 128 8",
    "lstm adam rmsprop 28 128 28 128 8",
    "gru rmsprop sgd 96 32 64 64 16",
    "orthogonal heavy_ball adam 96 64 64 64 16",
    "orthogonal plain adam 150 64 16 64 16",
    "orthogonal heavy_ball adam 20 32 8 160 16",
    "lstm plain adam 100 64 256 64 4",
    "gru heavy_ball@hidden adam 200 32 8 128 3",
    "again:lstm heavy_ball adam 300 64 8 64 6",
    "again:gru heavy_ball adam 300 64 8 64 8",
    "lstm heavy_ball adam 35 20 64 96 6 10000",
    "gru adam rmsprop 90 48 24 64 10 steps",
)
fused = pytest.mark.skipif(not isinstance(native(), Native), reason=f"no kernels: {native()}")

MEASURE = """
import sys, torch
from pathlib import Path
from torch.nn.functional import cross_entropy
from mrnn_search.benchmarks import Split
from mrnn_search.cells import Candidate, CellSpec
from mrnn_search.engine.batches import Batch, Sequences, Streams
from mrnn_search.engine.heap import give_back_freed, keep_freed
from mrnn_search.engine.lanes import Lanes
from mrnn_search.engine.memory import Sizes, pack_bytes
torch.set_num_threads(1)
keep_freed()  # as a search's workers do

def resident(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

def errors(outputs, y):
    return cross_entropy(outputs, y, reduction="none").double()

def task(kind, steps, batch, inputs):
    if kind.isdigit():
        words = int(kind)
        stream = torch.randint(words, (3 * steps * batch,))
        return Streams(Split(stream, stream), steps), Sizes(steps, inputs, words, steps, words, carried=True)
    count = 2 * batch
    x, lengths = torch.randn(count, steps, inputs), torch.randint(steps // 2, steps + 1, (count,))
    if kind == "steps":
        lengths[::2] = steps  # every batch is as long as it may be
        return Sequences(Split(x, torch.randint(10, (count, steps)), lengths), "every"), Sizes(steps, inputs, 10, steps, gathered=True)
    return Sequences(Split(x, torch.randint(10, (count,))), "last"), Sizes(steps, inputs, 10)

def train(base, rule, optimizer, steps, batch, inputs, hidden, count, kind):
    rule, _, scope = rule.partition("@")
    recompute, base = base.startswith("again:"), base.removeprefix("again:")
    spec = CellSpec(base, rule, scope=scope or None)
    feed, sizes = task(kind, steps, batch, inputs)
    give_back_freed()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    candidates = [Candidate(spec, hidden, batch_size=batch, optimizer=optimizer)] * count
    words = {"vocabulary": sizes.vocabulary or None, "carries": sizes.carried}
    lanes = Lanes(candidates, list(range(count)), inputs, sizes.outputs, cross_entropy, recompute=recompute, **words)
    epochs = [feed.epoch(batch, seed) for seed in range(count)]
    lanes.update([next(epoch) for epoch in epochs])
    best = [{name: v.clone() for name, v in model.state_dict().items()} for model in lanes.models]
    lanes.update([next(epoch) for epoch in epochs])
    lanes.evaluate(feed.evaluation(batch), errors)
    return (resident("VmHWM") - before) / pack_bytes(candidates, sizes, recompute=recompute)

for warm in (True, False):  # code and tables of the libraries, and MKL's own buffers, are there the second time
    for shape in sys.argv[1:]:
        base, rule, optimizer, *told = shape.split()
        (*sizes, count), kind = map(int, told[:5]), told[5:]
        ratio = train(base, rule, optimizer, *sizes, 1 if warm else count, kind[0] if kind else "")
        if not warm:
            print(ratio)
"""


@pytest.fixture(scope="module")
def measured():
    """For each shape the peak by the estimate, in five processes that start as workers do. How a heap is laid out, and so what a
    small pack needs, changes by a fifth from one to the next."""
    ratios = []
    for seed in range(5):
        command = [sys.executable, "-c", MEASURE, *SHAPES]
        done = subprocess.run(
            command, env=os.environ | ENVIRONMENT | {"PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True
        )
        ratios.append([float(line) for line in done.stdout.split()])
    return dict(zip(SHAPES, zip(*ratios, strict=True), strict=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_is_within_15_percent(measured, shape):
    assert 0.85 <= statistics.median(measured[shape]) <= 1.15, measured[shape]


def test_parts_fit_and_are_the_whole():
    candidates = [Candidate(CellSpec("lstm", "adam"), hidden_size=32)] * 7
    sizes = Sizes(28, 28, 10)
    one, three = (pack_bytes(candidates[:n], sizes) for n in (1, 3))
    assert split(candidates, sizes, three) == [range(0, 3), range(3, 6), range(6, 7)]
    assert split(candidates, sizes, one // 2) == [range(k, k + 1) for k in range(7)]  # nothing smaller than a lane
    assert split(candidates, sizes, 10**12) == [range(7)]
    assert free_bytes() > 0


@fused
def test_what_does_not_fit_recomputes_before_it_is_split():
    sizes = Sizes(300, 8, 10)
    lstm, rnn = ([Candidate(CellSpec(base, "plain"), hidden_size=32)] * 4 for base in ("lstm", "rnn"))

    def bytes_of(count, recompute):
        return pack_bytes(lstm[:count], sizes, recompute=recompute)

    kept, again = bytes_of(4, False), bytes_of(4, True)
    assert again < 0.7 * kept
    assert arrange(lstm, sizes, kept) == [Part(range(4), False)]
    assert arrange(lstm, sizes, kept - 1) == arrange(lstm, sizes, again) == [Part(range(4), True)]
    # three fit only if they recompute, the one that is left fits as it is
    assert bytes_of(1, False) < bytes_of(3, True) < bytes_of(2, False)
    assert arrange(lstm, sizes, bytes_of(2, False) - 1) == [Part(range(3), True), Part(range(3, 4), False)]
    assert arrange(lstm[:1], sizes, 1) == [Part(range(1), True)]  # too big either way, but less so
    size = pack_bytes(rnn, sizes)
    assert arrange(rnn, sizes, size - 1) == [Part(range(3), False), Part(range(3, 4), False)]  # nothing to compute again


@fused
@pytest.mark.parametrize("base", ["lstm", "gru"])
def test_a_pack_that_fits_only_if_it_recomputes_trains_whole_and_its_lanes_are_the_same(monkeypatch, base):
    lanes = tuple(Lane(f"search/{n}", Candidate(CellSpec(base, "heavy_ball"), hidden_size=16), n) for n in range(3))
    pack = Pack("1", "digits-rows", lanes, 0, 1)
    whole = train_pack(pack)
    calls, told = [], set()
    train, run = packs.train_lanes, engine_fused.recurrence
    candidates = [lane.candidate for lane in lanes]
    limit = pack_bytes(candidates, Sizes.of(load_benchmark("digits-rows")), recompute=True)
    monkeypatch.setattr(packs, "free_bytes", lambda device: limit)
    monkeypatch.setattr(packs, "train_lanes", lambda *args, **more: calls.append(len(args[1])) or train(*args, **more))
    monkeypatch.setattr(engine_fused, "recurrence", lambda family, lanes, recompute: told.add(recompute) or run(family, lanes, recompute))
    again = train_pack(pack)
    assert calls == [3] and told == {True}
    assert [r.outcome.checkpoint for r in again.lanes] == [r.outcome.checkpoint for r in whole.lanes]
    assert all(r.outcome.execution.endswith(RECOMPUTED) for r in again.lanes)
    assert not any(RECOMPUTED in r.outcome.execution for r in whole.lanes)


def test_a_pack_that_is_too_big_is_split_and_its_lanes_are_the_same(monkeypatch):
    lanes = tuple(Lane(f"search/{n}", Candidate(preset("momentum_lstm"), hidden_size=8), n) for n in range(3))
    pack = Pack("1", "digits-rows", lanes, 0, 1)
    whole = train_pack(pack)
    calls = []
    train = packs.train_lanes
    monkeypatch.setattr(packs, "free_bytes", lambda device: 1)
    monkeypatch.setattr(packs, "train_lanes", lambda *args, **more: calls.append(len(args[1])) or train(*args, **more))
    parts = train_pack(pack)
    assert calls == [1, 1, 1]
    assert [r.outcome.checkpoint for r in parts.lanes] == [r.outcome.checkpoint for r in whole.lanes]


def test_a_pack_that_runs_out_of_memory_is_halved_and_says_so(monkeypatch):
    train = packs.train_lanes

    def scarce(task, starts, *args, **more):
        if len(starts) > 1:
            raise RuntimeError("out of memory")
        return train(task, starts, *args, **more)

    lanes = tuple(Lane(f"search/{n}", Candidate(preset("lstm"), hidden_size=4), n) for n in range(3))
    monkeypatch.setattr(packs, "train_lanes", scarce)
    results = train_pack(Pack("1", "digits-rows", lanes, 0, 1)).lanes
    assert [r.key for r in results] == ["search/0", "search/1", "search/2"]
    assert all(r.outcome.error is None and packs.SPLIT in r.outcome.execution for r in results)
