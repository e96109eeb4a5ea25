"""Are two specs one cell exactly when they are one function? Random specs of everything, each run on one random probe.

    python analysis/02_collisions.py [--specs 10000] [--seed 0] [--json FILE]

Every spec is built, run, differentiated, sent through JSON and through its description's formula. All layers get the same
numbers where they have the same parameters (learned coefficients are moved off their initial values, so that a learned one
is not the fixed one). Then, of specs with the same parameters:

* equal identities and different outputs: the normal form would be wrong. There must be none.
* different identities and equal outputs (to 1e-9), also where everything is 1e-8 of it and guards against division by zero are as
  large as what they guard: the normal form misses an equality. Each pair is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch

from mrnn_search import CellSpec, Recurrent
from mrnn_search.cells.bases.base import bases
from mrnn_search.cells.formula import show
from mrnn_search.cells.formula.sample import Grammar
from mrnn_search.cells.rules.base import definition, rules

INPUTS, HIDDEN, STEPS, BATCH = 2, 3, 9, 2
# Values at which cells tend to become equal, beside ordinary ones.
SPECIAL: dict[str, tuple[float, ...]] = {
    "mu": (0.0, 0.5, 0.6),
    "beta": (0.0, 0.5, 0.9),
    "beta2": (0.0, 0.5, 0.9),
    "epsilon": (1.0, 0.5, 0.4),
    "nu": (0.0, 0.5, 1.0),
    "restart": (1, 2, 3),
    "tau": (0.5, 1.0),
    "delta": (1e-16, 1e-8),
}
OPTIONS: dict[str, tuple[str, ...]] = {"rebase": ("never", "1"), "forget_bias": ("1", "2")}
EQUAL = 1e-9  # of the largest output


def random_spec(draw: random.Random, grammar: Grammar) -> CellSpec:
    """Any base, rule, coefficients (special or not), learned kinds, options, scope, gates and bias."""
    base = draw.choice(list(bases))
    kind = bases[base]
    rule = draw.choice([rule for rule in rules if definition(rule) is None]) if draw.random() < 0.75 else show(grammar.draw())
    known = rules[rule].coefficients if rule in rules else {}
    coefficients = {}
    for name, c in known.items():
        special = SPECIAL.get(name, (c.default,))
        inside = draw.uniform(max(c.low, 0.05), min(c.high, 1.5) - 0.05)
        coefficients[name] = draw.choice(special) if c.integer or c.guard or draw.random() < 0.7 else inside
    learned = {}
    for name, c in known.items():
        if c.learnable and c.low < coefficients[name] < c.high and draw.random() < 0.2:
            learned[name] = draw.choice(("scalar", "unit", "input"))
    coupled = rule in rules and rules[rule].program.coupled
    scope = "preactivation" if coupled else draw.choice(("drive", "drive", "preactivation", "hidden"))
    gates = bias = None
    if scope != "hidden":
        count = draw.randint(1, len(kind.gate_names))
        gates = draw.sample(kind.gate_names, count) if draw.random() < 0.4 else None
        bias = draw.choice(("inside", "outside"))
    options = {k: draw.choice(OPTIONS.get(k, tuple(allowed))) for k, allowed in kind.options.items() if draw.random() < 0.3}
    return CellSpec(base, rule, coefficients, learned, options, scope, gates, bias or "inside")


def built(spec: CellSpec, scale: float = 1.0) -> Recurrent:
    """The layer in float64, its numbers drawn by name and shape alone; weights and biases times ``scale``."""
    layer = Recurrent(spec, INPUTS, HIDDEN, init="torch").double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            generator = torch.Generator().manual_seed(sum(map(ord, name)) * 1000 + parameter.numel())
            noise = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            learned = name.startswith("rule_") and not name.split("_l0")[0].endswith("_ih")
            parameter.copy_(parameter + noise if learned else noise)
            if name.startswith(("weight", "bias")):
                parameter *= scale
        for name, buffer in layer.named_buffers():
            if name.endswith("base"):  # the centre of an orthogonal map
                buffer.copy_(torch.eye(buffer.shape[-1], dtype=torch.float64).expand(buffer.shape))
    return layer.eval()


def probe() -> torch.Tensor:
    return torch.randn(STEPS, BATCH, INPUTS, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def outputs(layer: Recurrent, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """From a state that is not zero, which a rule of nothing would never leave."""
    start = scale * torch.linspace(-0.5, 0.9, BATCH * HIDDEN, dtype=torch.float64).reshape(1, BATCH, HIDDEN)
    y: torch.Tensor = layer(x, [start] * bases[layer.spec.base].states)[0]
    return y


def check(spec: CellSpec, x: torch.Tensor) -> tuple[tuple[Any, ...], torch.Tensor]:
    """Everything that one spec must survive: what its parameters are, and its outputs.

    Raises:
        AssertionError: it does not.
    """
    layer = built(spec)
    leaf = x.clone().requires_grad_()
    y = outputs(layer, leaf)
    y.square().sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all() and y.isfinite().all(), f"{spec.name}: not finite"
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters()), f"{spec.name}: a gradient is not finite"
    assert CellSpec.from_json(spec.to_json()) == spec, f"{spec.name}: JSON"
    assert spec.canonical().cell_id == spec.cell_id, f"{spec.name}: the canonical form is another cell"
    described = spec.describe(INPUTS, HIDDEN)
    assert described.parameters == layer.num_parameters(), f"{spec.name}: {described.parameters} parameters"
    again = from_formula(spec, described.formula)
    assert again is None or again.cell_id == spec.cell_id, f"{spec.name}: its formula {described.formula} is another cell"
    parameters = tuple((name, tuple(p.shape)) for name, p in layer.named_parameters())
    return (parameters, tuple(sorted(spec.options.items()))), y.detach().flatten()


def from_formula(spec: CellSpec, formula: str) -> CellSpec | None:
    """The same cell with its rule written out; None where a coefficient's range is the rule's own."""
    used = {name: spec.coefficients[name] for name in spec.learned if name in formula}
    if len(used) < len(spec.learned):
        return None
    return CellSpec(spec.base, formula, used, spec.learned_kinds, spec.options, spec.scope, spec.gates, spec.drive_bias)


def run(count: int, seed: int, progress: bool = False) -> dict[str, Any]:
    """The figures: how many specs, cells and functions, and the pairs that break either direction."""
    draw, grammar, x = random.Random(seed), Grammar(12, seed), probe()
    by_cell: dict[str, list[tuple[CellSpec, torch.Tensor]]] = defaultdict(list)
    by_parameters: dict[tuple[Any, ...], list[tuple[str, CellSpec, torch.Tensor]]] = defaultdict(list)
    for n in range(count):
        spec = random_spec(draw, grammar)
        parameters, y = check(spec, x)
        if spec.cell_id not in by_cell:
            by_parameters[parameters].append((spec.cell_id, spec, y))
        by_cell[spec.cell_id].append((spec, y))
        if progress and (n + 1) % 500 == 0:
            print(f"{n + 1:,} specs, {len(by_cell):,} cells", file=sys.stderr)
    wrong = [
        (first.name, other.name) for (first, y), *others in by_cell.values() for other, z in others if y.shape == z.shape and not near(y, z)
    ]
    missed = [pair for group in by_parameters.values() for pair in equal_outputs(group)]
    collapsed = [(len({s.name for s, _ in specs}), specs[0][0].name) for specs in by_cell.values()]
    return {
        "specs": count,
        "seed": seed,
        "cells": len(by_cell),
        "largest_classes": sorted(collapsed, reverse=True)[:8],
        "equal_identity_different_function": wrong,
        "different_identity_equal_function": missed,
        "bases": dict(Counter(s.base for specs in by_cell.values() for s, _ in specs)),
        "scopes": dict(Counter(s.scope for specs in by_cell.values() for s, _ in specs)),
    }


def near(a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> bool:
    return bool((a - b).abs().max() <= EQUAL * max(scale, float(a.abs().max())))


def near_when_small(a: CellSpec, b: CellSpec) -> bool:
    with torch.no_grad():
        return near(*(outputs(built(spec, 1e-8), probe(), 1e-8) for spec in (a, b)), 1e-8)


def equal_outputs(group: list[tuple[str, CellSpec, torch.Tensor]]) -> list[tuple[str, str]]:
    """Pairs of different cells with equal outputs: neighbours along a random direction, compared in full."""
    direction = torch.randn(group[0][2].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    placed = sorted(((float(y @ direction), i) for i, (_, _, y) in enumerate(group)))
    pairs = []
    for place, (value, i) in enumerate(placed):
        for other, j in placed[place + 1 :]:
            if other - value > 1e-7 * max(1.0, abs(value)) * math.sqrt(len(direction)):
                break
            if near(group[i][2], group[j][2]) and near_when_small(group[i][1], group[j][1]):
                pairs.append((group[i][1].name, group[j][1].name))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    figures = run(given.specs, given.seed, progress=True)
    print(f"{figures['specs']:,} specs are {figures['cells']:,} cells")
    print(f"equal identity, different function: {len(figures['equal_identity_different_function'])}")
    for a, b in figures["equal_identity_different_function"][:20]:
        print(f"    {a}   |   {b}")
    print(f"different identity, equal function: {len(figures['different_identity_equal_function'])}")
    for a, b in figures["different_identity_equal_function"][:40]:
        print(f"    {a}   |   {b}")
    print("most names for one cell:")
    for names, name in figures["largest_classes"]:
        print(f"    {names:4}  {name}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
