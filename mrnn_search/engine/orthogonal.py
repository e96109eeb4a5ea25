"""Orthogonal recurrent weights: what trains, the map from it, and when the map is re-centred (dynamic trivialization).

``weight_hh`` of an orthogonal base is ``base @ map(A)``: ``base`` is a buffer, A trains. The map of 0 is the identity.
Re-centring sets ``base`` to the present matrix and A to 0. The function stays; the coordinates in which the optimizer
moves are those around the present matrix again, where the map distorts nothing.

Shapes: H hidden, G gate blocks. A and ``base`` are (H, H), or (G, H, H) where G > 1; ``weight_hh`` is (G·H, H).
Source: Lezcano-Casado, Trivializations for gradient-based optimization on manifolds, NeurIPS 2019, arXiv 1909.09501.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from .tracing import traced, transformed

PROJECT_EVERY = 100  # re-centrings; M of the paper's released recipes
HALF = (torch.bfloat16, torch.float16)
# Numerator of the [8/8] Padé approximant of exp, lowest power first; the denominator has the signs of the odd ones changed.
PADE = (518918400.0, 259459200.0, 60540480.0, 8648640.0, 831600.0, 55440.0, 2520.0, 72.0, 1.0)
SQUARINGS = 5  # at most
EXACT = 2.0  # spectral norm up to which the approximant alone is the exponential, to 1e-12
PADDED = 8  # rows, to a multiple of which stacked matrices are padded: each then begins at a multiple of 64 bytes


def exponential(lower: Tensor) -> Tensor:
    """``expm(A - Aᵀ)`` (..., H, H) of a strictly lower triangular A.

    By the diagonal Padé approximant of ``(A - Aᵀ) / 2^n``, squared n times, n at most five. A diagonal approximant of a skew matrix is
    orthogonal whatever its norm, which torch.matrix_exp's Taylor polynomial is not, and its gradient costs two passes, not
    torch's exponential of a matrix twice as large. In float64 it is the exponential to 1e-12 up to a spectral norm of 64 (rotations
    by 64 rad) and to 1e-8 up to 100; beyond, it is another smooth map onto the rotations.
    """
    skew = lower - lower.mT
    squarings = _squarings(skew)
    most = max(squarings, default=0)
    if min(squarings, default=0) == most:
        skew = skew / 2**most
    else:
        skew = skew / torch.tensor([2.0**n for n in squarings], dtype=skew.dtype).view(*skew.shape[:-2], 1, 1)
    second = skew @ skew
    fourth = second @ second
    sixth = fourth @ second
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    odd = skew @ (PADE[7] * sixth + PADE[5] * fourth + PADE[3] * second + PADE[1] * one)
    even = PADE[8] * (fourth @ fourth) + PADE[6] * sixth + PADE[4] * fourth + PADE[2] * second + PADE[0] * one
    q: Tensor = _solve(even - odd, even + odd)
    for n in range(most):
        if min(squarings) > n:
            q = q @ q
        else:
            due = torch.tensor([m > n for m in squarings]).view(*q.shape[:-2], 1, 1)
            q = torch.where(due, q @ q, q)
    return q


def _squarings(skew: Tensor) -> list[int]:
    """How often each matrix of (..., H, H) is to be squared.

    As often as its norm asks for where that can be looked at for nothing: at small norms, which the map of a centre that follows has, a
    third of the work. On a GPU, in a graph and under torch.func it would have to be waited for or cannot be known.
    """
    count = math.prod(skew.shape[:-2])
    plain = skew.detach()
    if plain.device.type != "cpu" or traced([plain]) or transformed():
        return [SQUARINGS] * count
    # Two bounds of the spectral norm; eigenvalues of a skew matrix come in pairs, hence the half
    bound = torch.minimum(plain.abs().sum(-1).amax(-1), plain.square().sum((-2, -1)).div(2).sqrt())
    norms: list[float] = bound.flatten().tolist()
    return [
        min(SQUARINGS, max(0, math.ceil(math.log2(norm / EXACT)))) if 0 < norm < math.inf else SQUARINGS * (norm != 0) for norm in norms
    ]


def cayley(lower: Tensor) -> Tensor:
    """``(I + S/2)(I - S/2)⁻¹`` (..., H, H), ``S = A - Aᵀ``, of a strictly lower triangular A."""
    half = (lower - lower.mT) / 2
    one = torch.eye(half.shape[-1], dtype=half.dtype, device=half.device)
    return _solve(one - half, one + half)


def householder(lower: Tensor) -> Tensor:
    """Minus the product (..., H, H) of the reflections at ``e_i + (column i of A)``, A strictly lower triangular: I at 0 for every H."""
    return -_each(torch.linalg.householder_product, lower, 2 / (1 + lower.square().sum(-2)))


MAPS: Mapping[str, Callable[[Tensor], Tensor]] = {"exponential": exponential, "cayley": cayley, "householder": householder}


def _solve(a: Tensor, b: Tensor) -> Tensor:
    """``a⁻¹ b``. No check: ``a`` is never singular here, and NaN must come out as NaN, which training reports."""
    return _each(lambda a, b: torch.linalg.solve_ex(a, b)[0], a, b)


def _each(f: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    """``f`` of a matrix (..., H, H) and of what belongs to it, matrix by matrix on the CPU.

    There torch factorises a stack of matrices with several threads at once, of which MKL makes nonsense from H = 151
    (pytorch/pytorch#142815), and rounds a matrix differently by its place.
    """
    if a.device.type != "cpu" or a.dim() == 2:
        return f(a, b)
    parts = [f(*pair) for pair in zip(a.flatten(0, -3), b.flatten(0, a.dim() - 3), strict=True)]
    whole: Tensor = torch.stack(parts).unflatten(0, a.shape[:-2])
    return whole


def _widened(x: Tensor) -> Tensor:
    """In float64: float32 loses 1e-5 of orthogonality, half precision everything, and neither TF32 nor autocast touches float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)  # which Apple's GPUs do not have


@torch.no_grad()
def nearest(q: Tensor) -> Tensor:
    """The orthogonal matrices nearest to ``q`` (..., H, H), the polar factors, in float64. ``q`` itself where it is not finite."""
    q = _widened(q)
    if not q.is_meta and not q.isfinite().all():
        return q
    left, _, right = torch.linalg.svd(q)
    polar: Tensor = left @ right
    return polar


class StepClock:
    """Counts the optimizer steps of one parameter, and says when its map is to be re-centred.

    A step is seen as a change of the parameter's version counter between two looks, so a plain training loop needs no call
    of ours, a step that a GradScaler leaves out does not count, and forwards between two steps (accumulated gradients,
    several losses) count once. The counter dies with the process; what is saved is the number of steps with the one that
    may be waiting to be counted. Whoever shares the parameter (`Recurrent.reference`) shares the clock.

    Attributes:
        every: K.
        parameter, base: the tensors that it goes with. Others in their place (torch.func.functional_call) are let alone. None
            after a state was loaded, until the clock meets those that it was loaded into.
        steps: counted so far.
        centred: what ``steps`` was at the last re-centring.
    """

    def __init__(self, every: int, parameter: Tensor | None, base: Tensor | None, steps: int = 0, centred: int = 0) -> None:
        self.every, self.steps, self.centred = every, steps, centred
        self.tie(parameter, base)

    def tie(self, parameter: Tensor | None, base: Tensor | None) -> None:
        """From now on go with these, as they are."""
        self.parameter, self.base, self.version = parameter, base, _version(parameter)

    def knows(self, parameter: Tensor | None, base: Tensor | None) -> bool:
        return parameter is self.parameter and base is self.base

    @property
    def seen(self) -> int:
        """``steps``, and the one that waits."""
        return self.steps + (_version(self.parameter) != self.version)

    def count(self) -> None:
        """Count the step that waits, if one does."""
        self.steps, self.version = self.seen, _version(self.parameter)

    @property
    def due(self) -> bool:
        return self.steps // self.every > self.centred // self.every

    def __deepcopy__(self, memo: dict[int, Any]) -> StepClock:
        parameter, base = copy.deepcopy(self.parameter, memo), copy.deepcopy(self.base, memo)
        return self if self.knows(parameter, base) else StepClock(self.every, parameter, base, self.seen, self.centred)

    def __reduce__(self) -> tuple[Any, ...]:
        return StepClock, (self.every, self.parameter, self.base, self.seen, self.centred)


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.is_inference() else tensor._version


class OrthogonalMap(nn.Module):
    """Parametrization of ``weight_hh`` (G·H, H): ``base @ map(A)``, A the strictly lower triangle of what trains.

    The names in a state_dict are those of `torch.nn.utils.parametrizations.orthogonal`. Computed in float64, returned in the
    dtype of what trains; ``base`` stays float32 where that is bfloat16 or float16. The diagonal and what is above it never
    count, whatever an optimizer's weight decay makes of them.

    Args:
        size: H.
        matrices: G.
        kind: the map, one of `MAPS`.
        rebase: "never", "once" (around the initial matrix) or K: then re-centre every K optimizer steps, too.
        device, dtype: of the parameter.

    Attributes:
        base: buffer, orthogonal: the map's centre.
        clock: None unless ``rebase`` is a number.
    """

    base: Tensor

    def __init__(self, size: int, matrices: int, kind: str, rebase: str, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.kind, self.rebase = kind, rebase
        self.clock: StepClock | None = None
        shape = (size, size) if matrices == 1 else (matrices, size, size)
        kept = torch.float32 if dtype in HALF else dtype
        self.register_buffer("base", torch.eye(size, dtype=kept, device=device).expand(shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        return _values([self], [x])[0].to(x.dtype).reshape(-1, x.shape[-1])

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        """Centre the map at the orthogonal matrices nearest to ``weight``; A is 0 there."""
        self.base.copy_(nearest(weight.reshape(self.base.shape)))
        return torch.zeros_like(self.base, dtype=weight.dtype)

    @torch.no_grad()
    def recentre_(self, x: Tensor, project: bool = False) -> None:
        """``base`` <- the present matrix, the orthogonal one nearest to it if ``project``; ``x`` <- 0."""
        (q,) = _values([self], [x])
        self.base.copy_(nearest(q) if project else q)
        x.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OrthogonalMap:
        before = self.base
        super()._apply(fn, recurse)
        if self.base.dtype in HALF:  # rounding there would leave the orthogonal matrices, and what re-centrings add up would drown
            self.base = before.to(self.base.device, torch.float32)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.clock is not None:
            destination[prefix + "steps"] = torch.tensor(self.clock.seen)
            destination[prefix + "centred"] = torch.tensor(self.clock.centred)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Read whether or not this map counts steps: a state goes into a cell with another rebase, or from before there was one.
        steps, centred = (int(state_dict.pop(prefix + name, 0)) for name in ("steps", "centred"))
        if self.clock is not None and prefix + "base" in state_dict:
            self.clock = StepClock(self.clock.every, None, None, steps, centred)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.kind}, {tuple(self.base.shape)}, rebase={self.rebase}"


def _values(maps: Sequence[OrthogonalMap], lowers: Sequence[Tensor]) -> list[Tensor]:
    """The present matrix of each map, shaped as its base, in float64. Maps of one kind and shape; no matrix depends on its neighbours."""
    shape = maps[0].base.shape
    size = shape[-1]

    def stacked(parts: Iterable[Tensor]) -> Tensor:
        x = torch.stack([_widened(part).reshape(-1, size, size) for part in parts])
        return F.pad(x, (0, -size % PADDED) * 2) if size % PADDED else x

    q = stacked(m.base for m in maps) @ MAPS[maps[0].kind](stacked(lowers).tril(-1))
    return [one[:, :size, :size].reshape(shape) for one in q.unbind(0)]


def present(layers: Sequence[nn.Module], name: str) -> dict[int, Tensor]:
    """``weight_hh`` (G·H, H) called ``name`` of those of ``layers`` in which it is orthogonal, by their places, many at once."""
    held: list[Mapping[str, Any]] = [getattr(layer, "parametrizations", {}) for layer in layers]
    chains = {k: chains[name] for k, chains in enumerate(held) if name in chains}
    alike: dict[tuple[object, ...], list[int]] = {}
    for k, chain in chains.items():
        alike.setdefault((chain[0].kind, chain[0].base.shape, chain.original.dtype), []).append(k)
    found: dict[int, Tensor] = {}
    for members in alike.values():
        values = _values([chains[k][0] for k in members], [chains[k].original for k in members])
        for k, value in zip(members, values, strict=True):
            found[k] = value.to(chains[k].original.dtype).reshape(-1, value.shape[-1])
    return found


def constrain(module: nn.Module, name: str, matrices: int, kind: str, rebase: str) -> None:
    """Make the parameter ``name`` (G·H, H) of ``module`` a stack of ``matrices`` orthogonal ones, at the identity. See `OrthogonalMap`."""
    weight = module.get_parameter(name)
    size = weight.shape[-1]
    with torch.no_grad():
        weight.copy_(torch.eye(size, dtype=weight.dtype, device=weight.device).repeat(matrices, 1))
    made = OrthogonalMap(size, matrices, kind, rebase, weight.device, weight.dtype)
    register_parametrization(module, name, made, unsafe=True)  # unsafe: A is (G, H, H)
    if rebase not in ("never", "once"):
        made.clock = StepClock(int(rebase), weight, made.base)


def _chains(layer: nn.Module) -> Iterator[tuple[Any, OrthogonalMap]]:
    """(torch's parametrization with ``original``, the map) of every orthogonal weight of ``layer`` itself."""
    for chain in getattr(layer, "parametrizations", {}).values():
        if isinstance(chain[0], OrthogonalMap):
            yield chain, chain[0]


@torch.no_grad()
def put(chain: Any, centre: Tensor, matrix: Tensor, *, initial: bool = False) -> None:
    """``weight_hh = centre @ map(matrix)``, both of the base's shape. This is no step.

    ``initial``: also start the clock again, and centre the map at that matrix unless it is never re-centred: in the paper's
    algorithm A starts from 0, and so does the released code's, whose first forward re-centres.
    """
    made: OrthogonalMap = chain[0]
    if made.clock is not None:
        made.clock.count()
    made.base.copy_(centre)
    chain.original.copy_(matrix.tril(-1))
    if initial and made.rebase != "never":
        made.recentre_(chain.original)
    if made.clock is not None:
        made.clock.tie(chain.original, made.base)
        if initial:
            made.clock.steps = made.clock.centred = 0


def recentre_due(layer: nn.Module) -> None:
    """What a training forward does first: count the optimizer step since the last one, re-centre every K of them.

    The optimizer's running statistics (momentum, mean squares) of A are kept, as in the released code: the tangent spaces
    at two centres are the same skew matrices. Unlike there the gradient is taken after re-centring, in the coordinates in
    which the step is made, as the paper has it; the difference is of second order in the step.

    Nothing happens without gradients, on tensors that someone has put in the place of the layer's own
    (torch.func.functional_call), or while a graph is exported. torch.compile runs this outside of its graph. An optimizer
    that evaluates the loss several times a step (LBFGS) takes a step at each evaluation, in this count.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return
    look = torch.compiler.disable(_look) if torch.compiler.is_compiling() else _look
    look(layer)


def _look(layer: nn.Module) -> None:
    for chain, made in _chains(layer):
        clock = made.clock
        if clock is None:
            continue
        if clock.parameter is None:
            clock.tie(chain.original, made.base)
        if not clock.knows(chain.original, made.base):
            continue
        clock.count()
        if clock.due:
            made.recentre_(chain.original, project=(clock.steps // clock.every) % PROJECT_EVERY == 0)
            clock.centred = clock.steps
            clock.tie(chain.original, made.base)


def settle(layer: nn.Module) -> None:
    """Before the layer's tensors are replaced (moved, converted): count the steps that wait."""
    for _, made in _chains(layer):
        if made.clock is not None:
            made.clock.count()


def tie(layer: nn.Module, *_: object) -> None:
    """After that, and after load_state_dict, whose hook it is: go with the tensors that are there now."""
    for chain, made in _chains(layer):
        if made.clock is not None and not made.clock.knows(chain.original, made.base):
            made.clock.tie(chain.original, made.base)


def revive(kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    """An empty module of a class with these weights parametrized, for unpickling: torch makes such classes up as it goes."""
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name in names:
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        register_parametrization(module, name, nn.Identity(), unsafe=True)
    return module
