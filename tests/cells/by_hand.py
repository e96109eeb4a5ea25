"""Every cell once more, from the formulas on paper: plain torch, one step at a time, no part of the package.

A rule is a function of one step: coefficients ``c``, step number ``t`` from 1, drive ``u``, recurrent term ``r`` (of coupled rules)
and ``m``, the dict in which it keeps its states; what is not there yet is 0. A base is a function of one step, too; ``see`` is what
the gates from a given one on see of their drive and recurrent term.
"""

import torch

LOW_HIGH = {  # of learned coefficients: where their range ends; None: nowhere
    "mu": 1.0,
    "beta": 1.0,
    "beta2": 1.0,
    "nu": 1.0,
    "epsilon": None,
    "tau": None,
}


def from_raw(name, raw):
    return torch.exp(raw) if LOW_HIGH[name] is None else LOW_HIGH[name] / (1 + torch.exp(-raw))


# ------------------------------------------------------------------------------------- rules


def plain(c, t, u, r, m):
    return u


def heavy_ball(c, t, u, r, m):
    m["v"] = c["mu"] * m.get("v", 0.0) + c["epsilon"] * u
    return m["v"]


def ema(c, t, u, r, m):
    m["v"] = c["mu"] * m.get("v", 0.0) + (1 - c["mu"]) * u
    return m["v"]


def counted(t, restart):
    """k: 1 .. F, and from the start again; γ_k."""
    k = t
    while k > restart:
        k -= restart
    return (k - 1) / (k + 2)


def nesterov(c, t, u, r, m):
    m["v"] = counted(t, c["restart"]) * m.get("v", 0.0) + c["epsilon"] * u
    return m["v"]


def nesterov_released(c, t, u, r, m):
    q, old = r - c["epsilon"] * u, m.get("q", 0.0)
    m["q"] = q
    return q + counted(t, c["restart"]) * (q - old)


def nesterov_lookahead(c, t, u, r, m):
    """torch.optim.SGD: buf = mu buf + g; g + mu buf; times lr."""
    m["buf"] = c["mu"] * m.get("buf", 0.0) + u
    return c["epsilon"] * (u + c["mu"] * m["buf"])


def qhm(c, t, u, r, m):
    """Ma and Yarats: g = β g + (1 - β) ∇, step α ((1 - ν) ∇ + ν g)."""
    m["g"] = c["mu"] * m.get("g", 0.0) + (1 - c["mu"]) * u
    return c["epsilon"] * ((1 - c["nu"]) * u + c["nu"] * m["g"])


def rmsprop(c, t, u, r, m):
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    return c["epsilon"] * u / torch.sqrt(m["s"] + c["delta"])


def rmsprop_momentum(c, t, u, r, m):
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    m["buf"] = c["mu"] * m.get("buf", 0.0) + c["epsilon"] * (u / torch.sqrt(m["s"] + c["delta"]))
    return m["buf"]


def adam(c, t, u, r, m):
    m["v"] = c["mu"] * m.get("v", 0.0) + c["epsilon"] * u
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    return m["v"] / torch.sqrt(m["s"] + c["delta"])


def adam_outside(c, t, u, r, m):
    m["v"] = c["mu"] * m.get("v", 0.0) + c["epsilon"] * u
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    return m["v"] / (torch.sqrt(m["s"]) + c["delta"])


def adam_corrected(c, t, u, r, m):
    """Kingma and Ba, algorithm 1, with the guard inside the root."""
    m["m"] = c["mu"] * m.get("m", 0.0) + (1 - c["mu"]) * u
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    mean, square = m["m"] / (1 - c["mu"] ** t), m["s"] / (1 - c["beta"] ** t)
    return c["epsilon"] * mean / torch.sqrt(square + c["delta"])


def amsgrad(c, t, u, r, m):
    m["v"] = c["mu"] * m.get("v", 0.0) + c["epsilon"] * u
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    m["top"] = torch.maximum(m.get("top", torch.zeros_like(u)), m["s"])
    return m["v"] / torch.sqrt(m["top"] + c["delta"])


def nadam(c, t, u, r, m):
    """Dozat, algorithm 8 with a constant μ: the corrected mean of the next step, with the present gradient in its place."""
    m["m"] = c["mu"] * m.get("m", 0.0) + (1 - c["mu"]) * u
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * u * u
    mean = c["mu"] * m["m"] / (1 - c["mu"] ** (t + 1)) + (1 - c["mu"]) * u / (1 - c["mu"] ** t)
    return c["epsilon"] * mean / torch.sqrt(m["s"] / (1 - c["beta"] ** t) + c["delta"])


def adabelief(c, t, u, r, m):
    m["m"] = c["mu"] * m.get("m", 0.0) + (1 - c["mu"]) * u
    m["s"] = c["beta"] * m.get("s", 0.0) + (1 - c["beta"]) * (u - m["m"]) * (u - m["m"])
    return c["epsilon"] * m["m"] / torch.sqrt(m["s"] + c["delta"])


def adagrad(c, t, u, r, m):
    m["s"] = m.get("s", 0.0) + u * u
    return c["epsilon"] * u / torch.sqrt(m["s"] + c["delta"])


def lion(c, t, u, r, m):
    """Chen et al.: c = β1 m + (1 - β1) g, then m = β2 m + (1 - β2) g; here tanh(c / τ) for sign(c)."""
    old = m.get("m", 0.0)
    mixed = c["beta"] * old + (1 - c["beta"]) * u
    m["m"] = c["beta2"] * old + (1 - c["beta2"]) * u
    return c["epsilon"] * torch.tanh(mixed / c["tau"])


MOMENTUM = (plain, heavy_ball, ema, nesterov, nesterov_released, nesterov_lookahead, qhm)
ADAPTIVE = (rmsprop, rmsprop_momentum, adam, adam_outside, adam_corrected, amsgrad, nadam, adabelief, adagrad, lion)
RULES = {rule.__name__: rule for rule in MOMENTUM + ADAPTIVE}
COUPLED = ("nesterov_released",)
# Not the defaults, and so that no two of them could be exchanged unseen. δ is large enough to matter at 1e-10.
VALUES = {
    "plain": {},
    "heavy_ball": {"mu": 0.7, "epsilon": 0.4},
    "ema": {"mu": 0.7},
    "nesterov": {"epsilon": 0.8, "restart": 3},
    "nesterov_released": {"epsilon": 0.8, "restart": 3},
    "nesterov_lookahead": {"mu": 0.7, "epsilon": 0.4},
    "qhm": {"mu": 0.7, "epsilon": 0.4, "nu": 0.6},
    "rmsprop": {"epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "rmsprop_momentum": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "adam": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "adam_outside": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "adam_corrected": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "amsgrad": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "nadam": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "adabelief": {"mu": 0.7, "epsilon": 0.4, "beta": 0.8, "delta": 1e-3},
    "adagrad": {"epsilon": 0.4, "delta": 1e-3},
    "lion": {"epsilon": 0.4, "beta": 0.8, "beta2": 0.6, "tau": 0.5},
}
LEARNABLE = {rule: tuple(name for name in c if name in LOW_HIGH) for rule, c in VALUES.items()}


# ------------------------------------------------------------------------------------- bases


def affine(p, h):
    return h @ p["weight_hh_l0"].T + p.get("bias_hh_l0", 0.0)


def act(name, a):
    return torch.tanh(a) if name == "tanh" else torch.clamp(a, min=0)


def rnn(p, d, state, options, see):
    return (act(options["activation"], see(0, d, affine(p, state[0]))),)


def lstm(p, d, state, options, see):
    h, c = state
    i, f, g, o = see(0, d, affine(p, h)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(p, d, state, options, see):
    """The reset gate after the product, as torch.nn.GRU."""
    (h,), n = state, state[0].shape[-1]
    linear = affine(p, h)
    reset = torch.sigmoid(see(0, d[:, :n], linear[:, :n]))
    z = torch.sigmoid(see(1, d[:, n : 2 * n], linear[:, n : 2 * n]))
    candidate = torch.tanh(see(2, d[:, 2 * n :], reset * linear[:, 2 * n :]))
    return ((1 - z) * candidate + z * h,)


def mgu(p, d, state, options, see):
    """The gate before the product, as the paper has it."""
    (h,), n = state, state[0].shape[-1]
    u, b = p["weight_hh_l0"], p.get("bias_hh_l0", torch.zeros(2 * n, dtype=h.dtype))
    f = torch.sigmoid(see(0, d[:, :n], h @ u[:n].T + b[:n]))
    candidate = torch.tanh(see(1, d[:, n:], (f * h) @ u[n:].T + b[n:]))
    return ((1 - f) * h + f * candidate,)


def indrnn(p, d, state, options, see):
    return (act(options["activation"], see(0, d, p["weight_hh_l0"] * state[0] + p.get("bias_hh_l0", 0.0))),)


def linear(p, d, state, options, see):
    decay = torch.exp(-torch.log(1 + torch.exp(-p["weight_hh_l0"])))  # exp(-softplus(-a))
    return (see(0, d, decay * state[0]),)


def skew(a):
    return torch.tril(a, -1) - torch.tril(a, -1).T


def exponential(a):
    """By the eigenvalues: i S is Hermitian."""
    values, vectors = torch.linalg.eigh(1j * skew(a))
    return (vectors @ torch.diag(torch.exp(-1j * values)) @ vectors.mH).real


def cayley(a):
    one = torch.eye(len(a), dtype=a.dtype)
    return (one + skew(a) / 2) @ torch.linalg.inv(one - skew(a) / 2)


def householder(a):
    """Reflections at e_i + (column i of A below the diagonal), in order; -1 turns the n of them at A = 0 into the identity."""
    one = torch.eye(len(a), dtype=a.dtype)
    q = -one
    for i in range(len(a)):
        v = one[i] + torch.tril(a, -1)[:, i]
        q = q @ (one - 2 * torch.outer(v, v) / (v @ v))
    return q


MAPS = {"exponential": exponential, "cayley": cayley, "householder": householder}


def rotations(p, options):
    """weight_hh: one orthogonal matrix for each gate, above each other."""
    name = "parametrizations.weight_hh_l0."
    centres, matrices = p[name + "0.base"], p[name + "original"]
    if centres.dim() == 2:
        centres, matrices = centres[None], matrices[None]
    return torch.cat([centre @ MAPS[options["map"]](a) for centre, a in zip(centres, matrices, strict=True)])


def orthogonal(p, d, state, options, see):
    z = see(0, d, state[0] @ rotations(p, options).T)
    return (torch.sign(z) * torch.clamp(z.abs() + p["modrelu_bias_l0"], min=0),)


def orthogonal_lstm(p, d, state, options, see):
    return lstm({**p, "weight_hh_l0": rotations(p, options)}, d, state, options, see)


BASES = {f.__name__: f for f in (rnn, lstm, gru, mgu, indrnn, linear, orthogonal, orthogonal_lstm)}
GATES = {"lstm": "ifgo", "gru": "rzn", "mgu": "fn", "orthogonal_lstm": "ifgo"}  # one gate in the others


# ------------------------------------------------------------------------------------- cells


class Unrolled:
    """One layer of ``spec`` (read as plain data) with the parameters and buffers ``p``, unrolled over x (T, B, I).

    Args:
        rule: of `RULES`; None: the one that the spec names.
        held: states of the rule before the first step, by its own letters, of all channels that it acts on.
    """

    def __init__(self, spec, p, hidden, rule=None, state=None, held=None, t=0):
        self.spec, self.p, self.hidden, self.t = spec, p, hidden, t
        self.rule = rule or RULES[spec.rule]
        self.state, self.held = state, {name: value.clone() for name, value in (held or {}).items()}
        names = GATES.get(spec.base, "h")
        self.chosen = range(len(names)) if spec.gates is None else [names.index(gate) for gate in spec.gates]
        self.gates = len(names)

    def coefficients(self, x_t, channels):
        """Numbers, or tensors that broadcast with (B, channels)."""
        c = dict(self.spec.coefficients)
        for name, kind in self.spec.learned_kinds.items():
            raw = self.p[f"rule_{name}_l0"]
            if kind == "input":
                raw = raw + (x_t * self.p[f"rule_{name}_ih_l0"]).sum(-1, keepdim=True)
            c[name] = from_raw(name, raw[channels] if kind == "unit" else raw)
        return c

    def apply(self, x_t, u, r, gate):
        """The rule on one gate; its states of the other gates stay as they are."""
        place = self.chosen.index(gate) * self.hidden
        channels = slice(place, place + self.hidden)
        m = {name: value[:, channels] for name, value in self.held.items()} if self.old else {}
        out = self.rule(self.coefficients(x_t, channels), self.t, u, r, m)
        for name, value in m.items():
            self.new.setdefault(name, []).append(value)
        return out

    def step(self, x_t):
        spec, p, n = self.spec, self.p, self.hidden
        self.t += 1
        self.new, self.old = {}, bool(self.held)
        bias = p.get("bias_ih_l0", 0.0)
        u = x_t @ p["weight_ih_l0"].T + (bias if spec.drive_bias == "inside" else 0.0)
        late = bias + 0.0 * u if spec.drive_bias == "outside" else torch.zeros_like(u)

        def see(first, d, r):
            gates = [(first + i, d[:, i * n : (i + 1) * n], r[:, i * n : (i + 1) * n]) for i in range(d.shape[-1] // n)]
            return torch.cat([self.gate(x_t, gate, d_i, r_i) + late[:, gate * n : (gate + 1) * n] for gate, d_i, r_i in gates], -1)

        if spec.scope == "hidden":
            old = self.state[0]
            new = BASES[spec.base](p, u, self.state, spec.options, lambda first, d, r: d + r)
            moved = self.rule(self.coefficients(x_t, slice(None)), self.t, new[0] - old, None, self.held)
            self.state = (old + moved, *new[1:])
        else:
            self.state = BASES[spec.base](p, u, self.state, spec.options, see)
            self.held = {name: torch.cat(parts, -1) for name, parts in self.new.items()}
        return self.state[0]

    def gate(self, x_t, gate, d, r):
        if gate not in self.chosen:
            return d + r
        if self.spec.rule in COUPLED:
            return self.apply(x_t, d, r, gate)
        return self.apply(x_t, d, None, gate) + r if self.spec.scope == "drive" else self.apply(x_t, d + r, None, gate)

    def run(self, x):
        if self.state is None:
            zero = torch.zeros(x.shape[1], self.hidden, dtype=x.dtype)
            self.state = (zero, zero) if "lstm" in self.spec.base else (zero,)
        return torch.stack([self.step(x_t) for x_t in x])


def drives(spec, us):
    """d_1 … d_T of a rule with fixed coefficients on the drives u_1 … u_T."""
    m = {}
    return [RULES[spec.rule](spec.coefficients, t, u, None, m) for t, u in enumerate(us, 1)]


def by_hand(layer, x, rule=None):
    """Outputs of a single layer of one direction."""
    return Unrolled(layer.spec, {**dict(layer.named_parameters()), **dict(layer.named_buffers())}, layer.hidden_size, rule).run(x)


def moved(layer, seed, by=0.3):
    """The layer in float64, drawn again from ``seed``, every number of it moved away from where it started."""
    torch.manual_seed(seed)
    layer = layer.double()
    layer.reset_parameters()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += by * torch.randn_like(parameter)
    return layer


def assert_near(ours, theirs, name, tolerance=1e-10):
    """To ``tolerance`` of the tensor's largest entry, at least of 1."""
    assert ours.shape == theirs.shape, name
    gap, scale = float((ours - theirs).detach().abs().max()), max(1.0, float(theirs.detach().abs().max()))
    assert gap <= tolerance * scale, f"{name}: {gap} at scale {scale}"


def assert_same(layer, x, reference, tolerance=1e-10):
    """Outputs and the gradients of every parameter and of the input; ``reference`` maps x to the outputs that are right.

    No gradient is 0 as a whole, but at T = 1, where h has not come back yet.
    """
    leaf = x.detach().clone().requires_grad_()
    mine, theirs = layer(leaf)[0], reference(leaf)
    leaves = {"x": leaf, **dict(layer.named_parameters())}
    weights = torch.randn(mine.shape, dtype=mine.dtype, generator=torch.Generator().manual_seed(7))
    assert_near(mine, theirs, "outputs", tolerance)
    pairs = [torch.autograd.grad((y * weights).sum(), list(leaves.values()), allow_unused=True) for y in (mine, theirs)]
    for name, one, other in zip(leaves, *pairs, strict=True):
        assert one is not None and other is not None and (len(x) == 1 or float(other.abs().max()) > 0), name
        assert_near(one, other, name, tolerance)
