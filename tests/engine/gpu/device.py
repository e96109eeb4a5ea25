"""Where the Triton kernels run in tests: compiled on a CUDA device if there is one, else interpreted on the CPU."""

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")


def interpret() -> None:
    """Make Triton 3.6's interpreter loop up to an argument: it calls ``int`` on arrays (1,), which NumPy 2.4 refuses."""
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="triton has no build for this machine")
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


interpret()
