"""Training on reads of all kinds: each sequence as if alone, each window as a part of the whole stream."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrnn_search._registry import SpecError
from mrnn_search.benchmarks import Benchmark, Split
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine import lanes as lanes_module
from mrnn_search.engine import planner
from mrnn_search.engine.batches import Sequences, feed_of
from mrnn_search.engine.lane_layers import forward_lanes, planned, zero_state
from mrnn_search.engine.lanes import Lanes
from mrnn_search.engine.memory import Sizes
from mrnn_search.engine.planner import plan
from mrnn_search.engine.recurrent import Recurrent
from mrnn_search.engine.seeds import derive_seed
from mrnn_search.engine.state import State
from mrnn_search.engine.train import LaneStart, train_lane, train_lanes

from ..opened import opened
from .gpu.device import DEVICE
from .tasks import TASKS, Characters, Ends, Means, Signs, Words
from .test_train import Sums

SPECS = {
    "lstm": preset("lstm"),
    "lstm heavy_ball": CellSpec("lstm", "heavy_ball", learned={"mu": "scalar"}),
    "gru adam": CellSpec("gru", "adam"),
    "rnn nesterov": CellSpec("rnn", "nesterov", {"restart": 5}),  # its momentum depends on the step
    "orthogonal heavy_ball": CellSpec("orthogonal", "heavy_ball", options={"rebase": 3}),
    "lstm coupled": CellSpec("lstm", "nesterov", scope="preactivation"),
    "gru hidden": CellSpec("gru", "heavy_ball", scope="hidden"),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def close(found: Tensor, want: Tensor) -> None:
    assert found.shape == want.shape
    torch.testing.assert_close(found, want, rtol=2e-4, atol=2e-6 * max(1.0, float(want.detach().abs().max())))


# --- Sequences of any length ---


@every_spec
@pytest.mark.parametrize("task", [Ends, Means, Signs])
def test_each_sequence_is_trained_on_as_if_alone(spec: CellSpec, task: type[Benchmark]) -> None:
    """The gradient of a batch is that of its sequences, one after the other and without padding, on the naive reference."""
    data, rows = task(), torch.arange(5)
    x, y, lengths = data.train
    assert lengths is not None
    x = x.clone().requires_grad_()
    lanes = Lanes([Candidate(spec, hidden_size=4, batch_size=5, optimizer="sgd", clip=None, num_layers=2)] * 2, [0, 1], 2, 2, data.loss)
    batch = Sequences(Split(x, y, lengths), data.reads).batch(rows)
    lanes.update([batch, batch])
    before, from_both = Lanes(lanes.candidates, lanes.seeds, 2, 2, data.loss), torch.zeros_like(x)
    for model, trained in zip(before.models, lanes.models, strict=True):
        layer, sums, count = model.layer.reference(), [], 0
        for n in rows.tolist():
            hidden = layer(x[n : n + 1, : lengths[n]])[0][0]
            target = y[n : n + 1] if data.reads == "last" else y[n, : lengths[n]]
            outputs = model.readout(hidden[-1:] if data.reads == "last" else hidden)
            counted = target != -100 if not target.is_floating_point() else torch.ones(len(target), dtype=torch.bool)
            sums.append(data.loss(outputs[counted], target[counted]) * int(counted.sum()))
            count += int(counted.sum())
        assert count == len(batch.y)
        gradients = torch.autograd.grad(sum(sums) / count, [x, *model.parameters()])  # type: ignore[arg-type]
        from_both = from_both + gradients[0]
        for (name, parameter), want in zip(trained.named_parameters(), gradients[1:], strict=True):
            assert parameter.grad is not None, name
            close(parameter.grad, want)
    assert x.grad is not None
    close(x.grad, from_both)
    assert not x.grad[torch.arange(x.shape[1]) >= lengths[:, None]].any()


def test_what_follows_an_end_changes_nothing() -> None:
    """Bit for bit: neither what is there, nor how much."""
    data = Signs()
    candidate = Candidate(CellSpec("lstm", "adam"), hidden_size=4, batch_size=7)

    def changed(split: Split) -> Split:
        x, y, lengths = split
        assert lengths is not None
        x, y = F.pad(x, (0, 0, 0, 3), value=7.0), F.pad(y, (0, 3), value=1)
        after = torch.arange(x.shape[1]) >= lengths[:, None]
        x[after], y[after] = math.nan, 0
        return Split(x, y, lengths)

    other = Signs()
    other.train, other.validation = changed(data.train), changed(data.validation)
    first, second = (train_lane(task, candidate, 1, None, 0, 2) for task in (data, other))
    assert first.error is None and (first.checkpoint, first.value) == (second.checkpoint, second.value)


@pytest.mark.parametrize("task", TASKS)
def test_each_kind_of_task_is_learned(task: type[Benchmark]) -> None:
    """Better than the best constant, on validation and on test."""
    data = task()
    candidate = Candidate(preset("lstm"), hidden_size=16, lr=2e-2, batch_size=16 if data.window is None else 4, optimizer="adam")
    out = train_lane(data, candidate, 0, None, 0, 8, test=opened(data))
    assert out.error is None and out.test_value is not None
    for split, value in ((data.validation, out.value), (opened(data), out.test_value)):
        y = torch.cat([batch.y for batch in feed_of(data, split).evaluation(1)])
        constant = data.summarise(float(data.errors(_constant(data, y), y).mean()))
        assert value > constant + 0.1 if data.direction == "maximize" else value < 0.9 * constant, (value, constant)
    assert out.parameters == sum(p.numel() for p in Lanes([candidate], [0], 1, 1, data.loss).models[0].parameters()) + _more(data)


def _more(data: Benchmark) -> int:
    """Parameters of this task's model beyond those of one of one input and one output, of 16 units."""
    return (data.input_size - 1) * 64 + (data.output_size - 1) * 17 + (data.vocabulary or 0) * data.input_size


def _constant(data: Benchmark, y: Tensor) -> Tensor:
    """The best outputs (M, O) that do not look at the input."""
    if y.is_floating_point():
        mean = y.mean(0)
        return (mean.logit() if data.metric == "nll_per_step" else mean).expand(len(y), -1)
    return torch.bincount(y, minlength=data.output_size).float().log().clamp(min=-50).expand(len(y), -1)


# --- Streams ---


@pytest.fixture
def on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "available", lambda device: (True, ""))


def able(spec: CellSpec, execution: str) -> bool:
    """Can it carry a rule's state in this execution?"""
    place = None if execution == "triton" else planner.Place(hidden=4, rule_state=True)  # where there is no GPU Triton interprets
    try:
        plan(spec, execution, place)
    except SpecError:
        return False
    return True


CARRIED = [(name, how) for how in ("fused", "triton", "vendor", "loop", "reference") for name, spec in SPECS.items() if able(spec, how)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in Triton's interpreter
@pytest.mark.parametrize(("name", "execution"), CARRIED)
def test_windows_with_carried_state_are_the_whole(name: str, execution: str, on_any_device: None) -> None:
    """Forward as one unrolled pass of the naive reference; backward as that of windows that begin from detached states."""
    spec = SPECS[name]
    torch.manual_seed(0)
    device = DEVICE if execution == "triton" else "cpu"
    layers = [Recurrent(spec, 3, 4, 2, execution=execution).to(device) for _ in range(2)]
    x, weights = torch.randn(2, 17, 2, 3, device=device), torch.randn(17, 2, 4, device=device)
    states = [zero_state(layer, rows) for layer, rows in zip(layers, x, strict=True)]
    parts: list[list[Tensor]] = [[], []]
    ours = torch.zeros((), device=device)
    for start in range(0, 17, 6):
        rows, ends = forward_lanes(layers, [one[start : start + 6] for one in x], [None] * 2, starts=states)
        states = [end.detach() for end in ends]
        for part, y in zip(parts, rows, strict=True):
            part.append(y)
            ours = ours + (y * weights[start : start + 6]).sum()
    gradients = torch.autograd.grad(ours, [p for layer in layers for p in layer.parameters()])
    found = iter(gradients)
    for layer, one, part, state in zip(layers, x, parts, states, strict=True):
        assert planned(layer, one, carried=True).kernel == execution and state.t == 17
        naive = layer.reference()
        whole, last = naive(one)
        close(torch.cat(part), whole)
        for a, b in zip((*state, *state.rule), (*_tuple(last), *getattr(last, "rule", ())), strict=True):
            close(a, b)
        total, held = torch.zeros((), device=device), None
        for start in range(0, 17, 6):
            y, held = naive(one[start : start + 6], held)
            held = held.detach() if isinstance(held, State) else _detached(held)
            total = total + (y * weights[start : start + 6]).sum()
        for want in torch.autograd.grad(total, list(layer.parameters())):
            close(next(found), want)


def _tuple(state: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def _detached(state: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return state.detach() if isinstance(state, Tensor) else tuple(s.detach() for s in state)


class _Plain(nn.Module):
    """The usual language model around a layer, on the naive reference."""

    def __init__(self, candidate: Candidate, seed: int, data: Benchmark) -> None:
        super().__init__()
        start = Lanes([candidate], [seed], data.input_size, data.output_size, data.loss, vocabulary=data.vocabulary).models[0]
        self.embedding, self.layer, self.readout = start.embedding, start.layer.reference(), start.readout

    def forward(self, tokens: Tensor, state: object) -> tuple[Tensor, object]:
        y, state = self.layer(self.embedding(tokens), state)
        return self.readout(y), state.detach() if isinstance(state, State) else _detached(state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec", [preset("lstm"), CellSpec("gru", "adam"), CellSpec("rnn", "nesterov", {"restart": 5})], ids=lambda spec: spec.name
)
def test_a_language_model_is_trained_as_usual(spec: CellSpec) -> None:
    """Truncated backpropagation through time, written out."""
    data, size = Characters(), 4
    candidate = Candidate(spec, hidden_size=6, batch_size=size, optimizer="sgd", lr=0.05, clip=0.5)
    model = _Plain(candidate, 3, data)
    losses, state = list[float](), None
    steps = len(data.train.x) // size
    x, y = (tensor[: steps * size].view(size, steps) for tensor in data.train[:2])  # type: ignore[union-attr]
    for start in range(0, steps, data.window):
        outputs, state = model(x[:, start : start + data.window], state)
        loss = F.cross_entropy(outputs.flatten(0, 1), y[:, start : start + data.window].flatten(), ignore_index=-100)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.05 * parameter.grad
        losses.append(loss.item())
    out = train_lane(data, candidate, 3, None, 0, 1)
    assert out.error is None and out.rows[0].train_loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert out.rows[0].value == pytest.approx(_bits(model, data.validation), rel=1e-4)


@torch.no_grad()
def _bits(model: _Plain, split: Split) -> float:
    """Bits a character over ten streams, one pass."""
    count = -(-len(split.x) // 10)
    total, read = 0.0, 0
    for x, y in zip(split.x.split(count), split.y.split(count), strict=True):
        outputs, _ = model(x[None], None)
        total += float(F.cross_entropy(outputs[0], y, ignore_index=-100, reduction="sum"))
        read += int((y != -100).sum())
    return total / read / math.log(2)


def test_a_rule_that_would_filter_the_input_does_not_where_its_state_is_carried() -> None:
    out = train_lane(Words(), Candidate(preset("momentum_lstm"), hidden_size=4, batch_size=4), 1, None, 0, 1)
    assert out.execution == "fused cpu: rule on the drive for all t (a carried rule state enters the drive)"


@pytest.mark.parametrize("base", ["lstm", "gru"])
def test_gates_computed_again_from_a_carried_state_are_the_same(base: str) -> None:
    starts = [LaneStart(Candidate(CellSpec(base, "adam"), hidden_size=6, batch_size=4, num_layers=2), seed) for seed in range(2)]
    kept, again = (train_lanes(Words(), starts, 0, 1, recompute=recompute) for recompute in (False, True))
    assert [o.checkpoint for o in again] == [o.checkpoint for o in kept] and all(o.error is None for o in again)


def test_what_memory_knows_of_a_task() -> None:
    assert Sizes.of(Sums()) == Sizes(6, 2, 2)
    assert Sizes.of(Signs()) == Sizes(9, 2, 2, reads=9, gathered=True)
    assert Sizes.of(Ends()) == Sizes(9, 2, 2, gathered=True)
    assert Sizes.of(Words()) == Sizes(6, 5, 7, reads=6, vocabulary=7, carried=True, gathered=True)


def test_readouts_of_a_few_lanes_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = [LaneStart(Candidate(preset("lstm"), hidden_size=4, batch_size=4, lr=lr, clip=None), 1) for lr in (1e-2, 3e38, 1e-3)]
    together = train_lanes(Words(), starts, 0, 1)
    monkeypatch.setattr(lanes_module, "HEAD_NUMBERS", 1)
    alone = train_lanes(Words(), starts, 0, 1)
    assert [o.checkpoint for o in alone] == [o.checkpoint for o in together] and [o.error is None for o in alone] == [True, False, True]


def test_a_batch_larger_than_the_stream_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="617 tokens are no stream for each of a batch of 700"):
        train_lane(Characters(), Candidate(preset("lstm"), hidden_size=4, batch_size=700), 1, None, 0, 1)


def test_dropout_and_order_are_the_seeds_own() -> None:
    candidate = Candidate(preset("lstm"), hidden_size=4, batch_size=4, num_layers=2, dropout=0.5)
    one, two = (train_lane(Characters(), candidate, seed, None, 0, 1).rows[0].train_loss for seed in (1, 2))
    assert one != two and derive_seed(1, "dropout", 0) != derive_seed(2, "dropout", 0)
