"""What `timit` and `speech-frames` share: each frame of log-magnitude is predicted from those before it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from .audio import BINS
from .base import Split
from .families import Regression

VERSION = "1"  # of audio.py and of this file: part of the cache's key


class NextFrame(Regression):
    """Frames (T, 129) of log-magnitude in dB; read at each step: the next frame. Mean squared error over frames and bins, dB^2.

    The frame after a sequence's last is silence, as in the published data.
    """

    reads = "every"
    input_size = BINS
    output_size = BINS


def splits(arrays: Mapping[str, np.ndarray], backwards: bool = False) -> dict[str, Split]:
    """Splits whose y is x one frame later, in the same memory.

    Args:
        arrays: for each part ``PART.frames`` (N, T + 1, 129) float32, ``PART.lengths`` (N,) int64.
        backwards: y is x one frame earlier.
    """
    found = {}
    for part in ("train", "validation", "test"):
        frames = torch.from_numpy(arrays[f"{part}.frames"])
        now, after = frames[:, :-1], frames[:, 1:]
        x, y = (after, now) if backwards else (now, after)
        found[part] = Split(x, y, torch.from_numpy(arrays[f"{part}.lengths"]))
    return found
