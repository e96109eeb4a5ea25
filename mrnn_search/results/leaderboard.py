"""Ledger → tidy pandas tables: trials, curves, leaderboard. Their columns: `mrnn_search.results.columns`, `docs/tables.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..cells.presets import preset
from ..cells.spec import Candidate
from ..search.controls import is_control, is_found
from ..search.ledger import CONFIRMATION, Reader, Record, TrialView
from ..search.parameter import gates_text
from ..search.replay import uncollected
from .columns import CURVES, LEADERBOARD, TRIALS, coefficients, frame_of
from .convergence import Array, convergence, final
from .selection import cross_fitted, means, oriented, p_against, probability_of_best, tied_with, winner
from .stats import CLAIM_SEEDS, Difference, Interval, mean_interval, paired_difference

Runs = Mapping[str, Sequence[TrialView]]  # candidate_id -> its confirmation runs that are decided


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
    return frame_of(rows, {**TRIALS, **dict.fromkeys(coefficients(), "float64")})


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


def reference_candidate(ledger: Reader) -> str | None:
    """candidate_id of the baseline that all else is compared with: the tuned plain LSTM, or the best baseline if that is not there."""
    lstm = preset("lstm").cell_id
    runs = {key: of for key, of in confirmed(ledger).items() if not is_found(of[0].role) and not is_control(of[0].role)}
    if not runs:
        return None
    merits = dict(zip(runs, means(_scores(runs, "validation", ledger.direction)), strict=True))
    return max(runs, key=lambda key: (runs[key][0].cell_id == lstm, merits[key]))


def _scores(runs: Runs, split: str, direction: str) -> Array:
    """(cells, seeds), larger is better, -inf where a run diverged, NaN where there is none."""
    found = [by_seed(of, split) for of in runs.values()]
    seeds = sorted({seed for scores in found for seed in scores})
    there = np.array([[seed in scores for seed in seeds] for scores in found])
    values = np.array([[scores.get(seed, 0.0) for seed in seeds] for scores in found], dtype=np.float64)
    return np.where(there, oriented(values, direction), np.nan)


def standings(runs: Runs, reference: str | None, direction: str) -> dict[str, dict[str, Any]]:
    """candidate_id -> its place among the others, best mean validation metric first; of equal ones by candidate_id.

    The winner is chosen, and others told apart from it, on validation; only ``p_value``, of the difference to ``reference``, is of test.
    Controls have none, and do not count in its correction: they are there to be compared with their finalists.
    """
    keys = sorted(runs)
    runs = {key: runs[key] for key in keys}
    validation, test = (_scores(runs, split, direction) for split in ("validation", "test"))
    best = winner(validation)
    p_best = p_against(validation, best)
    control = np.array([is_control(of[0].role) for of in runs.values()])
    candidates = np.where(control[:, None], np.nan, test)
    p_value = p_against(candidates, np.array(keys.index(reference))) if reference in keys else np.full(len(keys), np.nan)
    columns = {
        "tied_with_best": tied_with(p_best, best),
        "p_best": p_best,
        "prob_best": probability_of_best(validation),
        "p_value": p_value,
    }
    places = {key: {name: column[at].item() for name, column in columns.items()} for at, key in enumerate(keys)}
    return {keys[at]: places[keys[at]] for at in np.argsort(-means(validation), kind="stable")}


def selected_test(ledger: Reader) -> float:
    """The test metric that the choice on validation leads to, without the luck of the winner's seeds: `selection.cross_fitted`.

    NaN if fewer than two cells or seeds can be compared, or a chosen run diverged.
    """
    runs = confirmed(ledger)
    if len(runs) < 2:
        return math.nan
    validation, test = (_scores(runs, split, ledger.direction) for split in ("validation", "test"))
    common = ~np.isnan(validation).any(axis=0)
    if common.sum() < 2:
        return math.nan
    mean = float(cross_fitted(validation[:, common], test[:, common]).mean())
    return math.nan if not math.isfinite(mean) else mean if ledger.direction == "maximize" else -mean


def _learning(done: Sequence[TrialView]) -> tuple[Array, Array]:
    """Validation metric and seconds of every epoch, both (seeds, epochs)."""
    runs = [[row[3:5] for rung in t.rungs for row in rung.rows] for t in done]
    rows = np.array([run[: min(map(len, runs))] for run in runs], dtype=np.float64).reshape(len(runs), -1, 2)
    return rows[..., 0], rows[..., 1]


def leaderboard_frame(ledger: Reader) -> pd.DataFrame:
    """One row per confirmed candidate, best mean validation metric first; `docs/tables.md` describes every column.

    ``val_*`` and ``test_*``: mean over the fresh seeds and its 95 % interval (over seeds alone); ``diff_*``: test metric minus the
    tuned LSTM's, paired by seed, with its 95 % interval, and ``p_value`` of it, Holm-corrected over the cells compared;
    ``tied_with_best``: cannot be told apart from rank 1 on validation; ``evidence``: "screening" with fewer than `CLAIM_SEEDS` seeds.
    ``params`` counts the layer and its readout. ``seeds_failed`` runs are in no mean.
    """
    runs, reference = confirmed(ledger), reference_candidate(ledger)
    complete = {key: [t for t in of if t.state == "COMPLETE"] for key, of in runs.items()}
    threshold = math.nan if reference is None else final(_learning(complete[reference])[0], ledger.direction)
    rows = []
    for place, (key, standing) in enumerate(standings(runs, reference, ledger.direction).items() if runs else (), start=1):
        done = complete[key]
        val, test = (mean_interval(list(by_seed(done, split).values())) for split in ("validation", "test"))
        against = None if reference in (None, key) else paired_difference(by_seed(done, "test"), by_seed(complete[reference], "test"))
        speed = convergence(*_learning(done), threshold, ledger.direction)
        rows.append(
            {
                **_candidate(done[0].candidate),
                **standing,
                "rank": place,
                "candidate_id": key,
                "cell_id": done[0].cell_id,
                **_spread("val", val),
                **_spread("test", test),
                **_spread("diff", against),
                "params": done[0].rungs[-1].params,
                "seeds": val.n,
                "seeds_failed": len(runs[key]) - len(done),
                "evidence": "confirmed" if val.n >= CLAIM_SEEDS else "screening",
                "threshold": threshold,
                "epochs_to_threshold": speed.epochs,
                "seconds_to_threshold": speed.seconds,
                "curve_mean": speed.curve_mean,
                "epochs": done[0].epochs,
                "seconds": sum(r.seconds for t in done for r in t.rungs) / len(done),
                "is_baseline": not is_found(done[0].role),
                "role": done[0].role,
            }
        )
    return frame_of(rows, {**LEADERBOARD, **dict.fromkeys(coefficients(), "float64")})


def _spread(name: str, of: Interval | Difference | None) -> dict[str, float]:
    values = (math.nan,) * 3 if of is None else (of.mean, of.low, of.high)
    return dict(zip((f"{name}_mean", f"{name}_low", f"{name}_high"), values, strict=True))
