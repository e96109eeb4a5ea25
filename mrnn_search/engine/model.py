"""What a lane trains: one candidate's layer and its readout, and where x has tokens their embedding."""

from __future__ import annotations

from torch import Tensor, nn

from ..cells.spec import Candidate
from .recurrent import Recurrent


class SequenceModel(nn.Module):
    """A recurrent layer and a linear readout of its last output: x (B, T, I) -> (B, output_size).

    Args:
        vocabulary: how many tokens there are, where x is tokens (B, T) int64; `embedding` gives each I numbers, from N(0, 1) at first.
    """

    def __init__(self, candidate: Candidate, input_size: int, output_size: int, vocabulary: int | None = None) -> None:
        super().__init__()
        self.layer = Recurrent(
            candidate.spec,
            input_size,
            candidate.hidden_size,
            num_layers=candidate.num_layers,
            batch_first=True,
            dropout=candidate.dropout,
            init=candidate.init,
        )
        self.readout = nn.Linear(candidate.hidden_size, output_size)
        self.embedding = None if vocabulary is None else nn.Embedding(vocabulary, input_size)

    def inputs(self, x: Tensor) -> Tensor:
        """What the layer sees of x, laid out like it: (…, I)."""
        if self.embedding is None:
            return x
        embedded: Tensor = self.embedding(x)
        return embedded

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.readout(self.layer(self.inputs(x))[0][:, -1])
        return outputs

    def num_parameters(self) -> int:
        """How many numbers train."""
        rest = sum(p.numel() for module in (self.readout, self.embedding) if module is not None for p in module.parameters())
        return self.layer.num_parameters() + rest
