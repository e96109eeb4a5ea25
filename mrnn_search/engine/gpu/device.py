"""What the Triton kernels need: of a device, and of a cell. Imports no Triton."""

from __future__ import annotations

import importlib.util

import torch

from ...cells.bases.base import bases
from ...cells.spec import CellSpec

OLDEST = (7, 0)  # the compute capability from which Triton makes code


def available(device: torch.device | str) -> tuple[bool, str]:
    """Can kernels be compiled for this device? And why not, or on what."""
    device = torch.device(device)
    if device.type != "cuda":
        return False, f"Triton makes code for CUDA devices, not for {device.type}"
    if importlib.util.find_spec("triton") is None:
        return False, "the package triton is not installed"
    if not torch.cuda.is_available():
        return False, "torch finds no CUDA device"
    if torch.version.cuda is None:
        return False, "torch is not built for CUDA; the kernels are not tested elsewhere"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        return False, f"compute capability {capability[0]}.{capability[1]}, Triton needs {OLDEST[0]}.{OLDEST[1]}"
    return True, torch.cuda.get_device_name(device)


def obstacle(spec: CellSpec, dtype: torch.dtype = torch.float32) -> str:
    """Why no Triton recurrence computes this cell; "" if one does."""
    if bases[spec.base].family(spec.options) is None:
        return f"there is no Triton recurrence for base {spec.base}"
    if spec.scope != "drive" and not spec.rule_type.program.plain:
        return f"the rule's scope is {spec.scope}"
    return "" if dtype == torch.float32 else f"the Triton recurrences compute in torch.float32, not in {dtype}"


def family(spec: CellSpec) -> str:
    """The recurrence of a cell without `obstacle`, as `lanes_recurrence` calls it."""
    return str(bases[spec.base].family(spec.options))
