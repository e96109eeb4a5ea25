"""A whole study of language models: from the recipe to the exported cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mrnn_search as ms
from mrnn_search.benchmarks import benchmarks
from mrnn_search.cells.describe import num_parameters
from mrnn_search.search.ledger import CONFIRMATION

from ..engine.tasks import Characters


class Told(Characters):
    """With all that a study tells of its benchmark."""

    name = "characters-of-the-tests"
    description, licence, source, citation = "a made-up language", "none", "made by the tests", "none"


def test_a_study_of_language_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setitem(benchmarks._members, Told.name, Told)
    study = ms.search("smoke", executor="in-process", benchmark=Told.name, budget={"trials": 4}, name="words")
    trials = study.trials()
    done = trials[trials["state"] != "FAIL"]
    assert len(done) == len(trials) and (done["value"] > 0.5).all() and done["value"].min() < 2.8  # log2(7) = 2.81 bits are no model
    board = study.leaderboard()
    assert (board["val_mean"].diff().dropna() >= 0).all() and board["test_mean"].notna().all()  # fewer bits are better
    best = next(t for t in study._ledger.trials(CONFIRMATION) if t.candidate.candidate_id == board["candidate_id"][0])
    layers = [Told.input_size] + [best.candidate.hidden_size] * (best.candidate.num_layers - 1)
    recurrent = sum(num_parameters(best.candidate.spec, width, best.candidate.hidden_size) for width in layers)
    assert board["params"][0] == recurrent + (best.candidate.hidden_size + 1) * Told.output_size + Told.vocabulary * Told.input_size
    out = study.export(tmp_path / "cell")
    record = json.loads((out / "cell.json").read_text())
    assert record["input_size"] == Told.input_size and record["parameters"] == recurrent
    text = (out / "README.md").read_text()
    assert "bits_per_character" in text and "any embedding) that it was trained with is not included" in text
    weights = {name.split(".")[-1] for name in record["shapes"]}
    assert "weight_ih_l0" in weights and not any("embedding" in name or "readout" in name for name in weights)
    assert record["shapes"]["weight_ih_l0"][1] == Told.input_size
