"""Who is looking: whether tensors are plain numbers here, or something of torch stands between them and what computes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter


def traced(tensors: Iterable[Tensor]) -> bool:
    """A graph is being made, a dispatch mode looks on, or a tensor is none of torch's own (a fake one has no address)."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True
    return any(type(t) not in (Tensor, Parameter) for t in tensors)


def transformed() -> str:
    """What differentiates or maps here and cannot go through the kernels; empty: nothing."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "torch.func transforms it"
    return "forward-mode differentiation is on" if forward_ad._current_level >= 0 else ""


# As torch.compiler.assume_constant_result, without its imports. Graphs are guarded by what is asked here.
transformed._dynamo_marked_constant = True  # type: ignore[attr-defined]
