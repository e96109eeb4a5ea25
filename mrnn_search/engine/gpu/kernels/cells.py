"""One step of each family, element by element, forward and backward: what `step` and `persistent` share.

A family's gates are kept in blocks of H: of the lstm i, f, g, o after their nonlinearity; of the gru N, r, z, n, where N is the
candidate's recurrent term before the reset gate. The backward pass puts their gradients, before the nonlinearity, in the same
places: then blocks r, z, n are the gradient of the gru's drive, and blocks N, r, z that of its recurrent term, each in one
piece. The families of one gate keep nothing: their derivatives follow from h.
"""

import triton
import triton.language as tl

from .language import tanh


@triton.jit
def lstm(i, f, g, o, c):
    """Pre-activations and c_{t-1} -> gates, c_t, h_t."""
    i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), tanh(g), tl.sigmoid(o)
    c = f * c + i * g
    return i, f, g, o, c, o * tanh(c)


@triton.jit
def lstm_back(i, f, g, o, c_before, c, dh, dc):
    """Gates, c_{t-1}, c_t and the gradients of h_t and c_t -> those of the pre-activations and of c_{t-1}."""
    top = tanh(c)
    dc += dh * o * (1 - top * top)
    return dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * top * o * (1 - o), dc * f


@triton.jit
def gru(d_r, d_z, d_n, u_n, u_r, u_z, h):
    """Drive, recurrent term and h_{t-1} -> r, z, n, h_t."""
    r, z = tl.sigmoid(d_r + u_r), tl.sigmoid(d_z + u_z)
    n = tanh(d_n + r * u_n)
    return r, z, n, n + z * (h - n)


@triton.jit
def gru_back(u_n, r, z, n, h_before, dh):
    """Gates, h_{t-1} and the gradient of h_t -> those of N, r, z, n before the nonlinearity, and of h_{t-1} past the gates."""
    dn = dh * (1 - z) * (1 - n * n)
    return dn * r, dn * u_n * r * (1 - r), dh * (h_before - n) * z * (1 - z), dn, dh * z


@triton.jit
def single(a, b, FAMILY: tl.constexpr):
    """Pre-activation and modReLU's bias -> h_t."""
    if FAMILY == "rnn_tanh":
        h = tanh(a)
    elif FAMILY == "rnn_relu":
        h = tl.maximum(a, 0.0)
    else:  # sign(a) relu(|a| + b)
        grown = tl.maximum(tl.abs(a) + b, 0.0)
        h = tl.where(a > 0, grown, tl.where(a < 0, -grown, 0.0))
    return h


@triton.jit
def single_back(h, dh, FAMILY: tl.constexpr):
    """h_t and its gradient -> that of the pre-activation. modReLU's is 1 wherever h is not 0."""
    if FAMILY == "rnn_tanh":
        da = dh * (1 - h * h)
    elif FAMILY == "rnn_relu":
        da = tl.where(h > 0, dh, 0.0)
    else:
        da = tl.where(h != 0, dh, 0.0)
    return da
