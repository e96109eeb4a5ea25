"""What `timit` and `speech-frames` share: each frame of log-magnitude is predicted from those before it.

Shapes: N sequences, T frames, 129 bins, M reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .audio import BINS
from .base import Split
from .families import Regression
from .sealed import SealedSplit

VERSION = "1"  # of audio.py and of this file: part of the cache's key
PARTS = ("train", "validation", "test")


class NextFrame(Regression):
    """Frames (T, 129) of log-magnitude; read at each step: the next frame. Mean squared error over frames and bins, in dB^2.

    The frame after a sequence's last is silence, as in the published data.

    Attributes:
        unit: what 1 in the data means, in dB.
    """

    reads = "every"
    input_size = BINS
    output_size = BINS

    def __init__(self, splits: Mapping[str, Split | SealedSplit], fingerprint: str, unit: float = 1.0) -> None:
        super().__init__(splits, fingerprint)
        self.unit = unit

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        return super().errors(outputs, y) * self.unit**2


def standardised(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Frames without each bin's mean, in units of the deviation over all bins; both of the training part's own frames.

    Args:
        arrays: for each part ``PART.frames`` (N, T + 1, 129) float32, dB; ``PART.lengths`` (N,) int64. Frames are changed in place.

    Returns:
        the same, and ``unit`` (1,) float64: the deviation.
    """
    frames, lengths = arrays["train.frames"], arrays["train.lengths"]
    own = frames[np.arange(frames.shape[1]) < lengths[:, None]]
    mean = own.mean(0, dtype=np.float64)
    unit = np.sqrt(np.mean(own.var(0, dtype=np.float64)))
    for part in PARTS:  # in place: TIMIT's frames are a gigabyte
        arrays[f"{part}.frames"] -= mean.astype(np.float32)
        arrays[f"{part}.frames"] /= np.float32(unit)
    return {**arrays, "unit": np.array([unit])}


def splits(arrays: Mapping[str, np.ndarray], backwards: bool = False) -> dict[str, Split]:
    """Splits whose y is x one frame later, in the same memory.

    Args:
        arrays: for each part ``PART.frames`` (N, T + 1, 129) float32, ``PART.lengths`` (N,) int64.
        backwards: y is x one frame earlier.
    """
    found = {}
    for part in PARTS:
        frames = torch.from_numpy(arrays[f"{part}.frames"])
        now, after = frames[:, :-1], frames[:, 1:]
        x, y = (after, now) if backwards else (now, after)
        found[part] = Split(x, y, torch.from_numpy(arrays[f"{part}.lengths"]))
    return found
