"""What a lane trains: one candidate's layer and its readout."""

from __future__ import annotations

from torch import Tensor, nn

from ..cells.spec import Candidate
from .recurrent import Recurrent


class SequenceModel(nn.Module):
    """A recurrent layer and a linear readout of its last output: x (B, T, I) -> (B, output_size)."""

    def __init__(self, candidate: Candidate, input_size: int, output_size: int) -> None:
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

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.readout(self.layer(x)[0][:, -1])
        return outputs

    def num_parameters(self) -> int:
        """How many numbers train."""
        return self.layer.num_parameters() + sum(p.numel() for p in self.readout.parameters())
