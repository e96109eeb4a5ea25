"""The element-wise half of one time step, for all lanes; the other half is a GEMM.

Shapes: drive (K, T, B, G·H); gates (K, T, B, 4·H); hs, cs (K, T + 1, B, H), the given state first; recurrent (K, B, G·H), h_t U^T;
bias (K, G·H); modrelu_bias (K, H). All contiguous. ``t`` is counted from 0: from state t to state t + 1.
"""

import triton
import triton.language as tl

from .cells import gru, gru_back, lstm, lstm_back, single, single_back


@triton.jit(do_not_specialize=["t"])
def forward(
    drive, recurrent, bias, modrelu_bias, hs, cs, gates, t, T, B, H,
    FAMILY: tl.constexpr, GATES: tl.constexpr, BIAS: tl.constexpr, SAVE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < B * H
    row, column = n // H, n % H
    d = drive + ((lane * T + t) * B + row) * (GATES * H) + column
    u = recurrent + (lane * B + row) * (GATES * H) + column
    b = bias + lane * (GATES * H) + column
    old = (lane * (T + 1) + t) * (B * H) + n
    new = old + B * H
    u_0 = tl.load(u, mask=inside, other=0.0)
    if BIAS:
        u_0 += tl.load(b, mask=inside, other=0.0)
    d_0 = tl.load(d, mask=inside, other=0.0)
    if GATES > 1:
        u_1, u_2 = tl.load(u + H, mask=inside, other=0.0), tl.load(u + 2 * H, mask=inside, other=0.0)
        if BIAS:
            u_1 += tl.load(b + H, mask=inside, other=0.0)
            u_2 += tl.load(b + 2 * H, mask=inside, other=0.0)
        d_1, d_2 = tl.load(d + H, mask=inside, other=0.0), tl.load(d + 2 * H, mask=inside, other=0.0)
    if FAMILY == "lstm":
        u_3 = tl.load(u + 3 * H, mask=inside, other=0.0)
        if BIAS:
            u_3 += tl.load(b + 3 * H, mask=inside, other=0.0)
        d_3 = tl.load(d + 3 * H, mask=inside, other=0.0)
        before = tl.load(cs + old, mask=inside, other=0.0)
        s_0, s_1, s_2, s_3, c, h = lstm(d_0 + u_0, d_1 + u_1, d_2 + u_2, d_3 + u_3, before)
        tl.store(cs + new, c, mask=inside)
    elif FAMILY == "gru":
        s_0 = u_0
        s_1, s_2, s_3, h = gru(d_0, d_1, d_2, u_0, u_1, u_2, tl.load(hs + old, mask=inside, other=0.0))
    else:
        m = d_0
        if FAMILY == "modrelu":
            m = tl.load(modrelu_bias + lane * H + column, mask=inside, other=0.0)
        h = single(d_0 + u_0, m, FAMILY)
    tl.store(hs + new, h, mask=inside)
    if SAVE and GATES > 1:
        s = gates + ((lane * T + t) * B + row) * (4 * H) + column
        tl.store(s, s_0, mask=inside)
        tl.store(s + H, s_1, mask=inside)
        tl.store(s + 2 * H, s_2, mask=inside)
        tl.store(s + 3 * H, s_3, mask=inside)


@triton.jit(do_not_specialize=["t"])
def backward(hs, cs, gates, dy, dh, dc, t, T, B, H, FAMILY: tl.constexpr, BLOCK: tl.constexpr):
    """Gates become their gradients; those of a single gate are written to ``gates`` (K, T, B, H).

    dh, dc (K, B, H): the gradients of state t + 1; overwritten by what state t gets past the GEMM (of h nothing, but for the gru).
    dy (K, T, B, H): the outputs'.
    """
    lane = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < B * H
    row, column = n // H, n % H
    old = (lane * (T + 1) + t) * (B * H) + n
    new, step, here = old + B * H, (lane * T + t) * (B * H) + n, lane * (B * H) + n
    g = tl.load(dy + step, mask=inside, other=0.0) + tl.load(dh + here, mask=inside, other=0.0)
    if FAMILY == "lstm" or FAMILY == "gru":
        s = gates + ((lane * T + t) * B + row) * (4 * H) + column
        s_0, s_1 = tl.load(s, mask=inside, other=0.0), tl.load(s + H, mask=inside, other=0.0)
        s_2, s_3 = tl.load(s + 2 * H, mask=inside, other=0.0), tl.load(s + 3 * H, mask=inside, other=0.0)
        if FAMILY == "lstm":
            before, c = tl.load(cs + old, mask=inside, other=0.0), tl.load(cs + new, mask=inside, other=0.0)
            d_0, d_1, d_2, d_3, past = lstm_back(s_0, s_1, s_2, s_3, before, c, g, tl.load(dc + here, mask=inside, other=0.0))
            tl.store(dc + here, past, mask=inside)
        else:
            d_0, d_1, d_2, d_3, past = gru_back(s_0, s_1, s_2, s_3, tl.load(hs + old, mask=inside, other=0.0), g)
            tl.store(dh + here, past, mask=inside)
        tl.store(s, d_0, mask=inside)
        tl.store(s + H, d_1, mask=inside)
        tl.store(s + 2 * H, d_2, mask=inside)
        tl.store(s + 3 * H, d_3, mask=inside)
    else:
        tl.store(gates + step, single_back(tl.load(hs + new, mask=inside, other=0.0), g, FAMILY), mask=inside)
