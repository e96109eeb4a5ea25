"""The recipe of a study: which space, on which benchmark, with which budget. YAML and ``--set`` in, frozen data out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from .._registry import InputError, UnknownNameError
from ..benchmarks import find_benchmark
from ..cells.presets import preset, presets
from ..cells.spec import Candidate
from .executors import RETRIES
from .files import Place, display, read_yaml, resolve, shown
from .matching import Matching
from .overrides import diff, leaves, merged, parse_set
from .pareto import COSTS, QUALITY
from .samplers import Told, make_sampler
from .samplers.by_name import find as find_sampler
from .samplers.grid import grid_of
from .schedules import schedules
from .space import Space, load_space
from .warm import PAPER, start_points

__all__ = ["Baselines", "Budget", "Confirmation", "Limits", "Recipe", "Rungs", "Search", "diff", "load_recipe", "parse_set"]

ALLOWED_NAME = 'a name of letters, digits, ".", "_", "-" that starts with a letter or digit, at most 64, no ".."'
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a study: it becomes a folder's name
MESSAGES = 5  # problems that are reported at once
MATCHED_DRAWS = 64  # of the space, that must be able to have the recipe's number of parameters
NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})


def _whole(least: int, **more: Any) -> Any:
    """A field for a whole number; the description is what messages say is allowed."""
    return Field(ge=least, description=f"a whole number >= {least}", **more)


class _Part(BaseModel):
    """Every field's ``description`` says what is allowed; the message of a wrong value is made of it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Budget(_Part):
    """How much is searched.

    Attributes:
        trials: candidates; baselines and confirmation are not counted.
    """

    trials: int = _whole(1)


def _plain(value: Any) -> bool:
    """Is it JSON data?"""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _each_known(cells: tuple[str, ...], *more: str) -> tuple[str, ...]:
    """Names of presets, or one of ``more``, each once."""
    for name in cells:
        if name not in presets() and name not in more:
            raise UnknownNameError("cell", name, [*presets(), *more])
    if len(set(cells)) < len(cells):
        raise ValueError
    return cells


class Start(_Part):
    """What a search begins with.

    Attributes:
        cells: names of presets, which are the first candidates; "paper" stands for those of the paper's cells that the space has.
        studies: names of studies whose best trials the sampler sees as if they had come before.
    """

    studies: tuple[str, ...] = Field(default=(), strict=False, description="a list of names of studies, each once")
    cells: tuple[str, ...] = Field(default=(), strict=False, description="paper, or a list of names of cells, each once")

    @field_validator("studies")
    @classmethod
    def _safe_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or not all(map(is_name, value)):
            raise ValueError
        return value

    @field_validator("cells", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return (value,) if value == PAPER else value

    @field_validator("cells")
    @classmethod
    def _known_cells(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _each_known(value, PAPER)


class Search(_Part):
    """How candidates are found.

    Attributes:
        sampler: a registered sampler's name, or ``optuna:NAME``.
        options: arguments of the sampler.
        start: what it begins with.
        objectives: the quality, and what is to be small beside it: "parameters" (how many numbers train), "seconds" (of training an
            epoch, as measured: noisy, and another machine's are others).
        cohort: candidates that are asked for, trained and compared together.
        ahead: cohorts that are on their way at the same time, so that workers do not wait for the last of one. The sampler
            proposes a cohort before it knows the results of the ``ahead - 1`` before it.
    """

    sampler: str = Field(default="tpe", description="a sampler's name")
    options: dict[str, Any] = Field(default={}, validate_default=True, description="a mapping from the sampler's options to their values")
    objectives: tuple[str, ...] = Field(
        default=(QUALITY,), strict=False, description=f"a list that begins with {QUALITY}, then any of {', '.join(COSTS)}, each once"
    )
    start: Start = Field(default=Start(), description="a mapping with cells, studies")
    cohort: int = _whole(1, default=12)
    ahead: int = _whole(1, default=2)

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        find_sampler(value)
        return value

    @field_validator("options")
    @classmethod
    def _known_options(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if not _plain(value):
            raise ValueError
        if "sampler" in info.data:
            make_sampler(info.data["sampler"], 0, value)
        return value

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value[:1] != (QUALITY,) or len(set(value)) < len(value) or not set(value[1:]) <= COSTS.keys():
            raise ValueError
        if len(value) > 1 and {"sampler", "options"} <= info.data.keys():
            sampler = make_sampler(info.data["sampler"], 0, info.data["options"])
            if isinstance(sampler, Told) and not sampler.several:
                raise InputError(f"sampler {info.data['sampler']} has one objective, found {', '.join(value)}; use nsga2 or tpe")
        return value


class Rungs(_Part):
    """When candidates are compared and the worst of them dropped.

    Attributes:
        epochs: finished epochs at each rung.
        keep: share of the candidates at a rung that goes on.
        method: how: "halving", "asha" or "hyperband", see `mrnn_search.search.schedules`.
        curve_stop: also drop candidates whose learning curve can't reach the best any more.
    """

    # strict=False: YAML has lists, not tuples; the numbers inside stay strict
    epochs: tuple[int, ...] = Field(strict=False, min_length=1, description="a list of rising whole numbers >= 1, e.g. [1, 3, 8]")
    keep: float = Field(default=1 / 3, gt=0, le=1, description="0 < keep <= 1")
    method: str = Field(default="halving", description="a schedule's name")
    curve_stop: bool = Field(default=False, description="true or false")

    @field_validator("method")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        if value not in schedules:
            raise UnknownNameError("schedule", value, schedules)
        return value

    @field_validator("epochs")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(a >= b for a, b in zip((0, *value), value, strict=False)):
            raise ValueError
        return value


EQUAL: Final = "equal"  # baselines.trials: as many as the search has


def _trials_or_equal(value: Any) -> Any:
    if value != EQUAL and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError
    return value


class Baselines(_Part):
    """Named cells that are tuned over the space's training hyper-parameters and confirmed with the best.

    Attributes:
        cells: names of presets.
        trials: candidates for each of them, or "equal": as many as the search has. With fewer the leaderboard says so
            (`mrnn_search.results.protocol`).
    """

    cells: tuple[str, ...] = Field(default=("lstm", "gru"), strict=False, description="a list of names of cells, each once")
    trials: Annotated[int | Literal["equal"], PlainValidator(_trials_or_equal)] = Field(
        default=EQUAL, description=f"a whole number >= 1, or {EQUAL}"
    )

    @field_validator("cells")
    @classmethod
    def _known_cells(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _each_known(value)


class Confirmation(_Part):
    """The best candidates and the baselines, trained again; only here is the test split read.

    Attributes:
        top: the search's best candidates that are confirmed.
        seeds: fresh seeds for each.
        epochs: of each training run; if left out, the last rung's.
    """

    top: int = _whole(1, default=3)
    seeds: int = _whole(2, default=5)
    epochs: int = _whole(1)


class Limits(_Part):
    """What a candidate may take.

    Attributes:
        lane_seconds: seconds from one rung to the next; None: no limit.
    """

    lane_seconds: float | None = Field(default=None, gt=0, description="a number of seconds > 0, or null")


class WorkerResources(_Part):
    """What the study's workers are given; options of ``run`` come first. How a study is run is not what it is: the ledger does not know it.

    Attributes:
        workers, cpus, gpus, retries: see `mrnn_search.search.executors.Resources`.
    """

    workers: int | None = Field(default=None, ge=1, description="a whole number >= 1, or null")
    cpus: float = Field(default=1.0, gt=0, description="a number > 0")
    gpus: float | None = Field(default=None, gt=0, le=1, description="0 < gpus <= 1, or null")
    retries: int = Field(default=RETRIES, ge=0, description="a whole number >= 0")


def is_name(text: str) -> bool:
    """May a study have this name? It is a folder's name as well."""
    return NAME.fullmatch(text) is not None and ".." not in text


def check_name(text: str) -> str:
    """``text``, if a study may have this name.

    Raises:
        InputError: it may not.
    """
    if not is_name(text):
        raise InputError(f'found "{text}", allowed: a study\'s folder, or {ALLOWED_NAME}', "study")
    return text


class Recipe(_Part):
    """One study.

    Attributes:
        name: of the study, and of its folder.
        description: one line.
        space: what may be searched.
        benchmark: a registered benchmark's name, or NAME:ARGUMENT ("copying:200").
        data: folder of the user's data; None for data that a package ships.
        seed: everything random in the study follows from it.
        match_parameters: how many parameters each candidate and baseline is to have, by its hidden size; None: as the space says.
        controls: are the finalists compared with what may explain their gain (`mrnn_search.cells.controls`)?
        budget, search, rungs, baselines, confirmation, limits, resources: see their classes.
    """

    name: str = Field(description=ALLOWED_NAME)
    description: str = Field(default="", description="text")
    space: InstanceOf[Space] = Field(description="a search space's name, its path, or a mapping with parameters")
    benchmark: str = Field(description="a benchmark's name")
    data: str | None = Field(default=None, min_length=1, description="a folder, or null")
    seed: int = Field(default=0, ge=0, lt=2**63, description="a whole number, 0 <= seed < 2**63")
    match_parameters: int | None = Field(default=None, ge=1, lt=2**63, description="a whole number >= 1, or null")
    controls: bool = Field(default=False, description="true or false")
    budget: Budget = Field(description="a mapping with trials")
    search: Search = Field(default=Search(), description="a mapping with sampler, options, objectives, start, cohort, ahead")
    rungs: Rungs = Field(description="a mapping with epochs, keep, method, curve_stop")
    baselines: Baselines = Field(default=Baselines(), description="a mapping with cells, trials")
    confirmation: Confirmation = Field(description="a mapping with top, seeds, epochs")
    limits: Limits = Field(default=Limits(), description="a mapping with lane_seconds")
    resources: WorkerResources = Field(default=WorkerResources(), description="a mapping with workers, cpus, gpus, retries")

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError
        return value

    @field_validator("benchmark")
    @classmethod
    def _known_benchmark(cls, value: str) -> str:
        find_benchmark(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _confirm_at_the_last_rung(cls, data: Any) -> Any:
        if not _epochs_left_out(data) or not isinstance(data.get("rungs"), Mapping):
            return data
        epochs = data["rungs"].get("epochs")
        if not isinstance(epochs, (list, tuple)) or not epochs:
            return data
        return {**data, "confirmation": {**data.get("confirmation", {}), "epochs": epochs[-1]}}

    @model_validator(mode="after")
    def _search_fits_the_space(self) -> Recipe:
        if self.search.sampler == "grid":
            _at("search.sampler", lambda: grid_of(self.space, 0))
        if self.search.start.studies and len(self.search.objectives) > 1:
            raise InputError("other studies hand on their quality alone; allowed with objectives: [quality]", "search.start.studies")
        _at("search.start.cells", lambda: start_points(self.space, self.search.start.cells))
        if self.match_parameters is not None:
            _at("match_parameters", lambda: self.space.matched(Matching(1, 1, 1)))
        return self

    @property
    def baseline_trials(self) -> int:
        """Candidates for each baseline, and for each control."""
        return self.budget.trials if self.baselines.trials == EQUAL else self.baselines.trials

    def matched(self, facts: Mapping[str, Any]) -> Recipe:
        """The same with a space that chooses hidden sizes, where it has `match_parameters`.

        Args:
            facts: ``input_size``, ``output_size`` and ``vocabulary`` of the benchmark.

        Raises:
            InputError: a baseline, or a cell of the space, cannot have that few parameters.
        """
        if self.match_parameters is None:
            return self
        matching = Matching.of(self.match_parameters, facts)
        space = self.space.matched(matching)
        matching.check(map(Candidate, map(preset, self.baselines.cells)))
        space.draw(MATCHED_DRAWS, 0)
        return self.model_copy(update={"space": space})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data with every default filled in and the space's content, ``resources`` left out; `from_dict` reads it back."""
        return {**self.model_dump(mode="json", exclude={"space", "resources"}), "space": self.space.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str | Place = "recipe") -> Recipe:
        """A recipe from plain data; inverse of `to_dict`.

        Args:
            data: as in a YAML file, with a name.
            where: file for messages.

        Raises:
            InputError: the first few things that are wrong, a line each: where, what was found, what is allowed.
        """
        place = where if isinstance(where, Place) else Place(where)
        full = dict(data)
        if isinstance(full.get("space"), (str, Mapping)):
            full["space"] = _space(full["space"], place.at("space"))
        try:
            return cls.model_validate(full)
        except ValidationError as error:
            problems = [_explain(e, place) for e in error.errors(include_url=False) if not _follows(e, full)]
        if len(problems) == 1:
            raise problems[0]
        more = [f"and {len(problems) - MESSAGES} more"] if len(problems) > MESSAGES else []
        raise InputError("\n".join([*map(str, problems[:MESSAGES]), *more]))


def load_recipe(name_or_path: str, overrides: Mapping[str, Any] = NO_OVERRIDES, leave_out: Sequence[str] = ()) -> Recipe:
    """The recipe in a file.

    Args:
        name_or_path: "quickstart", or the path of a YAML file.
        overrides: nested data that replaces values of the file, e.g. ``{"budget": {"trials": 64}}``.
        leave_out: keys of the file that are for others.

    Raises:
        InputError: no such file, or something in it (or in the search space that it names) is wrong.
    """
    path = resolve("trials", name_or_path)
    data = {"name": path.stem, **{key: value for key, value in read_yaml(path).items() if key not in leave_out}}
    if isinstance(overrides.get("space"), Mapping) and isinstance(data.get("space"), str):
        space = resolve("search_spaces", data["space"], str(Place(display(path), "space")))
        data["space"] = {"name": space.stem, **read_yaml(space)}  # so that the overrides have something to change
    overridden = tuple(".".join(keys) for keys, _ in leaves(overrides))
    return Recipe.from_dict(merged(data, overrides), Place(display(path), "", overridden))


def _space(value: str | Mapping[str, Any], place: Place) -> Space:
    if isinstance(value, Mapping):
        return Space.from_dict(value, where=place)
    resolve("search_spaces", value, str(place))  # a wrong name is the recipe's mistake; what is wrong inside is the space's
    return load_space(value)


def _at(path: str, check: Callable[[], object]) -> None:
    """Raises:
    InputError: that of ``check``, at ``path``.
    """
    try:
        check()
    except InputError as error:
        raise InputError(error.message, path) from None


def _epochs_left_out(data: Any) -> bool:
    """Does the recipe leave ``confirmation.epochs`` to its default?"""
    confirmation = data.get("confirmation", {}) if isinstance(data, Mapping) else None
    return isinstance(confirmation, Mapping) and "epochs" not in confirmation


def _follows(error: ErrorDetails, data: Mapping[str, Any]) -> bool:
    """Is this problem only the shadow of one with the rungs, which ``confirmation.epochs`` is taken from?"""
    return error["loc"] in (("confirmation",), ("confirmation", "epochs")) and _epochs_left_out(data)


def _explain(error: ErrorDetails, place: Place) -> InputError:
    """Pydantic's problem in our words."""
    model: type[BaseModel] = Recipe
    allowed = ""
    for key in error["loc"]:
        field = model.model_fields.get(str(key))
        if field is not None:
            allowed = field.description or ""
            model = field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) else model
    at = str(place.at(*error["loc"]))
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(cause.message, at if not cause.where else str(place.at(*cause.where.split("."))))
    if error["type"] == "extra_forbidden":
        return UnknownNameError("key", error["loc"][-1], model.model_fields, at)
    if error["type"] == "missing":
        return InputError(f"is missing; needed: {allowed}", at)
    return InputError(f"found {shown(error['input'])}, allowed: {allowed}", at)
