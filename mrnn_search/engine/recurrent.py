"""`Recurrent`: any cell with torch.nn.LSTM's face."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from .._registry import SpecError, UnknownNameError
from ..cells.bases.base import bases
from ..cells.describe import num_parameters
from ..cells.reference import FromInput, autocast_on, rule_channels
from ..cells.rules.base import Rule
from ..cells.spec import INITS, CellSpec
from .fused import run_fused
from .gpu.path import run_triton
from .orthogonal import constrain, put, recentre_due, revive, settle, tie
from .packing import Packing
from .paths import PATHS, LayerResult
from .planner import Place, Plan, plan
from .scan import wide, wide_dtype
from .state import State, StateShape
from .tracing import transformed


class Recurrent(nn.Module):
    """A layer (or stack) of one cell; drop-in for torch.nn.LSTM, GRU or RNN.

    Input (T, B, I), or (B, T, I) with ``batch_first``, or (T, I) unbatched, or a PackedSequence. Returns ``output,
    state`` with torch.nn's shapes: output (T, B, D·H); state ``(h, c)`` for lstm, ``h`` for the other bases under the
    plain rule, each (num_layers·D, B, H), D = 2 if bidirectional else 1. Under a rule with moments the state is a
    `State`: the same tensors as a tuple, and the rule's moments. Feed a state back to go on where the last chunk ended.

    Of a PackedSequence each sequence runs as if alone: the reverse direction starts at its own last step, the state is
    that after its own last step, and `State.t` counts the steps of each sequence, so scheduled rules go on exactly.

    In bfloat16 or float16 the rule's moments are computed in float32, all else as torch does.
    The gradient of rmsprop and adam at a drive of exactly 0 is of order 1e8 with the default guard δ: more than float16 holds.

    Parameters are named as in torch.nn.LSTM (``weight_ih_l0`` (G·H, I), ``weight_hh_l0`` (G·H, H), ``bias_ih_l0``,
    ``bias_hh_l0`` (G·H,), …, ``_reverse``), so plain lstm, gru and rnn exchange state_dicts with torch.nn. The drive's
    bias is ``bias_ih``. A learned coefficient is ``rule_<name>_l0``, before the smooth map into its range: (), or (C,) with one
    number for each channel that the rule acts on; if it depends on the input, ``rule_<name>_ih_l0`` (I,) goes with it.

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
        execution: "auto", "fused", "triton", "vendor", "loop" or "reference"; see `mrnn_search.engine.planner.Plan`.
        proj_size: 0; there for torch.nn.LSTM's signature.
        device, dtype: of the parameters, as in torch.nn.

    Raises:
        SpecError: no spec; a size, an execution or a dtype that does not fit, or a ``proj_size`` other than 0.
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
        proj_size: int = 0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(spec, CellSpec):
            raise SpecError(f"spec = {spec!r}, allowed: a CellSpec, e.g. that of mrnn_search.preset(...)")
        if proj_size != 0:
            raise SpecError(f"proj_size = {proj_size!r}, allowed: 0; cells have no projection, put a torch.nn.Linear behind the layer")
        if dtype is not None and not dtype.is_floating_point:
            raise SpecError(f"dtype = {dtype}, allowed: a floating-point dtype")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise SpecError(f"{name} = {size!r}, allowed: a whole number >= 1")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise SpecError(f"dropout = {dropout!r}, allowed: 0 <= dropout < 1")
        if init not in INITS:
            raise UnknownNameError("init", init, INITS)
        plan(spec, execution)
        self.spec, self.init = spec, init
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self.proj_size = 0
        self._execution = execution
        self._base = bases[spec.base]
        for suffix, layer in self._suffixes():
            width = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            for name, shape in self._base.shapes(width, hidden_size, bias).items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            for name, kind in spec.learned_kinds.items():
                channels = (rule_channels(spec, hidden_size),) if kind == "unit" else ()
                self.register_parameter(f"rule_{name}{suffix}", nn.Parameter(torch.empty(channels, device=device, dtype=dtype)))
                if kind == "input":
                    self.register_parameter(f"rule_{name}_ih{suffix}", nn.Parameter(torch.empty(width, device=device, dtype=dtype)))
            if self._base.orthogonal:
                options = {"map": "exponential", "rebase": "never", **spec.options}
                constrain(self, "weight_hh" + suffix, self._base.gates, options["map"], options["rebase"])
        self._recentres = self._base.orthogonal and spec.options.get("rebase", "never") not in ("never", "once")
        self.register_load_state_dict_post_hook(tie)
        self.reset_parameters()

    @property
    def _rule(self) -> type[Rule]:
        """Looked up, not kept: the class of a formula, or of a rule that a space defines, cannot be pickled."""
        return self.spec.rule_type

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
            # Drawn in float32 for what is narrower: torch has no QR in half precision.
            drawn = {n: torch.empty_like(p, dtype=wide_dtype(p.dtype)) for n, p in named.items()}
            self._base.init_(drawn, self.init, self.hidden_size, self.spec.options)
            for name, parameter in named.items():
                parameter.copy_(drawn[name])
            for name, kind in self.spec.learned_kinds.items():
                raw = self._rule.coefficients[name].to_raw(self.spec.coefficients[name])
                self.get_parameter(f"rule_{name}{suffix}").fill_(raw)
                if kind == "input":
                    self.get_parameter(f"rule_{name}_ih{suffix}").zero_()
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

    def _weights(self, suffix: str, weight_hh: Tensor | None = None) -> dict[str, Tensor]:
        """``weight_hh``: its present value, where somebody has computed it already."""
        known = {} if weight_hh is None else {"weight_hh": weight_hh}
        names = self._base.shapes(self.input_size, self.hidden_size, self.bias)
        return {name: known[name] if name in known else getattr(self, name + suffix) for name in names}

    def _coefficients(self, suffix: str) -> dict[str, Any]:
        c: dict[str, Any] = dict(self.spec.coefficients)
        for name, kind in self.spec.learned_kinds.items():
            known, raw = self._rule.coefficients[name], wide(getattr(self, f"rule_{name}{suffix}"))
            if kind == "input":
                c[name] = FromInput(known, raw, wide(getattr(self, f"rule_{name}_ih{suffix}")))
            else:
                c[name] = known.from_raw(raw)
        return c

    def coefficients(self, layer: int = 0, reverse: bool = False) -> dict[str, float]:
        """The rule's coefficients as they are now: of those with a number for each channel the mean, of those that depend
        on the input the value at 0.
        """
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        with torch.no_grad():
            now = self._coefficients(suffix)
            plain = {n: v.coefficient.from_raw(v.raw) if isinstance(v, FromInput) else v for n, v in now.items()}
            return {n: float(v.mean()) if isinstance(v, Tensor) else float(v) for n, v in plain.items()}

    @property
    def execution(self) -> str:
        """Which path runs and why, for a tensor where the weights are. `plan_for` answers for a given input and state."""
        return str(self.plan_for())

    def plan_for(self, x: Tensor | PackedSequence | None = None, hx: object = None) -> Plan:
        """The plan of ``forward(x, hx)``; None: a tensor where the weights are, and no state."""
        weight: Tensor = self.weight_ih_l0  # type: ignore[assignment]
        data = x.data if isinstance(x, PackedSequence) else x
        obstacle = "autocast is on" if data is not None and autocast_on(data) else transformed()
        packed, carried = isinstance(x, PackedSequence), isinstance(hx, State)
        place = Place(weight.device.type, weight.dtype, self.hidden_size, packed, carried, obstacle)
        return plan(self.spec, self._execution, place)

    def flatten_parameters(self) -> None:
        """Does nothing; there for code that calls torch.nn.LSTM's: weights are handed to the kernels as they are."""

    def reference(self) -> Recurrent:
        """The same layer on the naive per-step reference; shares every parameter with this one."""
        memo = {id(t): t for t in [*self.parameters(), *self.buffers()]}
        twin = copy.deepcopy(self, memo)
        twin._execution = "reference"
        return twin

    def num_parameters(self) -> int:
        """How many numbers train: an orthogonal matrix counts H(H - 1)/2."""
        total = 0
        for _, layer in self._suffixes():
            width = self.input_size if layer == 0 else self.hidden_size * (2 if self.bidirectional else 1)
            total += num_parameters(self.spec, width, self.hidden_size, bias=self.bias)
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

    def forward(self, x: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """See the class. A given state is in the order of the batch as it was before packing, like the returned one.

        Args:
            hx: None for zeros; ``(h, c)`` for lstm, ``h`` for the other bases; or the `State` that a call returned.

        Raises:
            SpecError: a shape or a dtype that does not fit.
        """
        if self.training and self._recentres:
            recentre_due(self)
        chosen = self.plan_for(x, hx)
        ours: dict[str, Callable[..., LayerResult]] = {"fused": run_fused, "triton": run_triton}
        if chosen.kernel in ours:
            return self._unroll(x, hx, functools.partial(ours[chosen.kernel], filters=chosen.filters))
        return self._unroll(x, hx, PATHS[chosen.kernel])

    def _unroll(self, x: Tensor | PackedSequence, hx: Any, run: Callable[..., LayerResult]) -> tuple[Any, Any]:
        """`forward` with a given path: ``run`` is called once a layer and direction, in the order of `_suffixes`.

        Arguments and result of ``run`` are those of the functions in `mrnn_search.engine.paths`, packing included.
        """
        rows, packing = self._time_first(x)
        batched = isinstance(x, PackedSequence) or x.dim() == 3
        shape = StateShape(
            self.num_layers * (2 if self.bidirectional else 1),
            self.hidden_size,
            rule_channels(self.spec, self.hidden_size),
            self._base.states,
            len(self._rule.program.states),
            self._rule.program.timed,
        )
        batch = rows.shape[1] if packing is None else packing.sizes[0]
        start = shape.read(hx, rows, batch, batched, packing.order if packing else None)
        last_states: list[tuple[Tensor, ...]] = []
        last_moments: list[tuple[Tensor, ...]] = []
        directions: list[Tensor] = []
        for i, (suffix, layer) in enumerate(self._suffixes()):
            reverse = suffix.endswith("_reverse")
            y, state, held = run(
                self.spec,
                self._coefficients(suffix),
                self._weights(suffix),
                _backwards(rows, packing) if reverse else rows,
                tuple(s[i] for s in start.states),
                [m[i] for m in start.moments],
                start.t,
                packing,
            )
            last_states.append(state)
            last_moments.append(held)
            directions.append(_backwards(y, packing) if reverse else y)
            if reverse or not self.bidirectional:
                rows = torch.cat(directions, dim=-1) if self.bidirectional else y
                directions = []
                if layer + 1 < self.num_layers:
                    rows = F.dropout(rows, self.dropout, self.training)
        steps = rows.shape[0] if packing is None else packing.lengths
        state = shape.write(last_states, last_moments, start.t + steps, batched, packing.restore if packing else None)
        if packing is not None:
            return packing.like(rows), state
        if not batched:
            return rows.squeeze(1), state
        return rows.transpose(0, 1) if self.batch_first else rows, state

    def _time_first(self, x: Tensor | PackedSequence) -> tuple[Tensor, Packing | None]:
        """The input as (T, B, I), or as packed rows (N, I) and their layout."""
        data = x.data if isinstance(x, PackedSequence) else x
        dims = (2,) if isinstance(x, PackedSequence) else (2, 3)
        if data.dim() not in dims or data.shape[-1] != self.input_size:
            batched = "(B, T, {})" if self.batch_first else "(T, B, {})"
            allowed = "(N, {}) in a PackedSequence" if isinstance(x, PackedSequence) else batched + ", or (T, {})"
            raise SpecError(f"input has shape {tuple(data.shape)}, allowed: {allowed.replace('{}', str(self.input_size))}")
        dtype = self.weight_ih_l0.dtype
        if data.dtype != dtype and not autocast_on(data):
            raise SpecError(f"input has dtype {data.dtype}, allowed: the layer's, {dtype}")
        if isinstance(x, PackedSequence):
            return data, Packing.of(x)
        if data.dim() == 2:
            data = data.unsqueeze(1)
        elif self.batch_first:
            data = data.transpose(0, 1)
        if data.shape[0] == 0:
            raise SpecError("input has no time steps, allowed: T >= 1")
        return data, None

    def extra_repr(self) -> str:
        text = f"{self.spec.name}, {self.input_size}, {self.hidden_size}"
        for name, default in (("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0), ("bidirectional", False)):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


def _backwards(rows: Tensor, packing: Packing | None) -> Tensor:
    """Each sequence from its own end: (T, B, C), or packed rows (N, C)."""
    return rows.flip(0) if packing is None else rows[packing.backwards]


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
