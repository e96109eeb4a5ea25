"""`Recurrent`: any cell with torch.nn.LSTM's face."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from .._registry import SpecError, UnknownNameError
from ..cells.bases.base import bases
from ..cells.rules.base import rules
from ..cells.spec import INITS, CellSpec
from .orthogonal import constrain, put, recentre_due, revive, settle, tie
from .paths import PATHS, LayerResult
from .planner import Plan, plan


class State(tuple[Tensor, ...]):
    """The state of a layer whose rule has moments: unpacks like torch.nn's (``h, c = state``), and carries the rule's.

    Attributes:
        rule: one tensor (num_layers · directions, B, G·H) for each moment of the rule.
        t: time steps that the rule has seen (scheduled rules need it).
    """

    rule: tuple[Tensor, ...]
    t: int

    def __new__(cls, tensors: Sequence[Tensor], rule: Sequence[Tensor], t: int) -> State:
        state = super().__new__(cls, tensors)
        state.rule = tuple(rule)
        state.t = t
        return state


class Recurrent(nn.Module):
    """A layer (or stack) of one cell; drop-in for torch.nn.LSTM, GRU or RNN.

    Input (T, B, I), or (B, T, I) with ``batch_first``, or (T, I) unbatched. Returns ``output, state`` with torch.nn's
    shapes: output (T, B, D·H); state ``(h, c)`` for lstm, ``h`` for the other bases under the plain rule, each
    (num_layers·D, B, H), D = 2 if bidirectional else 1. Under a rule with moments the state is a `State`: the same
    tensors as a tuple, and the rule's moments. Feed a state back to go on where the last chunk ended.

    Parameters are named as in torch.nn.LSTM (``weight_ih_l0`` (G·H, I), ``weight_hh_l0`` (G·H, H), ``bias_ih_l0``,
    ``bias_hh_l0`` (G·H,), …, ``_reverse``), so plain lstm, gru and rnn exchange state_dicts with torch.nn. The drive's
    bias is ``bias_ih``. A learned coefficient is ``rule_<name>_l0``, before the smooth map into its range.

    Args:
        spec: the cell.
        input_size: I.
        hidden_size: H.
        num_layers: stacked layers.
        bias: with ``bias_ih`` and ``bias_hh`` where the base has them.
        batch_first: input and output are (B, T, ·).
        dropout: on the outputs of every layer but the last, in training.
        bidirectional: a second set of parameters reads the sequence backwards.
        init: "paper" (the released code's) or "torch" (uniform).
        execution: "auto", "vendor", "loop" or "reference".

    Raises:
        SpecError: a size or an execution that does not fit.
        UnknownNameError: an unknown ``init`` or ``execution``.
    """

    def __init__(
        self,
        spec: CellSpec,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        init: str = "paper",
        *,
        execution: str = "auto",
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise SpecError(f"{name} = {size!r}, allowed: a whole number >= 1")
        if not 0 <= dropout < 1:
            raise SpecError(f"dropout = {dropout!r}, allowed: 0 <= dropout < 1")
        if init not in INITS:
            raise UnknownNameError("init", init, INITS)
        plan(spec, execution)
        self.spec, self.init = spec, init
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self._execution = execution
        self._base, self._rule = bases[spec.base], rules[spec.rule]
        for suffix, layer in self._suffixes():
            width = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            for name, shape in self._base.shapes(width, hidden_size, bias).items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))
            for name in spec.learned:
                raw = self._rule.coefficients[name].to_raw(spec.coefficients[name])
                self.register_parameter(f"rule_{name}{suffix}", nn.Parameter(torch.tensor(raw)))
            if self._base.orthogonal:
                options = {"map": "exponential", "rebase": "never", **spec.options}
                constrain(self, "weight_hh" + suffix, self._base.gates, options["map"], options["rebase"])
        self._recentres = self._base.orthogonal and spec.options.get("rebase", "never") not in ("never", "once")
        self.register_load_state_dict_post_hook(tie)
        self.reset_parameters()

    def _suffixes(self) -> Iterator[tuple[str, int]]:
        for layer in range(self.num_layers):
            yield f"_l{layer}", layer
            if self.bidirectional:
                yield f"_l{layer}_reverse", layer

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every weight again from torch's global generator; learned coefficients go back to their given value."""
        for suffix, _ in self._suffixes():
            named = {n: p for n, p in self._weights(suffix).items() if not (self._base.orthogonal and n == "weight_hh")}
            self._base.init_(named, self.init, self.hidden_size)
            for name in self.spec.learned:
                raw = self._rule.coefficients[name].to_raw(self.spec.coefficients[name])
                self.get_parameter(f"rule_{name}{suffix}").fill_(raw)
            if self._base.orthogonal:
                draws = [self._base.initial_map(self.hidden_size, self.init, self.spec.options) for _ in range(self._base.gates)]
                centre, matrix = (torch.stack(parts) if len(parts) > 1 else parts[0] for parts in zip(*draws, strict=True))
                put(self._chain(suffix), centre, matrix, initial=True)

    def _chain(self, suffix: str) -> Any:
        """Torch's parametrization of ``weight_hh``: ``original`` trains, ``[0].base`` is the centre."""
        return self.parametrizations["weight_hh" + suffix]  # type: ignore[index]

    def _apply(self, fn: Any, recurse: bool = True) -> Recurrent:
        settle(self)
        super()._apply(fn, recurse)
        tie(self)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self._base.orthogonal:
            return super().__reduce_ex__(protocol)
        return revive, (type(self).__mro__[1], tuple(self.parametrizations)), self.__dict__  # type: ignore[arg-type]

    def _weights(self, suffix: str) -> dict[str, Tensor]:
        names = self._base.shapes(self.input_size, self.hidden_size, self.bias)
        return {name: getattr(self, name + suffix) for name in names}

    def _coefficients(self, suffix: str) -> dict[str, Any]:
        c: dict[str, Any] = dict(self.spec.coefficients)
        for name in self.spec.learned:
            c[name] = self._rule.coefficients[name].from_raw(getattr(self, f"rule_{name}{suffix}"))
        return c

    def coefficients(self, layer: int = 0, reverse: bool = False) -> dict[str, float]:
        """The rule's coefficients as they are now (the learned ones too)."""
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        with torch.no_grad():
            return {name: float(value) for name, value in self._coefficients(suffix).items()}

    @property
    def execution(self) -> str:
        """Which path runs and why. A carried rule state takes the loop; `plan_for` answers for a given state."""
        return str(plan(self.spec, self._execution))

    def plan_for(self, hx: object = None) -> Plan:
        """The plan of ``forward(x, hx)``."""
        return plan(self.spec, self._execution, rule_state=isinstance(hx, State))

    def reference(self) -> Recurrent:
        """The same layer on the naive per-step reference; shares every parameter with this one."""
        memo = {id(t): t for t in [*self.parameters(), *self.buffers()]}
        twin = copy.deepcopy(self, memo)
        twin._execution = "reference"
        return twin

    def num_parameters(self) -> int:
        """How many numbers train: an orthogonal matrix counts H(H - 1)/2."""
        total = sum(p.numel() for p in self.parameters())
        if self._base.orthogonal:
            h = self.hidden_size
            total -= sum(self._base.gates * (h * h - h * (h - 1) // 2) for _ in self._suffixes())
        return total

    def recurrent_matrix(self, layer: int = 0) -> Tensor:
        """The matrix (H, H) of ``h_{t-1} @ Q`` of an orthogonal base; of a base with G > 1 gates, theirs (G, H, H) in its order.

        Raises:
            SpecError: the base has no orthogonal matrix.
        """
        self._need_orthogonal()
        weight: Tensor = getattr(self, f"weight_hh_l{layer}")
        return weight.view(self._chain(f"_l{layer}")[0].base.shape).mT

    @torch.no_grad()
    def set_recurrent_matrix_(self, q: Tensor, layer: int = 0) -> None:
        """Make ``q``, of the shape of `recurrent_matrix`, the matrix of ``h_{t-1} @ Q``.

        The map is centred there, so every map takes every orthogonal matrix. Training keeps the determinant: no map leads from
        rotations to reflections.

        Raises:
            SpecError: the base has no orthogonal matrix, or ``q`` is not orthogonal.
        """
        self._need_orthogonal()
        chain, h = self._chain(f"_l{layer}"), self.hidden_size
        allowed = tuple(chain[0].base.shape)
        if tuple(q.shape) != allowed:
            raise SpecError(f"Q has shape {tuple(q.shape)}, allowed: {allowed}")
        gap = float((q.double().mT @ q.double() - torch.eye(h, dtype=torch.float64, device=q.device)).abs().max())
        if not gap < 1e-4:
            raise SpecError(f"Q is not orthogonal: largest entry of Q^T Q - I is {gap:.3g}, allowed < 1e-4")
        put(chain, q.mT, torch.zeros_like(q))

    def _need_orthogonal(self) -> None:
        if not self._base.orthogonal:
            raise SpecError(f"base {self.spec.base} has no orthogonal recurrent matrix")

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """See the class.

        Raises:
            SpecError: a shape that does not fit.
            TypeError: a PackedSequence, which this version does not take.
        """
        if self.training and self._recentres:
            recentre_due(self)
        return self._unroll(x, hx, PATHS[self.plan_for(hx).kernel])

    def _unroll(self, x: Tensor, hx: Any, run: Callable[..., LayerResult]) -> tuple[Tensor, Any]:
        """`forward` with a given path: ``run`` is called once a layer and direction, in the order of `_suffixes`."""
        if isinstance(x, PackedSequence):
            raise TypeError("Recurrent does not take a PackedSequence; pad the batch and mask the outputs")
        batched = x.dim() == 3
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise SpecError(f"input has shape {tuple(x.shape)}, allowed: (T, B, {self.input_size}), or (T, {self.input_size})")
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[0] == 0:
            raise SpecError("input has no time steps, allowed: T >= 1")
        states, moments, t = self._initial(x, hx, batched)
        last_states: list[tuple[Tensor, ...]] = []
        last_moments: list[tuple[Tensor, ...]] = []
        directions: list[Tensor] = []
        for i, (suffix, layer) in enumerate(self._suffixes()):
            reverse = suffix.endswith("_reverse")
            source = x.flip(0) if reverse else x
            y, state, held = run(
                self.spec,
                self._coefficients(suffix),
                self._weights(suffix),
                source,
                tuple(s[i] for s in states),
                [m[i] for m in moments],
                t,
            )
            last_states.append(state)
            last_moments.append(held)
            directions.append(y.flip(0) if reverse else y)
            if reverse or not self.bidirectional:
                x = torch.cat(directions, dim=-1) if self.bidirectional else y
                directions = []
                if layer + 1 < self.num_layers:
                    x = F.dropout(x, self.dropout, self.training)
        if not batched:
            out = x.squeeze(1)
        else:
            out = x.transpose(0, 1) if self.batch_first else x
        return out, self._final(last_states, last_moments, t + x.shape[0], batched)

    def _initial(self, x: Tensor, hx: Any, batched: bool) -> tuple[list[Tensor], list[Tensor], int]:
        """States and moments to start from, each (num_layers·D, B, ·)."""
        rows, batch, hidden = self.num_layers * (2 if self.bidirectional else 1), x.shape[1], self.hidden_size
        wide = (rows, batch, self._base.gates * hidden)
        if hx is None:
            states = [x.new_zeros(rows, batch, hidden)] * self._base.states
            return states, [x.new_zeros(wide)] * len(self._rule.moments), 0
        given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        carried, t = (list(hx.rule), hx.t) if isinstance(hx, State) else (None, 0)
        if not batched:
            given = [s.unsqueeze(1) for s in given]
            carried = None if carried is None else [m.unsqueeze(1) for m in carried]
        found = [tuple(s.shape) for s in given]
        if found != [(rows, batch, hidden)] * self._base.states:
            raise SpecError(f"state has shapes {found}, allowed: {self._base.states} of {(rows, batch, hidden)}")
        if carried is None:
            carried = [x.new_zeros(wide)] * len(self._rule.moments)
        if [tuple(m.shape) for m in carried] != [wide] * len(self._rule.moments):
            raise SpecError(f"rule state has shapes {[tuple(m.shape) for m in carried]}, allowed: {len(self._rule.moments)} of {wide}")
        return given, carried, t

    def _final(self, states: list[tuple[Tensor, ...]], moments: list[tuple[Tensor, ...]], t: int, batched: bool) -> Any:
        stacked = [torch.stack(s) for s in zip(*states, strict=True)]
        rule = [torch.stack(m) for m in zip(*moments, strict=True)]
        if not batched:
            stacked, rule = [s.squeeze(1) for s in stacked], [m.squeeze(1) for m in rule]
        if self._rule.moments:
            return State(stacked, rule, t)
        return tuple(stacked) if self._base.states > 1 else stacked[0]

    def extra_repr(self) -> str:
        text = f"{self.spec.name}, {self.input_size}, {self.hidden_size}"
        for name, default in (("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0), ("bidirectional", False)):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


def parameter_groups(module: nn.Module, lr: float, lr_orthogonal: float) -> list[dict[str, Any]]:
    """Optimizer groups: what orthogonal bases map to their matrices learns with ``lr_orthogonal``, all else with ``lr``."""
    skew = {
        id(layer.get_parameter(f"parametrizations.weight_hh{suffix}.original"))
        for layer in module.modules()
        if isinstance(layer, Recurrent) and layer._base.orthogonal
        for suffix, _ in layer._suffixes()
    }
    plain = [p for p in module.parameters() if id(p) not in skew]
    groups = [{"params": plain, "lr": lr}, {"params": [p for p in module.parameters() if id(p) in skew], "lr": lr_orthogonal}]
    return [g for g in groups if g["params"]]
