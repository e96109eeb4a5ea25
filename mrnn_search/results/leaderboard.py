"""Ledger → tidy pandas tables: trials, curves, leaderboard. Plain types only, one meaning a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ..cells.presets import preset
from ..cells.rules.base import STANDARD, rules
from ..cells.spec import Candidate
from ..search.controls import is_control, is_found
from ..search.ledger import CONFIRMATION, Reader, Record, TrialView
from ..search.parameter import gates_text
from ..search.replay import uncollected
from .stats import Difference, Interval, mean_interval, paired_difference

# Column -> dtype; what a candidate is. rule: a name or a formula. learned: "mu,beta:unit" (without a kind: one number a layer).
# gates: what the rule acts on, "all" or letters as "ifo".
CANDIDATE = {
    "candidate_id": "str",
    "cell_id": "str",
    "name": "str",
    "base": "str",
    "rule": "str",
    "learned": "str",
    "options": "str",
    "scope": "str",
    "gates": "str",
    "drive_bias": "str",
    "hidden_size": "int64",
    "num_layers": "int64",
    "init": "str",
    "optimizer": "str",
    "lr": "float64",
    "lr_orthogonal": "float64",
    "clip": "float64",
    "dropout": "float64",
    "batch_size": "int64",
}
TRIALS = {
    "number": "int64",
    "group": "str",
    "state": "str",
    **CANDIDATE,
    "value": "float64",
    "best_epoch": "Int64",
    "rung": "int64",
    "epochs": "int64",
    "params": "Int64",
    "seconds": "float64",
    "seed": "int64",
    "cohort": "int64",
    "execution": "str",
    "device": "str",
    "worker": "str",
    "started": "datetime64[us]",
    "finished": "datetime64[us]",
    "error": "str",
}
CURVES = {
    "group": "str",
    "trial": "int64",
    "cell_id": "str",
    "candidate_id": "str",
    "name": "str",
    "seed": "int64",
    "rung": "int64",
    "epoch": "int64",
    "step": "int64",
    "metric": "str",
    "value": "float64",
}
LEADERBOARD = {
    "rank": "int64",
    **CANDIDATE,
    "params": "int64",
    "val_mean": "float64",
    "val_low": "float64",
    "val_high": "float64",
    "test_mean": "float64",
    "test_low": "float64",
    "test_high": "float64",
    "seeds": "int64",
    "seeds_failed": "int64",
    "diff_mean": "float64",
    "diff_low": "float64",
    "diff_high": "float64",
    "epochs": "int64",
    "seconds": "float64",
    "is_baseline": "bool",
    "role": "str",
}


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame that has every column with its type, also when there are no rows; a number that a row lacks is NaN."""
    with uncollected():
        lines = [tuple(map(row.get, columns)) for row in rows]
        values = zip(*lines, strict=True) if lines else iter([()] * len(columns))
        series = {name: pd.Series(value, dtype=dtype) for (name, dtype), value in zip(columns.items(), values, strict=True)}
    return pd.DataFrame(series)


def _coefficients() -> list[str]:
    """Every coefficient that a registered rule or a formula can have: one column each, NaN where a rule has none of that name."""
    return sorted({name for rule in rules for name in rules[rule].coefficients} | STANDARD.keys())


def own_coefficients(ledger: Reader) -> list[str]:
    """Those of the rules that the study itself brings: they are registered once it is opened."""
    return sorted({name for rule in ledger.recipe.get("space", {}).get("rules", {}) for name in rules[rule].coefficients})


def columns_of(name: str, own: Iterable[str]) -> list[str]:
    """The columns of a table in this process; ``own``: `own_coefficients` of its study."""
    if name == "curves":
        return list(CURVES)
    return [*(TRIALS if name == "trials" else LEADERBOARD), *sorted({*_coefficients(), *own})]


def _candidate(c: Candidate) -> dict[str, Any]:
    """The columns of `CANDIDATE`, less the identities, and those of the coefficients that it has."""
    spec = c.spec
    return {
        "name": spec.name,
        "base": spec.base,
        "rule": spec.rule,
        "learned": ",".join(name if kind == "scalar" else f"{name}:{kind}" for name, kind in spec.learned_kinds.items()),
        "options": ",".join(f"{key}={value}" for key, value in sorted(spec.options.items())),
        "scope": spec.scope,
        "gates": gates_text(spec.base, spec.gates),
        "drive_bias": spec.drive_bias,
        "hidden_size": c.hidden_size,
        "num_layers": c.num_layers,
        "init": c.init,
        "optimizer": c.optimizer,
        "lr": _number(c.lr),
        "lr_orthogonal": _number(c.lr_orthogonal),
        "clip": _number(c.clip),
        "dropout": c.dropout,
        "batch_size": c.batch_size,
        **spec.coefficients,
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def rungs_of(attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a trial has recorded, as it was written: `mrnn_search.search.ledger.Rung`."""
    out: list[dict[str, Any]] = []
    while (rung := attrs.get(f"rung/{len(out)}")) is not None:
        out.append(rung)
    return out


def trials_frame(ledger: Reader) -> pd.DataFrame:
    """Every candidate that was screened, in the search and in the tuning of the baselines, one row each.

    ``state`` is COMPLETE (reached the last rung), PRUNED (dropped at a rung), FAIL (``error`` says why) or RUNNING;
    ``value`` the best validation metric so far; ``rung`` how many rungs it reached; ``seconds`` its training time.
    Proposals that had been there already are left out.
    """
    groups = [group for group in ledger.groups() if group != CONFIRMATION]
    rows = (_trial(group, t) for group in groups for t in ledger.records(group) if "duplicate_of" not in t.user_attrs)
    return frame_of(rows, {**TRIALS, **dict.fromkeys(_coefficients(), "float64")})


def _trial(group: str, trial: Record) -> dict[str, Any]:
    attrs = trial.user_attrs
    rungs = rungs_of(attrs)
    last = rungs[-1] if rungs else {"execution": "", "device": "", "worker": "", "stop_epoch": 0}
    return {
        **_candidate(Candidate.from_dict(attrs["candidate"])),
        **{name: attrs[name] for name in ("candidate_id", "cell_id", "seed", "cohort")},
        **{name: last.get(name) for name in ("best_epoch", "params", "execution", "device", "worker")},
        "number": trial.number,
        "group": group,
        "state": trial.state.name,
        "value": last.get("value", math.nan),
        "rung": len(rungs),
        "epochs": last["stop_epoch"],
        "seconds": sum(rung["seconds"] for rung in rungs),
        "started": trial.datetime_start,
        "finished": trial.datetime_complete,
        "error": attrs.get("error") or "",
    }


def curves_frame(ledger: Reader) -> pd.DataFrame:
    """Every learning curve in long form: one row for each trial, epoch and metric.

    ``metric`` is the benchmark's, on validation, or ``train_loss``; ``step`` counts updates. ``trial`` is unique within
    its ``group`` (search, a baseline's name, or confirmation).
    """
    metric = ledger.meta["benchmark"]["metric"]
    columns: dict[str, list[Any]] = {name: [] for name in CURVES}
    with uncollected():
        for group in ledger.groups():
            for trial in ledger.records(group):
                attrs = trial.user_attrs
                reached = rungs_of(attrs)
                if not reached:
                    continue
                name = Candidate.from_dict(attrs["candidate"]).spec.name
                known = (group, trial.number, attrs["cell_id"], attrs["candidate_id"], name, attrs["seed"])
                for number, rung in enumerate(reached):
                    for epoch, step, loss, value, _ in rung["rows"]:
                        for what, seen in ((metric, value), ("train_loss", loss)):
                            for column, item in zip(columns.values(), (*known, number, epoch, step, what, seen), strict=True):
                                column.append(item)
    return pd.DataFrame({name: pd.Series(columns.pop(name), dtype=dtype) for name, dtype in CURVES.items()})


def confirmed(ledger: Reader) -> dict[str, list[TrialView]]:
    """candidate_id -> its confirmation runs that are decided, for candidates with at least one complete run."""
    out: dict[str, list[TrialView]] = {}
    for trial in ledger.trials(CONFIRMATION):
        if not trial.running:
            out.setdefault(trial.candidate_id, []).append(trial)
    return {key: runs for key, runs in out.items() if any(t.state == "COMPLETE" for t in runs)}


def by_seed(runs: Sequence[TrialView], split: str) -> dict[int, float]:
    """seed -> the metric of the best validation epoch's weights, on ``split`` ("validation" or "test"), of complete runs."""
    done = [t for t in runs if t.state == "COMPLETE"]
    return {t.seed: t.value if split == "validation" else _number(t.rungs[-1].test_value) for t in done}


def difference(ledger: Reader, a: str, b: str) -> Difference:
    """Test metric of candidate ``a`` minus that of ``b``, paired by seed."""
    runs = confirmed(ledger)
    return paired_difference(by_seed(runs[a], "test"), by_seed(runs[b], "test"))


def reference_candidate(ledger: Reader) -> str | None:
    """candidate_id of the baseline that all else is compared with: the tuned plain LSTM, or the best baseline if that is not there."""
    sign = 1 if ledger.direction == "maximize" else -1
    lstm = preset("lstm").cell_id

    def merit(item: tuple[str, list[TrialView]]) -> tuple[bool, float]:
        values = list(by_seed(item[1], "validation").values())
        return item[1][0].cell_id == lstm, sign * sum(values) / len(values)

    baselines = [item for item in confirmed(ledger).items() if not is_found(item[1][0].role) and not is_control(item[1][0].role)]
    return max(baselines, key=merit)[0] if baselines else None


def leaderboard_frame(ledger: Reader) -> pd.DataFrame:
    """One row per confirmed candidate, best mean validation metric first.

    ``val_*`` and ``test_*``: mean over the fresh seeds and its 95 % Student interval (over seeds alone);
    ``diff_*``: test metric minus the tuned LSTM's, paired by seed, with its 95 % interval; ``epochs``, ``seconds``: of
    one confirmation run, mean; ``params`` counts the layer and its readout. ``seeds_failed`` runs are in no mean.
    """
    reference = reference_candidate(ledger)
    sign = -1 if ledger.direction == "maximize" else 1
    rows = []
    for key, runs in confirmed(ledger).items():
        done = [t for t in runs if t.state == "COMPLETE"]
        val, test = (mean_interval(list(by_seed(runs, split).values())) for split in ("validation", "test"))
        against = difference(ledger, key, reference) if reference not in (None, key) else None
        rows.append(
            {
                **_candidate(done[0].candidate),
                "candidate_id": key,
                "cell_id": done[0].cell_id,
                **_spread("val", val),
                **_spread("test", test),
                **_spread("diff", against),
                "params": done[0].rungs[-1].params,
                "seeds": len({t.seed for t in done}),
                "seeds_failed": len(runs) - len(done),
                "epochs": done[0].epochs,
                "seconds": sum(r.seconds for t in done for r in t.rungs) / len(done),
                "is_baseline": not is_found(done[0].role),
                "role": done[0].role,
            }
        )
    rows.sort(key=lambda row: (sign * row["val_mean"], row["candidate_id"]))
    return frame_of(
        [{"rank": n, **row} for n, row in enumerate(rows, start=1)], {**LEADERBOARD, **dict.fromkeys(_coefficients(), "float64")}
    )


def _spread(name: str, of: Interval | Difference | None) -> dict[str, float]:
    values = (math.nan,) * 3 if of is None else (of.mean, of.low, of.high)
    return dict(zip((f"{name}_mean", f"{name}_low", f"{name}_high"), values, strict=True))
