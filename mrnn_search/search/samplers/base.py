"""What a sampler is here: a function that makes an Optuna sampler for one ask, and what those that want more are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ..._registry import InputError, Registry

if TYPE_CHECKING:
    from ..space import Space

# seed, and the sampler's options by keyword: the recipe's `search.options` are checked against their names and defaults
SamplerFactory = Callable[..., BaseSampler]
samplers: Registry[SamplerFactory] = Registry("sampler", "mrnn_search.samplers")


@dataclass(frozen=True)
class Ask:
    """What one ask is about.

    Attributes:
        space: what may be proposed.
        flat: the distribution of each of its parameters that has more than one value, active or not.
        index: how many proposals this sampler made before in this study.
        seed: the study's, the same for all its asks; the sampler's own is another at each.
        objectives: how many the study has.
    """

    space: Space
    flat: Mapping[str, BaseDistribution]
    index: int
    seed: int
    objectives: int = 1


class Told(BaseSampler):
    """A sampler that is told what it is asked for, before it is asked.

    Attributes:
        memory: at most so many trials are shown to it: the best, and the latest; None: all.
        several: can a study have several objectives?
    """

    memory: int | None = None
    several: ClassVar[bool] = True
    ask: Ask

    def tell(self, ask: Ask) -> None:
        """Called once, before everything else."""
        self.ask = ask

    def see(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """What is to be shown of the trials that are there; called after `tell`."""
        return trials


class OnSpace(Told):
    """A sampler over all parameters of a space at once; what it gives to inactive ones is not used.

    Args:
        seed: of what it leaves to chance.
    """

    def __init__(self, seed: int) -> None:
        self._chance = RandomSampler(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.ask.flat)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._chance.sample_independent(study, trial, param_name, param_distribution)


def filled(trial: FrozenTrial, flat: Mapping[str, BaseDistribution], missing: Callable[[str], Any]) -> FrozenTrial:
    """A copy with a value for every parameter of ``flat``; one that a rung dropped is complete, with the value that it had there.

    That value is of fewer epochs, so the trial looks worse than it may be, never better; without it nothing would be known of
    what was dropped.

    Args:
        missing: name -> the value of a parameter that is not active.
    """
    params = {name: trial.params[name] if name in trial.params else missing(name) for name in flat}
    state, values = trial.state, trial.values
    if state == TrialState.PRUNED and trial.intermediate_values:
        state, values = TrialState.COMPLETE, [trial.intermediate_values[max(trial.intermediate_values)]]
    return FrozenTrial(
        number=trial.number,
        trial_id=trial._trial_id,
        state=state,
        value=None,
        values=values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=params,
        distributions=dict(flat),
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )


def check(name: str, value: float, least: float, most: float | None = None) -> None:
    """Raises:
    InputError: an option's value is outside what is allowed.
    """
    if value < least or (most is not None and value > most):
        allowed = f">= {least}" if most is None else f"{least} to {most}"
        raise InputError(f"{name} = {value}, allowed: {allowed}")
