"""Lanes in lockstep: torch.optim's results, and the same bits alone and in any pack."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mrnn_search.benchmarks import Benchmark, Split
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine.batches import Batch
from mrnn_search.engine.lanes import Lanes
from mrnn_search.engine.model import SequenceModel
from mrnn_search.engine.recurrent import parameter_groups
from mrnn_search.engine.seeds import derive_seed
from mrnn_search.engine.train import LaneStart, train_lane, train_lanes

from ..opened import opened
from .tasks import Characters, Ends, Notes, Signs, Words
from .test_train import TASK, Sums

CELLS = {
    "rnn": CellSpec("rnn", "heavy_ball", learned=["mu"]),
    "lstm": preset("momentum_lstm"),
    "lstm by steps": CellSpec("lstm", "adam"),
    "gru": preset("gru"),
    "orthogonal, never": CellSpec("orthogonal", "plain", options={"rebase": "never"}),
    "orthogonal, 3": CellSpec("orthogonal", "heavy_ball", options={"rebase": 3}),
}
every_cell = pytest.mark.parametrize("spec", CELLS.values(), ids=CELLS)
OPTIMIZERS = ("rmsprop", "adam", "sgd")
B, T, WIDTH = 5, 7, 3  # a lane's batch does not end at a multiple of 64 bytes


def mixed(spec: CellSpec, count: int, optimizer: str = "rmsprop", **more: object) -> list[Candidate]:
    """Candidates of one shape that differ in whatever may differ."""
    made = []
    for n in range(count):
        clip = (None, 0.05, 1.0)[n % 3 - 1]
        settings = {"lr": 3e-3 * (n + 1), "lr_orthogonal": (None, 1e-2)[n % 2], "init": ("paper", "torch")[n % 2], **more}
        made.append(Candidate(spec, hidden_size=6, batch_size=B, optimizer=optimizer, clip=clip, **settings))  # type: ignore[arg-type]
    return made


def batches(seed: int, steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [(torch.randn(B, T, WIDTH, generator=g), torch.randint(0, 4, (B,), generator=g)) for _ in range(steps)]


def pack_of(candidates: list[Candidate], seeds: list[int]) -> Lanes:
    lanes = Lanes(candidates, seeds, WIDTH, 4, F.cross_entropy)
    lanes.begin_epoch(0)
    return lanes


def run(lanes: Lanes, seeds: list[int], first: int, last: int) -> torch.Tensor:
    """Updates ``first`` to ``last`` of every lane's own data; their losses (steps, K)."""
    data = [batches(seed, last)[first:] for seed in seeds]
    return torch.tensor([lanes.update([Batch.last(x, y) for x, y in now]) for now in zip(*data, strict=True)])


def outputs_of(lanes: Lanes, batch: Batch) -> list[torch.Tensor]:
    """Each lane's readouts in evaluation mode."""
    seen: list[torch.Tensor] = []
    lanes.evaluate([batch], lambda out, y: seen.append(out) or out.double().sum(-1))  # type: ignore[func-returns-value]
    return seen


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


def by_torch(candidate: Candidate, seed: int, steps: int) -> SequenceModel:
    """The same training with torch.optim and torch's clipping."""
    torch.manual_seed(derive_seed(seed, "init"))
    model = SequenceModel(candidate, WIDTH, 4)
    groups = parameter_groups(model, candidate.lr, candidate.lr / 10 if candidate.lr_orthogonal is None else candidate.lr_orthogonal)
    kinds = {"rmsprop": lambda: torch.optim.RMSprop(groups, alpha=0.9), "adam": lambda: torch.optim.Adam(groups)}
    optimizer = kinds.get(candidate.optimizer, lambda: torch.optim.SGD(groups))()
    for x, y in batches(seed, steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if candidate.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), candidate.clip)
        optimizer.step()
    return model


@every_cell
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_as_torch_optim(spec: CellSpec, optimizer: str) -> None:
    candidates, seeds = mixed(spec, 3, optimizer), list(range(3))
    lanes = pack_of(candidates, seeds)
    run(lanes, seeds, 0, 24)
    for model, candidate, seed in zip(lanes.models, candidates, seeds, strict=True):
        want = by_torch(candidate, seed, 24).state_dict()
        for name, value in model.state_dict().items():  # counts of steps and the centres of maps among them
            torch.testing.assert_close(value, want[name], rtol=2e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@every_cell
@pytest.mark.parametrize(("count", "optimizer"), [(1, "adam"), (2, "sgd"), (5, "rmsprop"), (5, "adam")])
def test_alone_or_in_a_pack_bit_for_bit(spec: CellSpec, count: int, optimizer: str) -> None:
    candidates, seeds = mixed(spec, count, optimizer), list(range(10, 10 + count))
    pack = pack_of(candidates, seeds)
    losses = run(pack, seeds, 0, 8)
    turned = pack_of(candidates[::-1], seeds[::-1])
    run(turned, seeds[::-1], 0, 8)
    unseen = Batch.last(*batches(99, 1)[0])
    outputs = outputs_of(pack, unseen)
    for k in range(count):
        alone = pack_of([candidates[k]], [seeds[k]])
        assert torch.equal(run(alone, [seeds[k]], 0, 8)[:, 0], losses[:, k])
        assert same(alone.models[0], pack.models[k]) and same(alone.models[0], turned.models[count - 1 - k])
        assert torch.equal(outputs_of(alone, unseen)[0], outputs[k])


def test_lanes_with_optimizers_of_their_own_bit_for_bit() -> None:
    spec, kinds = CELLS["orthogonal, 3"], ("adam", "sgd", "rmsprop", "adam", "sgd")
    candidates = [replace(c, optimizer=kind) for c, kind in zip(mixed(spec, 5), kinds, strict=True)]
    seeds = list(range(5))
    pack = pack_of(candidates, seeds)
    run(pack, seeds, 0, 5)
    pack.keep([3, 1, 2])
    run(pack, [3, 1, 2], 5, 9)
    for place, k in enumerate([3, 1, 2]):
        alone = pack_of([candidates[k]], [k])
        run(alone, [k], 0, 9)
        assert same(alone.models[0], pack.models[place])
        mine, theirs = alone.memory_of(0), pack.memory_of(place)
        assert mine.keys() == theirs.keys() and all(torch.equal(v, theirs[name]) for name, v in mine.items())


@every_cell
def test_whoever_leaves_the_pack(spec: CellSpec) -> None:
    candidates, seeds = mixed(spec, 5), list(range(5))
    pack = pack_of(candidates, seeds)
    with torch.no_grad():
        pack.models[1].readout.weight[0, 0] = math.nan
    losses = run(pack, seeds, 0, 4)
    assert not losses[-1, 1].isfinite() and all(held.isfinite().all() for held in pack.memory_of(1).values())
    pack.keep([4, 0, 3])
    run(pack, [4, 0, 3], 4, 9)
    for model, seed in zip(pack.models, [4, 0, 3], strict=True):
        alone = pack_of([candidates[seed]], [seed])
        run(alone, [seed], 0, 9)
        assert same(alone.models[0], model)


def test_lanes_with_more_parameters_than_others() -> None:
    specs = [CellSpec("lstm", "heavy_ball", learned={"mu": kind}) for kind in ("scalar", "unit", "input")] + [preset("lstm")]
    candidates, seeds = [mixed(spec, 1)[0] for spec in specs], [1, 2, 3, 4]
    pack = pack_of(candidates, seeds)
    run(pack, seeds, 0, 5)
    for model, candidate, seed in zip(pack.models, candidates, seeds, strict=True):
        alone = pack_of([candidate], [seed])
        run(alone, [seed], 0, 5)
        assert same(alone.models[0], model)


def test_parameters_and_gradients_are_rows_of_the_tables() -> None:
    lanes = pack_of(mixed(CELLS["orthogonal, 3"], 3), [0, 1, 2])
    run(lanes, [0, 1, 2], 0, 1)
    for table, tensors in (
        (lanes.table, [p.data for m in lanes.models for p in m.parameters()]),
        (lanes.grads, [p.grad for m in lanes.models for p in m.parameters()]),
    ):
        assert {t.untyped_storage().data_ptr() for t in tensors if t is not None} == {table.untyped_storage().data_ptr()}


def test_steps_are_counted_lane_by_lane() -> None:
    """A centre that moves in one lane is no step of another; layers of one model count alike."""
    specs = [CellSpec("orthogonal", "plain", options={"rebase": rebase}) for rebase in (2, "never", 3)]
    lanes = pack_of([mixed(spec, 1, num_layers=2)[0] for spec in specs], [0, 1, 2])
    run(lanes, [0, 1, 2], 0, 7)
    for model, rebase in ((lanes.models[0], 2), (lanes.models[2], 3)):
        for layer in range(2):
            clock = model.layer._chain(f"_l{layer}")[0].clock
            assert (clock.seen, clock.steps, clock.centred) == (7, 6, 6 // rebase * rebase)


def test_mixed_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one base, hidden size"):
        pack_of([Candidate(preset("lstm"), hidden_size=4), Candidate(preset("lstm"), hidden_size=5)], [0, 1])


# --- Through train_lanes ---


def curve(outcome: object) -> object:
    """All of an outcome but times."""
    rows = tuple((r.epoch, r.step, r.train_loss, r.value) for r in outcome.rows)  # type: ignore[attr-defined]
    return repr(replace(outcome, rows=rows, seconds=0.0))  # type: ignore[type-var]  # repr: NaN is NaN


@pytest.mark.parametrize(
    ("base", "rule", "task"),
    [
        ("lstm", "heavy_ball", Sums),
        ("gru", "heavy_ball", Sums),
        ("rnn", "heavy_ball", Sums),
        ("orthogonal", "heavy_ball", Sums),
        ("lstm", "heavy_ball", Ends),
        ("gru", "adam", Signs),
        ("orthogonal", "plain", Notes),
        ("lstm", "nesterov", Characters),
        ("rnn", "adam", Words),
        ("orthogonal", "heavy_ball", Words),
    ],
)
def test_checkpoints_and_curves_do_not_depend_on_the_pack(base: str, rule: str, task: type[Benchmark]) -> None:
    """Dropout draws from the lane's own stream; the pack changes between rungs; one lane diverges."""
    options = {"rebase": 3} if base == "orthogonal" else {}
    spec, data = CellSpec(base, rule, options=options), task()
    test = opened(data)
    candidates = [
        Candidate(spec, hidden_size=6, num_layers=2, dropout=d, optimizer="sgd", clip=c, lr=lr, batch_size=48 if task is Sums else 7)
        for d, c, lr in [(0.3, None, 1e-2), (0.0, None, 3e38), (0.1, 0.1, 1e-2), (0.0, 1.0, 3e-3)]
    ]
    starts = [LaneStart(c, seed) for seed, c in enumerate(candidates)]
    pack = train_lanes(data, starts, 0, 1)
    alone = [train_lane(data, s.candidate, s.seed, s.checkpoint, 0, 1) for s in starts]
    assert [curve(a) for a in alone] == [curve(p) for p in pack]
    assert pack[1].error is not None and "at epoch 1, step" in pack[1].error and pack[0].error is None
    on = [LaneStart(candidates[k], k, pack[k].checkpoint) for k in (3, 0)]
    rest = train_lanes(data, on, 1, 3, test=test)
    for k, outcome in zip((3, 0), rest, strict=True):
        whole = train_lane(data, candidates[k], k, None, 0, 3, test=test)
        assert outcome.error is None and outcome.test_value is not None and math.isfinite(outcome.test_value)
        assert (outcome.checkpoint, outcome.value, outcome.test_value) == (whole.checkpoint, whole.value, whole.test_value)


def test_a_lane_whose_gradient_is_not_finite_fails_alone() -> None:
    fine = Candidate(preset("lstm"), hidden_size=4, optimizer="sgd")
    with_clip, without = replace(fine, lr=3e38), replace(fine, lr=3e38, clip=None)
    outcomes = train_lanes(TASK, [LaneStart(fine, 1), LaneStart(with_clip, 1), LaneStart(fine, 2), LaneStart(without, 1)], 0, 2)
    assert [o.error is None for o in outcomes] == [True, False, True, False]
    for lost in outcomes[1::2]:
        assert lost.checkpoint is None and lost.rows == () and math.isnan(lost.value)
        assert lost.parameters == outcomes[0].parameters > 0
    assert curve(outcomes[2]) == curve(train_lane(TASK, fine, 2, None, 0, 2))


def test_the_time_of_a_pack_is_shared_out() -> None:
    starts = [LaneStart(Candidate(preset("lstm"), hidden_size=4), n) for n in range(4)]
    outcomes = train_lanes(TASK, starts, 0, 2, timeout_s=1e-9)
    assert all(o.error is not None and "ran past its time limit at epoch 1, step 1" in o.error for o in outcomes)
    begun = time.monotonic()
    outcomes = train_lanes(TASK, starts, 0, 1)
    assert 0 < sum(o.seconds for o in outcomes) <= time.monotonic() - begun and len({o.seconds for o in outcomes}) == 1


@pytest.mark.slow
def test_a_thousand_packs_leave_nothing_behind() -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    class Few(Sums):
        def __init__(self) -> None:
            super().__init__()
            self.train, self.validation = (Split(split.x[:8], split.y[:8]) for split in (self.train, self.validation))

    task, after = Few(), {}
    good = Candidate(preset("adam_lstm"), hidden_size=4, batch_size=8)
    starts = [LaneStart(good, 0), LaneStart(replace(good, clip=None, lr=3e38), 1)]  # one diverges
    for n in range(1, 1001):
        train_lanes(task, starts, 0, 1, test=opened(task))
        if n in (200, 1000):
            after[n] = resident()
    assert after[1000] - after[200] < 4 * 2**20
