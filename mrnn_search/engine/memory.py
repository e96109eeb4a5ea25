"""What a pack of lanes needs at its peak, in bytes, before it starts; and how much there is.

Shapes: K lanes, P parameters of a lane, T time, B batch, I input, H hidden, G gate blocks, O readout.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..cells.bases.base import bases
from ..cells.describe import num_parameters
from ..cells.reference import rule_channels
from ..cells.spec import Candidate
from .batches import EVALUATION_STREAMS, MIN_EVALUATION_BATCH, counts_all
from .heap import LARGEST_KEPT
from .lanes import head_lanes
from .native.build import Native, native
from .native.recurrence import saved_floats, scratch_floats
from .optimizers import MEMORY
from .planner import Place, Plan, plan
from .task import Task

FLOAT = 4
SHARE = 0.8  # of the free memory that packs may take: other processes want some, and estimates are estimates
# Of (B, H) and a gate block that is, what a layer keeps at each step until the backward pass. Fitted to the peak of resident
# memory over three updates of 1 to 4 lanes.
STEP_TENSORS = 4.25  # a per-step loop's graph, of the base alone
VENDOR_TENSORS = 2.5  # torch's own kernels
LINEAR_STATE = 0.5  # a linear rule in the loop, a state
CURVED_RULE, CURVED_STATE = 3.5, 1.0  # any other rule, and each of its states
# (B, H) a step that the heap loses in a pack that recomputes: what it keeps has the size of what it frees, and does not fit its holes
HOLES = {"lstm": 1.2, "gru": 0.9}
MAP_MATRICES = 27  # (H, H) in float64 that the map to an orthogonal matrix keeps for its gradient, and what that needs


HEAD_TENSORS = 4  # of the size of a readout: it, what a loss keeps, and the gradients of both


class Sizes(NamedTuple):
    """Of a task, as far as memory depends on it.

    Attributes:
        steps, inputs, outputs: T of an update, I, and O.
        reads: of a sequence, at most: 1 or T.
        vocabulary: 0: inputs are numbers.
        carried: states are carried from one update to the next.
        gathered: reads are picked out: some steps do not count.
    """

    steps: int
    inputs: int
    outputs: int
    reads: int = 1
    vocabulary: int = 0
    carried: bool = False
    gathered: bool = False

    @classmethod
    def of(cls, task: Task) -> Sizes:
        """Those of ``task``; T is that of its longest sequence."""
        x, lengths, carried = task.train.x, task.train.lengths, task.window is not None
        if task.window is not None:
            steps = min(len(x), task.window)
        else:
            steps = x.shape[1] if lengths is None else int(lengths.max())
        reads = steps if task.reads == "every" else 1
        gathered = not counts_all(task.train, task.reads)
        return cls(steps, task.input_size, task.output_size, reads, task.vocabulary or 0, carried, gathered)

    def batch(self, candidate: Candidate) -> int:
        """B of an update or of an evaluation, whichever is larger."""
        return max(candidate.batch_size, EVALUATION_STREAMS if self.carried else MIN_EVALUATION_BATCH)

    def plan(self, candidate: Candidate, device: str) -> Plan:
        """How the candidate's layers run."""
        place = Place(device, torch.float32, candidate.hidden_size, rule_state=self.carried)
        return plan(candidate.spec, place=place)


def pack_bytes(candidates: Sequence[Candidate], sizes: Sizes, device: str = "cpu", recompute: bool = False) -> int:
    """The peak of training these lanes together, without the data and without what the process has loaded.

    Args:
        recompute: as of `Lanes`.
    """
    needs = [_lane(c, sizes, device, recompute) for c in candidates]
    numbers = sum(need.numbers for need in needs)
    # weights, gradients, rates and the best epoch's weights; what the optimizer remembers
    held = sum((4 + len(MEMORY[c.optimizer])) * need.numbers for c, need in zip(candidates, needs, strict=True))
    passes = sum(need.floats for need in needs) + _scratch(candidates, sizes, device, recompute)
    step = 3 * numbers  # the optimizer's intermediate results: where those before them were too large for the heap to keep, in their place
    return int(FLOAT * (held + (max(step, passes) if FLOAT * numbers > LARGEST_KEPT else step + passes)))


class _Need(NamedTuple):
    """Of one lane: how many numbers train, and floats that the passes forward and back make."""

    numbers: int
    floats: float


def _lane(candidate: Candidate, sizes: Sizes, device: str, recompute: bool) -> _Need:
    spec, hidden, batch = candidate.spec, candidate.hidden_size, sizes.batch(candidate)
    steps, inputs = sizes.steps, sizes.inputs
    base, rows = bases[spec.base], steps * batch
    chosen = sizes.plan(candidate, device)
    numbers = (hidden + 1) * sizes.outputs + sizes.vocabulary * inputs
    floats = (1.0 if chosen.filters else 2.0) * rows * inputs  # the batch, in both orders; or what is embedded, and its gradient
    floats += 2 * sizes.reads * batch * hidden if sizes.gathered else 0
    for width in [inputs] + [hidden] * (candidate.num_layers - 1):
        numbers += num_parameters(spec, width, hidden)
        if base.orthogonal:
            numbers += base.gates * hidden * (hidden + 1) // 2  # the triangle that does not count is there all the same
            floats += 2 * MAP_MATRICES * base.gates * hidden**2
        floats += rows * _kept(candidate, chosen, width)
        if chosen.kernel == "fused":
            family = str(base.family(spec.options))
            floats += saved_floats(family, steps, batch, width + chosen.filters, hidden, recompute)
            floats += HOLES.get(family, 0.0) * rows * hidden if recompute else 0
    return _Need(numbers, floats)


def _kept(candidate: Candidate, chosen: Plan, inputs: int) -> float:
    """Floats a step and row of a layer that live until the backward pass, or are made there."""
    spec, hidden = candidate.spec, candidate.hidden_size
    gates, program = bases[spec.base].gates * hidden, spec.rule_type.program
    outputs = 2 * hidden  # and their gradients
    filtered = 2 * (inputs + 1) if chosen.filters else 0  # what is filtered, and the result
    if chosen.kernel == "fused":
        return outputs + (filtered if chosen.filters or program.plain else 3 * gates)
    if chosen.kernel == "vendor":
        return outputs + filtered + VENDOR_TENSORS * gates + hidden / 2
    states = len(program.states)
    rule = LINEAR_STATE * states if program.linear else CURVED_RULE + CURVED_STATE * states
    return outputs + STEP_TENSORS * gates + rule * rule_channels(spec, hidden)


def _scratch(candidates: Sequence[Candidate], sizes: Sizes, device: str, recompute: bool) -> int:
    """Floats that a pack needs once, for the length of a call or for some lanes after others."""
    c = min(candidates, key=lambda c: c.spec.rule_type.program.plain)
    chosen, base = sizes.plan(c, device), bases[c.spec.base]
    steps, batch = sizes.steps, sizes.batch(c)
    widest = max(sizes.inputs, c.hidden_size if c.num_layers > 1 else 0) + 1
    channels = 2 * widest if chosen.filters else 0 if c.spec.rule_type.program.plain else base.gates * c.hidden_size
    readout = sizes.reads * batch * sizes.outputs
    heads = HEAD_TENSORS * readout * min(len(candidates), head_lanes(readout))
    drive = steps * batch * channels  # gradients, and what is made on the way
    family = base.family(c.spec.options)
    if chosen.kernel != "fused" or family is None or not isinstance(native(), Native):
        return max(drive, heads)
    kernel = scratch_floats(family, steps, batch, widest, c.hidden_size, len(candidates), torch.get_num_threads(), recompute)
    return max(drive + kernel, heads)


class Part(NamedTuple):
    """Lanes of a pack that train together, and whether they ``recompute``, see `Lanes`."""

    lanes: range
    recompute: bool


def arrange(candidates: Sequence[Candidate], sizes: Sizes, limit: int, device: str = "cpu") -> list[Part]:
    """The fewest parts of a pack that fit into ``limit`` bytes each; those recompute that would not fit otherwise.

    See `split`; other arguments as of `pack_bytes`.
    """
    kept, again = (split(candidates, sizes, limit, device, recompute) for recompute in (False, True))
    parts = again if len(again) < len(kept) else kept
    found = []
    for part in parts:
        members = candidates[part.start : part.stop]
        needed, less = (pack_bytes(members, sizes, device, recompute) for recompute in (False, True))
        found.append(Part(part, needed > max(limit, less)))
    return found


def split(candidates: Sequence[Candidate], sizes: Sizes, limit: int, device: str = "cpu", recompute: bool = False) -> list[range]:
    """Consecutive parts of a pack that fit into ``limit`` bytes each; a lane that does not fit alone is a part of its own."""
    parts, first = [], 0
    for last in range(1, len(candidates) + 1):
        if last - first > 1 and pack_bytes(candidates[first:last], sizes, device, recompute) > limit:
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
