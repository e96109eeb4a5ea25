"""What one forward and one backward pass of a recurrence read and write."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FAMILIES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1, "modrelu": 1}  # -> G


@dataclass(frozen=True)
class How:
    """How a recurrence runs.

    Attributes:
        kernel: "step", a GEMM and a kernel for each time step; or "persistent", one kernel for the sequence, up to 128 hidden units.
        captured: "step" on a CUDA device: from the second call with the same shapes on, as a CUDA graph.
        batched: one batched GEMM for all lanes, for the input and, of "step", at each time step. Its algorithm, and so the last bits
            of a lane's result, may then depend on how many lanes there are. Else one GEMM a lane.
        resident: "persistent": the recurrent weights are read once, not at every step.
        precision: "persistent": of the products, as ``tl.dot`` calls it: "ieee", or for the faster and less exact tensor cores
            "tf32" or "tf32x3".
        rows, warps: "persistent": batch rows and warps of a program.
    """

    kernel: str
    captured: bool = True
    batched: bool = False
    resident: bool = True
    precision: str = "ieee"
    rows: int = 16
    warps: int = 8


@dataclass
class Buffers:
    """All contiguous, float32, on one device.

    Attributes:
        drive: (K, T, B, G·H); weight: (K, G·H, H); bias: (K, G·H) or None; modrelu_bias: (K, H) or None. The gru's blocks of weight
            and bias are in the order n, r, z, its drive's are r, z, n: see `kernels.cells`.
        hs, cs: (K, T + 1, B, H), the first of them given; cs None but for the lstm.
        gates: (K, T, B, 4·H) of lstm and gru, written by the forward pass; (K, T, B, H) of the others. The backward pass leaves
            their gradients in it. None: there will be no backward pass.
    """

    family: str
    drive: Tensor
    weight: Tensor
    bias: Tensor | None
    modrelu_bias: Tensor | None
    hs: Tensor
    cs: Tensor | None
    gates: Tensor | None

    @classmethod
    def around(
        cls, family: str, drive: Tensor, weight: Tensor, bias: Tensor | None, modrelu_bias: Tensor | None, hidden_size: int, save: bool
    ) -> Buffers:
        """Buffers for these inputs; the states and gates are not initialised."""
        k, t, b, _ = drive.shape
        hs = drive.new_empty(k, t + 1, b, hidden_size)
        cs = torch.empty_like(hs) if family == "lstm" else None
        gates = drive.new_empty(k, t, b, (4 if FAMILIES[family] > 1 else 1) * hidden_size) if save else None
        return cls(family, drive, weight, bias, modrelu_bias, hs, cs, gates)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """T, B, H."""
        return self.drive.shape[1], self.drive.shape[2], self.hs.shape[3]

    def start(self, h0: Tensor, c0: Tensor | None) -> None:
        """Put in the first state, (K, B, H)."""
        self.hs[:, 0].copy_(h0)
        if self.cs is not None and c0 is not None:
            self.cs[:, 0].copy_(c0)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """After the backward pass: of the drive and of the recurrent term, (K, T, B, G·H), blocks in the order of drive and weight."""
        assert self.gates is not None
        if self.family == "gru":
            h = self.hs.shape[-1]
            return self.gates[..., h:], self.gates[..., : 3 * h]
        return self.gates, self.gates
