"""Orthogonal recurrence with modReLU (expRNN): ``weight_hh`` is the map of a skew matrix onto the rotations."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Base, Join, Weights, WordsOrWhole, bases


def modrelu(z: Tensor, b: Tensor) -> Tensor:
    """``sign(z) relu(|z| + b)``, element-wise (Arjovsky et al. 2016, arXiv 1511.06464, for real z)."""
    return torch.sign(z) * torch.relu(z.abs() + b)


def cayley_skew(size: int) -> Tensor:
    """Skew matrix (size, size) of 2×2 rotations, the "cayley" init of expRNN's code: ``s = -sqrt((1-cos θ)/(1+cos θ))``, θ ~ U(0, π/2)."""
    theta = torch.rand(size // 2) * (math.pi / 2)
    return _blocks(size, -torch.sqrt((1 - torch.cos(theta)) / (1 + torch.cos(theta))))


def henaff_skew(size: int) -> Tensor:
    """Skew matrix (size, size) of 2×2 rotations, the "henaff" init of expRNN's code: ``s ~ U(-π, π)``."""
    return _blocks(size, (2 * torch.rand(size // 2) - 1) * math.pi)


def random_skew(size: int) -> Tensor:
    """Skew matrix (size, size) of independent normal entries of variance 1/size: every unit turns with every other, by -2 to 2 rad."""
    entries = torch.randn(size, size) / math.sqrt(size)
    return entries.triu(1) - entries.triu(1).T


def _blocks(size: int, s: Tensor) -> Tensor:
    """``[[0, s_i], [-s_i, 0]]`` along the diagonal."""
    diagonal = torch.zeros(size - 1)
    diagonal[::2][: size // 2] = s
    upper = torch.diag(diagonal, 1) if size > 1 else torch.zeros(size, size)
    return upper - upper.T


SKEW_INITS: Mapping[str, Callable[[int], Tensor]] = {"cayley": cayley_skew, "henaff": henaff_skew, "random": random_skew}


class Rotations(Base):
    """What bases with orthogonal recurrent matrices share: their options, and where the matrices start.

    ``weight_hh`` is ``Qᵀ``, as in torch's convention ``h @ weight_hh.T``, and is ``centre @ map(A)``, A trains; with several
    gates, one above the other. See `mrnn_search.engine.orthogonal`.

    Options:
        map: "exponential" ``expm(A - Aᵀ)``; "cayley" ``(I + S/2)(I - S/2)⁻¹`` with ``S = A - Aᵀ``; "householder", a product of the
            reflections that the columns of A span.
        skew_init: the skew matrix that ``init="paper"`` starts from, see `SKEW_INITS`. ``init="torch"`` does not read it, so a
            space that searches both gives it ``when: {init: paper}``.
        rebase: when the centre moves to the present matrix and A to 0; the function stays, what the optimizer sees changes.
            "never": the centre stays where `initial_map` puts it, static trivialization, expRNN. K, a whole number >= 1: at the
            initial matrix, and again every K optimizer steps, dynamic trivialization (DTRIV); on every 100th time the centre
            is put back on the orthogonal matrices. "once": at the initial matrix only, what the released code calls K = "infty".
    """

    options = {
        "map": ("exponential", "cayley", "householder"),
        "skew_init": ("cayley", "henaff", "random"),
        "rebase": WordsOrWhole(("never", "once")),
    }
    later_options = frozenset({"map", "skew_init", "rebase"})
    orthogonal = True

    @classmethod
    def initial_map(cls, hidden_size: int, how: str, options: Mapping[str, str]) -> tuple[Tensor, Tensor]:
        """ "paper": the identity and the skew init, as expRNN; "torch": a uniformly random rotation as the centre.

        Householder reflections take no skew matrix: they start from 0, around the exponential of it.
        """
        if how == "paper":
            skew = SKEW_INITS[options["skew_init"]](hidden_size).T  # of weight_hh, not of Q
            if options["map"] == "householder":
                return torch.matrix_exp(skew.double()).to(skew.dtype), torch.zeros(hidden_size, hidden_size)
            # expRNN's Q = (I + S)^-1 (I - S); torch's map halves S and has the other sign, so that Q^T is its map of 2 S
            return torch.eye(hidden_size), -2 * skew if options["map"] == "cayley" else skew
        rotation = torch.nn.init.orthogonal_(torch.empty(hidden_size, hidden_size))
        if torch.linalg.det(rotation) < 0:  # the maps reach rotations only
            rotation[0].neg_()
        return rotation, torch.zeros(hidden_size, hidden_size)


@bases.register("orthogonal")
class Orthogonal(Rotations):
    """``h_t = modReLU(d_t + h_{t-1} Q)``, Q orthogonal with determinant 1, no bias on the drive.

    Options: see `Rotations`.
    """

    biases = False
    equations = (
        "h_t = modReLU(<d_t + h_{t-1} Q>)",
        "Q orthogonal: expm(A - A^T), the Cayley transform of A - A^T, or a product of Householder reflections",
        "modReLU(z) = sign(z) relu(|z| + b)",
    )
    latex = (
        r"h_t = \operatorname{modReLU}(<d_t + h_{t-1} Q>), \quad Q^\top Q = I",
        r"\operatorname{modReLU}(z) = \operatorname{sign}(z) \operatorname{relu}(|z| + b)",
    )
    source = (
        "Lezcano-Casado and Martinez-Rubio, Cheap orthogonal constraints, ICML 2019, arXiv 1901.08428 (static exponential map);"
        " Lezcano-Casado, Trivializations for gradient-based optimization on manifolds, NeurIPS 2019, arXiv 1909.09501 (rebase);"
        " Cayley: Helfrich et al. 2018, arXiv 1707.09520; Householder: Mhammedi et al. 2017, arXiv 1612.00188"
    )

    @classmethod
    def step(cls, w: Weights, d: Tensor, state: tuple[Tensor, ...], options: Mapping[str, str], join: Join) -> tuple[Tensor, ...]:
        del options
        return (modrelu(join(d, F.linear(state[0], w["weight_hh"]), 0), w["modrelu_bias"]),)

    @classmethod
    def family(cls, options: Mapping[str, str]) -> str | None:
        del options
        return "modrelu"

    @classmethod
    def shapes(cls, input_size: int, hidden_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        return super().shapes(input_size, hidden_size, bias) | {"modrelu_bias": (hidden_size,)}

    @classmethod
    def init_(cls, w: dict[str, Tensor], how: str, hidden_size: int, options: Mapping[str, str]) -> None:
        """ "paper": W Kaiming normal; "torch": W uniform in ±1/sqrt(H). modReLU bias uniform in ±0.01 in both."""
        if how == "paper":
            torch.nn.init.kaiming_normal_(w["weight_ih"], nonlinearity="relu")
        else:
            torch.nn.init.uniform_(w["weight_ih"], -(hidden_size**-0.5), hidden_size**-0.5)
        torch.nn.init.uniform_(w["modrelu_bias"], -0.01, 0.01)
