"""Scans over time: one program for each lane and block of channels, the time loop inside.

Shapes: x, m and their gradients (K, T, N) contiguous; decay, gain (K, T), of any strides (a constant has stride 0 over time).
"""

import triton
import triton.language as tl


@triton.jit
def linear_forward(x, decay, gain, initial, m, T, N, dk, dt, gk, gt, HAS_INITIAL: tl.constexpr, BLOCK: tl.constexpr):
    """``m_t = decay_t m_{t-1} + gain_t x_t``; ``dk, dt, gk, gt``: strides of decay and gain."""
    lane = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    now = tl.zeros((BLOCK,), x.dtype.element_ty)
    if HAS_INITIAL:
        now = tl.load(initial + lane * N + n, mask=inside, other=0.0)
    x_t, m_t = x + lane * T * N + n, m + lane * T * N + n
    decay_t, gain_t = decay + lane * dk, gain + lane * gk
    for _ in range(T):
        now = tl.load(decay_t) * now + tl.load(gain_t) * tl.load(x_t, mask=inside, other=0.0)
        tl.store(m_t, now, mask=inside)
        x_t += N
        m_t += N
        decay_t += dt
        gain_t += gt


@triton.jit
def linear_backward(
    x, decay, gain, initial, m, dm, dx, d_decay, d_gain, d_initial, T, N, dk, dt, gk, gt,
    HAS_INITIAL: tl.constexpr, FOR_X: tl.constexpr, FOR_DECAY: tl.constexpr, FOR_GAIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Back in time: ``s_t = dm_t + decay_{t+1} s_{t+1}``, so ``dx = gain s``, ``d_decay = Σ_N s m_{t-1}``, ``d_gain = Σ_N s x``.

    d_decay, d_gain: (K, programs, T), the sum of each program's channels: no atomics, so that the same call gives the same bits.
    x is read for d_gain only, m for d_decay only.
    """
    lane = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    part = (lane * tl.num_programs(1) + tl.program_id(1)) * T + T - 1
    last = (lane * T + T - 1) * N + n
    dm_t = dm + last
    decay_t, gain_t = decay + lane * dk + (T - 1) * dt, gain + lane * gk + (T - 1) * gt
    s = tl.zeros((BLOCK,), dm.dtype.element_ty)
    for back in range(T):
        s += tl.load(dm_t, mask=inside, other=0.0)
        if FOR_X:
            tl.store(dx + last, tl.load(gain_t) * s, mask=inside)
        if FOR_GAIN:
            tl.store(d_gain + part, tl.sum(s * tl.load(x + last, mask=inside, other=0.0), 0))
        if FOR_DECAY:
            before = tl.load(m + last - N, mask=inside & (back < T - 1), other=0.0)
            if HAS_INITIAL:
                before += tl.load(initial + lane * N + n, mask=inside & (back == T - 1), other=0.0)
            tl.store(d_decay + part, tl.sum(s * before, 0))
        s *= tl.load(decay_t)
        part -= 1
        last -= N
        dm_t -= N
        decay_t -= dt
        gain_t -= gt
    if HAS_INITIAL:
        tl.store(d_initial + lane * N + n, s, mask=inside)


@triton.jit
def peak_forward(x, initial, p, T, N, BLOCK: tl.constexpr):
    """``p_t = max(p_{t-1}, x_t)``."""
    lane = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    now = tl.load(initial + lane * N + n, mask=inside, other=0.0)
    x_t, p_t = x + lane * T * N + n, p + lane * T * N + n
    for _ in range(T):
        now = tl.maximum(now, tl.load(x_t, mask=inside, other=0.0))
        tl.store(p_t, now, mask=inside)
        x_t += N
        p_t += N


@triton.jit
def peak_backward(x, initial, p, dp, dx, d_initial, T, N, BLOCK: tl.constexpr):
    """Each p's gradient goes to the x that it is, the latest of equal ones; to the initial value where none is larger."""
    lane = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    first = tl.load(initial + lane * N + n, mask=inside, other=0.0)
    last = (lane * T + T - 1) * N + n
    s = tl.zeros((BLOCK,), dp.dtype.element_ty)
    for _ in range(T):
        s += tl.load(dp + last, mask=inside, other=0.0)
        now = tl.load(x + last, mask=inside, other=0.0)
        taken = (now == tl.load(p + last, mask=inside, other=0.0)) & (now > first)
        tl.store(dx + last, tl.where(taken, s, 0.0), mask=inside)
        s = tl.where(taken, 0.0, s)
        last -= N
    tl.store(d_initial + lane * N + n, s, mask=inside)
