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
