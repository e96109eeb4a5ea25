"""``bench search``: a tiny real run on every storage, and ledgers that are written fast read like those of a search."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from mrnn_search._registry import InputError
from mrnn_search.bench.filling import EPOCHS, confirm, fill, new_ledger
from mrnn_search.bench.search import COHORT, Settings, run
from mrnn_search.results.leaderboard import trials_frame
from mrnn_search.search.ledger import SEARCH, Ledger
from mrnn_search.search.space import load_space
from mrnn_search.search.storage import open_storage

SPACE = load_space("optimizer_cells")


def test_a_tiny_run(postgresql: str) -> None:
    lines: list[str] = []
    settings = Settings((2, 3), ("random",), ("journal", "sqlite", "database"), postgresql, trials=2, executors=("local",), packs=3)
    text = json.dumps(run(settings, lines.append).to_dict(), allow_nan=False)
    data = json.loads(text)
    assert set(data) == {"schema", "bench", "machine", "settings", "overhead", "packs"}
    assert [(o["storage"], o["size"]) for o in data["overhead"]] == [
        (storage, size) for storage in settings.storages for size in settings.sizes
    ]
    for o in data["overhead"]:
        steps = [o[name] for name in ("propose_ms", "add_ms", "report_ms", "tell_ms")]
        assert [len(values) for values in steps] == [2] * 4 and min(map(min, steps)) > 0
        assert o["together_ms"] == pytest.approx([sum(values) for values in zip(*steps, strict=True)])
        assert o["median"]["together_ms"]["low"] <= o["median"]["together_ms"]["median"] <= max(o["together_ms"])
    (packs,) = data["packs"]
    assert packs["executor"] == "local" and packs["packs"] == 3 and packs["packs_per_s"] > 0
    assert postgresql.split(":")[2].split("@")[0] not in text + "".join(lines)  # the password
    left = optuna.study.get_all_study_names(optuna.storages.RDBStorage(postgresql))
    assert not [name for name in left if name.startswith("bench-")]


def test_a_database_needs_a_url() -> None:
    with pytest.raises(InputError, match="--storage: no URL is given"):
        run(Settings((1,), ("random",), ("database",)), print)


def test_cohort_after_cohort() -> None:
    (found,) = run(Settings((5,), ("tpe",), ("journal",), trials=COHORT + 1), print).overheads
    assert len(found.together_ms) == COHORT + 1 and found.size == 5


@pytest.mark.parametrize(("kind", "trials"), [("journal", 230), ("sqlite", 9)])  # 230: more than there are points to vary
def test_a_filled_ledger_is_a_ledger(tmp_path: Path, kind: str, trials: int) -> None:
    url = None if kind == "journal" else f"sqlite:///{tmp_path}/ledger.db"
    ledger = new_ledger(open_storage(tmp_path, url), "s", SPACE)
    fill(ledger, SPACE, trials)
    confirm(ledger)
    reopened = Ledger(open_storage(tmp_path, url), "s")
    table = trials_frame(reopened)
    assert len(table) == table["candidate_id"].nunique() == trials and reopened.complete
    assert table["state"].value_counts().to_dict() == {"PRUNED": 2 * trials // 3, "COMPLETE": (trials + 2) // 3}
    assert set(table.loc[table["state"] == "COMPLETE", "epochs"]) == {EPOCHS[-1]}
    for frozen, trial in zip(reopened.frozen(SEARCH), reopened.trials(SEARCH), strict=True):
        assert frozen.intermediate_values == {row[0]: row[3] for rung in trial.rungs for row in rung.rows}
        assert trial.candidate.candidate_id == trial.candidate_id and frozen.params["lr"] == trial.candidate.lr
        assert frozen.value == (trial.value if trial.state == "COMPLETE" else trial.rungs[-1].rows[-1][3])
