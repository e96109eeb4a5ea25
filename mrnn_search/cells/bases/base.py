"""The contract of a base: gates, parameters, their initial values, and one time step.

Shapes: B batch, I input, H hidden, G gate blocks. Parameter names are torch.nn.LSTM's, without the ``_l0``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..._registry import Registry, UnknownNameError

Weights = Mapping[str, Tensor]
Join = Callable[..., Tensor]


class OpenOption(tuple[str, ...]):
    """The allowed values of an option that takes numbers too: some words, the default first. As every option's, its value is text."""

    what: ClassVar[str]

    def read(self, value: object) -> str | None:
        """``value`` in its one form as text (100 and "100" have one); None if it is not allowed."""
        raise NotImplementedError


class WordsOrWhole(OpenOption):
    """One of these words, or any whole number >= 1."""

    what = "a whole number >= 1"
    BELOW: ClassVar[int] = 2**63  # fits the integers of every storage

    def read(self, value: object) -> str | None:
        if isinstance(value, str):
            whole = value.isascii() and value.isdigit() and len(value) < 20 and value[0] != "0"
            return value if value in self or whole and int(value) < self.BELOW else None
        return str(value) if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < self.BELOW else None


class Number(OpenOption):
    """Any number between -100 and 100."""

    what = "a number from -100 to 100"

    def read(self, value: object) -> str | None:
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float, str)) else float(value) + 0.0
        except ValueError:
            return None
        return f"{number:.12g}" if -100 <= number <= 100 else None


class Base(ABC):
    """One base; all methods are class methods.

    Attributes:
        gate_names: one letter for each of the G blocks of H rows in the weights, in order.
        states: how many state tensors (B, H): 1 (h) or 2 (h, c).
        options: name -> allowed values, the default first; an `OpenOption` where numbers are among them.
        later_options: those that the base got after its first version: a spec's JSON, and so its identity, leaves them out at
            their default, which therefore must never change. Cells from before keep their identity.
        biases: `shapes` has ``bias_ih`` and ``bias_hh``.
        orthogonal: ``weight_hh`` is constrained to orthogonal matrices.
        equations: the formulas, one line each; ``<d_t + r>`` marks what `step` joins.
        latex: the same in LaTeX.
        source: where it comes from.
    """

    gate_names: ClassVar[tuple[str, ...]] = ("h",)
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    later_options: ClassVar[frozenset[str]] = frozenset()
    biases: ClassVar[bool] = True
    orthogonal: ClassVar[bool] = False
    equations: ClassVar[tuple[str, ...]]
    latex: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "gates" in vars(cls):
            raise TypeError(f"{cls.__name__}: gates is the number of gate_names; give these")
        cls.gates = len(cls.gate_names)

    @classmethod
    @abstractmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        """One time step: ``d`` (B, G·H) from the rule, ``state`` (h or h, c), each (B, H) -> the next state.

        ``join(d, r, first)`` is what the gates see of their drive and recurrent term, from gate number ``first`` on: `add`,
        unless the rule acts on the pre-activation. It is called once for every gate, in order.
        """

    @classmethod
    def kernel(cls, options: Mapping[str, str]) -> str | None:
        """Name of torch's own kernel for this base ("lstm", "gru", "rnn_tanh", "rnn_relu"); None: there is none."""
        del options
        return None

    @classmethod
    def family(cls, options: Mapping[str, str]) -> str | None:
        """Name of the fused kernels' recurrence ("lstm", "gru", "rnn_tanh", "rnn_relu", "modrelu") that `step` is; None: it is none.

        A base that torch has a kernel for is one of them.
        """
        return cls.kernel(options)

    @classmethod
    def shapes(cls, input_size: int, hidden_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """Parameter name -> shape."""
        rows = cls.gates * hidden_size
        out: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        if bias and cls.biases:
            out |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        return out

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int, options: Mapping[str, str]) -> None:
        """Fill the parameters in place from torch's global generator. ``how``: "paper" or "torch".

        "paper": the released code's: W orthogonal, U = ``eye_`` on the whole (G·H, H) matrix (the identity in the
        first block, zeros below), biases 0. "torch": uniform in ±1/sqrt(H), as torch.nn does.
        """
        if how == "torch":
            bound = hidden_size**-0.5
            for tensor in w.values():
                torch.nn.init.uniform_(tensor, -bound, bound)
            return
        torch.nn.init.orthogonal_(w["weight_ih"])
        if "weight_hh" in w:  # not where `initial_map` gives it
            torch.nn.init.eye_(w["weight_hh"])
        for name in w.keys() & {"bias_ih", "bias_hh"}:
            torch.nn.init.zeros_(w[name])

    @classmethod
    def num_parameters(cls, input_size: int, hidden_size: int, bias: bool) -> int:
        """How many numbers train: an orthogonal matrix counts H(H - 1)/2."""
        total = sum(math.prod(shape) for shape in cls.shapes(input_size, hidden_size, bias).values())
        if cls.orthogonal:
            total -= cls.gates * (hidden_size**2 - hidden_size * (hidden_size - 1) // 2)
        return total

    @classmethod
    def initial_map(cls, hidden_size: int, how: str, options: Mapping[str, str]) -> tuple[Tensor, Tensor]:
        """Orthogonal bases: centre and matrix (H, H) of ``weight_hh = centre @ map(matrix)``; map(0) is the identity.

        Asked once for each gate, in their order.
        """
        raise TypeError(f"{cls.__name__} has no orthogonal matrix")

    @classmethod
    def complete(cls, given: Mapping[str, str | int | float]) -> dict[str, str]:
        """Every option, as text: the given ones, checked, and defaults for the rest.

        Raises:
            UnknownNameError: an option or a value that the base does not have.
        """
        for name in given:
            if name not in cls.options:
                raise UnknownNameError(f"option of {cls.__name__}", name, cls.options)
        return {name: _checked(name, given.get(name, allowed[0]), allowed) for name, allowed in cls.options.items()}


def _checked(name: str, value: str | int | float, allowed: tuple[str, ...]) -> str:
    if not isinstance(allowed, OpenOption):
        if isinstance(value, str) and value in allowed:
            return value
        raise UnknownNameError(name, value, allowed)
    text = allowed.read(value)
    if text is None:
        raise UnknownNameError(name, value, [*allowed, allowed.what])
    return text


def add(d: Tensor, r: Tensor, first: int = 0) -> Tensor:
    """What the gates see under a rule on the drive: ``d + r``."""
    del first
    return d + r


def recurrent_term(w: Weights, h: Tensor) -> Tensor:
    """``r_t = U h_{t-1} + b_u`` (B, G·H)."""
    return F.linear(h, w["weight_hh"], w.get("bias_hh"))


bases: Registry[type[Base]] = Registry("base", "mrnn_search.bases")
