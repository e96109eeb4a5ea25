"""The Triton scans against a loop, forward and backward."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search.engine.gpu import scan

from .device import DEVICE


def naive(x, decay, gain, initial):
    m = torch.zeros_like(x[:, 0]) if initial is None else initial
    out = []
    for t in range(x.shape[1]):
        d, g = (v[:, t] if v.dim() == 2 else v for v in (decay, gain))
        m = d[:, None] * m + g[:, None] * x[:, t]
        out.append(m)
    return torch.stack(out, 1)


def gradients(function, leaves, weights):
    y = function()
    return [y, *torch.autograd.grad((y * weights).sum(), leaves)]


@settings(max_examples=25)
@given(
    k=st.sampled_from([1, 3]),
    t=st.sampled_from([1, 2, 7]),
    n=st.sampled_from([1, 5, 300]),
    constant=st.booleans(),
    wanted=st.sets(st.sampled_from(["x", "decay", "gain", "initial"]), min_size=1),
    given_initial=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_scan_equals_loop(k, t, n, constant, wanted, given_initial, seed):
    """Float64, so that a wrong term cannot hide in rounding; every subset of gradients, as each leaves something out."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, dtype=torch.float64, generator=g).to(DEVICE)  # noqa: E731
    steps = (k,) if constant else (k, t)
    arguments = {"x": rand(k, t, n) - 0.5, "decay": rand(*steps), "gain": rand(*steps), "initial": rand(k, n) if given_initial else None}
    leaves = [v.requires_grad_() for name, v in arguments.items() if name in wanted and v is not None]
    if not leaves:
        return
    weights = rand(k, t, n)
    ours = gradients(lambda: scan.linear_scan(**arguments), leaves, weights)
    theirs = gradients(lambda: naive(**arguments), leaves, weights)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@settings(max_examples=15)
@given(
    k=st.sampled_from([1, 3]), t=st.sampled_from([1, 2, 9]), n=st.sampled_from([1, 5, 300]), first=st.booleans(), seed=st.integers(0, 99)
)
def test_peak_equals_cummax(k, t, n, first, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 4, (k, t, n), generator=g).double().to(DEVICE).requires_grad_()  # whole numbers: many are equal
    initial = torch.rand(k, n, dtype=torch.float64, generator=g).to(DEVICE).requires_grad_() if first else None
    leaves = [x] if initial is None else [x, initial]

    def cummax():
        top = x.cummax(1).values
        return torch.relu(top) if initial is None else torch.maximum(top, initial[:, None])

    weights = torch.rand(k, t, n, dtype=torch.float64, generator=g).to(DEVICE)
    for a, b in zip(gradients(lambda: scan.peak(x, initial), leaves, weights), gradients(cummax, leaves, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_lane_does_not_see_the_others():
    x, decay, gain = torch.randn(3, 6, 300, device=DEVICE), torch.rand(3, 6, device=DEVICE), torch.rand(3, 6, device=DEVICE)
    together = scan.linear_scan(x, decay, gain)
    for k in range(3):
        assert torch.equal(together[k : k + 1], scan.linear_scan(x[k : k + 1], decay[k : k + 1], gain[k : k + 1]))
