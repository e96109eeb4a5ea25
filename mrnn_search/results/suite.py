"""A study over several benchmarks: a study for each, and the ranking of what they confirmed over all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .._registry import InputError
from ..search.controls import is_control
from ..search.recipe import check_name
from ..search.storage import LEDGER, POINTER, refuse_links
from ..search.suite import SuiteRecipe
from .ranking import Ranking, rank_over_benchmarks
from .report import write_page
from .study import Study, runs_folder
from .study import load_study as load_one
from .where import matching

FILE = "suite.json"  # in the suite's folder: its name, and its studies by benchmark
COLUMNS = {
    "rank": "int64",
    "cell_id": "str",
    "name": "str",
    "is_baseline": "bool",
    "val_mean_rank": "float64",
    "val_score": "float64",
    "test_mean_rank": "float64",
    "test_score": "float64",
    "first": "int64",
    "tied_with_best": "bool",
}


@dataclass(frozen=True)
class Rankings:
    """Cells that were confirmed on every benchmark, ranked on both splits; cells are named by cell_id.

    Attributes:
        validation: decides the order. test: what it is worth, on data that decided nothing.
        names: cell_id -> the cell's name; baselines: the cell_ids of baselines.
        means: one row a benchmark and cell: ``benchmark``, ``cell``, ``val_mean``, ``test_mean``, ``direction``.
    """

    validation: Ranking
    test: Ranking
    names: Mapping[str, str]
    baselines: frozenset[str]
    means: pd.DataFrame


class Suite:
    """One search on several benchmarks.

    Attributes:
        name, folder: its own; studies: benchmark -> its study, in the recipe's order.
    """

    def __init__(self, name: str, studies: Mapping[str, Study], folder: Path) -> None:
        self.name, self.studies, self.folder = name, dict(studies), folder

    def __repr__(self) -> str:
        return f"Suite({self.name!r}, {self.state}: {', '.join(self.studies)})"

    @property
    def state(self) -> str:
        """ "complete", or "unfinished": the same command goes on with it."""
        return "complete" if all(study.state == "complete" for study in self.studies.values()) else "unfinished"

    def rankings(self) -> Rankings | None:
        """See `Rankings`; None: no cell is confirmed on every benchmark yet.

        Of a cell that is confirmed with more than one set of hyper-parameters, the best on validation counts. Controls do not: they
        are made for one finalist each.
        """
        found: dict[str, dict[str, dict[Hashable, Any]]] = {}
        for benchmark, study in self.studies.items():
            board = study.leaderboard()
            for row in board[~board["role"].map(is_control)].to_dict("records"):  # best first
                found.setdefault(str(row["cell_id"]), {}).setdefault(benchmark, row)
        whole = {cell: rows for cell, rows in found.items() if len(rows) == len(self.studies)}
        if not whole:
            return None
        directions = {benchmark: study.meta["benchmark"]["direction"] for benchmark, study in self.studies.items()}
        means = pd.DataFrame(
            [
                {"benchmark": b, "cell": cell, "val_mean": row["val_mean"], "test_mean": row["test_mean"], "direction": directions[b]}
                for cell, rows in whole.items()
                for b, row in rows.items()
            ]
        )
        validation, test = (rank_over_benchmarks(means.rename(columns={f"{split}_mean": "mean"})) for split in ("val", "test"))
        baselines = frozenset(cell for cell, rows in whole.items() if any(row["is_baseline"] for row in rows.values()))
        names = {cell: str(next(iter(rows.values()))["name"]) for cell, rows in whole.items()}
        return Rankings(validation, test, names, baselines, means)

    def leaderboard(self, where: str | None = None) -> pd.DataFrame:
        """The cells that were confirmed on every benchmark, one row each, in the order of their mean rank on validation.

        ``val_*`` and ``test_*``: mean rank (1 is best) and normalised score (1 is best) over the benchmarks, of the means over seeds;
        ``first``: on how many benchmarks it is best on test; ``tied_with_best``: Nemenyi's test on the test ranks does not tell it
        from the best. Then for each benchmark its ``test_mean`` and its rank on test there.

        Args:
            where: only rows for which this holds, see `mrnn_search.results.where`.

        Raises:
            InputError: ``where`` is no such expression.
        """
        table = self._ranked()
        return table if where is None else matching(table, where)

    def _ranked(self) -> pd.DataFrame:
        ranks = self.rankings()
        benchmarks = {f"{b} {what}": "float64" for b in self.studies for what in ("test", "rank")}
        if ranks is None:
            return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in {**COLUMNS, **benchmarks}.items()})
        validation, test = (one.table.set_index("cell") for one in (ranks.validation, ranks.test))
        values = ranks.means.pivot(index="cell", columns="benchmark", values="test_mean")
        rows = [
            {
                "rank": rank,
                "cell_id": cell,
                "name": ranks.names[cell],
                "is_baseline": cell in ranks.baselines,
                "val_mean_rank": validation.at[cell, "mean_rank"],
                "val_score": validation.at[cell, "score"],
                "test_mean_rank": test.at[cell, "mean_rank"],
                "test_score": test.at[cell, "score"],
                "first": test.at[cell, "first"],
                "tied_with_best": test.at[cell, "tied_with_best"],
                **{f"{b} test": values.at[cell, b] for b in self.studies},
                **{f"{b} rank": ranks.test.ranks.at[cell, b] for b in self.studies},
            }
            for rank, cell in enumerate(validation.index, start=1)
        ]
        return pd.DataFrame(rows)[[*COLUMNS, *benchmarks]].astype({**COLUMNS, **benchmarks})

    def trials(self, where: str | None = None) -> pd.DataFrame:
        """Every screened candidate on every benchmark, as `Study.trials`, with its ``benchmark``; ``where`` as in `leaderboard`."""
        table = self._together(lambda study: study.trials())
        return table if where is None else matching(table, where)

    def curves(self, where: str | None = None) -> pd.DataFrame:
        """Every learning curve, as `Study.curves`, with its ``benchmark``; ``where`` as in `leaderboard`."""
        table = self._together(lambda study: study.curves())
        return table if where is None else matching(table, where)

    def controls(self) -> pd.DataFrame:
        """As `Study.controls`, with its ``benchmark``."""
        return self._together(lambda study: study.controls())

    def test_readings(self) -> pd.DataFrame:
        """As `Study.test_readings`, with its ``benchmark``."""
        return self._together(lambda study: study.test_readings())

    def _together(self, read: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
        frames = [frame.assign(benchmark=benchmark) for benchmark, study in self.studies.items() if len(frame := read(study))]
        first = frames or [read(study).assign(benchmark=benchmark).head(0) for benchmark, study in self.studies.items()][:1]
        table = pd.concat(first, ignore_index=True)
        return table[["benchmark", *(name for name in table.columns if name != "benchmark")]].astype({"benchmark": "str"})

    def verdict(self) -> str:
        """What the ranking over the benchmarks allows one to say, on test; then, a line each, the verdict of every study."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        ranks = self.rankings()
        yield "No cell is confirmed on every benchmark yet." if ranks is None else ranks.test.note
        yield from (f"{benchmark}: {study.verdict()}" for benchmark, study in self.studies.items())

    @property
    def label(self) -> str:
        """ "result", or "screening" and what a result would need."""
        labels = dict.fromkeys(study.label for study in self.studies.values())
        return next((text for text in labels if text != "result"), "result")

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report of every study, and a page with the ranking over all; without ``path``, ``report.html`` in the folder."""
        where = Path(path) if path is not None else self.folder / "report.html"
        here = where.absolute().parent
        reports = {benchmark: os.path.relpath(study.report().absolute(), here) for benchmark, study in self.studies.items()}
        return write_page(
            where,
            "suite.html.j2",
            name=self.name,
            state=self.state,
            label=self.label,
            lines=list(self._lines()),
            columns=list(self.leaderboard().columns),
            rows=self.leaderboard().to_dict("records"),
            reports=reports,
        )


def suite_folder(study: str | Path) -> Path | None:
    """The folder of the suite that is known by this name or folder; None: there is no such suite."""
    for folder in (Path(study), runs_folder() / str(study)):
        if (folder / FILE).is_file():
            refuse_links(folder)
            return folder
    return None


def load_study(study: str | Path, *, storage: str | None = None) -> Study | Suite:
    """The study, or the study over several benchmarks, known by name in the runs folder, by its folder, or by name in a database.

    Raises:
        InputError: there is none, or its ledger cannot be read.
    """
    folder = suite_folder(study)
    if folder is None:
        return load_one(study, storage=storage)
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        members = {str(benchmark): check_name(str(name)) for benchmark, name in told["studies"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"is damaged: {type(error).__name__}: {error}; the same run command writes it again", str(folder / FILE)) from None
    studies = {b: load_one(name if storage is not None else folder.parent / name, storage=storage) for b, name in members.items()}
    return Suite(folder.name, studies, folder)


def remember_suite(recipe: SuiteRecipe) -> Path:
    """Write down which studies a suite has; its folder.

    Raises:
        InputError: there is a study of that name with one benchmark, or a suite with others.
    """
    folder = runs_folder() / check_name(recipe.name)
    refuse_links(folder)
    if any((folder / known).exists() for known in (LEDGER, POINTER)):
        raise InputError("is there already, with one benchmark; give another --name", f'study "{recipe.name}"')
    told = {"name": recipe.name, "studies": {member.benchmark: member.name for member in recipe.members}}
    path = folder / FILE
    if path.is_file():
        known = _benchmarks_of(path)
        if known is not None and known != list(told["studies"]):
            change = f"benchmarks {', '.join(known)} -> {', '.join(told['studies'])}"
            raise InputError(f"this study was begun with others: {change}; begin a new one: --name", f'study "{recipe.name}"')
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{FILE}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return folder


def _benchmarks_of(path: Path) -> list[str] | None:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["studies"])
    except (ValueError, KeyError, TypeError):  # damaged: written again
        return None


def only_one(study: Study | Suite, verb: str) -> Study:
    """``study``, where it has one benchmark.

    Raises:
        InputError: it has several.
    """
    if isinstance(study, Suite):
        names: Sequence[str] = [member.name for member in study.studies.values()]
        raise InputError(f"has several benchmarks; {verb} is of one of them: {', '.join(names)}", f'study "{study.name}"')
    return study
