"""A lane's place in its pack: neither its numbers nor their addresses (modulo a cache line) depend on it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine.batches import Batch
from mrnn_search.engine.lanes import ALIGNED, Lanes

# Sizes at which torch's products of matrices and vectors, on the developers' machine, round by the address of what they read.
AWKWARD = [
    (preset("rnn"), {"hidden": 100, "batch": 1, "steps": 6, "inputs": 2, "outputs": 10}),
    (CellSpec("lstm", "heavy_ball"), {"hidden": 100, "batch": 5, "steps": 11, "inputs": 2, "outputs": 1}),
    (preset("gru"), {"hidden": 100, "batch": 13, "steps": 11, "inputs": 65, "outputs": 1}),
    (preset("gru"), {"hidden": 64, "batch": 2, "steps": 6, "inputs": 2, "outputs": 1}),
    (CellSpec("gru", "rmsprop"), {"hidden": 1, "batch": 1, "steps": 1, "inputs": 28, "outputs": 10}),
    (CellSpec("orthogonal", "plain", options={"rebase": 2}), {"hidden": 33, "batch": 3, "steps": 5, "inputs": 1, "outputs": 3}),
    (CellSpec("lstm", "adam", scope="preactivation"), {"hidden": 50, "batch": 13, "steps": 6, "inputs": 28, "outputs": 1}),
]


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return outputs.square().mean() if outputs.shape[1] == 1 else F.cross_entropy(outputs, y)


@pytest.mark.parametrize(("spec", "sizes"), AWKWARD, ids=[spec.name for spec, _ in AWKWARD])
def test_awkward_sizes_in_any_place_bit_for_bit(spec: CellSpec, sizes: dict[str, int]) -> None:
    inputs, outputs, count = sizes["inputs"], sizes["outputs"], 5
    candidates = [
        Candidate(
            spec, hidden_size=sizes["hidden"], batch_size=sizes["batch"], optimizer="adam", lr=1e-3 * (k + 1), clip=(None, 0.1)[k % 2]
        )
        for k in range(count)
    ]
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, count, sizes["batch"], sizes["steps"], inputs, generator=g)
    y = torch.randint(0, outputs, (count, sizes["batch"]), generator=g)

    def train(members: list[int]) -> dict[int, list[Tensor]]:
        lanes = Lanes([candidates[k] for k in members], members, inputs, outputs, loss)
        lanes.begin_epoch(0)
        for batch in x:
            lanes.update([Batch.last(batch[k].clone(), y[k]) for k in members])
        read: list[Tensor] = []
        lanes.evaluate([Batch.last(x[0, 0], y[0])], lambda out, y: read.append(out) or out.double().sum(-1))  # type: ignore[func-returns-value]
        return {k: [*(p.detach() for p in model.parameters()), out] for k, model, out in zip(members, lanes.models, read, strict=True)}

    first, turned = train([0, 1, 2, 3, 4]), train([4, 3, 2, 1, 0])
    for k in range(count):
        alone = train([k])[k]
        for one, two, three in zip(alone, first[k], turned[k], strict=True):
            assert torch.equal(one, two) and torch.equal(one, three)


def test_every_parameter_begins_where_a_tensor_of_its_own_would() -> None:
    spec = CellSpec("lstm", "heavy_ball", learned={"mu": "input"})
    lanes = Lanes([Candidate(spec, hidden_size=3)] * 3, [0, 1, 2], 5, 7, F.cross_entropy)
    for _ in range(2):
        for model in lanes.models:
            for p in model.parameters():
                assert p.grad is not None and p.data_ptr() % (4 * ALIGNED) == p.grad.data_ptr() % (4 * ALIGNED) == 0
        lanes.keep([len(lanes) - 1, 0])
