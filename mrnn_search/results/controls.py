"""How much of a finalist's gain over its plain cell survives each control (`mrnn_search.search.controls`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..cells.presets import preset
from ..search.controls import controls_of, tuned_in
from ..search.finalists import FINALIST
from ..search.ledger import Reader, TrialView
from .columns import frame_of
from .intervals import CONFIDENCE
from .leaderboard import by_seed, confirmed
from .stats import CLAIM_SEEDS, Difference, paired_difference

CONTROLS = {
    "candidate_id": "str",
    "cell_id": "str",
    "name": "str",
    "control": "str",
    "control_id": "str",
    "control_name": "str",
    "gain_mean": "float64",
    "gain_low": "float64",
    "gain_high": "float64",
    "left_mean": "float64",
    "left_low": "float64",
    "left_high": "float64",
    "share": "float64",
    "share_low": "float64",
    "share_high": "float64",
    "seeds": "int64",
    "finding": "str",
}
NO_GAIN, WORSE, MISSING = "no gain to explain", "worse than the plain cell", "not confirmed"
EXPLAINS, SURVIVES, UNCLEAR = "does as well", "the gain survives", "cannot be told"
WORDS = {"input_gain": "input scale", "bias_matched": "a shifted forget bias", "ema": "memory at gain 1"}


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means and its 95 % interval; all NaN where the denominator cannot be told from 0."""

    value: float
    low: float
    high: float


def ratio_of_means(numerator: Mapping[int, float], denominator: Mapping[int, float], confidence: float = CONFIDENCE) -> Ratio:
    """Fieller's interval of ``mean(numerator) / mean(denominator)``, paired by seed (Fieller, Some problems in interval estimation,
    JRSS B 16, 1954): every ratio r for which Student's t-test of ``numerator - r * denominator`` against 0 does not reject.

    Where the denominator's own interval includes 0, that set has no ends: nothing is divided then.

    Args:
        numerator, denominator: value of each seed; the seeds that both have count.
        confidence: 0 < confidence < 1.
    """
    seeds = sorted(numerator.keys() & denominator.keys())
    x, y = (np.array([values[seed] for seed in seeds], dtype=np.float64) for values in (numerator, denominator))
    n = len(seeds)
    if n < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Ratio(math.nan, math.nan, math.nan)
    t2 = float(stdtrit(n - 1, (1 + confidence) / 2)) ** 2
    (xx, xy), (_, yy) = np.cov(x, y) / n
    a, b, c = y.mean() ** 2 - t2 * yy, x.mean() * y.mean() - t2 * xy, x.mean() ** 2 - t2 * xx
    if a <= 0:
        return Ratio(math.nan, math.nan, math.nan)
    half = math.sqrt(max(0.0, b * b - a * c))
    return Ratio(float(x.mean() / y.mean()), float((b - half) / a), float((b + half) / a))


def controls_frame(ledger: Reader) -> pd.DataFrame:
    """One row for each confirmed finalist and each of its controls, in the order of the confirmation.

    All of test metrics, paired by seed, the sign turned where lower is better, so that more is better; intervals of 95 %:
    ``gain_*``: the finalist minus its tuned plain cell; ``left_*``: the finalist minus the control; ``share_*``: left / gain, what
    part of the gain the control does not have (`ratio_of_means`), NaN where there is no gain to divide by.
    ``finding``: what that allows one to say; `NO_GAIN` where the gain's interval includes 0. Not corrected for their number.
    """
    return frame_of(_rows(ledger), CONTROLS)


def controls_verdicts(table: pd.DataFrame) -> list[str]:
    """A line for each finalist of a `controls_frame`: what its gain is."""
    if table.empty:
        return []
    return [_verdict(rows) for _, rows in table.groupby("candidate_id", sort=False)]


def _rows(ledger: Reader) -> Iterator[dict[str, Any]]:
    if not ledger.recipe.get("controls"):
        return
    runs = confirmed(ledger)
    baselines = {name: preset(name).cell_id for name in ledger.recipe["baselines"]["cells"]}
    for key, own in runs.items():
        if own[0].role != FINALIST:
            continue
        spec = own[0].candidate.spec
        known = {control.kind: tuned_in(ledger, control) for control in controls_of(spec, baselines)}
        ids = {kind: candidate.candidate_id for kind, candidate in known.items() if candidate is not None}
        for kind, candidate in known.items():
            yield {
                "candidate_id": key,
                "cell_id": own[0].cell_id,
                "name": spec.name,
                "control": kind,
                "control_id": ids.get(kind, ""),
                "control_name": "" if candidate is None else candidate.spec.name,
                **_compared(own, runs.get(ids.get("plain", "")), runs.get(ids.get(kind, "")), kind, ledger.direction),
            }


def _compared(
    own: list[TrialView], plain: list[TrialView] | None, control: list[TrialView] | None, kind: str, direction: str
) -> dict[str, Any]:
    if plain is None or control is None:
        return {"seeds": 0, "finding": MISSING}
    sign = 1 if direction == "maximize" else -1
    cell, base, other = ({seed: sign * value for seed, value in by_seed(runs, "test").items()} for runs in (own, plain, control))
    seeds = cell.keys() & base.keys() & other.keys()
    cell, base, other = ({seed: values[seed] for seed in seeds} for values in (cell, base, other))
    gain, left = paired_difference(cell, base), paired_difference(cell, other)
    share = ratio_of_means({s: cell[s] - other[s] for s in seeds}, {s: cell[s] - base[s] for s in seeds})
    if not gain.low > 0:
        share = Ratio(math.nan, math.nan, math.nan)
    return {
        **{f"gain_{name}": getattr(gain, name) for name in ("mean", "low", "high")},
        **{f"left_{name}": getattr(left, name) for name in ("mean", "low", "high")},
        **{"share": share.value, "share_low": share.low, "share_high": share.high},
        "seeds": len(seeds),
        "finding": _finding(kind, gain, left, share),
    }


def _finding(kind: str, gain: Difference, left: Difference, share: Ratio) -> str:
    if gain.high < 0:
        return WORSE
    if math.isnan(share.value):
        return NO_GAIN
    if kind == "plain" or left.low > 0:
        return SURVIVES
    return EXPLAINS if share.high < 1 else UNCLEAR


def _verdict(rows: pd.DataFrame) -> str:
    name, first, n = rows["name"].iloc[0], rows.iloc[0], int(rows["seeds"].min())
    findings = dict(zip(rows["control"], rows["finding"], strict=True))
    caution = f"; fewer than {CLAIM_SEEDS} seeds make this screening, not a result" if n < CLAIM_SEEDS else ""
    if findings.get("plain") != SURVIVES:
        gain = "" if math.isnan(first["gain_mean"]) else f" (gain {_span(first, 'gain', '+.4f')})"
        return f"{name}: {findings.get('plain', MISSING)}{gain}{caution}"
    gain = f"gain over its tuned plain cell {_span(first, 'gain', '+.4f')}"
    explained = [kind for kind in WORDS if findings.get(kind) == EXPLAINS]
    if explained:
        told = [f"{kind} {EXPLAINS}, {_share(rows, kind)} of the gain left" for kind in explained]
        return f"{name}: the gain is {' or '.join(WORDS[kind] for kind in explained)}; {'; '.join(told)}; {gain}{caution}"
    unclear = [kind for kind in WORDS if findings.get(kind) == UNCLEAR]
    if unclear:
        told = [f"{kind}, {_share(rows, kind)} left" for kind in unclear]
        return f"{name}: whether the gain is {' or '.join(WORDS[kind] for kind in unclear)} {UNCLEAR} ({'; '.join(told)}); {gain}{caution}"
    told = [f"{_share(rows, kind)} of it beside {kind}" for kind in WORDS if findings.get(kind) == SURVIVES]
    lost = [kind for kind, finding in findings.items() if finding == MISSING]
    note = f"; not confirmed: {', '.join(lost)}" if lost else ""
    return f"{name}: the gain survives every control that it has ({'; '.join(told) or 'none but plain'}){note}; {gain}{caution}"


def _share(rows: pd.DataFrame, kind: str) -> str:
    return _span(rows[rows["control"] == kind].iloc[0], "share", ".0%")


def _span(row: pd.Series, name: str, form: str) -> str:
    middle = row[name] if name == "share" else row[f"{name}_mean"]
    return f"{middle:{form}} [{row[f'{name}_low']:{form}}, {row[f'{name}_high']:{form}}]"
