"""Which specs are the same function: one normal form, one identity.

Two specs that compute the same function for the same parameters have one canonical form (identities 1 and 4 of the
cell algebra), so a search never trains the same cell twice. ε is *not* folded into W: it changes the function at given
weights, and how optimizers of the weights see them.
"""

from __future__ import annotations

from .spec import CellSpec


def canonical(spec: CellSpec) -> CellSpec:
    """The normal form of ``spec``; a fixed point of itself.

    * Nesterov with restart 1 (γ is always 0) -> heavy ball with μ = 0
    * Adam with a fixed μ = 0 -> RMSProp
    * heavy ball with fixed μ = 0, ε = 1 -> plain
    """
    base, rule, c, learned = spec.base, spec.rule, dict(spec.coefficients), spec.learned
    if rule == "nesterov" and c["restart"] == 1:
        rule, c = "heavy_ball", {"mu": 0.0, "epsilon": c["epsilon"]}
    if rule == "adam" and c["mu"] == 0 and "mu" not in learned:
        rule = "rmsprop"
        del c["mu"]
    if rule == "heavy_ball" and c == {"mu": 0.0, "epsilon": 1.0} and not learned:
        rule, c = "plain", {}
    return CellSpec(base, rule, c, learned, spec.options)
