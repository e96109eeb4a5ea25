"""`Study`, its tables and its verbs, on a finished study."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

import mrnn_search as ms
from mrnn_search.cells import Candidate
from mrnn_search.results.columns import CURVES, LEADERBOARD, TRIALS
from mrnn_search.results.intervals import studentised_bootstrap
from mrnn_search.results.paired_tests import holm
from mrnn_search.search.ledger import CONFIRMATION

from ..opened import opened

COEFFICIENTS = ["beta", "beta2", "delta", "epsilon", "mu", "nu", "restart", "tau"]


def test_the_tables_have_their_columns_and_plain_types(fake_study: ms.Study) -> None:
    for frame, columns in ((fake_study.leaderboard(), LEADERBOARD), (fake_study.trials(), TRIALS)):
        assert [c for c in frame.columns if c not in COEFFICIENTS] == list(columns)
        assert "object" not in {str(dtype) for dtype in frame.dtypes}
    curves = fake_study.curves()
    assert list(curves.columns) == list(CURVES) and "object" not in {str(dtype) for dtype in curves.dtypes}


def test_every_table_survives_csv_json_and_parquet(fake_study: ms.Study) -> None:
    for frame in (fake_study.leaderboard(), fake_study.trials(), fake_study.curves()):
        buffer = io.BytesIO()
        frame.to_parquet(buffer)
        pd.testing.assert_frame_equal(pd.read_parquet(buffer), frame)
        assert len(pd.read_csv(io.StringIO(frame.to_csv(index=False)))) == len(frame)
        assert len(json.loads(frame.to_json(orient="records", date_format="iso"))) == len(frame)


def test_trials_are_the_candidates(fake_study: ms.Study) -> None:
    trials = fake_study.trials()
    assert trials["group"].value_counts().to_dict() == {"search": 48, "lstm": 8, "gru": 8}
    search = trials[trials["group"] == "search"]
    assert search["candidate_id"].is_unique and set(search["state"]) == {"COMPLETE", "PRUNED", "FAIL"}
    assert search["base"].nunique() == 4 and search["rule"].nunique() == 5
    momentum = search["rule"] == "heavy_ball"
    assert search.loc[momentum, "mu"].between(0.05, 0.95).all() and search.loc[search["rule"] == "plain", "mu"].isna().all()
    failed = search[search["state"] == "FAIL"]
    assert (failed["error"] == "loss is nan at epoch 1, step 3").all() and failed["value"].isna().all()
    assert (search.loc[search["state"] == "COMPLETE", "epochs"] == 8).all()


def test_the_leaderboard_is_what_the_curves_say(fake_study: ms.Study) -> None:
    """Computed a second time from the learning curves, with scipy."""
    board, curves = fake_study.leaderboard(), fake_study.curves()
    assert board["rank"].tolist() == list(range(1, 6)) and board["val_mean"].is_monotonic_decreasing
    assert board["is_baseline"].sum() == 2 and set(board["role"]) == {"finalist", "lstm", "gru"}
    runs = curves[(curves["group"] == CONFIRMATION) & (curves["metric"] == "accuracy")]
    best = runs.groupby(["candidate_id", "seed"])["value"].max()
    for row in board.itertuples():
        values = best[row.candidate_id]
        assert len(values) == row.seeds == 5 and row.val_mean == pytest.approx(values.mean())
        assert (row.val_low, row.val_high) == pytest.approx(studentised_bootstrap(values.to_numpy()))


def test_who_is_tied_and_who_beats_the_baseline_is_what_scipy_says(fake_study: ms.Study) -> None:
    board = fake_study.leaderboard().set_index("candidate_id")
    scores: dict[str, dict[str, list[float]]] = {"val": {}, "test": {}}
    for trial in sorted(fake_study._ledger.trials(CONFIRMATION), key=lambda t: t.seed):
        scores["val"].setdefault(trial.candidate_id, []).append(trial.value)
        scores["test"].setdefault(trial.candidate_id, []).append(trial.rungs[-1].test_value)
    for split, base, column in (("val", board.index[0], "p_best"), ("test", board.index[board["role"] == "lstm"][0], "p_value")):
        others = board.index.drop(base)
        raw = [scipy_stats.ttest_rel(scores[split][key], scores[split][base]).pvalue for key in others]
        assert board.loc[others, column].tolist() == pytest.approx(holm(np.array(raw)).tolist()) and math.isnan(board.loc[base, column])
    assert board["tied_with_best"].tolist() == [not p < 0.05 for p in board["p_best"]]
    assert board["prob_best"].sum() == pytest.approx(1) and board["prob_best"].idxmax() == board.index[0]
    assert set(board["evidence"]) == {"confirmed"}


def test_convergence_is_what_the_curves_say(fake_study: ms.Study) -> None:
    board, curves = fake_study.leaderboard(), fake_study.curves()
    runs = curves[(curves["group"] == CONFIRMATION) & (curves["metric"] == "accuracy")]
    threshold = board.loc[board["role"] == "lstm", "val_mean"].item()
    assert board["threshold"].tolist() == pytest.approx([threshold] * 5)
    for row in board.itertuples():
        wide = runs[runs["candidate_id"] == row.candidate_id].pivot(index="epoch", columns="seed", values="value")
        assert row.curve_mean == pytest.approx(wide.to_numpy().mean())
        reached = wide.cummax().mean(axis=1) >= threshold - 1e-12
        expected = reached.idxmax() if reached.any() else None
        assert (None if pd.isna(row.epochs_to_threshold) else row.epochs_to_threshold) == expected
        assert math.isnan(row.seconds_to_threshold) == (expected is None)


def test_seconds_to_threshold_are_part_of_the_training_time(real_study: ms.Study) -> None:
    board = real_study.leaderboard()
    there = board["epochs_to_threshold"].notna()
    assert there[board["role"] == "lstm"].all() and (board.loc[there, "epochs_to_threshold"] <= board.loc[there, "epochs"]).all()
    assert board.loc[there, "seconds_to_threshold"].between(0, board.loc[there, "seconds"] * 1.001, inclusive="right").all()


def test_the_figure_of_the_selection_is_cross_fitted(fake_study: ms.Study) -> None:
    trials = fake_study._ledger.trials(CONFIRMATION)
    frame = pd.DataFrame(
        [(t.candidate_id, t.seed, t.value, t.rungs[-1].test_value) for t in trials], columns=["cell", "seed", "val", "test"]
    )
    picked = []
    for seed in frame["seed"].unique():
        best = frame[frame["seed"] != seed].groupby("cell")["val"].mean().idxmax()
        picked.append(frame.loc[(frame["seed"] == seed) & (frame["cell"] == best), "test"].item())
    assert fake_study.selected_test() == pytest.approx(np.mean(picked))


def test_differences_are_paired_by_seed_with_the_tuned_lstm(fake_study: ms.Study) -> None:
    board = fake_study.leaderboard().set_index("candidate_id")
    tests = {}
    for trial in fake_study._ledger.trials(CONFIRMATION):
        tests.setdefault(trial.candidate_id, {})[trial.seed] = trial.rungs[-1].test_value
    (lstm,) = board.index[board["role"] == "lstm"]
    assert math.isnan(board.loc[lstm, "diff_mean"])
    for key in board.index.drop(lstm):
        gaps = np.array([tests[key][seed] - tests[lstm][seed] for seed in tests[lstm]])
        low, high = scipy_stats.t.interval(0.95, 4, loc=gaps.mean(), scale=scipy_stats.sem(gaps))
        assert board.loc[key, ["diff_mean", "diff_low", "diff_high"]].tolist() == pytest.approx([gaps.mean(), low, high])


def test_best_and_verdict(fake_study: ms.Study) -> None:
    board = fake_study.leaderboard()
    assert fake_study.best.cell_id == board.iloc[0]["cell_id"]
    sentence = fake_study.verdict()
    assert sentence.startswith("The best found cell, ") and "the tuned lstm" in sentence and "5 paired seeds" in sentence


def test_compare_takes_ranks_identities_and_baselines(fake_study: ms.Study) -> None:
    board = fake_study.leaderboard()
    by_rank = fake_study.compare("1", "lstm")
    assert by_rank == fake_study.compare(board.iloc[0]["cell_id"][:12], "lstm") == fake_study.compare(board.iloc[0]["candidate_id"], "lstm")
    assert fake_study.compare("lstm", "1").difference.mean == pytest.approx(-by_rank.difference.mean)
    assert json.loads(json.dumps(by_rank.to_dict()))["metric"] == "test accuracy"
    assert fake_study.compare(board.iloc[0]["name"], "lstm") == by_rank
    with pytest.raises(ms.InputError, match='unknown confirmed cell "lstn".*did you mean "lstm"'):
        fake_study.compare("1", "lstn")
    with pytest.raises(ms.InputError, match="there is no rank 99; allowed: 1 to 5"):
        fake_study.compare("1", "99")


def test_a_study_is_found_by_name_and_by_folder(fake_study: ms.Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(fake_study.folder.parent))
    assert ms.load_study("quickstart").state == "complete"
    shutil.copytree(fake_study.folder, tmp_path / "moved and renamed")
    moved = ms.load_study(tmp_path / "moved and renamed")
    pd.testing.assert_frame_equal(moved.leaderboard(), fake_study.leaderboard())
    with pytest.raises(ms.InputError, match='unknown study "quickstat".*did you mean "quickstart"'):
        ms.load_study("quickstat")


def test_deleting_every_other_file_loses_no_result(fake_study: ms.Study, tmp_path: Path) -> None:
    shutil.copy(fake_study.folder / "ledger.log", tmp_path / "ledger.log")
    bare = ms.load_study(tmp_path)
    pd.testing.assert_frame_equal(bare.trials(), fake_study.trials())
    assert bare.verdict() == fake_study.verdict() and bare.recipe == fake_study.recipe
    with pytest.raises(ms.InputError, match="the weights of .* are gone or damaged"):
        bare.export(tmp_path / "cell")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_study_in_a_database(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_study: ms.Study, request: pytest.FixtureRequest
) -> None:
    """The same recipe in a database: the same study; a second ledger for the folder is refused; the password is nowhere."""
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    url = f"sqlite:///{tmp_path}/ledgers.db" if kind == "sqlite" else str(request.getfixturevalue("postgresql"))
    study = ms.search("quickstart", executor="fake", storage=url)
    columns = ["candidate_id", "val_mean", "test_mean", "diff_low"]
    pd.testing.assert_frame_equal(study.leaderboard()[columns], fake_study.leaderboard()[columns])
    pd.testing.assert_frame_equal(ms.load_study("quickstart", storage=url).leaderboard(), study.leaderboard())
    for wrong in (lambda: ms.search("quickstart", executor="fake"), lambda: ms.load_study("quickstart")):
        with pytest.raises(ms.InputError, match="ledger is in .*give it with --storage"):
            wrong()
    if kind == "postgresql":
        password = url.split(":")[2].split("@")[0].encode()
        study.report()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and password in path.read_bytes()]
        assert password.decode() not in json.dumps(study.meta)


def test_another_recipe_is_refused_with_what_differs(fake_study: ms.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(fake_study.folder.parent))
    before = (fake_study.folder / "ledger.log").read_bytes()
    with pytest.raises(ms.InputError, match=r"another recipe:\n  rungs.epochs: \[3, 8\] -> \[1, 2\]\n") as caught:
        ms.search("quickstart", executor="fake", rungs={"epochs": [1, 2]}, confirmation={"epochs": 8})
    assert "--name" in str(caught.value)
    with pytest.raises(ms.InputError, match="budget.trials: 48 -> 10"):
        ms.search("quickstart", executor="fake", budget={"trials": 10})
    assert (fake_study.folder / "ledger.log").read_bytes() == before


def test_a_description_may_change_and_sittings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    small = {"baselines": {"cells": []}, "executor": "fake"}
    ms.search("smoke", budget={"trials": 2}, command="first", **small)
    study = ms.search("smoke", budget={"trials": 4}, description="said better", command="second", **small)
    assert [sitting["command"] for sitting in study.meta["sessions"]] == ["first", "second"]
    assert study.recipe["description"] == "said better"
    ms.search("smoke", budget={"trials": 4}, description="said best", command="third", **small)
    assert len(study.meta["sessions"]) == 2  # it did nothing


def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mrnn_search.benchmarks.digits_rows import DigitsRows

    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path))
    small = {"budget": {"trials": 2}, "baselines": {"cells": []}}
    ms.search("smoke", executor="fake", **small)
    load = DigitsRows.load

    def other(data_dir: Path | None) -> ms.benchmarks.Benchmark:  # type: ignore[name-defined]
        benchmark = load(data_dir)
        benchmark.fingerprint = "f" * 64
        return benchmark

    monkeypatch.setattr(DigitsRows, "load", other)
    from mrnn_search.benchmarks import load_benchmark

    load_benchmark.cache_clear()
    with pytest.raises(ms.InputError, match="its data was .*, the data here is ffffffffffff…"):
        ms.search("smoke", executor="fake", **small)
    load_benchmark.cache_clear()


def test_a_wrong_recipe_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    for wrong in ({"budget": {"trials": 0}}, {"benchmark": "digits-row"}, {"search": {"sampler": "tpee"}}):
        with pytest.raises(ms.InputError):
            ms.search("quickstart", executor="fake", **wrong)
    with pytest.raises(ms.InputError, match='unknown executor "loca"'):
        ms.search("quickstart", executor="loca")
    assert list(tmp_path.iterdir()) == []


def test_report_and_export_of_a_real_study(real_study: ms.Study, tmp_path: Path) -> None:
    assert real_study.report().stat().st_size > 1_000_000
    folder = real_study.export(tmp_path / "cell", rank=1)
    facts = json.loads((folder / "cell.json").read_text())
    row = real_study.leaderboard().iloc[0]
    assert facts["cell_id"] == row["cell_id"]
    assert Candidate.from_dict(facts["candidate"]).spec == real_study.best
    assert {"cell.py", "weights.safetensors", "cell.json", "README.md"} == {p.name for p in folder.iterdir()}
    baseline = real_study.leaderboard().set_index("role").loc["lstm", "cell_id"]
    assert json.loads((real_study.export(tmp_path / "lstm", cell=baseline[:10]) / "cell.json").read_text())["cell_id"] == baseline


def test_scores_of_the_ledger_are_those_of_the_exported_weights(real_study: ms.Study, tmp_path: Path) -> None:
    """The test score of the best seed, computed once more from its checkpoint: what the ledger says is what was trained."""
    from mrnn_search.benchmarks import load_benchmark
    from mrnn_search.engine.batches import feed_of
    from mrnn_search.engine.checkpoint import best_model
    from mrnn_search.engine.lanes import Lanes
    from mrnn_search.search.checkpoints import Checkpoints

    task = load_benchmark("digits-rows")
    for trial in real_study._ledger.trials(CONFIRMATION):
        data = Checkpoints(real_study.folder / "checkpoints").load(trial.key, trial.epochs, trial.rungs[-1].checkpoint)
        assert data is not None
        lane = Lanes([trial.candidate], [0], task.input_size, task.output_size, task.loss)
        lane.models[0].load_state_dict(best_model(data))
        for split, value in ((task.validation, trial.value), (opened(task), trial.rungs[-1].test_value)):
            (mean,) = lane.evaluate(feed_of(task, split).evaluation(trial.candidate.batch_size), task.errors)
            assert task.summarise(mean) == value
