"""Hypothesis strategies for cells."""

from hypothesis import strategies as st

from mrnn_search.cells import CellSpec
from mrnn_search.cells.formula.sample import Grammar
from mrnn_search.cells.formula.text import show
from mrnn_search.cells.rules.base import rules

BASES = ("rnn", "lstm", "gru", "orthogonal", "orthogonal_lstm", "mgu", "indrnn", "linear")
GATES = {"lstm": "ifgo", "orthogonal_lstm": "ifgo", "gru": "rzn", "mgu": "fn"}  # "h" in the others
OPTIONS = {
    "rnn": {"activation": ("tanh", "relu")},
    "indrnn": {"activation": ("relu", "tanh")},
}
ROTATIONS = {
    "map": ("exponential", "cayley", "householder"),
    "skew_init": ("cayley", "henaff", "random"),
    "rebase": ("never", "once", 1, "3", 100),
}
OPTIONS |= {"orthogonal": ROTATIONS, "orthogonal_lstm": ROTATIONS}
COEFFICIENTS = {
    "mu": st.floats(0.05, 0.95),
    "epsilon": st.floats(0.1, 2.0),
    "beta": st.floats(0.05, 0.95),
    "beta2": st.floats(0.05, 0.95),
    "nu": st.floats(0.05, 0.95),
    "tau": st.floats(0.1, 2.0),
    "restart": st.integers(1, 9),
}
RULES = tuple(rules)
LINEAR = ("plain", "heavy_ball", "ema", "nesterov", "nesterov_lookahead", "qhm")
COUPLED = ("nesterov_released",)


@st.composite
def formulas(draw, size=15):
    """Text of a random formula that is finite everywhere."""
    return show(Grammar(draw(st.integers(3, size)), draw(st.integers(0, 2**32))).draw())


@st.composite
def specs(draw, bases=BASES, rules=RULES, scopes=("drive", "preactivation", "hidden"), written=True, kinds=("scalar", "unit", "input")):
    """Any spec that the built-in bases and rules and, if ``written``, random formulas give, coefficients well inside their ranges.

    Without gates, biases outside and wide coefficients where ``scopes`` is the drive alone and ``kinds`` scalar alone.
    """
    base, rule = draw(st.sampled_from(bases)), draw(st.sampled_from(rules))
    if written and draw(st.integers(0, 3)) == 0:
        rule = draw(formulas())
    known = CellSpec(base, rule).rule_type.coefficients
    coefficients = {name: draw(COEFFICIENTS[name]) for name in known if name in COEFFICIENTS}
    names = [name for name in coefficients if name != "restart"]
    learned = {name: draw(st.sampled_from(kinds)) for name in draw(st.sets(st.sampled_from(names)) if names else st.just(()))}
    options = {name: draw(st.sampled_from(allowed)) for name, allowed in OPTIONS.get(base, {}).items()}
    scope = "preactivation" if rule in COUPLED else draw(st.sampled_from(scopes))
    where = {}
    if scope != "hidden" and scopes != ("drive",):
        where["drive_bias"] = draw(st.sampled_from(("inside", "outside")))
        gates = draw(st.sets(st.sampled_from(GATES.get(base, "h")), min_size=1))
        where["gates"] = draw(st.sampled_from((None, sorted(gates))))
    return CellSpec(base, rule, coefficients, learned, options, scope, **where)
