"""Which exact execution runs a layer, and why. Pure: looks at the spec, makes no tensor."""

from __future__ import annotations

from dataclasses import dataclass

from .._registry import SpecError, UnknownNameError
from ..cells.bases.base import bases
from ..cells.spec import CellSpec

EXECUTIONS = ("auto", "vendor", "loop", "reference")


@dataclass(frozen=True)
class Plan:
    """``kernel``: "vendor" (torch's own), "loop" (drive for all t, then one step at a time) or "reference"; ``reason``: why."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.reason}"


def plan(spec: CellSpec, execution: str = "auto", *, rule_state: bool = False) -> Plan:
    """The cheapest exact execution, or the one that was asked for.

    Args:
        execution: "auto", or the name of a kernel, which then runs or raises: nothing is swapped silently.
        rule_state: the rule starts from a given state, which enters the drive as ``μ^t v_0`` and so is not a filter of x.

    Raises:
        SpecError: ``execution`` cannot run this cell.
        UnknownNameError: there is no such execution.
    """
    if execution not in EXECUTIONS:
        raise UnknownNameError("execution", execution, EXECUTIONS)
    if execution == "reference":
        return Plan("reference", "asked for; every step of rule and base in one Python loop")
    plain = spec.rule_type.program.plain
    obstacle = ""
    if bases[spec.base].kernel(spec.options) is None:
        obstacle = f"torch has no kernel for base {spec.base}"
    elif not plain:
        obstacle = _obstacle(spec, rule_state)
    if execution == "vendor" and obstacle:
        raise SpecError(f'execution "vendor" cannot run {spec.name}: {obstacle}')
    if obstacle or execution == "loop":
        inside = spec.scope != "drive" and not plain
        what = "rule and recurrence together" if inside else "drive for all t, then"
        return Plan("loop", f"{what} one step at a time ({obstacle or 'asked for'})")
    return Plan("vendor", "plain rule" if plain else "linear rule on filtered input")


def _obstacle(spec: CellSpec, rule_state: bool) -> str:
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
