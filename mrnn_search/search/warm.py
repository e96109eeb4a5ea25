"""A warm start: named cells as the first candidates of a study, and the best trials of other studies as if they had come before."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from .._registry import InputError
from ..cells.presets import preset
from ..cells.spec import CellSpec
from .files import shown
from .flat import Flat, distributions, fits, only_value
from .parameter import Value, active, cell
from .shown import standing
from .space import Space, cell_values

PAPER = "paper"
HANDED_ON = 100  # trials of each other study
PAPERS_CELLS = (  # whose optimizer's rule is the paper's; as its tables have them
    "momentum_lstm",
    "adam_lstm",
    "rmsprop_lstm",
    "nesterov_lstm",
    "momentum_dtriv",
    "adam_dtriv",
    "rmsprop_dtriv",
    "nesterov_dtriv",
)


def start_points(space: Space, cells: Sequence[str]) -> list[Mapping[str, Value]]:
    """The points of a space that are named cells; how they are trained is left open.

    Args:
        cells: names of presets; "paper" stands for those of the paper's cells that the space has.

    Raises:
        UnknownNameError: there is no such cell.
        InputError: the space does not have one of them, and why; or none of the paper's.
    """
    points = {name: point_of(space, preset(name), name) for name in cells if name != PAPER}
    if PAPER in cells:
        reasons = []
        for name in PAPERS_CELLS:
            try:
                points.setdefault(name, point_of(space, preset(name), name))
            except InputError as error:
                reasons.append(error.message)
        if len(reasons) == len(PAPERS_CELLS):
            raise InputError(f"none of the paper's cells is in the space; {reasons[0]}")
    return list(points.values())


def point_of(space: Space, spec: CellSpec, name: str) -> Mapping[str, Value]:
    """The values of the parameters that make the cell.

    Raises:
        InputError: the space does not have it: what would have to be different.
    """
    names = {p.name for p in space.parameters}
    flat, wanted, point = distributions(space), cell_values(spec, names), dict[str, Value]()
    for parameter in space.visited:
        key = parameter.name
        if parameter.target.role == "field" or not active(parameter, point):
            continue
        point[key] = wanted.get(key) if key in flat else only_value(parameter.domain)
        if key in flat and not fits(flat[key], point[key]):
            allowed = shown(parameter.domain.to_dict())
            raise InputError(f'cell "{name}" is not in the space: it has {key} = {shown(point[key])}, the space {allowed}')
    found = cell(point)
    if found.cell_id != spec.cell_id:
        raise InputError(f'cell "{name}" is not in the space: it is {spec.name}, the nearest there is {found.name}')
    return {key: value for key, value in point.items() if key in flat}


def best_trials(trials: Sequence[FrozenTrial], direction: str) -> list[dict[str, Any]]:
    """What another study hands on: its best complete trials as plain data, which the new study keeps.

    The other study may go on, or be deleted: what a sampler begins with stays what it was.

    Args:
        trials: of the other study's search.
        direction: of both.
    """
    complete = [(rank, t.number, t) for t in trials if t.state == TrialState.COMPLETE and (rank := standing(t, direction == "maximize"))]
    best = [t for _, _, t in heapq.nsmallest(HANDED_ON, complete)]
    return [{"params": t.params, "candidate_id": t.user_attrs["candidate_id"], "value": t.value} for t in best]


def prior_trials(handed_on: Sequence[Mapping[str, Any]], space: Space) -> list[FrozenTrial]:
    """The trials that were handed on and are candidates of the space, for a `Proposer`; the best is the youngest.

    A trial is one of them if the space makes of its values the candidate that it was. The others are left out.
    """
    flat = distributions(space)
    out = []
    for told in reversed(handed_on):
        values = _replayed(space, flat, told["params"])
        if values is None or space.candidate(values).candidate_id != told["candidate_id"]:
            continue
        params = {name: value for name, value in values.items() if name in flat}
        out.append(create_trial(value=told["value"], params=params, distributions={name: flat[name] for name in params}))
    for age, trial in enumerate(reversed(out), start=1):
        trial.number = -age  # before the study's own
    return out


def _replayed(space: Space, flat: Flat, params: Mapping[str, Any]) -> dict[str, Value] | None:
    """The values of all active parameters; None: one has a value that the space has not."""
    values: dict[str, Value] = {}
    for parameter in space.visited:
        name = parameter.name
        if not active(parameter, values):
            continue
        if name in flat and (name not in params or not fits(flat[name], params[name])):
            return None
        values[name] = params[name] if name in flat else only_value(parameter.domain)
    return values
