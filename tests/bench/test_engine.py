"""Reports: what follows from given rounds, targets, and a tiny real run with its processes."""

from __future__ import annotations

import json

import pytest

from mrnn_search.bench.crews import UPDATES_PER_CANDIDATE, Crew, Harvest, Teams, usual_crews
from mrnn_search.bench.engine import Comparison, Crews, Report, Settings, explain, run
from mrnn_search.bench.rounds import LEAST_ROUNDS, Timing
from mrnn_search.bench.setting import SHAPES, Setting, Shape
from mrnn_search.bench.targets import Verdict, target
from mrnn_search.cells.rules import rules
from mrnn_search.cells.spec import CellSpec
from mrnn_search.engine.planner import EXECUTIONS, Place, plan

TINY = Shape(3, 2, 2, 4)
SETTINGS = Settings(("A",), ("heavy_ball",), ("lstm",), (1, 8), 0.0)


@pytest.fixture(autouse=True)
def a_tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", TINY)


def comparison(engine: dict[int, float], shape: str = "A", base: str = "lstm", rule: str = "heavy_ball") -> Comparison:
    """The loop takes 10 ms; the engine what is given for each K; one round of three is slow for all."""

    def timing(side: str, lanes: int, ms: float) -> Timing:
        return Timing(side, lanes, 1, (ms, 5 * ms, ms), (ms, ms, ms))

    timings = [timing("engine", k, ms) for k, ms in engine.items()] + [timing("loop", 1, 10.0), timing("gemm", 1, 4.0)]
    return Comparison(shape, Setting(base, rule, SHAPES[shape]), "vendor: why", tuple(timings))


def test_speedups_and_the_best_k() -> None:
    found = comparison({1: 8.0, 8: 5.0, 32: 6.0})
    assert found.best.lanes == 8 and found.speedup(found.best).median == found.speedup(found.best).high == 2.0
    data = found.to_dict()
    assert data["best_lanes"] == 8 and [s["speedup"]["median"] for s in data["sides"]] == [1.25, 2.0, 10 / 6, 1.0, 2.5]


@pytest.mark.parametrize(
    ("base", "rule", "shape", "expected"),
    [
        ("lstm", "heavy_ball", "A", 1.7),
        ("lstm", "nesterov", "C", 3.7),
        ("lstm", "qhm", "E", 5.4),
        ("lstm", "adam", "B", 0.75 * 1.7),
        ("lstm", "plain", "D", 0.75 * 4.2),
        ("gru", "heavy_ball", "C", 0.75 * 3.7),
        ("orthogonal", "lion", "D", 0.75 * 4.2),
        ("rnn", "heavy_ball", "A", None),
        ("lstm", "heavy_ball", "tiny", None),
    ],
)
def test_targets(base: str, rule: str, shape: str, expected: float | None) -> None:
    setting = Setting(base, rule, SHAPES[shape])
    assert target(setting, shape, 1) == (None if expected is None else pytest.approx(expected))
    assert target(setting, shape, 2) is None  # promised of one thread
    assert target(Setting(base, rule, SHAPES[shape], "sequence"), shape, 1) is None


def test_which_rules_are_momentum() -> None:
    kinds = {rule for rule in rules if rules[rule].program.linear and rules[rule].__module__.startswith("mrnn_search.")}
    assert kinds == {"plain", "heavy_ball", "ema", "nesterov", "nesterov_lookahead", "qhm"}


def test_verdicts() -> None:
    crews = [Crew("engine", 2, 1, 8), Crew("engine", 1, 2, 16)]
    harvests = (Harvest(crews[0], 3, (100.0, 50.0, 100.0)), Harvest(crews[1], 3, (80.0, 45.0, 90.0)))
    report = Report(SETTINGS, {}, [comparison({1: 8.0, 8: 5.0}), comparison({1: 8.0}, rule="adam"), comparison({1: 1.0}, base="rnn")])
    report.crews.append(Crews("A", Setting("lstm", "heavy_ball", SHAPES["A"]), harvests))
    assert [(v.what, v.lanes, v.passed) for v in report.verdicts()] == [
        ("engine vs loop", 8, True),
        ("engine vs loop", 1, False),
        ("threads vs processes", 8, True),
    ]
    assert report.verdicts()[2].measured == 0.9
    assert Verdict("", "", "", "", 1, 0.85, 1.15, 1.2).passed is False


def test_crews_are_equal_in_candidates() -> None:
    loop, _, processes, threads = usual_crews(2, "cpu", 8)
    assert str(loop) == "2 processes of 1 thread" and str(threads) == "1 process of 2 threads"
    assert processes.candidates == threads.candidates == 16
    assert [c.processes for c in usual_crews(2, "cuda:0", 8)] == [1, 8, 16, 1]


def test_a_tiny_run() -> None:
    """The JSON of a real run: its keys, every round, medians that follow from them."""
    lines: list[str] = []
    settings = Settings(("tiny",), ("heavy_ball", "adam"), ("lstm", "orthogonal"), (1, 3), 0.01)
    data = json.loads(json.dumps(run(settings, lines.append).to_dict(), allow_nan=False))
    assert set(data) == {
        "schema", "bench", "machine", "settings", "shapes", "updates_per_candidate", "comparisons", "processes", "targets",
    }  # fmt: skip
    assert {"cpu", "flags", "cores", "torch", "threads", "date"} <= set(data["machine"])
    assert data["shapes"] == {"tiny": {"steps": 3, "batch": 2, "inputs": 2, "hidden": 4}}
    assert data["processes"] == data["targets"] == [] and len(lines) == len(data["comparisons"]) == 4
    for found in data["comparisons"]:
        sides = [(s["side"], s["lanes"]) for s in found["sides"]]
        assert sides == [("engine", 1), ("engine", 3), ("loop", 1), ("gemm", 1)] + [("torch.nn", 1)] * (found["base"] == "lstm")
        assert found["shape"] == "tiny" and found["execution"].split(":")[0].split()[0] in EXECUTIONS
        for side in found["sides"]:
            assert len(side["wall_ms"]) == len(side["cpu_ms"]) >= LEAST_ROUNDS and min(side["wall_ms"]) > 0
            assert min(side["wall_ms"]) <= side["median_ms"]["low"] <= side["median_ms"]["median"] <= max(side["wall_ms"])


def test_a_tiny_run_of_crews() -> None:
    settings = Settings(("tiny",), ("heavy_ball",), ("lstm",), (2,), 0.0, processes=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mrnn_search.bench.crews.SHORTEST_TURN", 0.01)
        report = run(settings, lambda line: None)
    (crews,) = report.to_dict()["processes"]
    assert [(c["crew"]["side"], c["crew"]["processes"], c["crew"]["threads"], c["crew"]["lanes"]) for c in crews["crews"]] == [
        ("loop", 2, 1, 1), ("loop", 1, 2, 1), ("engine", 2, 1, 2), ("engine", 1, 2, 4),
    ]  # fmt: skip
    assert set(crews["threads_vs_processes"]) == {"loop", "engine"} and len(report.verdicts()) == 1


def test_a_member_that_dies_is_told_and_none_is_left() -> None:
    teams = Teams([Crew("loop", 1, 1, 1), Crew("nothing", 1, 1, 1)], Setting("lstm", "adam", TINY))
    with pytest.raises(RuntimeError, match="nothing in 1 process of 1 thread: a process has ended"), teams:
        pass
    assert not any(process.is_alive() for team in teams.teams for process in team.processes)


def test_candidates_per_hour() -> None:
    assert UPDATES_PER_CANDIDATE == 3 * -(-5000 // 128)


def test_explain() -> None:
    rows = explain(Settings(("A", "C"), ("heavy_ball", "adam"), ("lstm", "orthogonal"), (1,), 0.0))
    assert len(rows) == 8 and all(row["why"] for row in rows)
    for row in rows:
        told = plan(CellSpec(row["base"], row["rule"]), place=Place(hidden=SHAPES[row["shape"]].hidden))
        assert (row["execution"], row["why"]) == (told.kernel, told.reason)
        less = row["MiB at K=1, recomputed"]
        assert (less < row["MiB at K=1"]) if (row["base"], row["execution"]) == ("lstm", "fused") else less is None
