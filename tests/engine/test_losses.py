"""The fast cross entropy is torch's, loss and gradient, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mrnn_search.engine.losses import FEW_CLASSES, MANY_READS, cross_entropy


@pytest.mark.parametrize("classes", [1, 2, 9, FEW_CLASSES - 1, FEW_CLASSES, 50])
@pytest.mark.parametrize("reads", [1, MANY_READS - 1, MANY_READS, 1792])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_cross_entropy(classes: int, reads: int, scale: float) -> None:
    draw = torch.Generator().manual_seed(classes * reads)
    outputs, y = scale * torch.randn(reads, classes, generator=draw), torch.randint(classes, (reads,), generator=draw)
    found = []
    for loss in (cross_entropy, F.cross_entropy):
        leaf = outputs.clone().requires_grad_()
        value = loss(leaf, y)
        value.backward()
        found.append((value.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
