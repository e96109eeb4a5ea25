"""The normal form of a formula: formulas that are equal by the algebra below have the same one.

A formula becomes a polynomial: a sum of products of *atoms*, with numbers in front. What is used, beyond the ring axioms
and constant folding:

* factors that do not change over time move out of filters, delays and (if positive) running maxima;
* filters and delays are linear: of a sum, the sum; with constant decays they commute, two of them split into partial
  fractions, and a delayed filter is ``prev(F) = (F - x) / decay``;
* min, max, relu are written with abs, sigmoid with tanh; odd and even functions lose a sign, abs and sign a factor;
* ``(x y)^e = x^e y^e`` where that holds for all reals, ``exp(x + y) = exp(x) exp(y)``, ``sqrt(x^2) = |x|``;
* products of sums are multiplied out while they stay short.

Equality is meant almost everywhere: ``u / u`` is 1, but ``prev(u) / prev(u)``, which is 0 / 0 at the first step, is not; and
where every part has a finite value: ``0 * log(u)`` is 0. Numbers count to 12 digits. Not every equality is found (none could
be); `analysis/02_collisions.py` searches for missed ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ..._registry import SpecError
from .node import STEP, Node, R, U, coef, make, neg, num, number

DIGITS = 12
CANCELLED = 1e-11  # of the largest summand
MAX_TERMS = 48  # products of sums that would have more are left as they are
MAX_LENGTH = 50_000  # characters of a normal form; relu, min and max write their argument twice, twenty of them a million times

# Atom: ("u",) ("r",) ("t",) ("coef", name), ("coef", name, "signed") if it may be below 0, ("cycle", Poly) ("sum", Poly),
# (function, Poly) or, over time, ("lti", Monomial, delays, decays) for constant decays (delays or equal decays, not both),
# ("filter", Poly, decay, gain) for others. ("over", Poly) is 1 / Poly of what may be 0 for more than a few u: it does not cancel.
Atom = tuple[Any, ...]
Monomial = tuple[tuple[Atom, float], ...]  # atoms with their exponents, sorted
Poly = tuple[tuple[Monomial, float], ...]  # monomials with their factors, sorted; () is 0

ZERO: Poly = ()
ONE: Poly = (((), 1.0),)
UNIT: Monomial = ()


def normal_form(root: Node, varying: Iterable[str] = (), signed: Iterable[str] = ()) -> Poly:
    """The normal form, as nested tuples of text and numbers.

    Args:
        varying: coefficients that change over time (they depend on the input), and so stay inside filters.
        signed: coefficients that may be below 0.

    Raises:
        SpecError: a number on the way that is not finite, or a form that is longer than `MAX_LENGTH`.
    """
    return _rounded(_Normal(frozenset(varying), frozenset(signed)).of(root))


@lru_cache(maxsize=100_000)
def _key(value: Any) -> str:
    return repr(value)


def _rounded(poly: Poly) -> Poly:
    """To `DIGITS` digits: what goes into an atom or comes out in the end. In between nothing is rounded."""
    return tuple((m, float(f"{c:.{DIGITS - 1}e}") + 0.0) for m, c in poly)


def _poly(terms: dict[Monomial, float]) -> Poly:
    if not all(map(math.isfinite, terms.values())):
        raise SpecError("a number in the formula is not finite")
    keys = {m: _key(m) for m in terms}
    if sum(map(len, keys.values())) > MAX_LENGTH:
        raise SpecError(f"the normal form of the formula has more than {MAX_LENGTH} characters")
    return tuple((m, terms[m]) for m in sorted(terms, key=keys.__getitem__))


def _constant(value: float) -> Poly:
    return ((UNIT, value),) if value else ZERO


def _power_of(atom: Atom, exponent: float = 1.0) -> Poly:
    return ((((atom, exponent),), 1.0),)


def _atom(kind: str, *polys: Poly, exponent: float = 1.0) -> Poly:
    """A function of ``polys`` as an atom."""
    return _power_of((kind, *map(_rounded, polys)), exponent)


def _add(*polys: Poly) -> Poly:
    """The sum; what is left of terms that cancel is nothing."""
    terms: dict[Monomial, float] = {}
    largest: dict[Monomial, float] = {}
    for poly in polys:
        for m, c in poly:
            terms[m] = terms.get(m, 0.0) + c
            largest[m] = max(largest.get(m, 0.0), abs(c))
    return _poly({m: c for m, c in terms.items() if abs(c) > CANCELLED * largest[m]})


def _scale(poly: Poly, factor: float) -> Poly:
    return _poly({m: c * factor for m, c in poly}) if factor else ZERO


def _is_number(poly: Poly) -> float | None:
    if not poly:
        return 0.0
    return poly[0][1] if len(poly) == 1 and poly[0][0] == UNIT else None


def _times(a: Monomial, b: Monomial) -> Monomial:
    """Product of two monomials; exponents of one atom add up where that is an equality."""
    powers = dict(a)
    for atom, e in b:
        powers[atom] = powers.get(atom, 0.0) + e
    out: dict[Atom, float] = {}
    for atom, e in powers.items():
        if not e:
            continue
        if atom[0] == "abs" and e % 2 == 0 and len(atom[1]) == 1 and len(atom[1][0][0]) == 1:  # |x|^2 = x^2
            ((inner, power),) = atom[1][0][0]
            if power == 1:
                out[inner] = out.get(inner, 0.0) + e
                continue
        out[atom] = out.get(atom, 0.0) + e
    return tuple(sorted(((a_, e) for a_, e in out.items() if e), key=_key))


def _opened(m: Monomial) -> tuple[Monomial, list[Poly]]:
    """A sum as an atom with exponent 1 is no atom."""
    sums = [atom[1] for atom, e in m if atom[0] == "sum" and e == 1]
    return tuple((atom, e) for atom, e in m if not (atom[0] == "sum" and e == 1)), sums


def _mul(a: Poly, b: Poly) -> Poly:
    if len(a) * len(b) > MAX_TERMS:
        (ca, a), (cb, b) = _content(a, True), _content(b, True)
        return _scale(_mul(_atom("long", a), _atom("long", b)), ca * cb)
    parts: list[Poly] = []
    for ma, ca in a:
        for mb, cb in b:
            m, sums = _opened(_times(ma, mb))
            part: Poly = ((m, ca * cb),)
            for opened in sums:
                part = _mul(part, opened)
            parts.append(part)
    return _add(*parts)


def _content(poly: Poly, signed: bool) -> tuple[float, Poly]:
    """A factor to pull out, so that the first number is 1 (or, unless ``signed``, -1)."""
    if not poly:
        return 1.0, poly
    lead = poly[0][1]
    factor = lead if signed else abs(lead)
    return factor, _scale(poly, 1 / factor)


def _monomial_not_negative(m: Monomial) -> bool:
    return all(e % 2 == 0 or _atom_not_negative(atom) for atom, e in m)


def _atom_not_negative(atom: Atom) -> bool:
    kind = atom[0]
    if kind == "coef":
        return len(atom) == 2
    if kind in ("abs", "exp", "peak", "t", "cycle"):
        return True
    if kind == "lti":
        return _monomial_not_negative(atom[1]) and all(map(_not_negative, atom[3]))
    if kind in ("sum", "over"):
        return _not_negative(atom[1])
    return False


def _not_negative(poly: Poly) -> bool:
    return all(c > 0 and _monomial_not_negative(m) for m, c in poly)


def _grows(atom: Atom) -> bool:
    """A running sum of what is never negative is its own running maximum."""
    return atom[0] == "lti" and atom[3][-1:] == (ONE,) and _monomial_not_negative(atom[1])


# What may be 0 for more than a few u in a sum with other things, as ``u + abs(u)`` and, at the first step, ``u - ema(u, 0)``.
_SPECIAL = tuple(f"({kind!r}," for kind in ("abs", "sign", "peak", "lti", "filter", "t", "cycle", "over"))


def _atom_not_zero(atom: Atom) -> bool:
    """At every step and for almost every u it is not 0."""
    kind = atom[0]
    if kind in ("u", "r", "t", "coef", "cycle", "exp", "over"):
        return True
    if kind == "lti":
        return not atom[2] and "'sign'" not in repr(atom[1]) and all(_atom_not_zero(a) for a, _ in atom[1])
    if kind == "peak":
        return _not_negative(atom[1]) and _not_zero(atom[1])
    return kind in ("abs", "sign", "tanh", "sum", "long", "root") and _not_zero(atom[1])


def _not_zero(poly: Poly) -> bool:
    whole = [all(_atom_not_zero(atom) for atom, _ in m) for m, _ in poly]
    if len(poly) > 1 and not (_not_negative(poly) and any(whole)):
        text = repr(poly)
        return not any(kind in text for kind in _SPECIAL)
    return any(whole)


def _inverted(m: Monomial) -> Monomial:
    """Without negative powers of what may be 0."""
    if all(e > 0 or _atom_not_zero(atom) for atom, e in m):
        return m
    parts = (((atom, e),) if e > 0 or _atom_not_zero(atom) else ((("over", _power_of(atom)), -e),) for atom, e in m)
    return tuple(sorted((part for (part,) in parts), key=_key))


def _positive(poly: Poly) -> bool:
    """Surely above 0 at every step."""
    return _not_negative(poly) and any(all(atom[0] in ("t", "cycle", "exp") for atom, _ in m) for m, _ in poly)


class _Normal:
    def __init__(self, varying: frozenset[str], signed: frozenset[str]) -> None:
        self.varying, self.signed = varying, signed
        self.known: dict[Node, Poly] = {}

    def of(self, root: Node) -> Poly:
        for node in root.walk():
            self.known[node] = self.node(node, [self.known[a] for a in node.args])
        return self.known[root]

    def node(self, node: Node, args: list[Poly]) -> Poly:
        op = node.op
        if op == "num":
            return _constant(float(node.value or 0))
        if op == "coef":
            return _power_of(("coef", str(node.value), *["signed"] * (node.value in self.signed)))
        if op in ("u", "r", "step"):
            return _power_of(("t" if op == "step" else op,))
        if op == "cycle":
            return ONE if _is_number(args[0]) == 1 else _atom("cycle", args[0])
        if op == "add":
            return _add(*args)
        if op == "sub":
            return _add(args[0], _scale(args[1], -1))
        if op == "neg":
            return _scale(args[0], -1)
        if op == "mul":
            return _mul(*args)
        if op == "div":
            return _mul(args[0], self.power(args[1], -1.0))
        if op == "pow":
            exponent = _is_number(args[1])
            if exponent is None and (args[0] == ONE or (args[0] == ZERO and _positive(args[1]))):  # 1^x; 0^t, t >= 1
                return args[0]
            return self.power(args[0], exponent) if exponent is not None else self.function("pow", args[0], args[1])
        if op in ("momentum", "ema"):
            gain = _add(ONE, _scale(args[1], -1)) if op == "ema" else args[2] if len(args) > 2 else ONE
            return self.filter(args[0], args[1], gain)
        if op == "prev":
            return self.delay(args[0])
        if op == "peak":
            return self.peak(args[0])
        return self.elementwise(op, *args)

    # -- powers ----------------------------------------------------------------------------------------------------------

    def power(self, poly: Poly, e: float) -> Poly:
        if e == 0:
            return ONE
        if e == 1:
            return poly
        value = _is_number(poly)
        if value is not None:
            return _constant(number("pow", value, e))
        whole = e == int(e)
        if len(poly) == 1:
            return self.monomial_power(*poly[0], e)
        if whole and 2 <= e <= 4 and len(poly) ** e <= MAX_TERMS:
            out = poly
            for _ in range(int(e) - 1):
                out = _mul(out, poly)
            return out
        factor, rest = _content(poly, whole)
        outside = _constant(number("pow", factor, e))
        if whole or _not_negative(rest):
            return _mul(outside, ((_inverted(((("sum", _rounded(rest)), e),)), 1.0),))
        return _mul(outside, _power_of(("root", _rounded(rest), e)))

    def monomial_power(self, m: Monomial, c: float, e: float) -> Poly:
        if e == int(e):
            m, sums = _opened(_times(tuple((atom, x * e) for atom, x in m), UNIT))
            out: Poly = ((_inverted(m), number("pow", c, e)),)
            for opened in sums:
                out = _mul(out, opened)
            return out
        out = _constant(number("pow", abs(c), e))
        odd: list[tuple[Atom, float]] = []
        for atom, x in m:
            if _atom_not_negative(atom):
                out = _mul(out, ((_inverted(((atom, x * e),)), 1.0),))
            elif x % 2 == 0:
                out = _mul(out, self.power(self.absolute(_power_of(atom)), x * e))
            else:
                odd.append((atom, x))
        if not odd:
            return out if c > 0 else _mul(out, _power_of(("root", _constant(-1.0), e)))
        return _mul(out, _power_of(("root", ((tuple(odd), math.copysign(1.0, c)),), e)))

    # -- elementwise -----------------------------------------------------------------------------------------------------

    def function(self, name: str, *args: Poly) -> Poly:
        return _atom(name, *args)

    def elementwise(self, op: str, x: Poly, y: Poly = ZERO) -> Poly:
        values = [_is_number(p) for p in ((x, y) if op in ("min", "max") else (x,))]
        if all(v is not None for v in values):
            return _constant(number(op, *(v for v in values if v is not None)))
        if op == "sqrt":
            return self.power(x, 0.5)
        if op == "abs":
            return self.absolute(x)
        if op == "relu":
            return _scale(_add(x, self.absolute(x)), 0.5)
        if op in ("max", "min"):
            gap = self.absolute(_add(x, _scale(y, -1)))
            return _scale(_add(x, y, _scale(gap, 1 if op == "max" else -1)), 0.5)
        if op == "sigmoid":
            return _add(_constant(0.5), _scale(self.elementwise("tanh", _scale(x, 0.5)), 0.5))
        if op == "tanh":
            if x[0][1] < 0:
                return _scale(self.function("tanh", _scale(x, -1)), -1)
            return self.function("tanh", x)
        if op == "sign":
            factor, rest = _content(x, True)
            return _scale(self.function("sign", rest), math.copysign(1.0, factor))
        if op == "exp":
            out = ONE
            for m, c in x:
                out = _mul(out, _constant(number("exp", c)) if m == UNIT else _atom("exp", ((m, 1.0),), exponent=c))
            return out
        return self.function(op, x)

    def absolute(self, poly: Poly) -> Poly:
        if len(poly) == 1:
            m, c = poly[0]
            out = _constant(abs(c))
            for atom, e in m:
                if e % 2 == 0 or _atom_not_negative(atom):
                    out = _mul(out, _power_of(atom, e))
                else:  # of a sign, too: it is 0 for half of all u in sign(relu(u))
                    out = _mul(out, _atom("abs", _power_of(atom), exponent=e))
            return out
        factor, rest = _content(poly, True)
        return _scale(rest if _not_negative(rest) else self.function("abs", rest), abs(factor))

    # -- over time -------------------------------------------------------------------------------------------------------

    def still(self, atom: Atom) -> bool:
        """The same at every step."""
        if atom[0] == "coef":
            return atom[1] not in self.varying
        if atom[0] in ("u", "r", "t", "cycle", "lti", "filter", "prev", "peak"):
            return False
        return all(self.still_poly(p) for p in atom[1:] if isinstance(p, tuple))

    def still_poly(self, poly: Poly) -> bool:
        return all(self.still(atom) for m, _ in poly for atom, _ in m)

    def split(self, m: Monomial) -> tuple[Monomial, Monomial]:
        """Factors that stay the same, and the others."""
        return tuple(f for f in m if self.still(f[0])), tuple(f for f in m if not self.still(f[0]))

    def filter(self, x: Poly, decay: Poly, gain: Poly) -> Poly:
        if not decay:
            return _mul(gain, x)
        if not self.still_poly(decay):
            return self.timed_filter(x, decay, gain)
        if not self.still_poly(gain):
            x, gain = _mul(gain, x), ONE
        out = ZERO
        for m, c in x:
            outside, inside = self.split(m)
            out = _add(out, _mul(((outside, c),), self.lti(inside, decay)))
        return _mul(gain, out)

    def lti(self, m: Monomial, decay: Poly) -> Poly:
        """One filter with a constant decay on a monomial that changes over time."""
        decay = _rounded(decay)
        if not (len(m) == 1 and m[0][1] == 1 and m[0][0][0] == "lti"):
            return _power_of(("lti", m, 0, (decay,)))
        _, inner, delays, decays = m[0][0]
        if delays:  # filters and delays commute: the delay goes outside
            out = self.lti(inner, decay)
            for _ in range(delays):
                out = self.delay(out)
            return out
        first = decays[0]  # all are equal
        if decay == first:
            return _power_of(("lti", inner, 0, (*decays, decay)))
        # partial fractions: F_a F_b = (a F_a - b F_b) / (a - b), here for b and one of several a
        less: Poly = _power_of(("lti", inner, 0, decays[1:])) if len(decays) > 1 else ((inner, 1.0),)
        top = _add(_mul(first, _power_of(m[0][0])), _scale(_mul(decay, self.filter(less, decay, ONE)), -1))
        return _mul(top, self.power(_add(first, _scale(decay, -1)), -1.0))

    def timed_filter(self, x: Poly, decay: Poly, gain: Poly) -> Poly:
        out = ZERO
        for m, c in x:
            outside, inside = self.split(m)
            factor: Poly = ((outside, c),)
            if self.still_poly(gain):
                out = _add(out, _mul(_mul(factor, gain), _atom("filter", ((inside, 1.0),), decay, ONE)))
            else:
                out = _add(out, _mul(factor, _atom("filter", ((inside, 1.0),), decay, gain)))
        return out

    def delay(self, x: Poly) -> Poly:
        out = ZERO
        for m, c in x:
            outside, inside = self.split(m)
            out = _add(out, _mul(((outside, c),), self.delayed(inside)))
        return out

    def delayed(self, m: Monomial) -> Poly:
        if len(m) == 1 and m[0][1] == 1 and m[0][0][0] == "lti":
            _, inner, delays, decays = m[0][0]
            if not decays:
                return _power_of(("lti", inner, delays + 1, ()))
            # F_t = x_t + a F_{t-1}, where x is all that the filter reads
            less: Poly = _power_of(("lti", inner, 0, decays[1:])) if len(decays) > 1 else ((inner, 1.0),)
            return _mul(self.power(decays[0], -1.0), _add(_power_of(m[0][0]), _scale(less, -1)))
        return _power_of(("lti", m, 1, ()))

    def peak(self, x: Poly) -> Poly:
        if not x:
            return ZERO
        if len(x) == 1 and x[0][1] > 0 and len(x[0][0]) == 1 and x[0][0][0][1] == 1 and x[0][0][0][0][0] == "peak":
            return x
        if len(x) == 1 and x[0][1] > 0 and len(x[0][0]) == 1 and x[0][0][0][1] == 1 and _grows(x[0][0][0][0]):
            return x
        factor, rest = _content(x, False)
        return _scale(self.function("peak", rest), factor)


# -- back to a tree ------------------------------------------------------------------------------------------------------


def to_node(poly: Poly) -> Node:
    """A tree with this normal form."""
    if not poly:
        return num(0.0)
    node: Node | None = None
    for m, c in poly:
        term = _monomial_node(m, abs(c) if node is not None else c)
        node = term if node is None else make("sub" if c < 0 else "add", node, term)
    assert node is not None
    return node


def _monomial_node(m: Monomial, c: float) -> Node:
    above = [_power_node(atom, e) for atom, e in m if e > 0 and atom[0] != "over"]
    below = [_power_node(atom, -e) for atom, e in m if e < 0]
    below += [_power_node(("sum", atom[1]), e) for atom, e in m if e > 0 and atom[0] == "over"]
    if c == -1 and above:
        return neg(_quotient(above, below))
    return _quotient(([num(c)] if c != 1 or not above else []) + above, below)


def _quotient(above: list[Node], below: list[Node]) -> Node:
    node = above[0]
    for factor in above[1:]:
        node = make("mul", node, factor)
    for factor in below:
        node = make("div", node, factor)
    return node


def _power_node(atom: Atom, e: float) -> Node:
    node = _atom_node(atom)
    if e == 1:
        return node
    return make("sqrt", node) if e == 0.5 else make("pow", node, num(e))


def _atom_node(atom: Atom) -> Node:
    kind = atom[0]
    if kind in ("u", "r", "t"):
        return {"u": U, "r": R, "t": STEP}[kind]
    if kind == "coef":
        return coef(atom[1])
    if kind in ("sum", "long"):
        return to_node(atom[1])
    if kind == "over":
        return make("div", num(1.0), to_node(atom[1]))
    if kind == "root":
        return _power_node(("sum", atom[1]), atom[2])
    if kind == "lti":
        node = to_node(((atom[1], 1.0),))
        for _ in range(atom[2]):
            node = make("prev", node)
        for decay in atom[3]:
            node = make("momentum", node, to_node(decay))
        return node
    if kind == "filter":
        gain = () if atom[3] == ONE else (to_node(atom[3]),)
        return make("momentum", to_node(atom[1]), to_node(atom[2]), *gain)
    return make(kind, *map(to_node, atom[1:]))
