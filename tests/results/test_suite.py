"""One search on several benchmarks: the same candidates, everything that is found confirmed everywhere, and a ranking over all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import mrnn_search as ms
from mrnn_search._registry import InputError
from mrnn_search.benchmarks import Benchmark, Classification, Regression, Split, benchmarks
from mrnn_search.cli.app import app
from mrnn_search.results.suite import COLUMNS, Suite
from mrnn_search.search.executors import Kept, executors
from mrnn_search.search.journal import JournalFile
from mrnn_search.search.ledger import CONFIRMATION, SEARCH
from mrnn_search.search.packs import Pack
from mrnn_search.search.suite import SuiteRecipe, load_recipes

from ..inprocess import InProcess, fake
from ..search.test_driver import Killed, essence

SIZES = {"train": 8, "validation": 4, "test": 4}


def _splits(outputs: int | None) -> dict[str, Split]:
    x = {name: torch.zeros(n, 3, 1) for name, n in SIZES.items()}
    return {n: Split(v, torch.zeros(len(v), dtype=torch.int64) if outputs else torch.zeros(len(v), 1)) for n, v in x.items()}


class Higher(Classification):
    """Higher is better."""

    name, description, licence, source, citation = "test-higher", "of this test", "none", "none", "none"
    input_size, output_size = 1, 2

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        return cls(_splits(2), "h" * 64)


class Lower(Regression):
    """Lower is better."""

    name, description, licence, source, citation = "test-lower", "of this test", "none", "none", "none"
    input_size, output_size = 1, 1

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        return cls(_splits(None), "l" * 64)


for kind in (Higher, Lower):
    if kind.name not in benchmarks:
        benchmarks.register(kind.name)(kind)

NAMES = ["test-higher", "test-lower", "digits-rows"]
RECIPE = """
benchmarks: [test-higher, test-lower, digits-rows]
space:
  parameters:
    base: {choices: [lstm, gru]}
    rule: {choices: [plain, heavy_ball]}
    heavy_ball.mu: {low: 0.1, high: 0.9}
    hidden_size: 8
    lr: {low: 0.001, high: 0.012}
budget: {trials: 8}
search: {sampler: random, cohort: 4}
rungs: {epochs: [1, 2], keep: 0.5}
baselines: {cells: [lstm, gru], trials: 3}
confirmation: {top: 2, seeds: 5}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "several.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def suite(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRNN_SEARCH_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield ms.search(recipe, executor="fake")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def ledgers(suite: Suite) -> dict[str, Any]:
    return {benchmark: essence(study.ledger) for benchmark, study in suite.studies.items()}


def test_the_same_candidates_on_every_benchmark(suite: Suite) -> None:
    """All but their seeds of training, too: a difference between benchmarks is none of luck."""
    assert suite.state == "complete" and list(suite.studies) == NAMES
    asked = [[(t.candidate_id, t.seed) for t in study.ledger.trials(SEARCH)] for study in suite.studies.values()]
    assert asked[0] == asked[1] == asked[2] and len(asked[0]) >= 8


def test_what_is_found_anywhere_is_confirmed_everywhere(suite: Suite) -> None:
    found, confirmed = set(), []
    for study in suite.studies.values():
        runs = [t for t in study.ledger.trials(CONFIRMATION) if t.state == "COMPLETE"]
        found |= {t.cell_id for t in runs if t.role == "finalist"}
        confirmed.append({t.cell_id for t in runs})
        board = study.leaderboard()
        assert set(board.loc[board["is_baseline"], "role"]) == {"lstm", "gru"} and (board["seeds"] == 5).all()
        for group in (g for g in study.ledger.groups() if g.startswith("guest-")):  # tuned as a baseline is
            assert len([t for t in study.ledger.trials(group) if t.duplicate_of is None]) == 3
    assert len(found) > 2, "every benchmark found the same: the test shows nothing"
    assert all(found <= cells for cells in confirmed)


def test_the_ranking(suite: Suite) -> None:
    table = suite.leaderboard()
    assert list(table.columns) == [*COLUMNS, *(f"{b} {what}" for b in NAMES for what in ("test", "rank"))]
    assert table["rank"].tolist() == list(range(1, len(table) + 1)) and table["val_mean_rank"].is_monotonic_increasing
    assert table["is_baseline"].sum() == 2
    for b in NAMES:  # by hand
        board = suite.studies[b].leaderboard().set_index("cell_id")["test_mean"]
        sign = 1 if b == "test-lower" else -1
        assert table[f"{b} test"].tolist() == board[table["cell_id"]].tolist()
        assert table[f"{b} rank"].tolist() == (sign * table[f"{b} test"]).rank().tolist()
    mean = table[[f"{b} rank" for b in NAMES]].mean(axis=1)
    assert table["test_mean_rank"].to_numpy() == pytest.approx(mean.to_numpy())
    assert "over 3 benchmarks" in suite.verdict() and suite.label.startswith("screening (unequal budget")
    assert len(suite.test_readings()) == sum(len(study.test_readings()) for study in suite.studies.values()) == 15 * len(table)


def test_it_is_found_again_and_nothing_is_left_to_do(suite: Suite, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(suite.folder.parent))
    again = ms.load_study("several")
    assert isinstance(again, Suite) and again.leaderboard().equals(suite.leaderboard())
    assert ms.load_study(suite.folder).state == "complete"
    trained = InProcess(train=fake)
    monkeypatch.setitem(executors._members, "idle", lambda resources: trained)
    assert ms.search(recipe, executor="idle").leaderboard().equals(suite.leaderboard())
    assert trained.trained == []


def test_killed_anywhere_it_ends_as_the_unbroken_one(suite: Suite, recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    luck, countdown, deaths = random.Random(2), [0], 0
    write: Callable[..., Any] = JournalFile.append_logs

    def mortal(*args: Any, **kwargs: Any) -> Any:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Killed
        return write(*args, **kwargs)

    monkeypatch.setattr(JournalFile, "append_logs", mortal)
    while True:
        countdown[0] = luck.randint(60, 160)
        try:
            done = ms.search(recipe, executor="fake")
            break
        except Killed:
            deaths += 1
            assert ms.load_study("several.test-higher").name == "several.test-higher"  # each is a study of its own
    assert deaths > 2 and ledgers(done) == ledgers(suite)
    assert done.leaderboard().equals(suite.leaderboard())


def test_a_larger_budget_goes_on(suite: Suite, recipe: Path, runs: Path) -> None:
    small = ledgers(ms.search(recipe, executor="fake"))
    large = ms.search(recipe, executor="fake", budget={"trials": 12})
    for b in NAMES:
        before, after = small[b][SEARCH], ledgers(large)[b][SEARCH]
        assert before == after[: len(before)] and len(after) > len(before)
    assert large.state == "complete" and len(large.leaderboard()) >= len(suite.leaderboard())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"benchmark": "digits-rows"}, r"benchmark: is there beside benchmarks; give one of them"),
        ({"data": "data"}, r"data: is there beside benchmarks; each benchmark finds its own"),
        ({"benchmarks": ["digits-rows"]}, r"benchmarks: found \['digits-rows'\], allowed: a list of at least two"),
        ({"benchmarks": "digits-rows"}, r"benchmarks: found 'digits-rows', allowed: a list"),
        ({"benchmarks": ["digits-rows", "digits-rows"]}, "each once"),
        ({"benchmarks": ["digits-rows", "digit-rows"]}, r'benchmarks\[1\].*did you mean "digits-rows"'),
        ({"name": "a" * 60}, "name: found .* allowed: a name"),
        ({"budget": {"trials": 0}}, r"budget.trials: found 0"),
    ],
)
def test_a_wrong_recipe(recipe: Path, tmp_path: Path, runs: Path, changes: dict[str, Any], words: str) -> None:
    from mrnn_search.search.files import read_yaml

    path = tmp_path / "wrong.json.yaml"
    path.write_text(json.dumps({**read_yaml(recipe), **changes}))
    with pytest.raises(InputError, match=words):
        ms.search(path, executor="fake")
    assert not runs.exists()


def test_what_is_there_already(recipe: Path, runs: Path) -> None:
    ms.search(recipe, executor="fake")
    with pytest.raises(
        InputError, match="was begun with others: benchmarks test-higher, test-lower, digits-rows -> test-higher, test-lower"
    ):
        ms.search(recipe, executor="fake", benchmarks=["test-higher", "test-lower"])
    with pytest.raises(InputError, match="is there already, with several benchmarks"):
        ms.search("smoke", executor="fake", name="several")
    ms.search("smoke", executor="fake", name="one")
    with pytest.raises(InputError, match="is there already, with one benchmark"):
        ms.search(recipe, executor="fake", name="one")
    with pytest.raises(InputError, match="--fork: a study over several"):
        ms.search(recipe, executor="fake", fork="other")
    (runs / "several" / "suite.json").write_text("{}")
    with pytest.raises(InputError, match="suite.json: is damaged"):
        ms.load_study("several")
    assert ms.search(recipe, executor="fake").state == "complete"  # and it is written again
    assert ms.load_study("several").state == "complete"


def test_members_differ_in_name_and_benchmark_alone(recipe: Path) -> None:
    loaded = load_recipes(str(recipe), {"seed": 7})
    assert isinstance(loaded, SuiteRecipe) and loaded.benchmarks == tuple(NAMES)
    plain = [{**member.to_dict(), "name": "", "benchmark": ""} for member in loaded.members]
    assert plain[0] == plain[1] == plain[2] and plain[0]["seed"] == 7
    assert [member.name for member in loaded.members] == [f"several.{name}" for name in NAMES]


def test_the_verbs(suite: Suite, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(suite.folder.parent))

    def call(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*words])
        assert result.exit_code == code, result.output
        return result.output

    rows = json.loads(CliRunner().invoke(app, ["leaderboard", "several", "--json"]).stdout)
    assert [row["cell_id"] for row in rows] == suite.leaderboard()["cell_id"].tolist()
    shown = call("leaderboard", "several")
    assert "mean rank: validation" in shown and "screening" in shown
    assert all(name in shown for name in [*NAMES, *suite.leaderboard()["name"]])
    trials = json.loads(CliRunner().invoke(app, ["trials", "several", "--json", "--where", "benchmark == 'test-lower'"]).stdout)
    assert {row["benchmark"] for row in trials} == {"test-lower"} and len(trials) >= 8
    assert "test-lower" in call("trials", "several", "--top", "100")
    assert call("leaderboard", "several.test-lower").count("\n") > 3
    page = Path(call("report", "several").strip().splitlines()[-1]).read_text()
    assert all(f'href="../several.{name}/report.html"' in page for name in NAMES)
    assert all(name in page for name in suite.leaderboard()["name"])
    assert "compare is of one of them: several.test-higher" in call("compare", "several", "1", "lstm", code=2)
    assert "of test-lower" in call("check", str(recipe))
    facts = json.loads(CliRunner().invoke(app, ["studies", "several", "--json"]).stdout)
    assert facts["studies"] == {name: f"several.{name}" for name in NAMES} and facts["test_readings"] == len(suite.test_readings())
    readings = json.loads(CliRunner().invoke(app, ["readings", "several", "--json"]).stdout)
    assert len(readings) == facts["test_readings"] and {row["benchmark"] for row in readings} == set(NAMES)
    assert "has no controls" in call("controls", "several")


def test_one_executor_for_all() -> None:
    """Its packs have names of their own, and only the end closes it."""
    made: list[InProcess] = []

    class Told(InProcess):
        closed = 0

        def submit(self, pack: Pack) -> None:
            ids.append(pack.pack_id)
            super().submit(pack)

        def close(self) -> None:
            Told.closed += 1

    def make() -> Told:
        made.append(Told(train=fake))
        return made[-1]  # type: ignore[return-value]

    ids: list[str] = []
    kept = Kept(make)
    kept.end()
    assert made == []
    for _ in range(2):
        executor = kept()
        executor.submit(Pack("1", "digits-rows", (), 0, 1))
        assert [result.pack_id for result in executor.collect(0)] == ["1"] and executor.slots == 2 and executor.cancel() == 0
        executor.close()
    assert ids == ["1/1", "2/1"] and len(made) == 1 and Told.closed == 0
    kept.end()
    assert Told.closed == 1
