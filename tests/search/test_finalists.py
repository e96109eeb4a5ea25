"""Who is confirmed."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.search.finalists import FINALIST, finalists, ranked
from mrnn_search.search.ledger import Rung, TrialView

CELLS = {"lstm": preset("lstm").cell_id}


def trial(
    number: int, value: float | None, state: str = "COMPLETE", epochs: int = 8, spec: CellSpec | None = None, lr: float = 1e-3
) -> TrialView:
    spec = spec or CellSpec("lstm", "heavy_ball", {"mu": (number + 1) / 100})
    rungs = () if value is None else (Rung(epochs, (), value, 1, 1.0, 9, "", "", "cpu"),)
    candidate, now = Candidate(spec, lr=lr), datetime(2026, 1, 1)
    return TrialView("search", number, state, candidate, candidate.candidate_id, spec.cell_id, 0, 0, rungs, None, None, "", now, now)


def test_further_goes_before_better() -> None:
    trials = [trial(0, 0.9, "PRUNED", 1), trial(1, 0.5), trial(2, 0.6), trial(3, None), trial(4, 0.99, "FAIL"), trial(5, 0.99, "RUNNING")]
    assert [t.number for t in ranked(trials, "maximize")] == [2, 1, 0]
    assert [t.number for t in ranked(trials, "minimize")] == [1, 2, 0]


def test_the_top_cells_and_every_baseline() -> None:
    search = [trial(n, 0.5 + n / 100) for n in range(5)]
    chosen = finalists(search, {"lstm": [trial(0, 0.3, spec=preset("lstm"))]}, CELLS, 3, "maximize")
    assert [(role, c.spec) for role, c in chosen] == [(FINALIST, search[n].candidate.spec) for n in (4, 3, 2)] + [("lstm", preset("lstm"))]


def test_one_cell_is_one_finalist() -> None:
    spec = CellSpec("gru", "adam")
    search = [trial(0, 0.9, spec=spec, lr=1e-2), trial(1, 0.8, spec=spec), trial(2, 0.7)]
    assert [c for _, c in finalists(search, {}, {}, 2, "maximize")] == [search[0].candidate, search[2].candidate]


def test_the_searchs_own_plain_cells_count_for_the_baseline() -> None:
    """Else a plain LSTM could be the find that beats the plain LSTM."""
    found = trial(0, 0.9, spec=CellSpec("lstm", "heavy_ball", {"mu": 0.0, "epsilon": 1.0}))  # plain, in disguise
    own = trial(0, 0.8, spec=preset("lstm"), lr=2e-3)
    chosen = finalists([found, trial(1, 0.7)], {"lstm": [own]}, CELLS, 3, "maximize")
    assert [role for role, _ in chosen] == [FINALIST, "lstm"]
    assert chosen[1][1] == found.candidate


def test_nothing_usable_is_no_finalist() -> None:
    failed = dataclasses.replace(trial(0, None), state="FAIL")
    assert finalists([failed], {"lstm": [failed]}, CELLS, 3, "maximize") == []
