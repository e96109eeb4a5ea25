"""What all kernels share."""

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """Hyperbolic tangent to about 2 ulp of float32: Triton's language has none that the interpreter knows too.

    Near 0, where ``1 - exp(-2|x|)`` cancels, the odd polynomial of Cephes' tanhf (Moshier 1989), |x| < 0.625.
    """
    z = x * x
    p = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z - 3.33332819422e-1) * z * x + x
    e = tl.exp(-2 * tl.abs(x))
    far = (1 - e) / (1 + e)
    return tl.where(tl.abs(x) < 0.625, p, tl.where(x < 0, -far, far))


@triton.jit
def power(a, b):
    """``a^b`` for one number b, as torch has it; in float64, as b multiplies the logarithm's error.

    Conditions on b alone are not joined with others: Triton 3.6's interpreter takes a broadcast condition for a float.
    """
    whole = tl.floor(b) == b
    odd = whole & (2 * tl.floor(b * 0.5) != b)
    base = tl.where(whole, tl.abs(a), tl.where(a == float("-inf"), float("inf"), a))  # of other negative numbers there is no root
    size = tl.exp(b.to(tl.float64) * tl.log(base.to(tl.float64))).to(tl.float32)
    below = a.to(tl.int32, bitcast=True) < 0  # -0, too
    return tl.where(b == 0, 1.0, tl.where(below, tl.where(odd, -size, size), size))
