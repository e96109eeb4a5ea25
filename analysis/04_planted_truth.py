"""Are the statistics of a study true? Studies of cells whose quality is known, through the functions that rank real ones.

    python analysis/04_planted_truth.py [--replications 20000] [--seed 0] [--json FILE]

One replication is a study: candidates are screened with one seed each, on validation; the best of them, and a baseline, are confirmed with
fresh seeds that they share; then `mrnn_search.results` says how good each is, which cell wins, which cannot be told apart from it, and
which beat the baseline. Nothing is trained: a run's score is the cell's quality, plus noise as training has it (`draw`). The old way
stands beside it: one seed each, the best epoch on the test split, the best of all candidates against one run of the baseline.

Three worlds: no cell differs from the baseline; cells differ by about as much as seeds do; one is better by twice that.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from mrnn_search.results.intervals import Array, student, studentised_bootstrap
from mrnn_search.results.paired_tests import ALPHA
from mrnn_search.results.selection import cross_fitted, p_against, tied_with, winner

CANDIDATES, TOP, SEEDS, EPOCHS = 48, 5, 5, 8
EXAMPLES = 1_000  # of either split: accuracy comes in steps of a thousandth
NOISE = (0.002, 0.02)  # standard deviation of one run's accuracy, log-uniform over studies
UNEVEN = 0.25  # log standard deviation of a cell's noise about its study's
# Shares of a run's variance. Luck is what both splits see; a bad seed is further away than a good one (an exponential's skew).
SEED_LUCK, RUN_LUCK, EPOCH_LUCK, SPLIT_LUCK = 0.25, 0.40, 0.15, 0.20
START, PACE = 6.0, 1.5  # the curve begins this many deviations below its end, and nears it at this many epochs a factor of e
CHUNK = 500
Rates = dict[str, float]


@dataclass(frozen=True)
class World:
    """``spread``: standard deviation of the candidates' quality, ``gain``: of one planted candidate; both in noise of one run."""

    name: str
    spread: float = 0.0
    gain: float = 0.0


WORLDS = [World("no cell differs"), World("cells differ", spread=1.0), World("one is better", gain=2.0)]


def _luck(rng: np.random.Generator, *shape: int) -> Array:
    """Mean 0, variance 1, skew -2."""
    return 1 - rng.standard_exponential(shape)


def draw(rng: np.random.Generator, studies: int, cells: int, seeds: int) -> tuple[Array, Array]:
    """Validation and test curves, each (studies, cells, seeds, epochs), of cells of quality 0 and noise 1; a seed's luck is all cells'."""
    both = math.sqrt(SEED_LUCK) * _luck(rng, studies, 1, seeds, 1) + math.sqrt(RUN_LUCK) * _luck(rng, studies, cells, seeds, 1)
    shape = (studies, cells, seeds, EPOCHS)
    curve = both - START * np.exp(-np.arange(1, EPOCHS + 1) / PACE) + math.sqrt(EPOCH_LUCK) * rng.standard_normal(shape)
    validation, test = (curve + math.sqrt(SPLIT_LUCK) * rng.standard_normal(shape) for _ in range(2))
    return validation, test


def at_best_epoch(validation: Array, test: Array) -> tuple[Array, Array]:
    """Scores of the epoch that validation chooses."""
    at = validation.argmax(axis=-1)[..., None]
    return np.take_along_axis(validation, at, -1)[..., 0], np.take_along_axis(test, at, -1)[..., 0]


def expectations(seed: int, runs: int = 400_000) -> tuple[float, float]:
    """Expected validation and test score of a cell of quality 0 and noise 1: choosing the epoch adds to the first, hardly to the second."""
    scores = at_best_epoch(*draw(np.random.default_rng(seed), runs, 1, 1))
    return float(scores[0].mean()), float(scores[1].mean())


@dataclass(frozen=True)
class Studies:
    """One chunk: scores of the confirmed cells, the baseline last, and the truth about them; what the old way reports.

    Attributes:
        validation, test: (N, C, S); true_validation, true_test: (N, C), expected scores.
        noise: (N,).
        old, old_truth, old_baseline: (N,), the best candidate's best test score, its expected one, and the baseline's best test score.
        old_false: (N,), whether that candidate is no better than the baseline.
    """

    validation: Array
    test: Array
    true_validation: Array
    true_test: Array
    noise: Array
    old: Array
    old_truth: Array
    old_baseline: Array
    old_false: Array


def study(rng: np.random.Generator, world: World, n: int, bias: tuple[float, float]) -> Studies:
    """``n`` studies in ``world``."""
    noise = np.exp(rng.uniform(*np.log(NOISE), size=n))
    even = world.spread == world.gain == 0  # then all are equal, in every respect
    own = noise[:, None] * (1 if even else np.exp(UNEVEN * rng.standard_normal((n, CANDIDATES + 1))))
    own = np.broadcast_to(own, (n, CANDIDATES + 1))
    quality = 0.9 + rng.uniform(0, 1 / EXAMPLES, size=(n, 1)) + noise[:, None] * world.spread * rng.standard_normal((n, CANDIDATES + 1))
    quality[:, 0] += world.gain * noise

    def scores(z: Array, q: Array, s: Array) -> Array:
        return np.round((q + s * z) * EXAMPLES) / EXAMPLES

    # Every screening run has a seed of its own: (studies x cells, 1, 1, epochs) is then as good as any other shape.
    z_validation, z_test = (z.reshape(n, CANDIDATES + 1, EPOCHS) for z in draw(rng, n * (CANDIDATES + 1), 1, 1))
    screened, on_test = scores(z_validation.max(-1), quality, own), scores(z_test.max(-1), quality, own)
    finalists = np.argsort(-screened[:, :-1], axis=1, kind="stable")[:, :TOP]
    confirmed = np.concatenate([finalists, np.full((n, 1), CANDIDATES)], axis=1)
    q, s = np.take_along_axis(quality, confirmed, 1), np.take_along_axis(own, confirmed, 1)
    chosen = at_best_epoch(*draw(rng, n, TOP + 1, SEEDS))
    validation, test = (scores(z, q[..., None], s[..., None]) for z in chosen)
    truth = quality + own * bias[1]
    best = on_test[:, :-1].argmax(axis=1)[:, None]
    old, expected = (np.take_along_axis(of, best, 1)[:, 0] for of in (on_test, truth))
    no_gain = expected <= truth[:, -1]
    return Studies(validation, test, q + s * bias[0], q + s * bias[1], noise, old, expected, on_test[:, -1], no_gain)


def _holds(interval: tuple[Array, Array], truth: Array) -> float:
    return float(((interval[0] <= truth) & (truth <= interval[1])).mean())


def coverage(s: Studies) -> Rates:
    """Share of intervals that hold the truth: of one confirmed cell a study, of its winner, and of one difference to the baseline."""
    n = len(s.noise)

    def of(cells: np.ndarray, scores: Array) -> Array:
        return np.take_along_axis(scores, cells.reshape(n, 1, *[1] * (scores.ndim - 2)), 1)[:, 0]

    one, other, best = np.arange(n) % (TOP + 1), np.arange(n) % TOP, winner(s.validation)
    difference, true_difference = of(other, s.test) - s.test[:, -1], of(other, s.true_test) - s.true_test[:, -1]
    return {
        "validation mean, studentised bootstrap": _holds(studentised_bootstrap(of(one, s.validation)), of(one, s.true_validation)),
        "test mean, studentised bootstrap": _holds(studentised_bootstrap(of(one, s.test)), of(one, s.true_test)),
        "test mean, Student": _holds(student(of(one, s.test)), of(one, s.true_test)),
        "difference, Student": _holds(student(difference), true_difference),
        "difference, studentised bootstrap": _holds(studentised_bootstrap(difference), true_difference),
        "test mean of the winner, studentised bootstrap": _holds(studentised_bootstrap(of(best, s.test)), of(best, s.true_test)),
    }


def verdicts(s: Studies) -> Rates:
    """How often each kind of statement was made, and how often it was wrong. A tie called a win is wrong."""
    n, baseline = len(s.noise), np.full(len(s.noise), TOP)
    best = winner(s.validation)
    at = best[:, None]
    gain = s.test.mean(-1) - s.test[:, -1].mean(-1)[:, None]
    beats = (p_against(s.test, baseline) < ALPHA) & (gain > 0)
    no_better = s.true_test <= s.true_test[:, -1:]
    tied = tied_with(p_against(s.validation, best), best)
    alone = tied.sum(-1) == 1
    truly_best = s.true_validation >= s.true_validation.max(-1, keepdims=True)
    rivals = np.where(np.arange(TOP + 1) == at, -np.inf, s.true_validation).max(-1)
    wrong = rivals >= np.take_along_axis(s.true_validation, at, 1)[:, 0]
    one = np.argmax(truly_best, axis=-1)[:, None]
    return {
        "a cell is said to beat the baseline": float(beats.any(-1).mean()),
        "... and one of them does not": float((beats & no_better).any(-1).mean()),
        "the winner is said to beat the baseline": float(np.take_along_axis(beats, at, 1).mean()),
        "... and does not": float(np.take_along_axis(beats & no_better, at, 1).mean()),
        "the winner stands alone": float(alone.mean()),
        "... and is not the best": float((alone & wrong).mean()),
        "the best confirmed cell is told apart from the winner": float((~np.take_along_axis(tied, one, 1)).sum() / n),
        "old way: the best beats the baseline": float((s.old > s.old_baseline).mean()),
        "old way: ... and does not": float(((s.old > s.old_baseline) & s.old_false).mean()),
    }


def biases(s: Studies) -> Rates:
    """Reported minus true, in noise of one run."""
    best = winner(s.validation)[:, None]
    true_best = np.take_along_axis(s.true_test, best, 1)[:, 0]
    chosen = cross_fitted(s.validation, s.test)
    reported = {
        "test mean of every confirmed cell": ((s.test.mean(-1) - s.true_test) / s.noise[:, None]).mean(),
        "test figure of the selection (cross-fitted)": ((chosen.mean(-1) - true_best) / s.noise).mean(),
        "test mean of the winner": ((np.take_along_axis(s.test.mean(-1), best, 1)[:, 0] - true_best) / s.noise).mean(),
        "validation mean of the winner": ((np.take_along_axis(s.validation.mean(-1), best, 1)[:, 0] - true_best) / s.noise).mean(),
        "old way": ((s.old - s.old_truth) / s.noise).mean(),
    }
    return {key: float(value) for key, value in reported.items()}


def simulate(world: World, replications: int, seed: int) -> dict[str, Rates]:
    """Means of `coverage`, `verdicts` and `biases` over the replications, which are rounded up to whole chunks."""
    bias = expectations(seed)
    found: dict[str, list[Rates]] = {"coverage": [], "verdicts": [], "biases": []}
    for chunk in range(math.ceil(replications / CHUNK)):
        s = study(np.random.default_rng([seed, chunk]), world, CHUNK, bias)
        for name, measure in (("coverage", coverage), ("verdicts", verdicts), ("biases", biases)):
            found[name].append(measure(s))
    return {name: {key: float(np.mean([rates[key] for rates in rows])) for key in rows[0]} for name, rows in found.items()}


def _scipy(method: str, rng: np.random.Generator) -> Callable[[Array], tuple[Array, Array]]:
    def interval(x: Array) -> tuple[Array, Array]:
        found = bootstrap((x,), np.mean, axis=-1, n_resamples=999, batch=100, method=method, rng=rng).confidence_interval
        return found.low, found.high

    return interval


def _skewed(shape: float) -> Callable[[np.random.Generator, tuple[int, int]], Array]:
    return lambda rng, size: (shape - rng.gamma(shape, size=size)) / math.sqrt(shape)


NOISES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "skew -0.5": _skewed(16),
    "skew -1": _skewed(4),
    "skew -2 (exponential)": _skewed(1),
    "long tails (t, 5 degrees)": lambda rng, size: rng.standard_t(5, size),
    "normal, in steps of 1/2": lambda rng, size: _stepped(rng, rng.standard_normal(size)),
    "difference of two of skew -1": lambda rng, size: _skewed(4)(rng, size) - _skewed(4)(rng, size),
    "difference of two of skew -2": lambda rng, size: _skewed(1)(rng, size) - _skewed(1)(rng, size),
}


def _stepped(rng: np.random.Generator, x: Array) -> Array:
    """Where the steps lie is anyone's guess, so that the mean stays 0."""
    at = rng.uniform(size=(len(x), 1))
    return np.asarray((np.round(2 * x + at) - at) / 2)


def methods(replications: int, seed: int) -> dict[str, Rates]:
    """Noise -> method -> share of its 95 % intervals of `SEEDS` scores that hold the mean; "width": of the last, in Student's median one,
    in the median and in the longest of a hundred.
    """
    rng = np.random.default_rng([seed, 1])
    ways = {"percentile": _scipy("percentile", rng), "BCa": _scipy("BCa", rng), "Student": student}
    ways |= {"bootstrap-t": partial(studentised_bootstrap, bandwidth=0), "smoothed": studentised_bootstrap}
    out: dict[str, Rates] = {}
    for name, noise in NOISES.items():
        chunks = [noise(rng, (CHUNK, SEEDS)) for _ in range(math.ceil(replications / CHUNK))]
        found = {way: [interval(x) for x in chunks] for way, interval in ways.items()}
        out[name] = {way: float(np.mean([_holds(bounds, np.zeros(CHUNK)) for bounds in all_bounds])) for way, all_bounds in found.items()}
        usual = np.median([high - low for low, high in found["Student"]])
        for way in ("bootstrap-t", "smoothed"):
            widths = np.concatenate([high - low for low, high in found[way]]) / usual
            out[name] |= {f"width of {way}": float(np.median(widths)), f"width of {way}, 1 in 100": float(np.quantile(widths, 0.99))}
    return out


def table(columns: list[str], rows: dict[str, Rates]) -> Iterator[str]:
    """Markdown; shares in percent."""
    first = list(next(iter(rows.values())))
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(first)}"
    for name, rates in rows.items():
        yield f"| {name} | {' | '.join(_shown(key, value) for key, value in rates.items())} |"


def _shown(key: str, value: float) -> str:
    return f"{value:.2f}" if key.startswith("width ") else f"{value:+z.2f}" if key.startswith("bias ") else f"{100 * value:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    compared = methods(args.replications, args.seed)
    print(*table(list(next(iter(compared.values()))), compared), sep="\n", end="\n\n")
    worlds = {world.name: simulate(world, args.replications, args.seed) for world in WORLDS}
    for part, prefix in (("coverage", ""), ("verdicts", ""), ("biases", "bias ")):
        rows = {row: {prefix + name: found[part][row] for name, found in worlds.items()} for row in worlds[WORLDS[0].name][part]}
        print(*table(list(worlds), rows), sep="\n", end="\n\n")
    if args.json:
        args.json.write_text(json.dumps({"replications": args.replications, "methods": compared, "worlds": worlds}, indent=1))


if __name__ == "__main__":
    main()
