"""Rules on the machine as operators of torch, for graphs (torch.compile, torch.export).

`mrnn_search::rule` is what a compiler's front end sees: one call, whatever the formula. It becomes the arithmetic of the
scalars and ``rule_steps``, whose gradient is ``rule_backward``. Without a compiler `rules.drives` does the same in fewer calls.

Shapes: T time, B batch, C channels, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...cells.formula.program import Program
from .code import Code, compile
from .rules import Lane, backward_of, forward_of

# names: of the coefficients, with blanks between them; numbers: one for each. learned: names of those that are tensors ().
_LIBRARY = torch.library.Library("mrnn_search", "FRAGMENT")
_RULE = "str formula, str names, str learned, Tensor u"
_LIBRARY.define(f"rule({_RULE}, Tensor[] held, float[] numbers, Tensor[] values, int t) -> Tensor[]")
_LIBRARY.define(f"rule_steps({_RULE}, Tensor table, Tensor[] held) -> Tensor[]")
_LIBRARY.define(f"rule_backward({_RULE}, Tensor table, Tensor[] held, Tensor?[] gradients, bool[] needs) -> Tensor[]")


def drive(lane: Lane) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As `drives` for one lane that fits, by way of the operator."""
    formula, names = _told(lane.program)
    each = [lane.c[name] for name in names]
    learned = " ".join(name for name, v in zip(names, each, strict=True) if isinstance(v, Tensor))
    numbers = [0.0 if isinstance(v, Tensor) else float(v) for v in each]
    held = [lane.u.new_zeros(lane.u.shape[1:]) if h is None else h for h in lane.held]
    values = [v for v in each if isinstance(v, Tensor)]
    d, *last = torch.ops.mrnn_search.rule(formula, " ".join(names), learned, lane.u, held, numbers, values, lane.t)
    return d, tuple(last)


def _told(program: Program) -> tuple[str, tuple[str, ...]]:
    return program.text, program.root.coefficients


_told._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result, without its imports


@lru_cache(maxsize=4096)
def _code(formula: str, names: str) -> Code:
    code = compile(Program.of(formula, names.split()))
    if isinstance(code, str):
        raise ValueError(f"rule {formula}: {code}")
    return code


def _given(formula: str, names: str, learned: str) -> list[tuple[Code, frozenset[str]]]:
    return [(_code(formula, names), frozenset(learned.split()))]


def _rule(
    formula: str, names: str, learned: str, u: Tensor, held: list[Tensor], numbers: list[float], values: list[Tensor], t: int
) -> list[Tensor]:
    c: dict[str, Any] = dict(zip(names.split(), numbers, strict=True)) | dict(zip(learned.split(), values, strict=True))
    table = _code(formula, names).evaluated(c, t, u.shape[0])
    return list(torch.ops.mrnn_search.rule_steps(formula, names, learned, u, table, held))


def _steps(formula: str, names: str, learned: str, u: Tensor, table: Tensor, held: list[Tensor]) -> list[Tensor]:
    return forward_of(_given(formula, names, learned), [u, table, *held])[0]


def _steps_fake(formula: Any, names: Any, learned: Any, u: Tensor, table: Tensor, held: list[Tensor]) -> list[Tensor]:
    return [u.new_empty(u.shape), *(u.new_empty(u.shape[1:]) for _ in held)]


def _backward(
    formula: str,
    names: str,
    learned: str,
    u: Tensor,
    table: Tensor,
    held: list[Tensor],
    gradients: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> list[Tensor]:
    """The gradients that are needed, of u, the table and ``held``, in this order."""
    saved = [u.contiguous(), table.float(), *(h.contiguous() for h in held)]
    found = backward_of(_given(formula, names, learned), saved, gradients, needs)
    # clone: a result of an operator is no view
    return [torch.zeros_like(x) if g is None else g.clone() for g, x, needed in zip(found, (u, table, *held), needs, strict=True) if needed]


def _backward_fake(
    formula: Any, names: Any, learned: Any, u: Tensor, table: Tensor, held: list[Tensor], gradients: Any, needs: Sequence[bool]
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x, needed in zip((u, table, *held), needs, strict=True) if needed]


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, told: tuple[str, str, str], u: Tensor, table: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        ctx.told = told
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, table, *held)
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(torch.ops.mrnn_search.rule_steps(*told, u, table, held))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        u, table, *held = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        found = iter(torch.ops.mrnn_search.rule_backward(*ctx.told, u, table, held, gradients, needs))
        return None, *(next(found) if needed else None for needed in needs)


def _steps_differentiable(formula: str, names: str, learned: str, u: Tensor, table: Tensor, held: list[Tensor]) -> list[Tensor]:
    return list(_Steps.apply((formula, names, learned), u, table, *held))


_LIBRARY.impl("rule", _rule, "CompositeImplicitAutograd")
_LIBRARY.impl("rule_steps", _steps, "CPU")
_LIBRARY.impl("rule_steps", _steps_differentiable, "AutogradCPU")  # register_autograd would cost 100 us a call
_LIBRARY.impl("rule_backward", _backward, "CPU")
torch.library.register_fake("mrnn_search::rule_steps", _steps_fake, lib=_LIBRARY)
torch.library.register_fake("mrnn_search::rule_backward", _backward_fake, lib=_LIBRARY)
