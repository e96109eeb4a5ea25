"""A trained cell as a folder that needs nothing of ours: code, weights, facts and a model card.

The folder appears under its name only after its code has been loaded and has given the outputs of the trained layer.
"""

from __future__ import annotations

import importlib.util
import json
import math
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from .. import __version__
from .._registry import InputError
from ..cells.bases.base import bases
from ..cells.spec import Candidate
from ..engine.recurrent import Recurrent
from .source import TEMPLATES, class_name, equation_lines, learned_kinds, source, sources

# What an export consists of; anything else in its folder is the user's own and outlives a new export.
OURS = ("cell.py", "weights.safetensors", "cell.json", "README.md", "model.pt2", "model.onnx", "__pycache__")
TOLERANCE = 1e-9  # of float64 outputs, relative to the largest: room for the rounding of a few dozen steps, for nothing else
LEARNED = {"scalar": " (learned)", "unit": " (learned, the mean over its channels)", "input": " (learned, at the input 0)"}
PROBE = (17, 3)  # time steps and sequences of the check; odd, so that a swapped axis fails


def export(folder: Path, candidate: Candidate, layer_state: Mapping[str, Tensor], *, input_size: int, facts: Mapping[str, Any]) -> Path:
    """Write ``cell.py``, ``weights.safetensors``, ``cell.json`` and ``README.md`` to ``folder``, all or nothing.

    Args:
        folder: made with its parents; an earlier export there is replaced, but files that are not ours stay.
        candidate: the cell, its sizes and how it was trained.
        layer_state: the state_dict of its `Recurrent` layer, as `engine.checkpoint.best_layer` gives it.
        input_size: I.
        facts: goes to cell.json as it is. The card shows, where present: study, benchmark, metric, direction, val_mean,
            val_low, val_high, test_mean, test_low, test_high, intervals (how they were made), seeds, seed_of_weights,
            epochs, verdict, data_source, data_licence, data_fingerprint.

    Returns:
        ``folder``.

    Raises:
        InputError: ``folder`` holds something else, or ``layer_state`` is not one of this candidate, or not finite.
        TypeError: the code of the rule or of the base cannot stand on its own, see `source.source`.
        RuntimeError: the written layer does not do what the trained one does; nothing is left behind.
    """
    target = Path(folder).resolve()
    _check_replaceable(target)
    layer, bias = _trained(candidate, layer_state, input_size)
    tensors = materialised(layer)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(f"the weights of {candidate.spec.name} are not finite: {', '.join(broken)}")
    record = _record(candidate, layer, tensors, facts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        (made / "cell.py").write_text(source(candidate, input_size, bias=bias), encoding="utf-8")
        (made / "weights.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
        (made / "cell.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (made / "README.md").write_text(card(candidate, record), encoding="utf-8")
        _verify(made, layer, tensors)
        _put(made, target, Path(scratch) / "old")
    return Path(folder)


def materialised(layer: Recurrent) -> dict[str, Tensor]:
    """The numbers that a layer computes with, in its dtype: matrices for their maps, values for learned coefficients.

    Of a coefficient that depends on the input these are ``<name>_raw`` and ``<name>_ih``, see `cells.reference.FromInput`.
    """
    known = layer.spec.rule_type.coefficients
    names = bases[layer.spec.base].shapes(layer.input_size, layer.hidden_size, layer.bias)
    tensors: dict[str, Tensor] = {}
    for n in range(layer.num_layers):
        tensors |= {f"{name}_l{n}": getattr(layer, f"{name}_l{n}").detach().clone().contiguous() for name in names}
        for name, kind in learned_kinds(layer.spec).items():
            raw = getattr(layer, f"rule_{name}_l{n}").detach().clone()
            if kind == "input":
                tensors[f"{name}_raw_l{n}"] = raw
                tensors[f"{name}_ih_l{n}"] = getattr(layer, f"rule_{name}_ih_l{n}").detach().clone()
            else:
                tensors[f"{name}_l{n}"] = known[name].from_raw(raw)
    return tensors


def card(candidate: Candidate, record: Mapping[str, Any]) -> str:
    """The model card, Markdown, from the data of ``cell.json``."""
    spec, facts = candidate.spec, record["facts"]
    known = {key: value for key, value in facts.items() if value is not None}
    values = [
        ", ".join(f"{key} = {value:.6g}{LEARNED[spec.learned_kinds[key]] if key in spec.learned else ''}" for key, value in layer.items())
        for layer in record["coefficients"]
        if layer
    ]
    return TEMPLATES.get_template("card.md.j2").render(
        record,
        cls=record["class"],
        fact=known.get,
        equations=equation_lines(spec, bias=record["bias"]),
        by_input="input" in learned_kinds(spec).values(),
        sources=sources(spec),
        base=bases[spec.base],
        values=values,
        scores=_scores(known),
        training=_training(candidate, known),
    )


def _scores(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Split, mean and interval of each score that there is."""
    rows = []
    for key, split in (("val", "validation"), ("test", "test")):
        if f"{key}_mean" in facts:
            ends = [facts[f"{key}_{end}"] for end in ("low", "high") if f"{key}_{end}" in facts]
            rows.append(
                (split, f"{facts[f'{key}_mean']:.4g}", " to ".join(f"{end:.4g}" for end in ends) if len(ends) == 2 else "not known")
            )
    return rows


def _training(candidate: Candidate, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the card says on the training: name and value."""
    rows = [(key.replace("_", " "), facts[key]) for key in ("study", "benchmark", "seeds", "seed_of_weights", "epochs") if key in facts]
    keys = ["optimizer", "lr", "clip", "batch_size", "dropout", "init"]
    if bases[candidate.spec.base].orthogonal:
        keys.insert(2, "lr_orthogonal")
    absent = {"lr_orthogonal": "a tenth of lr", "clip": "none"}
    rows += [(key.replace("_", " "), absent[key] if getattr(candidate, key) is None else getattr(candidate, key)) for key in keys]
    return [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in rows]


def _trained(candidate: Candidate, state: Mapping[str, Tensor], input_size: int) -> tuple[Recurrent, bool]:
    """The trained layer (float32, on the CPU, eval mode), and whether it has biases."""
    base = bases[candidate.spec.base]
    with_bias, without = (set(base.shapes(input_size, candidate.hidden_size, bias)) for bias in (True, False))
    bias = all(f"{name}_l0" in state for name in with_bias - without)
    layer = Recurrent(candidate.spec, input_size, candidate.hidden_size, candidate.num_layers, bias=bias, dropout=candidate.dropout)
    try:
        layer.load_state_dict(dict(state))
    except RuntimeError as error:
        raise InputError(f"the weights are not those of {candidate.spec.name} with hidden_size {candidate.hidden_size}: {error}") from error
    return layer.float().eval(), bias


def _record(candidate: Candidate, layer: Recurrent, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The data of ``cell.json``."""
    spec = candidate.spec
    return {
        "mrnn_search_version": __version__,
        "torch_version": torch.__version__,
        "python_version": platform.python_version(),
        "class": class_name(spec),
        "name": spec.name,
        "cell_id": spec.cell_id,
        "candidate_id": candidate.candidate_id,
        "spec": spec.to_dict(),
        "candidate": candidate.to_dict(),
        "input_size": layer.input_size,
        "hidden_size": layer.hidden_size,
        "num_layers": layer.num_layers,
        "bias": layer.bias,
        "parameters": layer.num_parameters(),
        "coefficients": [layer.coefficients(n) for n in range(layer.num_layers)],
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "facts": _plain(facts),
    }


def _plain(value: Any) -> Any:
    """``value`` as JSON data: one-element arrays and numpy's numbers become Python's, numbers that JSON lacks None, the rest text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _check_replaceable(target: Path) -> None:
    """Raises:
    InputError: there is something at ``target`` that is neither empty nor an earlier export.
    """
    if target.is_dir() and (not any(target.iterdir()) or _is_export(target)):
        return
    if target.exists():
        raise InputError(f"{target} exists and is no earlier export; allowed: a new or empty folder, or one that export wrote")


def _is_export(folder: Path) -> bool:
    try:
        return "mrnn_search_version" in json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _put(made: Path, target: Path, old: Path) -> None:
    """Give the finished folder its name; whatever had it goes to ``old``, and comes back if that fails."""
    if not target.exists():
        made.rename(target)
        return
    target.rename(old)
    try:
        made.rename(target)
    except OSError:
        old.rename(target)
        raise
    for path in old.iterdir():
        if path.name not in OURS:
            path.rename(target / path.name)


def _verify(made: Path, layer: Recurrent, tensors: Mapping[str, Tensor]) -> None:
    """Load what was written and hold it against the trained layer.

    The numbers in the file must be the layer's, exactly. The code is compared in float64 on the layer's float64
    numbers: there rounding cannot be told from nothing, where in float32 a drive near zero may change its sign. The layer
    runs step by step as the code does: a formula may make much of what is left of two numbers that cancel.

    Raises:
        RuntimeError: a difference.
    """
    module = _load_module(made / "cell.py")
    found = module.load().state_dict()
    if found.keys() != tensors.keys() or not all(_close(found[name].to(t.dtype), t, 0.0) for name, t in tensors.items()):
        raise RuntimeError("export is wrong: weights.safetensors does not give the trained layer's numbers; please report this")
    exact = Recurrent(layer.spec, layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias).double().eval()
    exact.load_state_dict(layer.state_dict())
    copy = getattr(module, class_name(layer.spec))().double().eval()
    copy.load_state_dict(materialised(exact))
    x = torch.randn(*PROBE, layer.input_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, their_state = exact.reference()(x)
        ours, our_state = copy(x)
        first, half_state = copy(x[:5])
        second, _ = copy(x[5:], half_state)
    pairs = [(ours, theirs), (torch.cat([first, second]), theirs), *zip(_tensors(our_state), _tensors(their_state), strict=True)]
    for a, b in pairs:
        if not _close(a, b, TOLERANCE * max(1.0, float(b.nan_to_num().abs().max()))):
            raise RuntimeError(f"export is wrong: cell.py does not compute what {layer.spec.name} computes; please report this")


def _close(a: Tensor, b: Tensor, gap: float) -> bool:
    """One shape, and nowhere further apart than ``gap``."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=gap, equal_nan=True)


def _tensors(state: Any) -> list[Tensor]:
    """A state's tensors, the rule's too."""
    return [*(state if isinstance(state, tuple) else [state]), *getattr(state, "rule", ())]


def _load_module(path: Path) -> ModuleType:
    """``cell.py`` as a module that nothing else sees; leaves no bytecode beside it."""
    spec = importlib.util.spec_from_file_location("exported_cell", path)
    assert spec is not None and spec.loader is not None  # a .py file has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    return module
