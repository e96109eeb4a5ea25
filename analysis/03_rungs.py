"""What do early rungs save, and what do they cost? Searches replayed on a space whose every cell was trained in full.

    python analysis/03_rungs.py [--seeds 20] [--json FILE]
    python analysis/03_rungs.py --from STUDY      # makes analysis/data/grid.parquet of a finished study of trials/grid.yaml

`analysis/data/grid.parquet` has the learning curve of every candidate of that recipe's space: 12 epochs on digits-rows. A replayed
search is a real study (its driver, its schedule, its sampler, its ledger, the latter in memory) whose packs look results up
instead of training. For each setting: epochs trained, as a share of all cells' 12, and the rank of the cell that it finds, by its
value after 12 epochs, as a share of all cells; median and worst quarter over the seeds of the search.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import InMemoryStorage

import mrnn_search as ms
from mrnn_search.engine.train import Epoch, LaneOutcome
from mrnn_search.search.checkpoints import Checkpoints
from mrnn_search.search.driver import Driver
from mrnn_search.search.executors import Executor
from mrnn_search.search.finalists import finalists
from mrnn_search.search.ledger import SEARCH, Ledger
from mrnn_search.search.packs import Lane, LaneResult, Pack, PackResult
from mrnn_search.search.recipe import Recipe, load_recipe

HERE = Path(__file__).parent
DATA, RECIPE = HERE / "data" / "grid.parquet", HERE.parent / "trials" / "grid.yaml"
RUNGS = [1, 4, 12]
FIFTH = 0.2
Curves = dict[str, list[float]]  # candidate -> validation accuracy by epoch


@dataclass(frozen=True)
class Setting:
    """One way to search; ``trials`` as a share of the space, ``change``: of the recipe."""

    name: str
    trials: float
    change: dict[str, Any]


def _setting(name: str, trials: float, sampler: str = "grid", epochs: list[int] = RUNGS, **rungs: Any) -> Setting:
    return Setting(name, trials, {"search": {"sampler": sampler, "cohort": 16}, "rungs": {"epochs": epochs, "keep": 0.25, **rungs}})


SETTINGS = [
    _setting("no rungs, a fifth of the cells", FIFTH, epochs=[12], keep=1.0),
    _setting("no rungs, a fifth of the cells, tpe", FIFTH, "tpe", epochs=[12], keep=1.0),
    _setting("no rungs, half of the cells", 0.5, epochs=[12], keep=1.0),
    _setting("halving", 1.0),
    _setting("halving, half of the cells", 0.5),
    _setting("halving, half of the cells, tpe", 0.5, "tpe"),
    _setting("asha", 1.0, method="asha"),
    _setting("asha, half of the cells", 0.5, method="asha"),
    _setting("asha, half of the cells, tpe", 0.5, "tpe", method="asha"),
    _setting("hyperband, 60 % of the cells", 0.6, method="hyperband"),
    _setting("halving at [1, 2, 4, 8, 12], half of the cells", 0.5, epochs=[1, 2, 4, 8, 12], keep=0.5),
    _setting("the same, curve_stop", 0.5, epochs=[1, 2, 4, 8, 12], keep=0.5, curve_stop=True),
    _setting("no rungs but curve_stop, half of the cells", 0.5, epochs=[4, 6, 8, 10, 12], keep=1.0, curve_stop=True),
]


class Replay(Executor):
    """Looks a lane's epochs up.

    Attributes:
        epochs: lane-epochs that would have been trained.
    """

    def __init__(self, curves: Curves) -> None:
        self.slots, self.epochs = 4, 0
        self._curves = curves
        self._waiting: list[Pack] = []

    def submit(self, pack: Pack) -> None:
        self._waiting.append(pack)

    def collect(self, timeout: float) -> list[PackResult]:
        packs, self._waiting = self._waiting, []
        return [
            PackResult(p.pack_id, tuple(self._lane(p, lane) for lane in p.lanes), "table", "table", "table" if p.read_test else None)
            for p in packs
        ]

    def _lane(self, pack: Pack, lane: Lane) -> LaneResult:
        so_far = self._curves[lane.candidate.candidate_id][: pack.stop_epoch]
        self.epochs += pack.stop_epoch - pack.start_epoch
        rows = tuple(Epoch(e, e, 0.0, so_far[e - 1], 0.0) for e in range(pack.start_epoch + 1, pack.stop_epoch + 1))
        best = max(so_far)
        return LaneResult(
            lane.key, LaneOutcome(None, rows, best, so_far.index(best) + 1, b"-", 0.0 if pack.read_test else None, 1, "table"), 0.0
        )

    def cancel(self) -> int:
        self._waiting = []
        return 0

    def close(self) -> None:
        self._waiting = []


class Weightless(Checkpoints):
    """Where there are no weights to keep."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))

    def save(self, key: str, epoch: int, data: bytes) -> None:
        """Keep nothing."""

    def load(self, key: str, epoch: int, digest: str) -> bytes:
        return b"-"

    def drop(self, key: str, *, but: int | None = None) -> None:
        """There is nothing to drop."""

    def keep_only(self, group: str) -> None:
        """There is nothing to drop."""


def replay(setting: Setting, curves: Curves, seed: int) -> tuple[float, float]:
    """Of all epochs, the share that this search trains; of all cells, the share that is better than the one it finds."""
    confirmation = {"top": 1, "seeds": 2, "epochs": RUNGS[-1]}
    change = {**setting.change, "seed": seed, "budget": {"trials": round(setting.trials * len(curves))}, "confirmation": confirmation}
    recipe: Recipe = load_recipe(str(RECIPE), change)
    ledger = Ledger.create(InMemoryStorage(), "replay", recipe.to_dict(), {}, "maximize")
    executor = Replay(curves)
    with Driver(recipe, ledger, Weightless(), lambda: executor) as driver:
        driver.run()
    trials = ledger.trials(SEARCH)
    epochs = sum(t.epochs for t in trials)
    ((_, found),) = finalists(trials, {}, {}, 1, "maximize")
    value = max(curves[found.candidate_id])
    better = sum(max(curve) > value for curve in curves.values())
    return epochs / (RUNGS[-1] * len(curves)), better / len(curves)


def read_curves() -> Curves:
    """The grid's, by candidate."""
    return {str(key): part.sort_values("epoch")["value"].tolist() for key, part in pd.read_parquet(DATA).groupby("candidate_id")}


def of_study(name: str) -> pd.DataFrame:
    """The curves of a study that trained every cell in full."""
    study = ms.load_study(name)
    trials, curves = study.trials(), study.curves()
    done = trials[(trials["state"] == "COMPLETE") & (trials["group"] == SEARCH)]
    rows = curves[(curves["group"] == SEARCH) & (curves["metric"] != "train_loss") & curves["trial"].isin(done["number"])]
    return rows[["candidate_id", "epoch", "value"]].astype({"value": "float32", "epoch": "int8"}).reset_index(drop=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--from", dest="study", help="a finished study of trials/grid.yaml")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if args.study:
        DATA.parent.mkdir(exist_ok=True)
        of_study(args.study).to_parquet(DATA)
    curves = read_curves()
    rows = []
    print(f"{len(curves)} cells, {RUNGS[-1]} epochs each; {args.seeds} seeds\n")
    print(f"{'setting':46} {'epochs':>8} {'rank of the found cell':>24} {'worst quarter':>14}")
    for setting in SETTINGS:
        found = [replay(setting, curves, seed) for seed in range(args.seeds)]
        cost, ranks = statistics.median(c for c, _ in found), sorted(r for _, r in found)
        row = {"setting": setting.name, "epochs": cost, "rank": statistics.median(ranks), "rank_q75": ranks[(3 * len(ranks)) // 4]}
        rows.append(row)
        print(f"{row['setting']:46} {cost:8.1%} {row['rank']:24.1%} {row['rank_q75']:14.1%}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"cells": len(curves), "seeds": args.seeds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
