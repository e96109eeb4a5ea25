"""A warm start: named cells as the first candidates of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._registry import InputError
from ..cells.presets import preset
from ..cells.spec import CellSpec
from .files import shown
from .flat import distributions, fits, only_value
from .parameter import Value, active, cell
from .space import Space, cell_values

PAPER = "paper"
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
