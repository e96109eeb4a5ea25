"""All steps of a rule at once: `run_sequence` where it takes its own way. (Equal to step by step: `tests/cells/test_identities`.)"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn_search.cells.formula import Program
from mrnn_search.cells.formula.run import run_step
from mrnn_search.engine.scan import channel_scan
from mrnn_search.engine.sequence import run_sequence


def data(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=150)
@given(t=st.integers(1, 70), steady=st.booleans(), given_initial=st.booleans(), each=st.booleans(), seed=st.integers(0, 2**31))
def test_channel_scan_equals_loop(t, steady, given_initial, each, seed):
    """1e-10 of the largest entry: log2(T) passes add up in another order."""
    x = data(seed, t, 2, 3).requires_grad_()
    decay = torch.sigmoid(data(seed + 1, 1 if steady else t, 2 if each and not steady else 1, 3)).requires_grad_()
    initial = data(seed + 2, 2, 3).requires_grad_() if given_initial else None
    m, out = torch.zeros(2, 3, dtype=torch.float64) if initial is None else initial, []
    for k in range(t):
        m = decay[0 if steady else k] * m + x[k]
        out.append(m)
    leaves = [v for v in (x, decay, initial) if v is not None]
    weights, results = data(seed + 3, t, 2, 3), []
    for y in (channel_scan(x, decay, initial), torch.stack(out)):
        results.append([y, *torch.autograd.grad((y * weights).sum(), leaves, materialize_grads=True)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prev(u)", [0, 1, -2, 3]),
        ("prev(prev(u))", [0, 0, 1, -2]),
        ("peak(u)", [1, 1, 3, 4]),
        ("peak(-u)", [0, 2, 2, 2]),
        ("momentum(u, 1)", [1, -1, 2, 6]),
        ("momentum(u, 0.5)", [1, -1.5, 2.25, 5.125]),
        ("momentum(u, cycle(2) - 1)", [1, -1, 3, 7]),
        ("ema(u, 0.5)", [0.5, -0.75, 1.125, 2.5625]),
        ("u * t", [1, -4, 9, 16]),
        ("u * cycle(3)", [1, -4, 9, 4]),
        ("ema(u, 1)", [0, 0, 0, 0]),
        ("0 * u + 2", [2, 2, 2, 2]),
        ("momentum(0 * u + 1, 0.5)", [1, 1.5, 1.75, 1.875]),
        ("sign(u)", [1, -1, 1, 1]),
        ("max(u, 0.5)", [1, 0.5, 3, 4]),
        ("min(2, u)", [1, -2, 2, 2]),
    ],
)
def test_four_steps_by_hand(text, expected):
    program, us = Program.of(text), [1.0, -2.0, 3.0, 4.0]
    u = torch.tensor(us, dtype=torch.float64)[:, None, None].expand(4, 2, 3)
    found, states = run_sequence(program, {}, u, [None] * len(program.states))
    assert found.shape == (4, 2, 3) and all(s.shape == (4, 2, 3) for s in states)
    assert found[:, 1, 2].tolist() == pytest.approx(expected, abs=1e-12)
    held, out = tuple(torch.zeros(2, 3, dtype=torch.float64) for _ in program.states), []
    for t, u_t in enumerate(u, 1):
        d, held = run_step(program, {}, u_t, held, t)
        out.append(float(d[1, 2]))
    assert out == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("text", ["momentum(u, (cycle(3) - 1) / (cycle(3) + 2))", "u * (1 - 0.999^t)", "ema(u, 1 - 1 / t)"])
def test_a_schedule_is_as_exact_as_the_drive(text, dtype):
    """Step numbers are whole; neither they nor their quotients may cost digits, or widen the drive."""
    program, u = Program.of(text), data(1, 20, 3, 2).to(dtype)
    for t in (0, torch.tensor([4, 0, 9])):
        whole, _ = run_sequence(program, {}, u, [None] * len(program.states), t)
        held, out = tuple(torch.zeros(3, 2, dtype=dtype) for _ in program.states), []
        for k, u_k in enumerate(u):
            d, held = run_step(program, {}, u_k, held, (t + k + 1)[:, None] if isinstance(t, torch.Tensor) else t + k + 1)
            out.append(d)
        assert whole.dtype == out[0].dtype == dtype
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(whole, torch.stack(out), rtol=tolerance, atol=tolerance)


def test_later_steps_change_nothing_before():
    program = Program.of("s = ema(u^2, 0.9); d = momentum(u, 0.7) / sqrt(peak(s) + 1e-8) + prev(u)")
    u = data(1, 40, 2, 3)
    other = torch.cat([u[:25], 1e6 * data(2, 15, 2, 3)])
    one, two = (run_sequence(program, {}, x, [None] * 4)[0] for x in (u, other))
    torch.testing.assert_close(one[:25], two[:25], rtol=1e-12, atol=1e-12)
