"""Lanes: candidates of one base and shape, or seeds of one, that train in lockstep in one program.

All numbers that train lie in one table with a row for each lane, their gradients in another: an optimizer step is a handful
of operations whatever the number of lanes. A lane's curve does not depend, bit for bit, on its neighbours.

Shapes: K lanes, P numbers of a row, M reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from ..cells.spec import Candidate
from .batches import Batch
from .lane_layers import forward_lanes, zero_state
from .model import SequenceModel
from .optimizers import MEMORY, OPTIMIZERS, clip
from .recurrent import parameter_groups
from .seeds import derive_seed
from .state import State

# Numbers: each parameter begins at a multiple of 64 bytes, as a tensor of its own would. Products of matrices and vectors round
# differently by the address of what they read, and without this an address would depend on the lane's place in the pack.
ALIGNED = 16
HEAD_NUMBERS = 2**22  # of readouts that are there at once, of as many lanes as that is; of a lane at least


class Lanes:
    """K models and their optimizer.

    Args:
        candidates: of one base, hidden size, number of layers and batch size; rules, coefficients, options, optimizers, learning rates,
            clips, inits and dropouts are each lane's own.
        seeds: of initial weights and dropout, one a lane.
        input_size, output_size: I, and the readout's width.
        loss: mean loss of readouts (M, output_size) and targets (M, …).
        device: where everything lives.
        vocabulary: how many tokens there are; None: inputs are numbers.
        carries: each update of an epoch goes on from the state where the one before ended, and back through time ends there.
        recompute: less memory for more time where lanes run fused, see `recurrence`; the same bits.

    Attributes:
        models: one a lane, on the tables' rows.
        table, grads: (K, P) float32; of each row the first ``widths[k]`` numbers count, gaps of zeros between parameters among them.
        memory: what optimizers remember, (K, P) each; of a lane those of `memory_of` count.
        norms: of each lane's gradient at the last update, before its clip; None: it has none.
        step: updates so far.

    Raises:
        ValueError: candidates that cannot train together.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        seeds: Sequence[int],
        input_size: int,
        output_size: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        device: str = "cpu",
        vocabulary: int | None = None,
        carries: bool = False,
        recompute: bool = False,
    ) -> None:
        shapes = {(c.spec.base, c.hidden_size, c.num_layers, c.batch_size) for c in candidates}
        if len(shapes) != 1 or len(candidates) != len(seeds):
            raise ValueError("lanes have one base, hidden size, number of layers and batch size, and a seed each")
        self.candidates, self.seeds = list(candidates), list(seeds)
        self.loss, self.device, self.carries, self.recompute = loss, device, carries, recompute
        self.models = [_initial(c, s, input_size, output_size, vocabulary).to(device) for c, s in zip(candidates, seeds, strict=True)]
        self.generators = [torch.Generator(device=device) for _ in seeds]
        self.states: list[State] | None = None  # that the next update goes on from; None: zero
        self.step = 0
        self.norms: list[float | None] = [None] * len(seeds)
        self.widths = [sum(_room(p) for p in model.parameters()) for model in self.models]
        self.table = torch.zeros(len(self.models), max(self.widths), device=device)  # fewer learned coefficients: zeros at the end
        self.rates = torch.zeros_like(self.table)
        for model, candidate, row, rates in zip(self.models, self.candidates, self.table, self.rates, strict=True):
            slow = candidate.lr / 10 if candidate.lr_orthogonal is None else candidate.lr_orthogonal
            rate = {id(p): group["lr"] for group in parameter_groups(model, candidate.lr, slow) for p in group["params"]}
            for parameter, here, there in zip(model.parameters(), _views(model, row), _views(model, rates), strict=True):
                here.copy_(parameter.detach())
                there.fill_(rate[id(parameter)])
        self.memory = {name: torch.zeros_like(self.table) for c in candidates for name in MEMORY[c.optimizer]}
        self._tie()

    def __len__(self) -> int:
        return len(self.models)

    def _tie(self) -> None:
        """Parameters and gradients are the tables' rows."""
        self.grads = torch.zeros_like(self.table)
        for model, row, grads in zip(self.models, self.table, self.grads, strict=True):
            for parameter, here, gradient in zip(model.parameters(), _views(model, row), _views(model, grads), strict=True):
                parameter.data, parameter.grad = here, gradient

    def memory_of(self, lane: int) -> dict[str, Tensor]:
        """What the optimizer remembers of one lane: its rows, to read and to write."""
        return {name: self.memory[name][lane, : self.widths[lane]] for name in MEMORY[self.candidates[lane].optimizer]}

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes alone; tables shrink to them."""
        index = torch.tensor(lanes, dtype=torch.long, device=self.device)
        self.table, self.rates = self.table[index], self.rates[index]
        self.memory = {name: held[index] for name, held in self.memory.items()}
        for name in ("models", "candidates", "seeds", "generators", "widths"):
            setattr(self, name, [getattr(self, name)[k] for k in lanes])
        self.states = None if self.states is None else [self.states[k] for k in lanes]
        self._tie()

    def begin_epoch(self, epoch: int) -> None:
        """Seed what dropout draws in this epoch; states are zero again."""
        self.states = None
        for generator, seed in zip(self.generators, self.seeds, strict=True):
            generator.manual_seed(derive_seed(seed, "dropout", epoch))

    def update(self, batches: Sequence[Batch]) -> list[float]:
        """One optimizer step of every lane, on a batch of its own.

        Returns:
            losses before the step. A lane whose loss is not finite is left as it is, and so is one with a clip whose gradient is not:
            its entry of `norms` says so.
        """
        self._mode(True)
        reads, ends = self._reads(batches, self.states)
        self.states = None if ends is None else [end.detach() for end in ends]
        self.grads.zero_()
        values, gradients = self._heads(reads, [batch.y for batch in batches])
        fine = [k for k, value in enumerate(values) if math.isfinite(value)]
        if fine:
            torch.autograd.backward([reads[k] for k in fine], [gradients[k] for k in fine])
        own = [row[:width] for row, width in zip(self.grads, self.widths, strict=True)]
        self.norms = clip(own, [c.clip for c in self.candidates])
        self.step += 1
        self._move([k in fine and (norm is None or math.isfinite(norm)) for k, norm in enumerate(self.norms)])
        return values

    def _heads(self, reads: Sequence[Tensor], y: Sequence[Tensor]) -> tuple[list[float], list[Tensor]]:
        """The loss of each lane, and its gradient in what is read, (M, H) each; those of the readouts go to the tables.

        As many lanes at a time as `HEAD_NUMBERS` says: readouts of words need far more memory than what is read.
        """
        # All that lives on is there before: among the readouts it would leave holes into which those of the next lanes do not fit.
        losses = torch.empty(len(reads), device=self.device)
        leaves = [read.detach().requires_grad_() for read in reads]
        gradients = [torch.zeros_like(leaf) for leaf in leaves]
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient
        at_once = head_lanes(max(len(read) for read in reads) * self.models[0].readout.out_features)
        for first in range(0, len(self), at_once):
            members = slice(first, first + at_once)
            parts = [
                self.loss(model.readout(leaf), target)
                for model, leaf, target in zip(self.models[members], leaves[members], y[members], strict=True)
            ]
            torch.autograd.backward(parts)
            losses[members] = torch.stack(parts).detach()
        values: list[float] = losses.tolist()
        for row, value in zip(self.grads, values, strict=True):
            if not math.isfinite(value):
                row.zero_()
        return values, gradients

    @torch.no_grad()
    def _move(self, live: Sequence[bool]) -> None:
        back = self._steps_back().mul_(self.rates)
        for row, moves in zip(back, live, strict=True):
            if not moves:
                row.zero_()
        self.table.sub_(back)
        for model in self.models:  # the rows changed behind the parameters' backs: some count their steps by this
            if model.layer._recentres:
                increment_version(list(model.parameters()))

    def _steps_back(self) -> Tensor:
        """What each lane's optimizer makes of its gradient, (K, P), before the learning rate."""
        used = {c.optimizer for c in self.candidates}
        if len(used) == 1:
            return OPTIMIZERS[used.pop()](self.grads, self.memory, self.step)
        back = torch.empty_like(self.grads)
        for name in used:
            rows = torch.tensor([k for k, c in enumerate(self.candidates) if c.optimizer == name], device=self.device)
            memory = {held: self.memory[held][rows] for held in MEMORY[name]}
            back[rows] = OPTIMIZERS[name](self.grads[rows], memory, self.step)
            for held, values in memory.items():
                self.memory[held][rows] = values
        return back

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch], errors: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
        """All lanes on the same batches, in evaluation mode.

        Args:
            errors: of readouts (M, output_size) and targets (M, …), (M,) float64.

        Returns:
            of each lane the mean of its errors; NaN where a readout was not finite.
        """
        self._mode(False)
        sums, count = torch.zeros(len(self), dtype=torch.float64, device=self.device), 0
        states: list[State] | None = None
        for batch in batches:
            reads, states = self._reads([batch] * len(self), states)
            count += len(batch.y)
            for k, (model, read) in enumerate(zip(self.models, reads, strict=True)):
                sums[k] += _total(errors, model.readout(read), batch.y)
        return [total / count for total in sums.tolist()]

    def _mode(self, training: bool) -> None:
        for model in self.models:
            if model.training != training:  # walks all modules
                model.train(training)

    def _reads(self, batches: Sequence[Batch], states: Sequence[State] | None) -> tuple[list[Tensor], list[State] | None]:
        """Of each lane the outputs that are read, (M, H); and, if states are carried, where it goes on from."""
        x = [model.inputs(batch.x.transpose(0, 1)).contiguous() for model, batch in zip(self.models, batches, strict=True)]
        layers = [model.layer for model in self.models]
        if self.carries and states is None:
            states = [zero_state(layer, rows) for layer, rows in zip(layers, x, strict=True)]
        hidden, ends = forward_lanes(layers, x, self.generators, self.recompute, states)
        return [_read(rows, batch.reads) for rows, batch in zip(hidden, batches, strict=True)], ends if self.carries else None


def head_lanes(numbers: int) -> int:
    """How many lanes' readouts of ``numbers`` numbers are made at a time."""
    return max(1, HEAD_NUMBERS // numbers)


def _read(hidden: Tensor, reads: Tensor | slice) -> Tensor:
    """(T, B, H) -> (M, H)."""
    rows = hidden.flatten(0, 1)
    return rows[reads] if isinstance(reads, slice) else rows.index_select(0, reads)  # whose gradient takes a third of indexing's time


def _total(errors: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> Tensor:
    """The sum of errors, () float64; NaN if an output is not finite."""
    return errors(outputs, y).sum() if outputs.isfinite().all() else outputs.new_tensor(math.nan, dtype=torch.float64)


def _initial(candidate: Candidate, seed: int, input_size: int, output_size: int, vocabulary: int | None) -> SequenceModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return SequenceModel(candidate, input_size, output_size, vocabulary)


def _room(parameter: Tensor) -> int:
    """How much of a row it takes."""
    return math.ceil(parameter.numel() / ALIGNED) * ALIGNED


def _views(model: nn.Module, row: Tensor) -> list[Tensor]:
    """The row (P,) cut into the shapes of the model's parameters, in their order."""
    parts, at = [], 0
    for parameter in model.parameters():
        parts.append(row[at : at + parameter.numel()].view(parameter.shape))
        at += _room(parameter)
    return parts
