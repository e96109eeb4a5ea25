"""What a pack of lanes needs at its peak, in bytes, before it starts; and how much there is.

Shapes: K lanes, P parameters of a lane, T time, B batch, I input, H hidden, G gate blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ..cells.bases.base import bases
from ..cells.describe import num_parameters
from ..cells.spec import Candidate
from .native.build import Native, native
from .native.recurrence import saved_floats, scratch_floats
from .optimizers import MEMORY
from .planner import Place, Plan, plan

FLOAT = 4
SHARE = 0.8  # of the free memory that packs may take: other processes want some, and estimates are estimates
STEP_TENSORS = 6  # of (B, G·H) that a per-step loop's graph keeps at each step, and two for each state of the rule


def pack_bytes(candidates: Sequence[Candidate], steps: int, inputs: int, outputs: int, device: str = "cpu") -> int:
    """The peak of training these lanes together, without the data and without what the process has loaded.

    Args:
        steps, inputs, outputs: T, I, and the readout's width.
    """
    return sum(lane_bytes(c, steps, inputs, outputs, device) for c in candidates) + _scratch(candidates, steps, inputs, device)


def lane_bytes(candidate: Candidate, steps: int, inputs: int, outputs: int, device: str = "cpu") -> int:
    """What each further lane adds; arguments as of `pack_bytes`."""
    spec, hidden, batch = candidate.spec, candidate.hidden_size, candidate.batch_size
    widths = [inputs] + [hidden] * (candidate.num_layers - 1)
    p = sum(num_parameters(spec, width, hidden) for width in widths) + (hidden + 1) * outputs
    # weights, gradients, rates, what the optimizer remembers, three of its intermediate results, the best epoch's weights
    floats = p * (7 + len(MEMORY[candidate.optimizer]))
    rows = steps * batch
    chosen = plan(spec, place=Place(device, torch.float32, hidden))
    for width in widths:
        floats += rows * (width + _kept(candidate, chosen, width))
        if chosen.kernel == "fused":
            floats += saved_floats(str(bases[spec.base].family(spec.options)), steps, batch, width + chosen.filters, hidden)
    return FLOAT * floats


def _kept(candidate: Candidate, chosen: Plan, inputs: int) -> int:
    """Floats a step and row of a layer that live until the backward pass, or are made there."""
    base, hidden = bases[candidate.spec.base], candidate.hidden_size
    gates, plain = base.gates * hidden, candidate.spec.rule_type.program.plain
    outputs = 2 * hidden  # and their gradients
    if chosen.kernel == "fused":
        if plain:
            return outputs
        return outputs + (2 * (inputs + 1) if chosen.filters else 3 * gates)
    if chosen.kernel == "vendor":
        return outputs + 2 * gates + 2 * hidden
    return outputs + (STEP_TENSORS + 2 * len(candidate.spec.rule_type.program.states)) * gates


def _scratch(candidates: Sequence[Candidate], steps: int, inputs: int, device: str) -> int:
    c = candidates[0]
    chosen = plan(c.spec, place=Place(device, torch.float32, c.hidden_size))
    family = bases[c.spec.base].family(c.spec.options)
    if chosen.kernel != "fused" or family is None or not isinstance(native(), Native):
        return 0
    widest = max(inputs, c.hidden_size if c.num_layers > 1 else 0) + 1
    return FLOAT * scratch_floats(family, steps, c.batch_size, widest, c.hidden_size, len(candidates), torch.get_num_threads())


def split(candidates: Sequence[Candidate], steps: int, inputs: int, outputs: int, limit: int, device: str = "cpu") -> list[range]:
    """Consecutive parts of a pack that fit into ``limit`` bytes each; a lane that does not fit alone is a part of its own."""
    parts, first = [], 0
    for last in range(1, len(candidates) + 1):
        if last - first > 1 and pack_bytes(candidates[first:last], steps, inputs, outputs, device) > limit:
            parts.append(range(first, last - 1))
            first = last - 1
    return [*parts, range(first, len(candidates))]


def free_bytes(device: str = "cpu") -> int:
    """What a pack may take here: a share of the free memory, on the CPU as many parts of it as this process has threads of the cores."""
    if device != "cpu":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(SHARE * _available() * min(1.0, torch.get_num_threads() / cores))


def _available() -> float:
    """Bytes that this machine has to give, or this container; infinite where the system does not tell."""
    known = [math.inf]
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        known.append(int(lines["MemAvailable"].split()[0]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            known.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        pass
    return max(min(known), 0.0)
