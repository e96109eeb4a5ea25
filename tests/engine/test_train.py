"""The training of one lane: determinism, resume, failure, the one reading of the test split."""

import math

import pytest
import torch

from mrnn_search.benchmarks import Classification, Split
from mrnn_search.cells import Candidate, CellSpec, preset
from mrnn_search.engine.recurrent import Recurrent
from mrnn_search.engine.train import best_layer, derive_seed, train_lane

from ..opened import opened

PARTS = (("train", 0, 256), ("validation", 256, 328), ("test", 328, 400))


class Sums(Classification):
    """Is the sum of the sequence positive? Learnable in seconds."""

    name, input_size, output_size = "sums", 2, 2

    def __init__(self):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(400, 6, 2, generator=g)
        y = (x.sum((1, 2)) > 0).long()
        super().__init__({name: Split(x[a:b], y[a:b]) for name, a, b in PARTS}, "")

    @classmethod
    def load(cls, data_dir):
        return cls()


TASK = Sums()
TEST = opened(TASK)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
@pytest.mark.parametrize("base", ["lstm", "orthogonal"])
def test_resumed_equals_unbroken_bit_for_bit(base, optimizer):
    candidate = Candidate(CellSpec(base, "adam"), hidden_size=8, num_layers=2, dropout=0.2, optimizer=optimizer, batch_size=32)
    whole = train_lane(TASK, candidate, 5, None, 0, 4, test=TEST)
    first = train_lane(TASK, candidate, 5, None, 0, 1)
    torch.manual_seed(99)  # the world's generator must not matter
    second = train_lane(TASK, candidate, 5, first.checkpoint, 1, 4, test=TEST)
    assert [(r.epoch, r.step, r.train_loss, r.value) for r in first.rows + second.rows] == [
        (r.epoch, r.step, r.train_loss, r.value) for r in whole.rows
    ]
    assert second.checkpoint == whole.checkpoint
    assert (second.value, second.best_epoch, second.test_value) == (whole.value, whole.best_epoch, whole.test_value)


def test_it_learns_and_reports_the_best_epoch():
    candidate = Candidate(preset("momentum_lstm"), hidden_size=16, lr=1e-2, batch_size=32)
    out = train_lane(TASK, candidate, 1, None, 0, 8, test=TEST)
    assert out.error is None and out.value > 0.9 and out.test_value > 0.85
    assert out.value == max(r.value for r in out.rows) == out.rows[out.best_epoch - 1].value
    assert out.execution == "fused cpu: linear rule on filtered input"
    layer = Recurrent(candidate.spec, 2, 16)
    layer.load_state_dict(best_layer(out.checkpoint))
    assert out.parameters == layer.num_parameters() + 16 * 2 + 2


def test_seeds_differ_and_the_global_generator_is_left_alone():
    candidate = Candidate(preset("lstm"), hidden_size=4)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b = train_lane(TASK, candidate, 1, None, 0, 1), train_lane(TASK, candidate, 2, None, 0, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert a.rows[0].train_loss != b.rows[0].train_loss
    assert derive_seed(1, "a") != derive_seed(1, "b") and 0 <= derive_seed(1) < 2**63


def test_divergence_is_a_reason_not_a_crash():
    class Poisoned(Sums):
        def loss(self, outputs, y):
            return super().loss(outputs, y) * math.inf

    out = train_lane(Poisoned(), Candidate(preset("lstm"), hidden_size=4), 1, None, 0, 2)
    assert out.error == "loss is inf at epoch 1, step 1"
    assert out.checkpoint is None and out.rows == () and math.isnan(out.value)


def test_time_limit():
    out = train_lane(TASK, Candidate(preset("lstm"), hidden_size=4), 1, None, 0, 2, timeout_s=0.0)
    assert out.error is not None and "time limit" in out.error


def test_a_checkpoint_of_another_epoch_is_refused():
    candidate = Candidate(preset("lstm"), hidden_size=4)
    first = train_lane(TASK, candidate, 1, None, 0, 1)
    with pytest.raises(ValueError, match="stands at epoch 1, not at 2"):
        train_lane(TASK, candidate, 1, first.checkpoint, 2, 3)
