"""Broken files: what a user can get wrong, and what the message must say. `write` puts one on disk."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MISSING, FOLDER = b"<missing>", b"<folder>"  # instead of a content: no file, and a folder in its place


class Broken(NamedTuple):
    """``kind``: "space" or "recipe"; ``words``: all of them must be in the message, and so must the file's name."""

    id: str
    kind: str
    content: str | bytes
    words: list[str]


def write(case: Broken, folder: Path) -> Path:
    """The path of the broken file, made in ``folder``."""
    path = folder / ("space.yaml" if case.kind == "space" else "trials.yaml")
    if case.content == FOLDER:
        path.mkdir()
    elif case.content != MISSING:
        path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    return path


def _space(id: str, parameters: str, *words: str) -> Broken:
    """A space whose ``parameters`` is the flow mapping {``parameters``}."""
    return Broken(id, "space", f"parameters: {{{parameters}}}\n", list(words))


_RECIPE = {
    "space": "optimizer_cells",
    "benchmark": "digits-rows",
    "budget": "{trials: 8}",
    "rungs": "{epochs: [1, 2]}",
}


def _recipe(id: str, changes: dict[str, str | None], *words: str) -> Broken:
    """A good recipe with changed top-level values (None: left out)."""
    lines = [f"{key}: {value}" for key, value in {**_RECIPE, **changes}.items() if value is not None]
    return Broken(id, "recipe", "\n".join(lines) + "\n", list(words))


_HB = "base: lstm, rule: heavy_ball"

VALUES = [
    _space(
        "value-0-divides",
        "base: lstm, rule: u / mu, u / mu.mu: {low: 0.0, high: 0.5}",
        "u / mu.mu",
        "with mu = 0",
        "a divisor in a formula is 0",
    ),
    _space("value-decay", 'base: lstm, rule: "momentum(u, 2 * mu)", "momentum(u, 2 * mu).mu": {choices: [0.4, 0.6]}', "decay 1.2"),
    _space("value-default", 'base: lstm, rule: {choices: [plain, "momentum(u, 2 * mu)"]}', "parameters.rule", "mu = 0.6", "decay 1.2"),
]

FILES = [
    Broken(f"{kind}-{id}", kind, content, words)
    for kind in ("space", "recipe")
    for id, content, words in [
        ("missing", MISSING, ["there is no", "looked for", "known:"]),
        ("folder", FOLDER, ["is a folder"]),
        ("empty", "", ["is empty"]),
        ("only-comments", "# nothing\n", ["is empty"]),
        ("list", "- 1\n- 2\n", ["[1, 2]", "a mapping"]),
        ("scalar", "hello\n", ["'hello'", "a mapping"]),
        ("not-utf8", b"name: \xff\xfe\n", ["is not UTF-8", "0xff", "offset 6"]),
        ("syntax", "a: 1\nb: [1, 2\n", ["line 3, column 1"]),
        ("tab", "a:\n\tb: 1\n", ["line 2, column 1"]),
        ("duplicate-key", "seed: 1\nseed: 2\n", ["line 2, column 1", 'duplicate key "seed"']),
        ("control-character", "a: \x07\n", ["YAML"]),
        ("two-documents", "a: 1\n---\nb: 2\n", ["line 2", "another document"]),
        ("python-tag", "a: !!python/object:os.system x\n", ["line 1, column 4", "python/object"]),
        ("undefined-alias", "a: *b\n", ["line 1, column 4", "alias"]),
        ("number-as-key", "a: {1: 2}\n", ["a:", "key 1", "in quotes"]),
        ("date", "description: 2001-02-03\n", ["description", "2001-02-03", "date"]),
        ("impossible-date", "description: 2001-13-03\n", ["YAML"]),
        ("too-deep", "a: " + "[" * 1000 + "]" * 1000, ["deep"]),
    ]
]

SPACES = [
    Broken("no-parameters", "space", "description: nothing\n", ["parameters", "is missing", "base"]),
    Broken("unknown-top-key", "space", "paramters: {base: lstm}\n", ["paramters", "unknown key", 'did you mean "parameters"?']),
    Broken("description-number", "space", "description: 3\nparameters: {base: lstm}\n", ["description", "found 3", "text"]),
    Broken("parameters-list", "space", "parameters: [base]\n", ["parameters", "['base']", "mapping"]),
    _space("empty-space", "", "parameters", "{}", "at least one parameter"),
    _space("no-base", "rule: plain", "parameters", "base is missing", "rule"),
    _space("unknown-base", "base: lstmm", "parameters.base", '"lstmm"', "gru", 'did you mean "lstm"?'),
    _space("unknown-base-among-choices", "base: {choices: [gru, lstmm]}", "parameters.base.choices[1]", '"lstmm"', '"lstm"?'),
    _space("unknown-rule", "base: lstm, rule: heavyball", "parameters.rule", '"heavyball"', 'did you mean "heavy_ball"?'),
    _space("unknown-coefficient", f"{_HB}, heavy_ball.epsilom: 1.0", "parameters.heavy_ball.epsilom", '"epsilom"', "mu", '"epsilon"?'),
    _space("unknown-option", "base: rnn, rnn.activaton: tanh", "parameters.rnn.activaton", '"activaton"', '"activation"?'),
    _space("unknown-option-value", "base: rnn, rnn.activation: tan", "parameters.rnn.activation", '"tan"', 'did you mean "tanh"?'),
    _space("unknown-parameter", "base: lstm, hiden_size: 32", "parameters.hiden_size", "unknown", 'did you mean "hidden_size"?'),
    _space("coefficient-nested", f"{_HB}, heavy_ball: {{mu: 0.5}}", "parameters.heavy_ball", "unknown", '"heavy_ball.mu"?'),
    _space("spec-is-no-field", "base: lstm, spec: 1", "parameters.spec", "unknown parameter"),
    _space("unknown-key", "base: lstm, lr: {low: 0.1, hihg: 0.2}", "parameters.lr.hihg", "unknown key", 'did you mean "high"?'),
    _space("no-domain", "base: lstm, lr: {}", "parameters.lr", "low and high missing", "choices"),
    _space("no-high", "base: lstm, lr: {low: 0.1}", "parameters.lr", "high missing", "low"),
    _space("both-domains", "base: lstm, lr: {choices: [0.1], low: 0.1}", "parameters.lr.low", "choices"),
    _space("list-for-choices", "base: [lstm, gru]", "parameters.base", "['lstm', 'gru']", "choices:"),
    _space("choices-not-a-list", "base: {choices: lstm}", "parameters.base.choices", "'lstm'", "list"),
    _space("no-choices", "base: {choices: []}", "parameters.base.choices", "[]", "at least one"),
    _space("choice-twice", "base: lstm, dropout: {choices: [0, 0.0]}", "parameters.dropout.choices[1]", "0.0", "twice"),
    _space("choice-nested", "base: lstm, dropout: {choices: [[0.1]]}", "parameters.dropout.choices[0]", "[0.1]", "a number"),
    _space("range-of-words", "base: {low: 1, high: 2}", "parameters.base", "range", "choices"),
    _space("impossible-range", "base: lstm, lr: {low: 3, high: 1}", "parameters.lr", "low = 3.0", "high = 1.0", "low < high"),
    _space("empty-range", "base: lstm, lr: {low: 1, high: 1}", "parameters.lr", "low < high", "value: 1.0"),
    _space("text-as-number", "base: lstm, lr: {low: abc, high: 1}", "parameters.lr.low", "'abc'", "a number"),
    _space("null-in-range", "base: lstm, clip: {low: null, high: 1}", "parameters.clip.low", "null", "a number"),
    _space("infinite-range", "base: lstm, clip: {low: 1, high: .inf}", "parameters.clip.high", "inf", "a number"),
    _space("nan", "base: lstm, dropout: .nan", "parameters.dropout", "nan"),
    _space("huge-number", "base: lstm, hidden_size: 1" + "0" * 400, "parameters.hidden_size", "100", "a whole number"),
    _space("bool-for-int", "base: lstm, hidden_size: {choices: [32, true]}", "parameters.hidden_size.choices[1]", "true", "whole number"),
    _space("float-for-int", "base: lstm, hidden_size: 32.5", "parameters.hidden_size", "32.5", "a whole number"),
    _space("float-end-of-int", "base: lstm, hidden_size: {low: 8, high: 16.0}", "parameters.hidden_size.high", "16.0", "whole number"),
    _space("word-for-bool", f"{_HB}, heavy_ball.mu.learned: yes", "parameters.heavy_ball.mu.learned", "'yes'", "true or false"),
    _space("negative-size", "base: lstm, hidden_size: -4", "parameters.hidden_size", "-4", ">= 1"),
    _space("dropout-one", "base: lstm, dropout: {low: 0, high: 1}", "parameters.dropout.high", "1.0", "dropout < 1"),
    _space("null-lr", "base: lstm, lr: null", "parameters.lr", "null", "a number"),
    _space("unknown-optimizer", "base: lstm, optimizer: rmspro", "parameters.optimizer", '"rmspro"', 'did you mean "rmsprop"?'),
    _space("log-of-zero", "base: lstm, dropout: {low: 0, high: 0.5, log: true}", "parameters.dropout.low", "0.0", "low > 0"),
    _space("log-a-word", "base: lstm, lr: {low: 0.1, high: 0.5, log: yes}", "parameters.lr.log", "'yes'", "true, false"),
    _space("step-zero", "base: lstm, lr: {low: 0.1, high: 0.5, step: 0}", "parameters.lr.step", "0.0", "step > 0"),
    _space("step-misses", "base: lstm, lr: {low: 0.1, high: 0.5, step: 0.3}", "parameters.lr.step", "0.3", "0.1 is left over"),
    _space("step-with-log", "base: lstm, lr: {low: 0.1, high: 0.5, step: 0.1, log: true}", "parameters.lr.step", "log"),
    _space("mu-too-large", f"{_HB}, heavy_ball.mu: 1.2", "parameters.heavy_ball.mu", "mu = 1.2", "0 <= mu < 1"),
    _space("mu-range-closed", f"{_HB}, heavy_ball.mu: {{low: 0.5, high: 1}}", "parameters.heavy_ball.mu.high", "1.0", "mu < 1"),
    _space("restart-not-whole", "base: lstm, rule: nesterov, nesterov.restart: 2.5", "nesterov.restart", "2.5", "whole number"),
    _space("bad-formula", "base: lstm, rule: 'm(0.9) /'", "parameters.rule", "'m(0.9) /'", "ends too early"),
    _space(
        "formula-with-an-unknown-name", "base: lstm, rule: {choices: [plain, 'moo(0.9)']}", "parameters.rule.choices[1]", '"moo"', "ema"
    ),
    _space("formula-without-u", "base: lstm, rule: '1 + 1'", "parameters.rule", "does not depend on u"),
    _space("formula-number", "base: lstm, rule: 3", "parameters.rule", "rule = 3", "text"),
    _space("formula-twice", "base: lstm, rule: {choices: ['m(0.9)', 'ema(u,0.90)']}", "rule.choices[1]", "ema(u, 0.9)", "twice"),
    _space("formula-without-quotes", "base: lstm, rule: {choices: [ema(u, 0.9)]}", "rule.choices[0]", "'ema(u'", "quotes"),
    _space("no-formulas", "base: lstm, rule: {formulas: 0}", "parameters.rule.formulas", "found 0", "1 <= formulas <= 2000"),
    _space("too-many-formulas", "base: lstm, rule: {formulas: 2001}", "parameters.rule.formulas", "2001", "formulas <= 2000"),
    _space("formulas-a-word", "base: lstm, rule: {formulas: many}", "parameters.rule.formulas", "'many'", "a whole number"),
    _space("formulas-too-small", "base: lstm, rule: {formulas: 3, size: 2}", "parameters.rule.size", "found 2", "3 <= size <= 40"),
    _space("formulas-too-large", "base: lstm, rule: {formulas: 3, size: 41}", "parameters.rule.size", "found 41", "3 <= size <= 40"),
    _space("formulas-negative-seed", "base: lstm, rule: {formulas: 3, seed: -1}", "parameters.rule.seed", "-1", "0 <= seed"),
    _space("formulas-that-there-are-not", "base: lstm, rule: {formulas: 2000, size: 3}", "rule.formulas", "fewer than 2000", "size 3"),
    _space("formulas-of-a-base", "base: {formulas: 3}", "parameters.base.formulas", "only rule"),
    _space("formulas-with-low", "base: lstm, rule: {formulas: 3, low: 1}", "parameters.rule.low", "does not go with formulas"),
    _space("size-of-choices", "base: lstm, rule: {choices: [plain], size: 5}", "parameters.rule.size", "does not go with choices"),
    _space("seed-of-a-range", "base: lstm, lr: {low: 0.1, high: 0.2, seed: 5}", "parameters.lr.seed", "does not go with low"),
    _space("coefficient-of-no-formula", "base: lstm, rule: 'm(mu)', 'm(mu.mu': 0.5", "parameters.m(mu.mu", "unknown parameter", "early"),
    _space("coefficient-not-in-formula", "base: lstm, rule: 'm(mu)', 'm(mu).beta': 0.5", "m(mu).beta", '"beta"', "allowed: mu, mu.learned"),
    _space("coefficient-of-a-formula-twice", "base: lstm, rule: 'm(mu)', 'm(mu).mu': 0.5, 'm( mu ).mu': 0.5", "m( mu ).mu", "m(mu).mu"),
    _space("unknown-learned-kind", f"{_HB}, heavy_ball.mu.learned: units", "heavy_ball.mu.learned", "'units'", "scalar, unit, input"),
    _space("learned-twice", f"{_HB}, heavy_ball.mu.learned: {{choices: [true, scalar]}}", "mu.learned.choices[1]", "true is there twice"),
    _space(
        "learned-by-unit-at-bound",
        f"{_HB}, heavy_ball.mu: {{choices: [0.5, 0]}}, heavy_ball.mu.learned: {{choices: [false, unit]}}",
        "heavy_ball.mu.choices[1]",
        "can be unit",
    ),
    _space("unknown-scope", "base: lstm, rule: adam, scope: driv", "parameters.scope", '"driv"', 'did you mean "drive"?'),
    _space("unknown-bias", "base: lstm, rule: adam, drive_bias: {choices: [inside, out]}", "drive_bias.choices[1]", '"out"', "outside"),
    _space("bad-gate", "base: lstm, rule: adam, lstm.gates: {choices: [all, gx]}", "lstm.gates.choices[1]", "'gx'", "letters of ifgo"),
    _space("no-gate", "base: lstm, rule: adam, lstm.gates: ''", "parameters.lstm.gates", "''", "allowed: all, or letters of ifgo"),
    _space("gates-twice", "base: lstm, rule: adam, lstm.gates: {choices: [gi, ig]}", "lstm.gates.choices[1]", "ig is there twice"),
    _space("gates-are-all", "base: lstm, rule: adam, lstm.gates: {choices: [all, ogfi]}", "lstm.gates.choices[1]", "all is there twice"),
    _space("gates-of-another-base", "base: lstm, rule: adam, gru.gates: z", "parameters.gru.gates", "base is never gru"),
    _space(
        "hidden-and-gates",
        "base: lstm, rule: adam, scope: {choices: [drive, preactivation, hidden]}, lstm.gates: {choices: [all, g]}",
        "parameters.lstm.gates",
        "can be g while scope is hidden",
        "add when: {scope: [drive, preactivation]}",
    ),
    _space(
        "hidden-and-outside",
        "base: lstm, rule: adam, scope: hidden, drive_bias: {choices: [inside, outside]}",
        "parameters.drive_bias",
        "can be outside while scope is hidden",
        "allowed: inside",
    ),
    _space(
        "scope-of-a-coupled-rule",
        "base: lstm, rule: {choices: [adam, rmsprop, lion, nesterov_released]}, scope: {choices: [preactivation, drive]}",
        "parameters.scope",
        "can be drive while rule is nesterov_released",
        "add when: {rule: {not: [nesterov_released]}}",
    ),
    _space(
        "scope-of-a-coupled-formula",
        "base: lstm, rule: {choices: [adam, 'u + m(0.5) + r']}, scope: drive",
        "parameters.scope",
        "add when: {rule: [adam]}",
    ),
    _space("scope-of-coupled-rules-only", "base: lstm, rule: nesterov_released, scope: drive", "parameters.scope", "leave it out"),
    _space("not-without-values", "base: lstm, rule: adam, clip: {value: 1, when: {rule: {not: []}}}", "clip.when.rule.not", "[]"),
    _space("not-an-empty-mapping", "base: lstm, rule: adam, clip: {value: 1, when: {rule: {}}}", "clip.when.rule", "found {}", "not:"),
    _space("not-misspelt", "base: lstm, rule: adam, clip: {value: 1, when: {rule: {nor: adam}}}", "clip.when.rule.nor", '"not"?'),
    _space("not-anything", "base: lstm, rule: adam, clip: {value: 1, when: {rule: {not: adam}}}", "clip.when.rule.not", "everything"),
    _space(
        "condition-on-a-long-list",
        "base: lstm, rule: {formulas: 30}, clip: {value: 1, when: {rule: adam}}",
        "clip.when.rule",
        "'adam'",
        "… (18 more)",
    ),
    _space(
        "learned-at-bound",
        f"{_HB}, heavy_ball.mu: {{low: 0, high: 0.9}}, heavy_ball.mu.learned: {{choices: [false, true]}}",
        "parameters.heavy_ball.mu.low",
        "mu = 0.0",
        "strictly inside",
        "heavy_ball.mu.learned",
    ),
    _space(
        "learned-choice-at-bound",
        f"{_HB}, heavy_ball.mu: {{choices: [0.5, 0]}}, heavy_ball.mu.learned: true",
        "heavy_ball.mu.choices[1]",
        "0.0",
    ),
    _space("never-learnable", "base: lstm, rule: adam, adam.delta.learned: true", "parameters.adam.delta.learned", "cannot be learned"),
    _space("unreachable-coefficient", f"{_HB}, adam.mu: 0.5", "parameters.adam.mu", "can never be used", "rule is never adam"),
    _space("unreachable-without-rule", "base: lstm, adam.mu: 0.5", "parameters.adam.mu", "rule is never adam"),
    _space("unreachable-option", "base: lstm, rnn.activation: relu", "parameters.rnn.activation", "base is never rnn"),
    _space(
        "unreachable-together",
        "base: lstm, rule: {choices: [plain, adam]}, adam.mu: {low: 0.1, high: 0.5, when: {rule: plain}}",
        "parameters.adam.mu",
        "rule is never adam and plain",
    ),
    _space(
        "unreachable-in-two-steps",
        "base: lstm, rule: {choices: [plain, adam]}, adam.mu.learned: {choices: [true, false]}, "
        "clip: {value: 1.0, when: {rule: plain, adam.mu.learned: true}}",
        "parameters.clip",
        "can never be used",
        "rule",
    ),
    _space("condition-unknown", "base: lstm, clip: {value: 1.0, when: {bass: lstm}}", "parameters.clip.when.bass", '"bass"', '"base"?'),
    _space(
        "condition-never-true",
        "base: {choices: [lstm, gru]}, clip: {value: 1.0, when: {base: rnn}}",
        "parameters.clip.when.base",
        "'rnn'",
        "lstm, gru",
    ),
    _space("condition-on-range", "base: lstm, lr: {low: 0.1, high: 0.2}, clip: {value: 1, when: {lr: 0.1}}", "clip.when.lr", "is a range"),
    _space("condition-no-mapping", "base: lstm, clip: {value: 1, when: lstm}", "parameters.clip.when", "'lstm'", "mapping"),
    _space("condition-without-values", "base: lstm, clip: {value: 1, when: {base: []}}", "parameters.clip.when.base", "[]"),
    _space(
        "condition-bool-for-int", "base: lstm, num_layers: 1, clip: {value: 1, when: {num_layers: true}}", "clip.when.num_layers", "true"
    ),
    _space("condition-on-base", "base: {value: lstm, when: {init: torch}}, init: torch", "parameters.base.when", "no conditions"),
    _space(
        "cycle",
        "base: lstm, init: {value: torch, when: {optimizer: adam}}, optimizer: {value: adam, when: {init: torch}}",
        "parameters.init",
        "circle: init -> optimizer -> init",
    ),
    _space("cycle-of-one", "base: lstm, init: {value: torch, when: {init: torch}}", "parameters.init", "init -> init"),
]

RECIPES = [
    _recipe("unknown-key", {"buget": "{trials: 3}"}, "buget", "unknown key", 'did you mean "budget"?'),
    _recipe("unknown-inner-key", {"budget": "{trails: 3, trials: 3}"}, "budget.trails", "unknown key", 'did you mean "trials"?'),
    _recipe("no-space", {"space": None}, "space", "is missing"),
    _recipe("no-benchmark", {"benchmark": None}, "benchmark", "is missing"),
    _recipe("no-budget", {"budget": None}, "budget", "is missing", "trials"),
    _recipe("no-rungs", {"rungs": None}, "rungs", "is missing", "epochs"),
    _recipe("no-trials", {"budget": "{}"}, "budget.trials", "is missing", ">= 1"),
    _recipe("budget-a-number", {"budget": "8"}, "budget", "found 8", "a mapping with trials"),
    _recipe("negative-budget", {"budget": "{trials: -3}"}, "budget.trials", "-3", ">= 1"),
    _recipe("bool-budget", {"budget": "{trials: true}"}, "budget.trials", "true", "a whole number"),
    _recipe("text-budget", {"budget": "{trials: '8'}"}, "budget.trials", "'8'", "a whole number"),
    _recipe("float-budget", {"budget": "{trials: 1e3}"}, "budget.trials", "1000.0", "a whole number"),
    _recipe("unknown-space", {"space": "optimiser_cells"}, "space", '"optimiser_cells"', 'did you mean "optimizer_cells"?'),
    _recipe("space-a-number", {"space": "3"}, "space", "found 3", "mapping with parameters"),
    _recipe("broken-inline-space", {"space": "{parameters: {base: lstmm}}"}, "space.parameters.base", '"lstmm"', '"lstm"?'),
    _recipe("unknown-benchmark", {"benchmark": "digit-rows"}, "benchmark", '"digit-rows"', 'did you mean "digits-rows"?'),
    _recipe("unknown-sampler", {"search": "{sampler: tpee}"}, "search.sampler", '"tpee"', "random", 'did you mean "tpe"?'),
    _recipe("no-cohort", {"search": "{cohort: 0}"}, "search.cohort", "found 0", ">= 1"),
    _recipe("baseline-trials", {"baselines": "{trials: eqal}"}, "baselines.trials", "'eqal'", ">= 1, or equal"),
    _recipe("no-baseline-trials", {"baselines": "{trials: 0}"}, "baselines.trials", "found 0", ">= 1, or equal"),
    _recipe("no-parameters", {"match_parameters": "0"}, "match_parameters", "found 0", "a whole number >= 1, or null"),
    _recipe("controls-a-word", {"controls": "yes"}, "controls", "'yes'", "true or false"),
    _recipe("unknown-cell", {"baselines": "{cells: [lstmm]}"}, "baselines.cells", '"lstmm"', 'did you mean "lstm"?'),
    _recipe("cell-twice", {"baselines": "{cells: [lstm, lstm]}"}, "baselines.cells", "['lstm', 'lstm']", "each once"),
    _recipe("cells-a-word", {"baselines": "{cells: lstm}"}, "baselines.cells", "'lstm'", "a list"),
    _recipe("rungs-falling", {"rungs": "{epochs: [3, 1]}"}, "rungs.epochs", "[3, 1]", "rising"),
    _recipe("rungs-equal", {"rungs": "{epochs: [2, 2]}"}, "rungs.epochs", "[2, 2]", "rising"),
    _recipe("rungs-from-zero", {"rungs": "{epochs: [0, 2]}"}, "rungs.epochs", "[0, 2]", ">= 1"),
    _recipe("rungs-empty", {"rungs": "{epochs: []}"}, "rungs.epochs", "[]", "a list"),
    _recipe("rungs-a-number", {"rungs": "{epochs: 3}"}, "rungs.epochs", "found 3", "a list"),
    _recipe("rung-a-bool", {"rungs": "{epochs: [true, 3]}"}, "rungs.epochs[0]", "true"),
    _recipe("keep-nothing", {"rungs": "{epochs: [1], keep: 0}"}, "rungs.keep", "found 0", "keep <= 1"),
    _recipe("keep-too-much", {"rungs": "{epochs: [1], keep: 1.5}"}, "rungs.keep", "1.5", "keep <= 1"),
    _recipe("keep-nan", {"rungs": "{epochs: [1], keep: .nan}"}, "rungs.keep", "nan", "keep <= 1"),
    _recipe("one-seed", {"confirmation": "{seeds: 1}"}, "confirmation.seeds", "found 1", ">= 2"),
    _recipe("no-confirmation-epochs", {"confirmation": "{epochs: 0}"}, "confirmation.epochs", "found 0", ">= 1"),
    _recipe("negative-seed", {"seed": "-1"}, "seed", "-1", "0 <= seed"),
    _recipe("huge-seed", {"seed": str(2**63)}, "seed", str(2**63), "seed < 2**63"),
    _recipe("no-time", {"limits": "{lane_seconds: 0}"}, "limits.lane_seconds", "found 0", "> 0"),
    _recipe("infinite-time", {"limits": "{lane_seconds: .inf}"}, "limits.lane_seconds", "inf", "or null"),
    _recipe("climbing-name", {"name": "a..b"}, "name", "'a..b'", 'no ".."'),
    _recipe("path-as-name", {"name": "../a"}, "name", "'../a'", "starts with a letter"),
    _recipe("name-with-newline", {"name": '"a\\n"'}, "name", "letters, digits"),
    _recipe("name-a-number", {"name": "2024"}, "name", "2024", "letters, digits"),
    _recipe("empty-data", {"data": "''"}, "data", "''", "a folder"),
    _recipe("several", {"seed": "-1", "budget": "{trials: 0}", "data": "3"}, "seed: found -1", "budget.trials: found 0", "data: found 3"),
]

BROKEN = [*VALUES, *FILES, *SPACES, *RECIPES]
