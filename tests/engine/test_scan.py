"""The scan against a loop, forward and backward."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search.engine.scan import CHUNK, linear_scan


def naive(x, decay, gain, initial):
    m = torch.zeros_like(x[0]) if initial is None else initial
    out = []
    for t in range(len(x)):
        d, g = (v[t, ..., None] if isinstance(v, torch.Tensor) and v.dim() else v for v in (decay, gain))  # (1,) or (B, 1)
        m = d * m + g * x[t]
        out.append(m)
    return torch.stack(out)


@settings(max_examples=200, deadline=None)
@given(
    t=st.sampled_from([1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]),
    kind=st.sampled_from(["float", "learned", "per step", "per sequence", "gain per sequence"]),
    given_initial=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_scan_equals_loop(t, kind, given_initial, seed):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, dtype=torch.float64, generator=g)  # noqa: E731
    x = (rand(t, 2, 3) - 0.5).requires_grad_()
    initial = rand(2, 3).requires_grad_() if given_initial else None
    decay, gain = {
        "float": lambda: (float(rand(1)), float(rand(1))),
        "learned": lambda: (rand(()).requires_grad_(), rand(()).requires_grad_()),
        "per step": lambda: (rand(t) * (rand(t) > 0.3), rand(t)),
        "per sequence": lambda: (rand(t, 2) * (rand(t, 2) > 0.3), float(rand(1))),
        "gain per sequence": lambda: (rand(t), rand(t, 2)),
    }[kind]()
    leaves = [v for v in (x, initial, decay, gain) if isinstance(v, torch.Tensor) and v.requires_grad]
    weights = rand(t, 2, 3)
    results = []
    for scan in (linear_scan, naive):
        y = scan(x, decay, gain, initial)
        results.append([y, *torch.autograd.grad((y * weights).sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
