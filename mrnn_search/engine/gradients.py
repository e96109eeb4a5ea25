"""How far a loss reaches back in time: ``‖∂L/∂h_t‖``, ``‖∂L/∂v_t‖`` and ``‖∂L/∂x_t‖`` for every step, exactly.

They are three different things. The moments never depend on h, so the path that momentum opens leads to the inputs (and to
W), not to h. For rnn with heavy ball, ``D_k = diag σ'(a_k)`` at step k, products in falling order of k from the left:

    ∂h_T/∂h_t = Π_{k=t+1..T} D_k U                                    the plain cell's form: μ only moves the operating point
    ∂h_T/∂v_t = Σ_{j=t..T} μ^{j-t} (Π_{k=j+1..T} D_k U) D_j           decays like the slower of μ and D U
    ∂h_T/∂x_t = ε ∂h_T/∂v_t W

Shapes: T time, B batch, I input, H hidden, G gate blocks.
Source: Nguyen et al., NeurIPS 2020, arXiv 2006.06919. They eliminate v and read ∂h_T/∂h_t as a product of factors
``D_k (U + μ Σ_k)``, which leaves out that the eliminated form depends on h_{t-1} too; it equals none of the three above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from .._registry import SpecError
from ..cells.reference import reference_steps, rule_pieces
from .paths import LayerResult
from .recurrent import Recurrent


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """Euclidean norms of total derivatives of one loss, (T, B) float64 each; row t - 1 is step t, a column is a sequence.

    Total: through every later step, the layers above and the outputs, with the node itself set free and every other node
    of the same step that does not depend on it held.

    Attributes:
        h: ``‖∂L/∂h_t‖`` over H. h_t is the node that the output, step t + 1 and the layer above read. (An lstm's c_t is
            another node: what flows through c_t alone is not in it.)
        moments: letter -> ``‖∂L/∂m_t‖`` over G·H, for each moment of the rule ("v", "s"). m_t is the node that both
            d_t and m_{t+1} read. Empty under the plain rule.
        x: ``‖∂L/∂x_t‖`` over the width of what the layer reads: the input for layer 0; for a layer above, the (dropped-out)
            output below. Through both directions, if there are two.
    """

    h: Tensor
    moments: Mapping[str, Tensor]
    x: Tensor

    @property
    def quantities(self) -> dict[str, Tensor]:
        """Quantity ("h", the moments' letters, "x") -> norms (T, B)."""
        return {"h": self.h, **self.moments, "x": self.x}

    def mean(self) -> dict[str, Tensor]:
        """Quantity -> norms (T,), the mean over the batch."""
        return {name: norms.mean(dim=1) for name, norms in self.quantities.items()}

    def first_to_last(self) -> dict[str, float]:
        """Quantity -> mean norm at t = 1 over mean norm at t = T; NaN where both are 0."""
        return {name: float(norms[0] / norms[-1]) for name, norms in self.mean().items()}

    def rows(self) -> Iterator[tuple[int, str, float]]:
        """``(t, quantity, norm)``, t from 1, the norm's mean over the batch."""
        for name, norms in self.mean().items():
            for t, norm in enumerate(norms.tolist(), start=1):
                yield t, name, norm

    def to_dict(self) -> dict[str, list[Any]]:
        """`rows` as columns, for ``pandas.DataFrame(norms.to_dict())``."""
        t, quantity, norm = zip(*self.rows(), strict=True)
        return {"t": list(t), "quantity": list(quantity), "norm": list(norm)}


class _Observer:
    """A path (`mrnn_search.engine.paths`) that runs the reference and keeps the nodes of every call; takes no packing.

    Attributes:
        sources: what each call read, (T, B, ·).
        hidden: of each call, h_1 … h_T, each (B, H).
        moments: of each call and moment of the rule, m_1 … m_T, each (B, G·H).
    """

    def __init__(self) -> None:
        self.sources: list[Tensor] = []
        self.hidden: list[list[Tensor]] = []
        self.moments: list[list[tuple[Tensor, ...]]] = []

    def __call__(self, spec: Any, c: Any, w: Any, x: Tensor, state: Any, moments: Any, t: Any, packing: None) -> LayerResult:
        del packing  # there is none: `gradient_norms` takes no PackedSequence
        steps = list(reference_steps(spec, c, w, x, state, moments, t))
        self.sources.append(x)
        self.hidden.append([h for (h, *_), _ in steps])
        self.moments.append(list(zip(*(held for _, held in steps), strict=True)))
        return torch.stack(self.hidden[-1]), *steps[-1]


def _check_loss(value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
        raise SpecError(f"loss returns {found}, allowed: a tensor of one number")


def _gradients(value: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    """``∂value/∂node`` for each node; zeros where the value does not depend on it. Writes no ``.grad``."""
    if not value.requires_grad:  # depends on nothing at all, which autograd refuses
        return [torch.zeros_like(node) for node in nodes]
    return list(torch.autograd.grad(value.reshape(()), nodes, materialize_grads=True))


def _norms(gradients: list[Tensor], reverse: bool) -> Tensor:
    """Norms (T, B) of one gradient (B, ·) a step, in the order of time; in float64, where small squares stay above zero."""
    norms = torch.stack([torch.linalg.vector_norm(g, dim=-1, dtype=torch.float64) for g in gradients])
    return norms.flip(0) if reverse else norms


def gradient_norms(
    layer: Recurrent, x: Tensor, loss: Callable[[Tensor], Tensor], layer_index: int = 0, *, reverse: bool = False
) -> GradientNorms:
    """How much ``loss`` changes with the hidden state, the rule's moments and the input of every time step.

    Runs the per-step reference from a zero state, whatever path the layer itself takes, and leaves layer, ``x`` and their
    ``.grad`` as they were. The layer's mode counts: in training, dropout draws from torch's global generator.

    Args:
        layer: any cell, any number of layers.
        x: a tensor as for ``layer(x)``; an unbatched (T, I) is a batch of B = 1.
        loss: maps ``layer(x)[0]``, in the layer's own layout, to one number. A mean over the batch divides each
            sequence's norms by B.
        layer_index: which layer of the stack is looked at, from 0.
        reverse: its backward direction; t still counts from the start of the sequence.

    Returns:
        Norms (T, B) of ``∂L/∂h_t``, of ``∂L/∂m_t`` for each moment m, and of ``∂L/∂x_t``; see `GradientNorms`.

    Raises:
        SpecError: a rule on the pre-activation of several gates that are not computed at once (gru, mgu, chosen gates), a layer or
            direction that is not there, an ``x`` that does not fit (a PackedSequence, say), or a loss
            that is not one number.
    """
    if not isinstance(x, Tensor):  # norms are (T, B): every sequence has all T steps
        raise SpecError(f"x is a {type(x).__name__}, allowed: a tensor; sequences of different lengths go in one by one")
    if layer.spec.scope == "preactivation" and layer.spec.rule_type.program.states and rule_pieces(layer.spec) > 1:
        raise SpecError(f"the rule of {layer.spec.name} runs in pieces within a step, so its moments are no nodes of their own")
    if layer_index not in range(layer.num_layers):
        raise SpecError(f"layer_index = {layer_index!r}, allowed: 0 <= layer_index < {layer.num_layers}")
    if reverse and not layer.bidirectional:
        raise SpecError("reverse = True, allowed: False, as the layer has one direction")
    seen = _Observer()
    first = layer_index * (2 if layer.bidirectional else 1)
    with torch.inference_mode(False), torch.enable_grad():
        # A leaf of our own makes every later node part of the graph, even where all parameters are frozen.
        output, _ = layer._unroll(x.detach().clone().requires_grad_(), None, seen)
        value = loss(output)
        _check_loss(value)
        hidden, moments = seen.hidden[first + reverse], seen.moments[first + reverse]
        source = seen.sources[first]  # the forward call's: the backward one reads a flipped copy, which is made of it
        gradients = _gradients(value, [source, *hidden, *(m for steps in moments for m in steps)])
    steps = len(hidden)
    by_node = [gradients[1 + i * steps : 1 + (i + 1) * steps] for i in range(1 + len(moments))]
    letters = layer.spec.rule_type.program.letters
    return GradientNorms(
        h=_norms(by_node[0], reverse),
        moments=MappingProxyType({name: _norms(g, reverse) for name, g in zip(letters, by_node[1:], strict=True)}),
        x=_norms(list(gradients[0]), False),
    )
