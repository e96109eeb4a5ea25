"""Cells that are tuned as the baselines are and confirmed with the finalists: controls (`controls: true`), which may explain a
finalist's gain, and guests, which are finalists of the same search on another benchmark.

Which cells these are says `mrnn_search.cells.controls`. Each is a group of the ledger of its own, named after its cell: the same
control of two finalists is tuned once, and a study that goes on with a larger budget finds it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..cells.spec import Candidate, CellSpec
from .finalists import FINALIST, best_of
from .ledger import SEARCH, Reader, TrialView
from .parameter import Choices, Constant, Range
from .space import Space

PREFIX = "control-"  # of the groups, which are the roles in the confirmation, too
GUEST = "guest-"  # likewise
GAIN = "heavy_ball.epsilon"  # of the input_gain control, whose mu is 0
SPREAD = 2.0  # its gain is searched from half to twice what lies between 1 (plain) and the finalist's own
ID = 12  # hex digits of the cell in a group's name


@dataclass(frozen=True)
class Control:
    """One control of one finalist, or one guest.

    Attributes:
        kind: "plain", "input_gain", "ema" or "bias_matched"; of a guest "guest".
        spec: the cell; of input_gain with the finalist's own steady gain, which tuning starts from.
        group: where it is tuned: a group of its own, or the baseline that it is.
    """

    kind: str
    spec: CellSpec
    group: str

    @property
    def own(self) -> bool:
        """Has it a group of its own?"""
        return is_control(self.group)

    @property
    def start(self) -> tuple[Mapping[str, Any], ...]:
        """The points of its space that are tried first."""
        return ({GAIN: self.spec.coefficients["epsilon"]},) if self.kind == "input_gain" else ()

    def space(self, space: Space, finite: bool) -> Space:
        """What it is tuned over: the training hyper-parameters of ``space``; with input_gain the gain, too.

        Args:
            finite: the gain from a few values, for samplers that want them all.
        """
        own = space.for_cell(self.spec)
        if self.kind != "input_gain":
            return own
        gain = self.spec.coefficients["epsilon"]
        low, high = min(1.0, gain) / SPREAD, max(1.0, gain) * SPREAD
        root = math.sqrt(SPREAD)
        few = sorted({1.0, gain, *(x for factor in (1 / SPREAD, 1 / root, root, SPREAD) if low <= (x := gain * factor) <= high)})
        domain = Choices(tuple(few)) if finite else Range(low, high, log=True)
        others = tuple(p for p in own.parameters if p.name != GAIN)
        (held,) = (p for p in own.parameters if p.name == GAIN and isinstance(p.domain, Constant))
        return replace(own, parameters=(*others, replace(held, domain=domain)))


def is_control(role: str) -> bool:
    """Is this the group, or the role in the confirmation, of a control?"""
    return role.startswith(PREFIX)


def is_found(role: str) -> bool:
    """Is this the role of a cell that a search found, here or on another benchmark?"""
    return role == FINALIST or role.startswith(GUEST)


def guests_to_tune(cells: Iterable[CellSpec], chosen: Iterable[tuple[str, Candidate]]) -> dict[str, Control]:
    """Group -> guest, of those ``cells`` that are not among ``chosen`` (role, candidate)."""
    there = {candidate.spec.cell_id for _, candidate in chosen}
    new = {cell_id: cell for cell in cells if (cell_id := cell.cell_id) not in there}
    return {f"{GUEST}{cell_id[:ID]}": Control("guest", cell, f"{GUEST}{cell_id[:ID]}") for cell_id, cell in new.items()}


def controls_of(spec: CellSpec, baselines: Mapping[str, str]) -> list[Control]:
    """The controls of a finalist.

    Args:
        baselines: name -> cell_id; a control that is one of them is tuned there.
    """
    names = {cell_id: name for name, cell_id in baselines.items()}
    out = []
    for kind, cell in spec.controls().items():
        cell_id = cell.cell_id
        baseline = names.get(cell_id) if kind != "input_gain" else None
        out.append(Control(kind, cell, baseline or f"{PREFIX}{kind}-{cell_id[:ID]}"))
    return out


def controls_to_tune(chosen: Iterable[tuple[str, Candidate]], baselines: Mapping[str, str]) -> dict[str, Control]:
    """Group -> control, of every finalist among ``chosen`` (role, candidate); those of baselines left out."""
    finalists = [candidate.spec for role, candidate in chosen if role == FINALIST]
    return {c.group: c for spec in finalists for c in controls_of(spec, baselines) if c.own}


def tuned(control: Control, trials: Sequence[TrialView], search: Sequence[TrialView], direction: str) -> Candidate | None:
    """A control at its best: of its own tuning, and where its cell is fixed of the search, too; None: no trial has a value."""
    found = best_of(trials, search, None if control.kind == "input_gain" else control.spec.cell_id, direction)
    return None if found is None else found.candidate


def tuned_in(ledger: Reader, control: Control) -> Candidate | None:
    """`tuned`, from the ledger."""
    return tuned(control, ledger.trials(control.group), ledger.trials(SEARCH), ledger.direction)
