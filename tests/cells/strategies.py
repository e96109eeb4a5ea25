"""Hypothesis strategies for cells."""

from hypothesis import strategies as st

from mrnn_search.cells import CellSpec

BASES = ("rnn", "lstm", "gru", "orthogonal", "orthogonal_lstm", "mgu", "indrnn", "linear")
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
RULES = ("plain", "heavy_ball", "rmsprop", "adam", "nesterov")
COEFFICIENTS = {
    "mu": st.floats(0.05, 0.95),
    "epsilon": st.floats(0.1, 2.0),
    "beta": st.floats(0.05, 0.95),
    "restart": st.integers(1, 9),
}
USES = {
    "plain": (),
    "heavy_ball": ("mu", "epsilon"),
    "rmsprop": ("epsilon", "beta"),
    "adam": ("mu", "epsilon", "beta"),
    "nesterov": ("epsilon", "restart"),
}


@st.composite
def specs(draw, bases=BASES, rules=RULES):
    """Any spec that the built-in bases and rules give, coefficients well inside their ranges."""
    base, rule = draw(st.sampled_from(bases)), draw(st.sampled_from(rules))
    coefficients = {name: draw(COEFFICIENTS[name]) for name in USES[rule]}
    learned = draw(st.sets(st.sampled_from([n for n in USES[rule] if n != "restart"]))) if USES[rule] else ()
    options = {name: draw(st.sampled_from(allowed)) for name, allowed in OPTIONS.get(base, {}).items()}
    return CellSpec(base, rule, coefficients, learned, options)
