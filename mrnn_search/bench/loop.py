"""The usual way: one candidate, a cell called at every time step, plain autograd. What the engine is measured against.

Built as the released code of MomentumRNN is (a module for the cell, the input and the recurrent product at every step, the
rule on it, Python around it), with what costs its speed for no reason left out: the outputs of all steps are gathered only
where the loss reads them. The orthogonal cell is expRNN's: one matrix exponential a forward pass.

Shapes: T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cells.spec import CellSpec
from ..engine.train import SequenceModel
from .loop_rules import LOOP_RULES, Held

State = tuple[Tensor, ...]


class LoopCell(nn.Module):
    """One step of a base under a rule: x_t (B, I), the cell's state, what the rule holds, t -> the new state, what it holds.

    Parameters are named as in torch.nn.LSTMCell.
    """

    gates = 1
    states = 1
    biases = True

    def __init__(self, spec: CellSpec, input_size: int, hidden_size: int) -> None:
        super().__init__()
        rows, self.hidden_size = self.gates * hidden_size, hidden_size
        self.rule = partial(LOOP_RULES[spec.rule].step, **spec.coefficients)
        self.held = LOOP_RULES[spec.rule].states
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows)) if self.biases else None
        self.bias_hh = nn.Parameter(torch.empty(rows)) if self.biases else None

    def begin(self, x: Tensor) -> tuple[State, Held]:
        """Zeros for a batch x (B, T, I)."""
        state = (x.new_zeros(x.shape[0], self.hidden_size),) * self.states
        return state, (x.new_zeros(x.shape[0], self.gates * self.hidden_size),) * self.held


class RNNCell(LoopCell):
    def forward(self, x: Tensor, state: State, held: Held, t: int) -> tuple[State, Held]:
        d, held = self.rule(F.linear(x, self.weight_ih, self.bias_ih), held, t)
        return (torch.tanh(d + F.linear(state[0], self.weight_hh, self.bias_hh)),), held


class LSTMCell(LoopCell):
    gates = 4
    states = 2

    def forward(self, x: Tensor, state: State, held: Held, t: int) -> tuple[State, Held]:
        h, c = state
        d, held = self.rule(F.linear(x, self.weight_ih, self.bias_ih), held, t)
        i, f, g, o = (d + F.linear(h, self.weight_hh, self.bias_hh)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return (torch.sigmoid(o) * torch.tanh(c), c), held


class GRUCell(LoopCell):
    gates = 3

    def forward(self, x: Tensor, state: State, held: Held, t: int) -> tuple[State, Held]:
        (h,) = state
        d, held = self.rule(F.linear(x, self.weight_ih, self.bias_ih), held, t)
        d_r, d_z, d_n = d.chunk(3, 1)
        h_r, h_z, h_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, 1)
        z, n = torch.sigmoid(d_z + h_z), torch.tanh(d_n + torch.sigmoid(d_r + h_r) * h_n)
        return (n + z * (h - n),), held


class OrthogonalCell(LoopCell):
    """``weight_hh`` is the free matrix A; the recurrent one, ``centre @ expm(A - Aᵀ)``, is computed once a forward pass."""

    biases = False
    kernel: Tensor

    def __init__(self, spec: CellSpec, input_size: int, hidden_size: int) -> None:
        super().__init__(spec, input_size, hidden_size)
        self.modrelu_bias = nn.Parameter(torch.empty(hidden_size))
        self.register_buffer("centre", torch.eye(hidden_size))

    def begin(self, x: Tensor) -> tuple[State, Held]:
        a = self.weight_hh.tril(-1)
        self.kernel = self.get_buffer("centre") @ torch.matrix_exp(a - a.T)
        return super().begin(x)

    def forward(self, x: Tensor, state: State, held: Held, t: int) -> tuple[State, Held]:
        d, held = self.rule(F.linear(x, self.weight_ih), held, t)
        z = d + F.linear(state[0], self.kernel)
        return (torch.sign(z) * torch.relu(torch.abs(z) + self.modrelu_bias),), held


LOOP_CELLS: dict[str, type[LoopCell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell, "orthogonal": OrthogonalCell}


class LoopModel(nn.Module):
    """A cell over time and a linear readout: x (B, T, I) -> logits (B, classes), or (B, T, classes) if ``every_step``."""

    def __init__(self, spec: CellSpec, input_size: int, hidden_size: int, classes: int, every_step: bool) -> None:
        super().__init__()
        self.cell = LOOP_CELLS[spec.base](spec, input_size, hidden_size)
        self.readout = nn.Linear(hidden_size, classes)
        self.every_step = every_step

    def forward(self, x: Tensor) -> Tensor:
        state, held = self.cell.begin(x)
        outputs = []
        for t, x_t in enumerate(x.unbind(1), start=1):
            state, held = self.cell(x_t, state, held, t)
            if self.every_step:
                outputs.append(state[0])
        logits: Tensor = self.readout(torch.stack(outputs, 1) if self.every_step else state[0])
        return logits

    def pairs(self, model: SequenceModel) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        """Name -> (this model's parameter, the same one of a one-layer `SequenceModel` of the same cell)."""
        theirs = {n.removesuffix("_l0"): p for n, p in model.layer.named_parameters()}
        theirs = {n.removeprefix("parametrizations.").removesuffix("_l0.original"): p for n, p in theirs.items()}
        out = {name: (mine, theirs[name]) for name, mine in self.cell.named_parameters()}
        return out | {f"readout.{n}": (p, model.readout.get_parameter(n)) for n, p in self.readout.named_parameters()}

    @torch.no_grad()
    def copy_(self, model: SequenceModel) -> LoopModel:
        """Take the weights of a `SequenceModel` of the same cell."""
        for mine, theirs in self.pairs(model).values():
            mine.copy_(theirs)
        if isinstance(self.cell, OrthogonalCell):
            self.cell.get_buffer("centre").copy_(model.layer.get_buffer("parametrizations.weight_hh_l0.0.base"))
        return self
