"""The whole recurrence in one launch: one program for each lane and block of batch rows, the time loop inside, h and c in registers.

With RESIDENT the recurrent weights are loaded once, before the loop. Otherwise, for what is too large for a program, each step reads
them again, CHUNK rows or columns at a time, from a cache; and with them the other factor, which it has just written.

Shapes: drive (K, T, B, G·H); weight (K, G·H, H); hs, cs (K, T + 1, B, H), the given state first; gates (K, T, B, 4·H), or in the
families of one gate (K, T, B, H), written by the backward pass only. All contiguous. P: H padded to a power of two; what is
beyond H is 0 throughout.
"""

import triton
import triton.language as tl

from .cells import gru, gru_back, lstm, lstm_back, single, single_back


@triton.jit
def block(weight, gate, H, j, k):
    """Weights of one gate, rows j and columns k."""
    return tl.load(weight + (gate * H + j) * H + k, mask=(j < H) & (k < H), other=0.0)


@triton.jit
def streamed(total, source, present, weight, gate, H, j, BACK: tl.constexpr, PRECISION: tl.constexpr, P: tl.constexpr, CHUNK: tl.constexpr):
    """``total + s U_g^T``, or with BACK ``total + s U_g``: s (rows, H) starts at the pointers ``source`` of the rows ``present``."""
    for first in range(0, P, CHUNK):
        k = first + tl.arange(0, CHUNK)
        s = tl.load(source + k[None, :], mask=present & (k < H)[None, :], other=0.0)
        if BACK:
            w = block(weight, gate, H, k[:, None], j)
        else:
            w = block(weight, gate, H, j, k[:, None])
        total = tl.dot(s, w, total, input_precision=PRECISION)
    return total


@triton.jit
def shift(bias, gate, H, j, BIAS: tl.constexpr):
    """One gate's bias, columns j; zeros where there is none."""
    if BIAS:
        b = tl.load(bias + gate * H + j, mask=j < H, other=0.0)
    else:
        b = tl.zeros(j.shape, bias.dtype.element_ty)
    return b


@triton.jit
def forward(
    drive, weight, bias, modrelu_bias, hs, cs, gates, T, B, H,
    FAMILY: tl.constexpr, GATES: tl.constexpr, BIAS: tl.constexpr, SAVE: tl.constexpr, RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    j = tl.arange(0, P)[None, :]
    k = tl.arange(0, P)[:, None]
    inside = (row < B) & (j < H)
    state = row * H + j + lane * (T + 1) * B * H
    d = drive + lane * T * B * (GATES * H) + row * (GATES * H) + j
    s = gates + lane * T * B * (4 * H) + row * (4 * H) + j
    weight += lane * (GATES * H) * H
    bias += lane * (GATES * H)
    h = tl.load(hs + state, mask=inside, other=0.0)
    b_0 = shift(bias, 0, H, j, BIAS)
    if GATES > 1:
        b_1, b_2 = shift(bias, 1, H, j, BIAS), shift(bias, 2, H, j, BIAS)
    if FAMILY == "lstm":
        b_3 = shift(bias, 3, H, j, BIAS)
        c = tl.load(cs + state, mask=inside, other=0.0)
    m = b_0
    if FAMILY == "modrelu":
        m = tl.load(modrelu_bias + lane * H + j, mask=j < H, other=0.0)
    if RESIDENT:  # transposed: h @ U^T
        w_0 = block(weight, 0, H, j, k)
        if GATES > 1:
            w_1, w_2 = block(weight, 1, H, j, k), block(weight, 2, H, j, k)
        if FAMILY == "lstm":
            w_3 = block(weight, 3, H, j, k)
    old = hs + lane * (T + 1) * B * H + row * H
    none = tl.zeros((ROWS, P), tl.float32)
    for _ in range(T):
        if RESIDENT:
            u_0 = tl.dot(h, w_0, input_precision=PRECISION) + b_0
            if GATES > 1:
                u_1 = tl.dot(h, w_1, input_precision=PRECISION) + b_1
                u_2 = tl.dot(h, w_2, input_precision=PRECISION) + b_2
            if FAMILY == "lstm":
                u_3 = tl.dot(h, w_3, input_precision=PRECISION) + b_3
        else:
            tl.debug_barrier()  # other threads of the program wrote parts of h
            u_0 = streamed(none, old, row < B, weight, 0, H, j, False, PRECISION, P, CHUNK) + b_0
            if GATES > 1:
                u_1 = streamed(none, old, row < B, weight, 1, H, j, False, PRECISION, P, CHUNK) + b_1
                u_2 = streamed(none, old, row < B, weight, 2, H, j, False, PRECISION, P, CHUNK) + b_2
            if FAMILY == "lstm":
                u_3 = streamed(none, old, row < B, weight, 3, H, j, False, PRECISION, P, CHUNK) + b_3
        state += B * H
        old += B * H
        d_0 = tl.load(d, mask=inside, other=0.0)
        if GATES > 1:
            d_1, d_2 = tl.load(d + H, mask=inside, other=0.0), tl.load(d + 2 * H, mask=inside, other=0.0)
        if FAMILY == "lstm":
            d_3 = tl.load(d + 3 * H, mask=inside, other=0.0)
            s_0, s_1, s_2, s_3, c, h = lstm(d_0 + u_0, d_1 + u_1, d_2 + u_2, d_3 + u_3, c)
            tl.store(cs + state, c, mask=inside)
        elif FAMILY == "gru":
            s_0 = u_0
            s_1, s_2, s_3, h = gru(d_0, d_1, d_2, u_0, u_1, u_2, h)
        else:
            h = single(d_0 + u_0, m, FAMILY)
        tl.store(hs + state, h, mask=inside)
        if SAVE and GATES > 1:
            tl.store(s, s_0, mask=inside)
            tl.store(s + H, s_1, mask=inside)
            tl.store(s + 2 * H, s_2, mask=inside)
            tl.store(s + 3 * H, s_3, mask=inside)
        d += B * (GATES * H)
        s += B * (4 * H)


@triton.jit
def backward(
    weight, hs, cs, gates, dy, dh, dc, T, B, H,
    FAMILY: tl.constexpr, GATES: tl.constexpr, RESIDENT: tl.constexpr, PRECISION: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Gates become their gradients. dh, dc (K, B, H): gradients of the last state, overwritten by those of the first.
    dy (K, T, B, H): the outputs'.
    """
    lane = tl.program_id(0).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    j = tl.arange(0, P)[None, :]
    k = tl.arange(0, P)[:, None]
    inside = (row < B) & (j < H)
    WIDE: tl.constexpr = 4 if GATES > 1 else 1
    state = (row * H + j) + (lane * (T + 1) + T) * B * H
    start = gates + (lane * T + T - 1) * B * (WIDE * H) + row * (WIDE * H)
    s = start + j
    dy_now = dy + (lane * T + T - 1) * B * H + (row * H + j)
    weight += lane * (GATES * H) * H
    last = lane * B * H + row * H + j
    g = tl.load(dh + last, mask=inside, other=0.0)
    if FAMILY == "lstm":
        gc = tl.load(dc + last, mask=inside, other=0.0)
        c = tl.load(cs + state, mask=inside, other=0.0)
    if RESIDENT:  # as they are: da @ U
        w_0 = block(weight, 0, H, k, j)
        if GATES > 1:
            w_1, w_2 = block(weight, 1, H, k, j), block(weight, 2, H, k, j)
        if FAMILY == "lstm":
            w_3 = block(weight, 3, H, k, j)
    for _ in range(T):
        g += tl.load(dy_now, mask=inside, other=0.0)
        if GATES > 1:
            s_0, s_1 = tl.load(s, mask=inside, other=0.0), tl.load(s + H, mask=inside, other=0.0)
            s_2, s_3 = tl.load(s + 2 * H, mask=inside, other=0.0), tl.load(s + 3 * H, mask=inside, other=0.0)
            if FAMILY == "lstm":
                c_before = tl.load(cs + state - B * H, mask=inside, other=0.0)
                d_0, d_1, d_2, d_3, gc = lstm_back(s_0, s_1, s_2, s_3, c_before, c, g, gc)
                c = c_before
                g = tl.zeros_like(g)
            else:
                before = tl.load(hs + state - B * H, mask=inside, other=0.0)
                d_0, d_1, d_2, d_3, g = gru_back(s_0, s_1, s_2, s_3, before, g)
            tl.store(s, d_0, mask=inside)
            tl.store(s + H, d_1, mask=inside)
            tl.store(s + 2 * H, d_2, mask=inside)
            tl.store(s + 3 * H, d_3, mask=inside)
        else:
            d_0 = single_back(tl.load(hs + state, mask=inside, other=0.0), g, FAMILY)
            tl.store(s, d_0, mask=inside)
            g = tl.zeros_like(g)
        if RESIDENT:
            g = tl.dot(d_0, w_0, g, input_precision=PRECISION)
            if GATES > 1:
                g = tl.dot(d_1, w_1, g, input_precision=PRECISION)
                g = tl.dot(d_2, w_2, g, input_precision=PRECISION)
            if FAMILY == "lstm":
                g = tl.dot(d_3, w_3, g, input_precision=PRECISION)
        else:
            tl.debug_barrier()  # other threads of the program wrote parts of the gates' gradients
            for gate in tl.static_range(GATES):
                g = streamed(g, start + gate * H, row < B, weight, gate, H, j, True, PRECISION, P, CHUNK)
            start -= B * (WIDE * H)
        state -= B * H
        s -= B * (WIDE * H)
        dy_now -= B * H
    tl.store(dh + last, g, mask=inside)
    if FAMILY == "lstm":
        tl.store(dc + last, gc, mask=inside)
