"""Which exact execution runs a layer, and why. Pure: looks at the spec and at where it runs, makes no tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._registry import SpecError, UnknownNameError
from ..cells.bases.base import bases
from ..cells.spec import CellSpec
from .gpu.device import available
from .gpu.device import obstacle as triton_obstacle
from .native.build import Native, native

EXECUTIONS = ("auto", "fused", "triton", "vendor", "loop", "reference")
# Past this torch's kernels are faster: the weights of a step leave the cache, and MKL's products are better at that.
MAX_FUSED_HIDDEN = 512
MISSING = "no fused kernels"


@dataclass(frozen=True)
class Place:
    """Where and how a layer is called, as far as that decides the execution.

    Attributes:
        device: type of the weights' device; dtype: theirs; hidden: H.
        packed: the input is a PackedSequence.
        rule_state: the rule starts from a given state, which enters the drive as ``μ^t v_0`` and so is not a filter of x.
        obstacle: what else keeps the fused kernels away ("autocast", "torch.func"); empty: nothing.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    hidden: int = 1
    packed: bool = False
    rule_state: bool = False
    obstacle: str = ""


@dataclass(frozen=True)
class Plan:
    """What runs.

    Attributes:
        kernel: "fused" (this package's CPU kernels), "triton" (its GPU kernels: only where asked for, their speed is not measured
            yet), "vendor" (torch's own), "loop" (drive for all t, then one step at a time) or "reference".
        reason: why.
        filters: a linear rule runs on the input.
    """

    kernel: str
    reason: str
    filters: bool = False

    def __str__(self) -> str:
        return f"{'fused cpu' if self.kernel == 'fused' else self.kernel}: {self.reason}"


def plan(spec: CellSpec, execution: str = "auto", place: Place | None = None) -> Plan:
    """The cheapest exact execution, or the one that was asked for.

    Args:
        execution: "auto", or the name of a kernel, which then runs or raises: nothing is swapped silently.
        place: None: only what holds everywhere is looked at, and "auto" is not "fused".

    Raises:
        SpecError: ``execution`` cannot run this cell, or not here.
        UnknownNameError: there is no such execution.
    """
    if execution not in EXECUTIONS:
        raise UnknownNameError("execution", execution, EXECUTIONS)
    if execution == "reference":
        return Plan("reference", "asked for; every step of rule and base in one Python loop")
    plain = spec.rule_type.program.plain
    no_filter = "" if plain else _no_filter(spec, place is not None and place.rule_state)
    filters = not plain and not no_filter
    no_vendor = f"torch has no kernel for base {spec.base}" if bases[spec.base].kernel(spec.options) is None else no_filter
    no_fused = _no_fused(spec, place, execution == "fused")
    no_triton = _no_triton(spec, place) if execution == "triton" else ""
    for name, obstacle in (("vendor", no_vendor), ("fused", no_fused), ("triton", no_triton)):
        if execution == name and obstacle:
            raise SpecError(f'execution "{name}" cannot run {spec.name}: {obstacle}')
    simple = "plain rule" if plain else "linear rule on filtered input"
    ahead = simple if plain or filters else f"rule on the drive for all t ({no_filter})"
    if execution == "triton":
        return Plan("triton", f"asked for; {ahead}", filters)
    if execution == "fused" or (execution == "auto" and place is not None and not no_fused):
        return Plan("fused", ahead, filters)
    if execution == "vendor" or (execution == "auto" and not no_vendor):
        missing = f"; {no_fused}" if place is not None and no_fused.startswith(MISSING) else ""
        return Plan("vendor", simple + missing, filters)
    inside = spec.scope != "drive" and not plain
    what = "rule and recurrence together" if inside else "drive for all t, then"
    told = "asked for" if execution == "loop" else "; ".join(dict.fromkeys([no_vendor] + ([no_fused] if place is not None else [])))
    return Plan("loop", f"{what} one step at a time ({told})")


def _no_filter(spec: CellSpec, rule_state: bool) -> str:
    """Why the rule cannot be a filter of the input."""
    program = spec.rule_type.program
    wider = [name for name, kind in spec.learned_kinds.items() if kind != "scalar"]
    if spec.scope != "drive":
        return f"the rule's scope is {spec.scope}"
    if spec.gates is not None:
        return f"the rule acts on gates {', '.join(spec.gates)} only"
    if not program.linear:
        return f"rule {spec.rule} is not linear in the drive"
    if wider:
        return f"{', '.join(wider)} is not one number"
    return "a carried rule state enters the drive" if rule_state and program.states else ""


def _no_triton(spec: CellSpec, place: Place | None) -> str:
    """Why the Triton kernels cannot run it."""
    if found := triton_obstacle(spec, torch.float32 if place is None else place.dtype):
        return found
    if place is None:
        return ""
    there, why = available(place.device)
    return ("the input is packed" if place.packed else place.obstacle) if there else why


def _no_fused(spec: CellSpec, place: Place | None, asked: bool) -> str:
    """Why the fused kernels cannot run it, or should not where nobody asked for them."""
    if bases[spec.base].family(spec.options) is None:
        return f"there is no fused kernel for base {spec.base}"
    if spec.scope != "drive" and not spec.rule_type.program.plain:
        return f"the rule's scope is {spec.scope}"
    if place is None:
        return ""
    if place.device != "cpu":
        return f"the fused kernels run on the CPU, not on {place.device}"
    if place.dtype != torch.float32:
        return f"the fused kernels are in float32, not in {str(place.dtype).removeprefix('torch.')}"
    if place.packed:
        return "the input is packed"
    if place.obstacle:
        return place.obstacle
    if place.hidden > MAX_FUSED_HIDDEN and not asked:
        return f"above {MAX_FUSED_HIDDEN} hidden units torch's products are faster"
    found = native()
    return "" if isinstance(found, Native) else f"{MISSING}: {found}"
