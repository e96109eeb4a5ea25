"""What a cell must be compared with before its rule gets the credit.

Much of what momentum was said to do, an input gain does, or a shifted forget bias (`docs`: the paper's own ablations). A control
keeps one of these and leaves the rule out.
"""

from __future__ import annotations

import math

from .algebra import spec_has_drive_bias
from .bases.base import bases
from .formula.run import run_step
from .spec import CellSpec

CONTROLS = ("plain", "input_gain", "ema", "bias_matched")
STEPS = 8_000  # at most, until a rule stands still: of a decay of 0.999, 3e-4 is left
LARGEST_GAIN = 100.0  # above, a rule has no steady state to speak of: adabelief divides a steady drive by its guard alone
PERIOD = 840  # steps over which scheduled rules are averaged: a multiple of every restart up to 8, of 10, 12, 14, 15, 20, 40 …


def steady_gain(spec: CellSpec, drive: float = 1.0) -> float:
    """What the rule makes of a drive that has been ``drive`` for long, divided by ``drive``; nan where it makes no number of it.

    ``epsilon / (1 - mu)`` for heavy ball; rules that divide by the drive's own size depend on ``drive``.
    """
    try:
        return float(f"{_settled(spec, drive) / drive:.10g}")  # no more digits than it has settled to
    except (ArithmeticError, ValueError, TypeError):  # Python's own of 1 / 0, log(-1) and what has become complex
        return math.nan


def _settled(spec: CellSpec, drive: float) -> float:
    program = spec.rule_type.program
    held: tuple[float, ...] = (0.0,) * len(program.states)
    d = total = 0.0
    for t in range(1, 3 * PERIOD if program.timed else STEPS):
        d, new = run_step(program, spec.coefficients, drive, held, t, 0.0)
        if not program.timed and all(abs(a - b) <= 1e-12 * abs(a) for a, b in zip(new, held, strict=True)):
            break
        held = new
        total += d if t >= 2 * PERIOD else 0.0
    return total / PERIOD if program.timed else d


def matched_forget_bias(spec: CellSpec) -> float:
    """Initial value for both forget biases of a plain lstm at whose sum the cell settles: ``(b_hh + gain b_ih) / 2``."""
    b = float(spec.options["forget_bias"])
    return b * (1 + steady_gain(spec, b)) / 2 if b else 0.0


def controls(spec: CellSpec) -> dict[str, CellSpec]:
    """Control -> cell; those that make sense for the cell and are not the cell itself.

    * "plain": the base alone.
    * "input_gain": the drive scaled by what the rule scales a steady drive of 1 by; no memory.
    * "ema": momentum at gain 1 (epsilon = 1 - mu), so that only memory changes; for rules with a mu.
    * "bias_matched": a plain lstm whose forget bias starts where the rule would take it.
    """
    plain = CellSpec(spec.base, options=spec.options)
    if plain.cell_id == spec.cell_id:
        return {}
    made = {"plain": plain}
    if spec.scope == "drive":
        where = {"options": spec.options, "gates": spec.gates, "drive_bias": spec.drive_bias}
        gain = steady_gain(spec)
        if 1 / LARGEST_GAIN <= gain <= LARGEST_GAIN:
            made["input_gain"] = CellSpec(spec.base, "heavy_ball", {"mu": 0.0, "epsilon": gain}, **where)  # type: ignore[arg-type]
        if "mu" in spec.coefficients:
            made["ema"] = CellSpec(spec.base, "ema", {"mu": spec.coefficients["mu"]}, **where)  # type: ignore[arg-type]
        inside = spec.drive_bias == "inside" and spec_has_drive_bias(spec) and (spec.gates is None or "f" in spec.gates)
        if "forget_bias" in bases[spec.base].options and inside:
            matched = matched_forget_bias(spec)
            if abs(matched) <= LARGEST_GAIN:
                made["bias_matched"] = CellSpec(spec.base, options={**spec.options, "forget_bias": matched})
    seen = {spec.cell_id}
    out = {}
    for name, control in made.items():
        if control.cell_id not in seen:
            seen.add(control.cell_id)
            out[name] = control
    return out
