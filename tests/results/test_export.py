"""What `export` writes: code that equals the trained layer, stands on its own, and is refused where it could not."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mrnn_search._registry import InputError
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.cells.bases.base import bases
from mrnn_search.cells.formula.sample import Grammar
from mrnn_search.cells.formula.text import show
from mrnn_search.cells.rules.base import Coefficient, Rule, rules
from mrnn_search.engine.recurrent import Recurrent, State
from mrnn_search.results import export as module_under_test
from mrnn_search.results.export import export, materialised
from mrnn_search.results.source import class_name, source

from ..cells.strategies import BASES, specs

RULES = sorted(rules)  # every registered one
SYMBOLIC = [  # every function of the language, and what a formula may do with its states
    "u + 0.3 * prev(u) - 0.1 * prev(prev(u))",
    "prev(u)",
    "prev(2 * u^2 - m(0.9))",
    "u / (sqrt(u^2) + 0.1)",
    "tanh(u / (sqrt(n(0.99)) + 1e-8)) + 0.1 * sign(m(0.5))",
    "min(u, 0.3) + max(prev(u), m(0.9)) + relu(u) - abs(u) / 7",
    "u / (1 + peak(abs(u)) + peak(u))",
    "u * (1 - 0.9^t) / t + m(0.5)",
    "tanh(u) * 2^(0 - t)",  # no state, but a step number
    "momentum(u, (cycle(3) - 1) / (cycle(3) + 2), 0.5)",
    "momentum(u, mu, epsilon) / sqrt(momentum(u^2, 1) + delta)",
    "ema(ema(u, 0.9), (1 - beta) / 2 + 0.1) - u^3",
    "exp(-u^2) * log(1 + u^2) * sigmoid(u)^2 - -(u^(-2 + 4)) * (-0.5)^2",
    "u * sqrt(abs(-4)) * exp(min(mu, 0.5)) * log(max(2, 3)) * tanh(1) * sigmoid(0 - mu) * relu(mu) * sign(mu) + u / 4 / 5 - (u - (mu - 2))",
    "(m(0.9) / (sqrt(n(0.9)) + 1e-8) + 0.1 * u) * tanh(m(0.9) / (sqrt(n(0.9)) + 1e-8)) + momentum(m(0.9) / (sqrt(n(0.9)) + 1e-8), 0.5)"
    " + (u + 1) * (u + 2) * (u + 3) * (u + 4) * (u + 5) / ((u - 20) * (u - 30) * (u - 40) * (u - 50) * (u - 60) * (u - 70) * (u - 80))",
]
COUPLED = ["u + tanh(r) - 0.1 * prev(r)", "ema(u + r, 0.5) * sigmoid(r)", "r + 0.5 * u", "max(u, r) + 0.1 * prev(u - r) * 0.9^t"]


def _cases():
    """Specs over scopes, gates, places of the bias and kinds of learned coefficients."""
    learned = [{"mu": kind} for kind in ("scalar", "unit", "input")] + [{"mu": "input", "epsilon": "unit", "beta": "scalar"}]
    for kinds in learned:
        for base, options in (("lstm", {}), ("gru", {}), ("orthogonal", {})):
            for where in ({}, {"scope": "preactivation"}, {"scope": "hidden"}):
                yield CellSpec(base, "adam", {}, kinds, options, **where)
    for bias in ("inside", "outside"):
        for base, gates in (("lstm", "g"), ("lstm", "io"), ("gru", "n"), ("gru", "rn"), ("mgu", "f"), ("indrnn", None), ("linear", None)):
            for scope in ("drive", "preactivation"):
                kinds = {"epsilon": "unit", "beta": "input"} if bias == "inside" else {}
                yield CellSpec(base, "rmsprop", {}, kinds, scope=scope, gates=gates, drive_bias=bias)
            yield CellSpec(base, "nesterov_released", {"epsilon": 0.4}, {"epsilon": "unit"}, gates=gates, drive_bias=bias)
        yield CellSpec("rnn", "tanh(u)", scope="preactivation", drive_bias=bias, options={"activation": "relu"})
    yield CellSpec("lstm", "epsilon * tanh(u)", {}, {"epsilon": "unit"}, scope="preactivation", gates="ig")
    yield CellSpec("gru", "epsilon * u", {}, {"epsilon": "unit"}, scope="preactivation")
    yield CellSpec("lstm", "tanh(u) / t", scope="hidden")
    yield CellSpec("lstm", "plain", scope="hidden")
    yield CellSpec("gru", "min(mu, 0.5) * u * sqrt(mu) + max(u, mu)", {}, {"mu": "input"}, gates="z")
    yield CellSpec("lstm", "nadam", {}, {"mu": "unit", "beta": "input"}, gates="ifg", drive_bias="outside")
    for rule in SYMBOLIC:
        for where in ({}, {"gates": "zn"}, {"scope": "hidden"}, {"scope": "preactivation"}):
            yield CellSpec("gru", rule, **where)
    for rule in COUPLED:
        yield CellSpec("lstm", rule)
        yield CellSpec("mgu", rule, gates="n", drive_bias="outside")


CASES = list(_cases())

FACTS = {
    "study": "quickstart",
    "benchmark": "pixel_digits",
    "metric": "accuracy",
    "direction": "maximize",
    "val_mean": 0.91234,
    "val_low": 0.9,
    "val_high": 0.925,
    "test_mean": 0.9,
    "test_low": 0.88,
    "test_high": 0.92,
    "seeds": 5,
    "seed_of_weights": 3,
    "epochs": 12,
    "verdict": "No cell is better than the baseline.",
    "intervals": "Student intervals over seeds",
    "data_licence": "CC BY-SA 3.0",
    "data_source": "https://example.org/data",
    "data_fingerprint": "abc123",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tensors here are tiny: on a busy machine a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(spec: CellSpec, input_size=3, hidden=4, layers=1, **options) -> Recurrent:
    """A layer whose every number has moved from where it started, as after training."""
    layer = Recurrent(spec, input_size, hidden, layers, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return layer.eval()


def candidate_of(layer: Recurrent, **training) -> Candidate:
    return Candidate(layer.spec, layer.hidden_size, layer.num_layers, layer.init, layer.dropout, **training)


def load_module(path: Path):
    spec = importlib.util.spec_from_file_location("cell", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, layer: Recurrent, facts=FACTS):
    """Export a layer; the module that was written."""
    export(folder, candidate_of(layer), layer.state_dict(), input_size=layer.input_size, facts=facts)
    return load_module(folder / "cell.py")


def in_float64(module, layer: Recurrent):
    """The trained layer and the written one, both on its float64 numbers: there no rounding hides a wrong term."""
    exact = Recurrent(layer.spec, layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias).double()
    exact.load_state_dict(layer.state_dict())
    written = module.load().double()
    written.load_state_dict(materialised(exact))
    return exact.eval(), written


def tensors(state):
    return [*(state if isinstance(state, tuple) else [state]), *getattr(state, "rule", ())]


def assert_near(ours, theirs, gap, name=""):
    assert ours.shape == theirs.shape, name
    scale = max(1.0, float(theirs.detach().abs().max()))
    assert float((ours - theirs).detach().abs().max()) <= gap * scale, name


@settings(max_examples=25)
@given(
    spec=specs(),
    layers=st.integers(1, 2),
    bias=st.booleans(),
    init=st.sampled_from(["paper", "torch"]),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)),
    cut=st.integers(1, 19),
)
def test_written_layer_equals_trained_layer(tmp_path_factory, spec, layers, bias, init, shape, cut):
    """Outputs, states and every gradient by name: 1e-10 of the largest entry in float64."""
    t, b, i, h = shape
    torch.manual_seed(cut)
    layer = trained(spec, i, h, layers, bias=bias, init=init)
    assert_equals_trained(tmp_path_factory.mktemp("export") / "cell", layer, t, b, cut)


def assert_equals_trained(folder: Path, layer: Recurrent, t=7, b=2, cut=3):
    """Outputs, states, and every gradient of a layer and its export, in float64; streaming; and in float32 as users run it."""
    module = write(folder, layer)
    assert hasattr(module, class_name(layer.spec))
    theirs, ours = in_float64(module, layer)
    x = torch.randn(t, b, layer.input_size, dtype=torch.float64)
    (y, state, grads), (y2, state2, grads2) = run(ours, x), run(theirs.reference(), x)
    assert_near(y, y2, 1e-10)
    if isinstance(state2, State):
        assert type(state) is module.State and state.t == state2.t == t
    for a, c in zip(tensors(state), tensors(state2), strict=True):
        assert_near(a, c, 1e-10, "state")
    shared = grads.keys() & grads2.keys()
    assert shared >= {"x", "weight_ih_l0"} and grads.keys() - shared <= {f"weight_hh_l{n}" for n in range(layer.num_layers)}
    for name in shared:
        assert_near(grads[name], grads2[name], 1e-9, name)
    if cut < t:
        first, half = ours(x[:cut])
        second, end = ours(x[cut:], half)
        assert_near(torch.cat([first, second]), y, 1e-10)
        assert not hasattr(end, "rule") or end.t == t
    written = module.load()
    assert not written.training and {p.dtype for p in written.parameters()} == {torch.float32}
    assert_near(written(x.float())[0], layer.reference()(x.float())[0], 1e-5)
    return module


def run(layer, x):
    leaf = x.clone().requires_grad_()
    y, state = layer(leaf)
    total = y.square().mean() + sum(s.square().mean() for s in (state if isinstance(state, tuple) else [state]))
    grads = torch.autograd.grad(total, [leaf, *layer.parameters()], allow_unused=True)
    names = ["x", *(n for n, _ in layer.named_parameters())]
    return y, state, {name: grad for name, grad in zip(names, grads, strict=True) if grad is not None}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_on_every_base(tmp_path, rule):
    """Together, and in one folder: an import of torch's modules costs more than a cell."""
    for base in BASES:
        torch.manual_seed(0)
        assert_equals_trained(tmp_path / base, trained(CellSpec(base, rule), init="torch"))


@pytest.mark.parametrize("spec", CASES, ids=[spec.name[:60] for spec in CASES])
def test_scopes_gates_biases_and_learned_coefficients(tmp_path, spec):
    torch.manual_seed(0)
    module = assert_equals_trained(tmp_path / "cell", trained(spec, layers=2, init="torch"))
    text = (tmp_path / "cell" / "cell.py").read_text(encoding="utf-8")
    assert_clean(text)
    assert ("class Join" in text) == (spec.scope == "preactivation") and "join(" not in text.replace("Join(", "") or "class Join" in text
    y, _ = getattr(module, class_name(spec))(5, 6, 2)(torch.randn(3, 2, 5))  # new layers need no weights
    assert y.isfinite().all()


@pytest.mark.parametrize("spec", CASES[::9], ids=[spec.name[:60] for spec in CASES[::9]])
def test_without_biases(tmp_path, spec):
    torch.manual_seed(0)
    layer = trained(spec, bias=False, init="torch")
    assert_equals_trained(tmp_path / "cell", layer)
    assert "bias_ih" not in {name for name, _ in layer.named_parameters()}


def test_random_formulas(tmp_path):
    """Whatever a search may write; as in its trees, a part may be there more than once."""
    grammar = Grammar(size=40, seed=1)
    for n in range(15):
        torch.manual_seed(n)
        assert_equals_trained(tmp_path / str(n), trained(CellSpec("gru", show(grammar.draw())), init="torch"), t=5)
        assert_clean((tmp_path / str(n) / "cell.py").read_text(encoding="utf-8"))


def assert_clean(text: str):
    """Short, of our own making alone, and no longer than a screen is wide."""
    lines = text.splitlines()
    assert len(lines) < 300 and max(map(len, lines)) <= 120
    assert not re.search(r"import .*(mrnn_search|safetensors|numpy)|from .*(mrnn_search|safetensors|numpy).* import", text)
    assert not re.search(r"<d_|<a_", text)  # what `Base.equations` marks


def test_sources_are_as_formatters_write_them(tmp_path):
    """One call of ruff for all of them."""
    everything = [CellSpec(base, rule) for base in BASES for rule in RULES] + CASES
    for n, spec in enumerate(everything):
        text = source(Candidate(spec, 8), 5)
        assert_clean(text)
        (tmp_path / f"cell{n}.py").write_text(text, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--isolated", "--select", "F,E9", "."],
        ["format", "--isolated", "--line-length", "120", "--check", "--diff", "."],
    ):
        done = subprocess.run([*ruff, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_source_shows_the_cell_as_the_package_computes_it():
    spec = CellSpec("lstm", "adam", {"mu": 0.1 + 0.2, "delta": 1e-16}, learned=("beta",))
    text = source(Candidate(spec, 8, 2, dropout=0.25), 5)
    for line in (
        "class AdamLSTM(nn.Module):",
        '    "mu": 0.30000000000000004,  # momentum: how much of the velocity stays',
        '    "delta": 1e-16,  # inside the root, against division by zero',
        'LEARNED: dict[str, float] = {\n    "beta": 0.1,',
        '    v, s = states\n    v = c["mu"] * v + c["epsilon"] * u\n    s = c["beta"] * s + (1 - c["beta"]) * u**2\n'
        '    d = v / torch.sqrt(s + c["delta"])\n    return d, (v, s)\n',
        "    i, f, g, o = (d + recurrent_term(w, h)).chunk(4, dim=-1)\n",
        "    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)\n",
        "        dropout: float = 0.25,\n",
        "    d_t = v_t / sqrt(s_t + delta)\n",
        f"Cell {spec.cell_id}.",
    ):
        assert line in text
    assert "safe_sqrt" not in text and "Join" not in text and "join(" not in text.replace(".join(", "")
    text = source(Candidate(CellSpec("gru", "nesterov"), 8), 5)
    assert (
        '    k = (t - 1) % c["restart"] + 1\n    gamma = (k - 1) / (k + 2)\n    v = gamma * v + c["epsilon"] * u\n    return v, (v,)\n'
        in text
    )


@pytest.mark.parametrize("base", BASES)
def test_a_plain_cell_has_no_rule(base):
    for spec in (CellSpec(base), CellSpec(base, "u", scope="preactivation"), CellSpec(base, "plain", scope="hidden")):
        text = source(Candidate(spec, 8), 5)
        assert not re.search(r"def rule|moments|COEFFICIENTS|LEARNED|Join|join\(|class State", text)


def test_gates_bias_and_scope_in_the_source():
    text = source(Candidate(CellSpec("lstm", "heavy_ball", gates="g", drive_bias="outside"), 8), 5)
    for line in (
        "    gates = list(u.chunk(4, -1))  # i, f, g, o\n    gates[2], moments = rule(c, gates[2], moments)\n",
        '    drive = F.linear(x, w["weight_ih"])  # (T, B, G*H)\n',
        '        d, moments = on_gates(c, u, moments)\n        state = step(w, d + w["bias_ih"], state)\n',
        "for size in [h, h, h]]",
    ):
        assert line in text
    text = source(Candidate(CellSpec("rnn", "heavy_ball", scope="hidden"), 8), 5)
    assert "        (new,) = step(w, u, state, OPTIONS)\n        d, moments = rule(c, new - h, moments)\n        state = (h + d,)\n" in text


def test_learned_coefficients_and_orthogonal_matrices_are_stored_by_value(tmp_path):
    layer = trained(CellSpec("orthogonal", "heavy_ball", learned=("mu",)), layers=2)
    written = write(tmp_path / "cell", layer).load()
    stored = load_file(tmp_path / "cell" / "weights.safetensors")
    assert sorted(stored) == sorted(written.state_dict()) and {v.dtype for v in stored.values()} == {torch.float32}
    for n in range(2):
        assert torch.equal(stored[f"weight_hh_l{n}"], getattr(layer, f"weight_hh_l{n}"))
        assert stored[f"mu_l{n}"].shape == () and float(stored[f"mu_l{n}"]) == layer.coefficients(n)["mu"]
    assert "leaves the orthogonal\n    matrices" in (tmp_path / "cell" / "cell.py").read_text()
    assert "leaves the orthogonal matrices" in (tmp_path / "cell" / "README.md").read_text()


def test_call_is_that_of_torchs_layers(tmp_path):
    layer = trained(preset("adam_lstm"), layers=2, dropout=0.5)
    module = write(tmp_path / "cell", layer)
    written = module.load()
    assert (written.input_size, written.hidden_size, written.num_layers, written.batch_first, written.dropout) == (3, 4, 2, False, 0.5)
    x = torch.randn(6, 2, 3)
    y, state = written(x)
    h, c = state
    assert h.shape == c.shape == (2, 2, 4) and state.t == 6 and [tuple(m.shape) for m in state.rule] == [(2, 2, 16)] * 2
    first = module.AdamLSTM(3, 4, 2, True).eval()
    first.load_state_dict(written.state_dict())
    torch.testing.assert_close(first(x.transpose(0, 1))[0], y.transpose(0, 1))
    alone, (h, _) = written(x[:, 0])
    torch.testing.assert_close(alone, y[:, 0])
    assert h.shape == (2, 4)
    half, state = written(x[:3, 0])
    torch.testing.assert_close(torch.cat([half, written(x[3:, 0], state)[0]]), alone)
    bare, _ = written(x, (torch.zeros(2, 2, 4), torch.zeros(2, 2, 4)))  # as torch.nn.LSTM: the rule starts from zero
    torch.testing.assert_close(bare, y)
    written.train()
    assert not torch.equal(written(x)[0], written(x)[0])  # dropout between the layers
    _, h = write(tmp_path / "gru", trained(preset("gru"))).load()(x)
    assert h.shape == (1, 2, 4)


def test_new_layers_need_no_weights(tmp_path):
    module = write(tmp_path / "cell", trained(CellSpec("orthogonal", "rmsprop", learned=("beta",))))
    layer = module.RMSPropOrthogonal(7, 5, 3)
    y, _ = layer(torch.randn(4, 2, 7))
    assert y.shape == (4, 2, 5) and float(layer.beta_l2) == pytest.approx(0.9)
    torch.testing.assert_close(layer.weight_hh_l1 @ layer.weight_hh_l1.T, torch.eye(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("x", "state", "error", "words"),
    [
        (torch.zeros(5, 2, 4), None, ValueError, r"input has shape \(5, 2, 4\), allowed: \(T, B, 3\)"),
        (torch.zeros(3), None, ValueError, "input has shape"),
        (torch.zeros(0, 2, 3), None, ValueError, "no time steps"),
        (torch.zeros(5, 2, 3), torch.zeros(1, 2, 4), ValueError, "state has shapes"),
        (torch.zeros(5, 2, 3), (torch.zeros(1, 9, 4), torch.zeros(1, 9, 4)), ValueError, "state has shapes"),
        (torch.nn.utils.rnn.pack_sequence([torch.zeros(3, 3)]), None, TypeError, "input is a PackedSequence"),
    ],
)
def test_wrong_input_is_named(tmp_path, x, state, error, words):
    layer = write(tmp_path / "cell", trained(preset("momentum_lstm"))).load()
    with pytest.raises(error, match=words):
        layer(x, state)


def test_stands_on_its_own(tmp_path):
    """Copied elsewhere, in a process where neither this package nor safetensors can be imported."""
    layer = trained(CellSpec("gru", "nesterov", {"restart": 3}, learned=("epsilon",)), layers=2)
    write(tmp_path / "cell", layer)
    shutil.copytree(tmp_path / "cell", tmp_path / "elsewhere" / "copy")
    shutil.rmtree(tmp_path / "cell")
    x = torch.arange(30.0).reshape(5, 2, 3) / 30
    code = (
        "import sys\n"
        "for name in ('mrnn_search', 'safetensors', 'jinja2', 'pandas', 'optuna'): sys.modules[name] = None\n"
        "sys.path.insert(0, 'copy')\n"
        "import cell, json, torch\n"
        "y, _ = cell.load()(torch.arange(30.0).reshape(5, 2, 3) / 30)\n"
        "assert torch.equal(cell.load('copy')(torch.arange(30.0).reshape(5, 2, 3) / 30)[0], y)\n"
        "print(json.dumps(y.tolist()))\n"
    )
    torch.testing.assert_close(torch.tensor(json.loads(python(code, tmp_path / "elsewhere"))), layer(x)[0].detach(), rtol=0, atol=2e-6)


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_card_has_the_facts_and_a_snippet_that_runs(tmp_path):
    write(tmp_path / "cell", trained(preset("momentum_lstm"), layers=2))
    text = (tmp_path / "cell" / "README.md").read_text()
    for words in (
        "# HeavyBallLSTM",
        "v_t = mu v_{t-1} + epsilon u_t",
        "| validation | 0.9123 | 0.9 to 0.925 |",
        "| test | 0.9 | 0.88 to 0.92 |",
        "No cell is better than the baseline.",
        "Student intervals over seeds.",
        "| seed of weights | 3 |",
        "CC BY-SA 3.0",
        "readout",
    ):
        assert words in text
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert python(snippet, tmp_path / "cell") == "torch.Size([50, 8, 4]) torch.Size([10, 8, 4])\n"


def test_card_leaves_out_what_is_not_known(tmp_path):
    write(tmp_path / "cell", trained(preset("lstm")), facts={"val_mean": torch.tensor(0.5), "test_mean": float("nan"), "seeds": (1, 2)})
    text = (tmp_path / "cell" / "README.md").read_text()
    assert "| validation | 0.5 | not known |" in text and "| seeds | 1, 2 |" in text
    assert "| test |" not in text and "## Data" not in text and "None" not in text and "nan" not in text


def test_record(tmp_path):
    layer = trained(CellSpec("lstm", "adam", learned=("mu",)), layers=2)
    export(tmp_path / "cell", candidate_of(layer, lr=0.01), layer.state_dict(), input_size=3, facts={**FACTS, "test_mean": float("nan")})
    record = json.loads((tmp_path / "cell" / "cell.json").read_text())
    assert CellSpec.from_dict(record["spec"]) == layer.spec and record["cell_id"] == layer.spec.cell_id
    assert Candidate.from_dict(record["candidate"]) == candidate_of(layer, lr=0.01)
    assert record["shapes"]["weight_ih_l1"] == [16, 4] and record["parameters"] == layer.num_parameters()
    assert record["facts"] == {**FACTS, "test_mean": None}
    assert record["torch_version"] == torch.__version__ and {"mrnn_search_version", "python_version"} < record.keys()


def test_only_an_earlier_export_is_replaced(tmp_path):
    folder = tmp_path / "deep" / "cell"
    write(folder, trained(preset("lstm")))
    (folder / "model.onnx").write_text("stale")
    (folder / "notes.txt").write_text("mine")
    module = write(folder, trained(preset("gru")))
    assert hasattr(module, "PlainGRU") and (folder / "notes.txt").read_text() == "mine"
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "cell.json", "cell.py", "notes.txt", "weights.safetensors"]
    assert [p.name for p in folder.parent.iterdir()] == ["cell"]
    other = tmp_path / "other"
    other.mkdir()
    write(other, trained(preset("gru")))  # empty: taken
    for name, text in (("cell.json", "[1]"), ("thesis.tex", "words")):
        strange = tmp_path / name.split(".")[0]
        strange.mkdir()
        (strange / name).write_text(text)
        with pytest.raises(InputError, match="no earlier export"):
            write(strange, trained(preset("gru")))
        assert [p.name for p in strange.iterdir()] == [name]
    with pytest.raises(InputError, match="no earlier export"):
        write(strange / "thesis.tex", trained(preset("gru")))


def test_weights_of_another_cell_are_refused(tmp_path):
    layer = trained(preset("lstm"))
    for wrong in (Candidate(preset("gru"), 4), Candidate(preset("lstm"), 5), Candidate(preset("lstm"), 4, 2)):
        with pytest.raises(InputError, match="the weights are not those of"):
            export(tmp_path / "cell", wrong, layer.state_dict(), input_size=3, facts={})
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = float("nan")
    with pytest.raises(InputError, match="are not finite: weight_hh_l0"):
        write(tmp_path / "cell", layer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('c["mu"] * v', '(c["mu"] + 1e-7) * v'),
        ("old[:2], old[2:])", "old[:2], tuple(0 * m for m in old[2:]))"),  # forgets the rule's state between chunks
        ("numbers.reshape(", "(numbers + 1e-6).reshape("),
        ("return x, State(end[:2], end[2:], t)", "return x, State(end[1::-1], end[2:], t)"),
    ],
)
def test_a_wrong_export_does_not_appear(tmp_path, monkeypatch, right, wrong):
    def broken(*args, **options):
        text = source(*args, **options)
        assert text.count(right) == 1
        return text.replace(right, wrong)

    monkeypatch.setattr(module_under_test, "source", broken)
    with pytest.raises(RuntimeError, match="export is wrong"):
        write(tmp_path / "cell", trained(preset("momentum_lstm")))
    assert list(tmp_path.iterdir()) == []


PLUG_IN = '''
"""A user's own rule and bases, with what users write: helpers, constants, odd names and comments."""
import functools
import math
from math import sqrt
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as fn

from mrnn_search.cells.bases.base import Base, Join, bases, recurrent_term
from mrnn_search.cells.rules.base import MU, BETA, Coefficient, Rule, rules

HALF, LIMIT = 0.5, float("inf")
SIZES = (1, 2.5)
ODD = Coefficient(1, 1, 9, integer=True, learnable=False)


def rule(z, scale: "np.ndarray" = HALF, *, shift=0):  # a name that cell.py has for itself
    """Squash."""
    return soft(z * scale) + shift


def soft(z: Optional[torch.Tensor]):
    # a comment with a letter outside ASCII: ε
    if z is None:
        return soft(0.0)
    return torch.tanh(z).clamp(-LIMIT, LIMIT)


@rules.register("mine")
class MyRule(Rule):
    coefficients = {"mu": MU, "beta": BETA, "gain": Coefficient(0.4, 0.0, 3.0), "unread": MU, "odd_one": ODD}
    formula = """
        states = ema(u, mu / 2)
        lambda = momentum(u^2, beta, gain) + odd_one
        c = prev(states) * tanh(lambda)
        torch = c / sqrt(lambda)
        d = states + torch * cycle(odd_one)
        math = d / 2
    """
    source = """a "quoted" text"""


@rules.register("first")
class First(Rule):
    formula = "tanh(u)"
First.__name__ = "1st rule"


@bases.register("mine")
class MyBase(Base):
    gate_names = ("a", "b")
    options = {"shape": ("round", "flat")}
    equations = ("h_t = <d_t + h> ...",)
    source = "a user"

    @classmethod
    def shapes(cls, input_size, hidden_size, bias):
        return super().shapes(input_size, hidden_size, bias) | {"mix": (hidden_size, input_size + 2 * hidden_size + 3)}

    @classmethod
    def init_(cls, w, how, hidden_size, options):
        super().init_(w, how, hidden_size, options)
        torch.nn.init.ones_(w["mix"])

    @classmethod
    def step(cls, weights, drive, state, opts, together: Join, steepness=1.0) -> "tuple[torch.Tensor, ...]":
        del cls
        def gate(z): return torch.sigmoid(steepness * z)
        r = recurrent_term(weights, state[0])
        size = r.shape[-1] // 2
        d: "Optional[torch.Tensor]" = together(drive[:, :size] if True else drive, r[:, :size] - 0.5, first=0) * SIZES[1]  # ε again
        a, b = d, 2 * together(drive[:, size:], (rule(r) / sqrt(2.0) + fn.softplus(r) * math.exp(-1))[:, size:], 1)
        h = gate(a) * torch.tanh(b) + weights["mix"].sum() * 0.01
        return (h if opts["shape"] == "round" else h.round(),)


@bases.register("passes_on")
class PassesOn(Base):
    """Uses its join as a value."""
    equations, source = ("h_t = <d_t + r>",), "a user"

    @classmethod
    def step(cls, w, d, state, options, join: Join):
        return (joined(join, d, w["weight_hh"].sum() * state[0]),)


def joined(join, d, r): return torch.tanh(join(d, r, 0))


def refused(name, step):
    bases.register(name)(type("Refused", (Base,), {"equations": ("<d_t + r>",), "source": "s", "step": classmethod(step)}))


def uses_cls(cls, w, d, state, options, join): return (join(d, state[0]) * len(cls.gate_names),)
def uses_numpy(cls, w, d, state, options, join): return (join(d, state[0]) * np.pi,)
def uses_nothing_known(cls, w, d, state, options, join): return (join(d, state[0]) * missing,)
def imports_numpy(cls, w, d, state, options, join):
    import numpy.linalg as la
    return (join(d, state[0]) * la.norm([1.0]),)
def uses_a_list(cls, w, d, state, options, join): return (join(d, state[0]) * THINGS[0],)
THINGS = [1.0]


@bases.register("uses_super")
class Super(PassesOn):
    @classmethod
    def step(cls, w, d, state, options, join):
        return super().step(w, d, state, options, join)


@functools.lru_cache
def cached(z): return z
def uses_decorated(cls, w, d, state, options, join): return (cached(join(d, state[0])),)


for function in (uses_cls, uses_numpy, imports_numpy, uses_nothing_known, uses_a_list, uses_decorated):
    refused(function.__name__, function)
exec("def unreadable(cls, w, d, state, options, join): return (join(d, state[0]),)", globals())
refused("unreadable", unreadable)
'''


@pytest.fixture
def plug_in(tmp_path):
    (tmp_path / "plug_in.py").write_text(PLUG_IN, encoding="utf-8")
    before = set(rules), set(bases)
    try:
        yield load_module(tmp_path / "plug_in.py")
    finally:
        for registry, names in zip((rules, bases), before, strict=True):
            for name in set(registry) - names:
                del registry._members[name]


@pytest.mark.parametrize("learned", [{}, {"beta": "unit", "mu": "scalar", "gain": "input", "unread": "input"}])
@pytest.mark.parametrize("where", [{}, {"gates": "b"}, {"scope": "hidden"}, {"scope": "preactivation", "drive_bias": "outside"}])
def test_a_users_own_rule_and_base(tmp_path, plug_in, learned, where):
    layer = trained(CellSpec("mine", "mine", {"mu": 0.7}, learned, {"shape": "round"}, **where), layers=2)
    assert_equals_trained(tmp_path / "cell", layer)
    text = (tmp_path / "cell" / "cell.py").read_text(encoding="utf-8")
    assert "import numpy" not in text and "# a comment with a letter outside ASCII: ε" in text and "ε again" in text
    assert class_name(layer.spec) == "MyRuleMyBase" and "unread" not in text.split(chr(34) * 3, 2)[2]
    if "scope" not in where:
        assert "(drive[:, :size] if True else drive) + (r[:, :size] - 0.5)) * SIZES[1]" in text
    assert_clean(text)
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", str(tmp_path / "cell")], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("where", [{}, {"scope": "preactivation"}])
def test_a_base_that_passes_its_join_on(tmp_path, plug_in, where):
    layer = trained(CellSpec("passes_on", "first", **where))
    assert_equals_trained(tmp_path / "cell", layer)
    assert class_name(layer.spec).isidentifier()
    text = (tmp_path / "cell" / "cell.py").read_text(encoding="utf-8")
    assert ("def add(d: Tensor, r: Tensor, first: int = 0) -> Tensor:" in text) == (not where)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("uses_cls", "uses cls"),
        ("uses_super", r"uses super\(\)"),
        ("uses_numpy", r"uses np \(numpy\); an exported cell may use torch and math only"),
        ("imports_numpy", "imports numpy.linalg; an exported cell may use torch and math only"),
        ("uses_nothing_known", "uses missing, which is not defined"),
        ("uses_a_list", "uses THINGS"),
        ("uses_decorated", "uses cached"),
        ("unreadable", "the source code cannot be read|is not to be found"),
    ],
)
def test_code_that_cannot_stand_on_its_own_is_refused(tmp_path, plug_in, base, words):
    with pytest.raises(TypeError, match=words):
        write(tmp_path / "cell", trained(CellSpec(base, "heavy_ball")))
    assert not (tmp_path / "cell").exists()


def test_module_needs_no_optuna_ray_or_pandas():
    code = "import sys\nfor name in ('optuna', 'ray', 'pandas'): sys.modules[name] = None\nimport mrnn_search.results.export\n"
    python(code, Path.cwd())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.5, 0.5), (0.25, 4.0), (-1.0, float("inf")), (0.1, 0.9)])
@pytest.mark.parametrize("kind", ["scalar", "unit", "input"])
def test_learned_coefficients_of_every_range(tmp_path, monkeypatch, kind, low, high):
    own = {"coefficients": {"g": Coefficient(0.3, low, high)}, "formula": "g * u + ema(u, 0.5)"}
    monkeypatch.setitem(rules._members, "ranged", type("Ranged", (Rule,), own))
    assert_equals_trained(tmp_path / "cell", trained(CellSpec("gru", "ranged", {}, {"g": kind}), layers=2))


@pytest.mark.parametrize("rule", ["abs(u)^mu", "u - abs(u)^0.5 / 2", "2 * (n(0.9) * 3)^0.25 - abs(u)^(mu * 0.9^t)", "-(abs(u)^0.5)^3"])
@pytest.mark.parametrize("learned", [{}, {"mu": "scalar"}, {"mu": "unit"}, {"mu": "input"}])
def test_powers(tmp_path, rule, learned):
    assert_equals_trained(tmp_path / "cell", trained(CellSpec("lstm", rule, {}, learned if "mu" in rule else {})))
