"""`Study`: a search as its user sees it; `load_study` opens one. Above the ledger and the tables."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import BaseStorage
from safetensors import SafetensorError
from torch import Tensor

from .._registry import InputError, UnknownNameError
from ..cells.spec import CellSpec
from ..engine.train import best_layer
from ..search.checkpoints import Checkpoints
from ..search.controls import is_found
from ..search.journal import FileStorage
from ..search.ledger import JournalReader, Ledger, Reader, TrialView
from ..search.recipe import check_name
from ..search.storage import DAMAGE, LEDGER, POINTER, check_home, open_storage, refuse_links
from .cache import Cache, journal_key
from .columns import columns_of, own_coefficients
from .comparison import Comparison, compared
from .controls import controls_frame, controls_verdicts
from .export import export
from .leaderboard import by_seed, confirmed, curves_frame, leaderboard_frame, reference_candidate, selected_test, trials_frame
from .protocol import label, sizes, unequal_budget
from .readings import readings_frame
from .report import ReportData, write_report
from .stats import paired_difference, verdict
from .utilisation import Utilisation, utilisation
from .where import matching
from .wholeness import whole

RUNS = "MRNN_SEARCH_RUNS"  # environment variable: where studies live; ./runs without it
INTERVALS = (
    "mean and 95 % interval (studentised bootstrap) over fresh training seeds, all on the same {test} test sequences, "
    "whose own sampling is not in it"
)


def runs_folder() -> Path:
    """Where studies live: ``$MRNN_SEARCH_RUNS``, else ``runs`` in the working folder."""
    return Path(os.environ.get(RUNS, "runs"))


class Study:
    """One search: everything it shows is read from its ledger, also while another process still runs it.

    Args:
        ledger: what to read, or the journal file to read when something is asked for that no kept table has.

    Attributes:
        folder: of the study.
    """

    def __init__(self, ledger: Reader | Path, folder: Path) -> None:
        self._opened, self.folder = ledger, folder
        in_folder = isinstance(ledger, (Path, JournalReader)) or isinstance(ledger.storage, FileStorage)
        self._cache = Cache(folder, lambda: journal_key(folder / LEDGER) if in_folder else _state(self._ledger))

    @property
    def _ledger(self) -> Reader:
        opened = self._opened
        if isinstance(opened, Path):
            opened = self._opened = whole(JournalReader(opened))
        return opened

    @property
    def name(self) -> str:
        """The study's name."""
        return self._ledger.name

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.state})"

    @property
    def storage(self) -> BaseStorage:
        """Optuna's, for its own tools."""
        return self._ledger.storage

    @cached_property
    def ledger(self) -> Ledger:
        """With everything that samplers know of its trials, too."""
        return whole(Ledger(self.storage, self.name))

    @property
    def state(self) -> str:
        """ "complete", or "unfinished": the same command goes on with it."""
        return "complete" if self._ledger.complete else "unfinished"

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, complete, its space included."""
        return self._ledger.recipe

    @property
    def meta(self) -> dict[str, Any]:
        """``benchmark``: its facts and data fingerprint; ``sessions``: command, versions, machine and time of every sitting."""
        return self._ledger.meta

    def leaderboard(self, where: str | None = None) -> pd.DataFrame:
        """The confirmed cells, ranked; `docs/tables.md` has the columns.

        Args:
            where: only rows for which this holds, e.g. ``"base == 'lstm' and params < 80000"``; see `mrnn_search.results.where`.

        Raises:
            InputError: ``where`` is no such expression.
        """
        return self._table("leaderboard", leaderboard_frame, where)

    def trials(self, where: str | None = None) -> pd.DataFrame:
        """Every screened candidate; ``where`` as in `leaderboard`."""
        return self._table("trials", trials_frame, where)

    def curves(self, where: str | None = None) -> pd.DataFrame:
        """Every learning curve; ``where`` as in `leaderboard`."""
        return self._table("curves", curves_frame, where)

    def controls(self) -> pd.DataFrame:
        """What is left of each finalist's gain beside its controls; see `mrnn_search.results.controls.controls_frame`. Empty without."""
        return controls_frame(self._ledger)

    def test_readings(self) -> pd.DataFrame:
        """Every recorded reading of the test split; see `mrnn_search.results.readings.readings_frame`."""
        return readings_frame(self._ledger)

    def _table(self, name: str, make: Callable[[Reader], pd.DataFrame], where: str | None) -> pd.DataFrame:
        try:
            frame = self._cache.frame(
                name,
                lambda frame, own: list(frame.columns) == columns_of(name, own),
                lambda: (make(self._ledger), own_coefficients(self._ledger)),
            )
        except DAMAGE as error:
            if not isinstance(error, InputError):
                for group in self._ledger.groups():
                    self._ledger.trials(group)  # looks at every value, which tables do not for speed, and names the damaged one
            raise
        return frame if where is None else matching(frame, where)

    @property
    def best(self) -> CellSpec:
        """The cell at rank 1, baselines included.

        Raises:
            InputError: nothing is confirmed yet.
        """
        return self._run_of(self._candidate_at(1)).candidate.spec

    def verdict(self) -> str:
        """Whether the best found cell beats the tuned LSTM, by how much, and how sure that is; one sentence."""
        table = self.leaderboard()
        found = table[~table["is_baseline"]]
        reference = reference_candidate(self._ledger)
        if found.empty or reference is None:
            return (
                "Nothing is confirmed yet." if table.empty else "No found cell is confirmed beside a baseline: there is nothing to compare."
            )
        key = found.iloc[0]["candidate_id"]
        params = table.set_index("candidate_id")["params"]
        notes = (sizes(int(params[key]), int(params[reference])), unequal_budget(self.recipe))
        text = self._standing(key, f"The best found cell, {found.iloc[0]['name']},")
        return " ".join([text, *(f"{note[0].upper()}{note[1:]}." for note in notes if note)])

    @property
    def label(self) -> str:
        """ "result", or "screening" and what a result would need; see `mrnn_search.results.protocol`."""
        return label(self.recipe)

    def _standing(self, key: str, name: str) -> str:
        """What can be said of a cell against the tuned LSTM, as one of all that are compared with it."""
        reference = reference_candidate(self._ledger)
        if reference is None or reference == key:
            return "This is the baseline that other cells are compared with."
        table = self.leaderboard()
        p_values = dict(zip(table["candidate_id"], table["p_value"].astype(object).where(table["p_value"].notna(), None), strict=True))
        tests = [by_seed(confirmed(self._ledger)[one], "test") for one in (key, reference)]
        metric = f"test {self.meta['benchmark']['metric']}"
        gap = paired_difference(*tests)
        compared_cells = int(table["p_value"].notna().sum())
        return verdict(gap, self._ledger.direction, name, self._label(reference), metric, p_values[key], compared_cells)

    def selected_test(self) -> float:
        """The test metric that the choice of the winner on validation leads to; NaN where it cannot be told.

        The winner's own ``test_mean`` is a little optimistic, because the luck of its seeds made it the winner too. This is not: for each
        seed it is the score of the cell that wins on the others.
        """
        return selected_test(self._ledger)

    def compare(self, a: str, b: str) -> Comparison:
        """Two confirmed cells, each given as a rank, an identity (its first digits will do), its name or a baseline's.

        Raises:
            InputError: there is no such confirmed cell.
        """
        keys = self._find(a), self._find(b)
        runs = confirmed(self._ledger)
        validation, test = ((by_seed(runs[keys[0]], split), by_seed(runs[keys[1]], split)) for split in ("validation", "test"))
        names = self._label(keys[0]), self._label(keys[1])
        return compared(names, validation, test, self.meta["benchmark"]["metric"], self._ledger.direction)

    def _label(self, key: str) -> str:
        run = self._run_of(key)
        text = f"{run.candidate.spec.name} (hidden {run.candidate.hidden_size}, lr {run.candidate.lr:.3g})"
        return text if is_found(run.role) else f"the tuned {text}"

    def _run_of(self, key: str) -> TrialView:
        return confirmed(self._ledger)[key][0]

    def _candidate_at(self, rank: int) -> str:
        table = self.leaderboard()
        if table.empty:
            raise InputError("no cell is confirmed yet; run the study to its end first", f'study "{self.name}"')
        if not 1 <= rank <= len(table):
            raise InputError(f"there is no rank {rank}; allowed: 1 to {len(table)}", f'study "{self.name}"')
        return str(table.iloc[rank - 1]["candidate_id"])

    def _find(self, text: str) -> str:
        if text.isdecimal() and len(text) < 4:  # no identity is that short
            return self._candidate_at(int(text))
        table = self.leaderboard()
        named = (table["role"] == text) | (table["name"] == text)
        hits = table[table["candidate_id"].str.startswith(text) | table["cell_id"].str.startswith(text) | named]
        if hits.empty:
            known = [*table["rank"].astype(str), *table["cell_id"].str[:12], *table.loc[table["is_baseline"], "role"], *table["name"]]
            raise UnknownNameError("confirmed cell", text, set(known), f'study "{self.name}"')
        if len(hits) > 1 and hits["cell_id"].nunique() > 1:
            raise InputError(f'"{text}" begins {len(hits)} cells: {", ".join(hits["cell_id"].str[:16])}', f'study "{self.name}"')
        return str(hits.iloc[0]["candidate_id"])

    def is_newer_than(self, path: Path) -> bool:
        """Has a trial ended since ``path`` was written, or is there no such file?"""
        ends = [t.finished.timestamp() for group in self._ledger.groups() for t in self._ledger.trials(group) if t.finished is not None]
        return not path.exists() or path.stat().st_mtime < max(ends, default=0.0)

    def report(self, path: str | Path | None = None) -> Path:
        """Write one self-contained HTML file; without ``path``, ``report.html`` in the study's folder."""
        data = ReportData(
            name=self.name,
            state=self.state,
            recipe=self.recipe,
            meta={
                **self.meta,
                "command": self.meta["sessions"][-1]["command"],
                "test_size": self.meta["benchmark"]["sizes"]["test"],
                "test_readings": f"{len(self.test_readings())}, one for each confirmed cell and seed",
            },
            verdict=self.verdict(),
            label=self.label,
            controls=(controls := self.controls()),
            control_verdicts=controls_verdicts(controls),
            leaderboard=self.leaderboard(),
            trials=self.trials(),
            curves=self.curves(),
            metric=self.meta["benchmark"]["metric"],
            direction=self._ledger.direction,
            selected_test=self.selected_test(),
        )
        return write_report(Path(path) if path is not None else self.folder / "report.html", data)

    def utilisation(self) -> Utilisation:
        """How busy the study kept its devices; see `mrnn_search.results.utilisation`."""
        return utilisation(self._ledger)

    def _intervals(self) -> str:
        return INTERVALS.format(test=self.meta["benchmark"]["sizes"]["test"])

    def export(self, out: str | Path, rank: int | None = None, cell: str | None = None) -> Path:
        """Write a confirmed cell as code, weights, scores and card, with the weights of its best seed (on validation).

        Args:
            out: the folder to write.
            rank: its row of the leaderboard; cell: or its identity, or the first digits of it. Without both: rank 1.

        Raises:
            InputError: there is no such cell, its weights are gone, or ``out`` is in the way.
        """
        key = self._find(cell) if cell is not None else self._candidate_at(1 if rank is None else rank)
        done = [t for t in confirmed(self._ledger)[key] if t.state == "COMPLETE"]
        sign = 1 if self._ledger.direction == "maximize" else -1
        run = max(done, key=lambda t: (sign * t.value, -t.number))
        weights = self._weights(run)
        row = self.leaderboard().set_index("candidate_id").loc[key].to_dict()
        benchmark = self.meta["benchmark"]
        facts: dict[str, Any] = {
            "study": self.name,
            "benchmark": benchmark["name"],
            "metric": benchmark["metric"],
            "direction": self._ledger.direction,
        }
        facts |= {name: float(row[name]) for name in ("val_mean", "val_low", "val_high", "test_mean", "test_low", "test_high")}
        facts |= {"seeds": len(done), "seed_of_weights": run.seed, "epochs": run.epochs, "verdict": self._standing(key, "This cell")}
        facts |= {f"data_{name}": benchmark[name] for name in ("licence", "source", "fingerprint")}
        facts["intervals"] = self._intervals()
        return export(Path(out), run.candidate, weights, input_size=benchmark["input_size"], facts=facts)

    def _weights(self, run: TrialView) -> dict[str, Tensor]:
        store = Checkpoints(self.folder / "checkpoints")
        data = store.load(run.key, run.epochs, run.rungs[-1].checkpoint)
        with contextlib.suppress(SafetensorError):
            if data is not None:
                return best_layer(data)
        message = f"the weights of {run.candidate.spec.name} are gone or damaged (they were in {store.folder})"
        raise InputError(message, f'study "{self.name}"')


def quiet() -> None:
    """Optuna speaks of every trial at its default; here the ledger and the progress bar do."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna.storages").setLevel(logging.ERROR)  # a database that goes away is told once, by us, without its SQL


def load_study(study: str | Path, *, storage: str | None = None) -> Study:
    """The study known by name in the runs folder, by its folder, or by name in the database at ``storage``.

    Raises:
        InputError: there is none, or its ledger cannot be read.
    """
    quiet()
    folder = Path(study)
    if not any((folder / known).is_file() for known in (LEDGER, POINTER)):
        folder = runs_folder() / check_name(str(study))
    refuse_links(folder)
    if storage is not None:
        return Study(whole(Ledger(open_storage(folder, storage, reading=True), folder.name)), folder)
    check_home(folder, None)  # says where the ledger is, if it is not here
    if not (folder / LEDGER).is_file():
        known = [path.parent.name for path in runs_folder().glob(f"*/{LEDGER}")]
        raise UnknownNameError("study", str(study), known, str(runs_folder()))
    journal = folder / LEDGER
    cache = Cache(folder, lambda: journal_key(journal))
    checked = any(cache.has(name) for name in ("leaderboard", "trials", "curves"))  # then it was whole, and is as it was
    return Study(journal if checked else whole(JournalReader(journal)), folder)


def _state(ledger: Reader) -> str | None:
    """A key for the tables of a ledger in a database: its study's attributes once it is complete, which whoever goes on with it
    changes first. None before: nothing that is cheap to ask for tells of every write.
    """
    if not ledger.complete:
        return None
    facts = [ledger.name, ledger.direction, ledger.recipe, ledger.meta]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
