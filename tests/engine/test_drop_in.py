"""`Recurrent` in the place of torch.nn.LSTM, GRU and RNN: packed sequences, dtypes, compiling, functional calls, states."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad
from torch.nn.utils import parametrize, skip_init
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence

from mrnn_search._registry import SpecError
from mrnn_search.cells import CellSpec, preset
from mrnn_search.engine.recurrent import Recurrent, State

from ..cells.strategies import BASES, specs

VENDOR = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
ONE_OF_EACH = [CellSpec(base, rule) for base in BASES for rule in ("plain", "adam", "nesterov")]
by_name = pytest.mark.parametrize("spec", ONE_OF_EACH, ids=lambda spec: spec.name)


def tensors(state):
    return [*(state if isinstance(state, tuple) else [state]), *getattr(state, "rule", ())]


def pick(state, b):
    """The state of sequence b alone."""
    one = lambda s: s[:, b : b + 1]  # noqa: E731
    if isinstance(state, State):
        return State([one(s) for s in state], [one(m) for m in state.rule], int(state.t[b]))
    return tuple(one(s) for s in state) if isinstance(state, tuple) else one(state)


def near(ours, theirs, gap=1e-10, name=""):
    assert ours.shape == theirs.shape, name
    scale = max(1.0, float(theirs.detach().abs().max()))
    assert float((ours - theirs).detach().abs().max()) <= gap * scale, name


# --- Packed sequences ---


@settings(max_examples=60)
@given(
    spec=specs(),
    lengths=st.lists(st.integers(1, 36), min_size=1, max_size=4),
    layers=st.integers(1, 2),
    both=st.booleans(),
    bias=st.booleans(),
    execution=st.sampled_from(["auto", "loop", "reference"]),
)
def test_each_packed_sequence_runs_as_if_alone(spec, lengths, layers, both, bias, execution):
    """Outputs, states, moments, step counts and gradients, in float64; then a second pack goes on from the first one's state."""
    torch.manual_seed(len(lengths))
    layer = Recurrent(spec, 3, 4, layers, bias=bias, bidirectional=both, execution=execution, dtype=torch.float64)
    chunks = [[torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in some] for some in (lengths, lengths[::-1])]
    state, alone = None, [None] * len(lengths)
    losses = [torch.zeros((), dtype=torch.float64)] * 2
    for sequences in chunks:
        packed, state = layer(pack_sequence(sequences, enforce_sorted=False), state)
        assert isinstance(packed, PackedSequence)
        for b, (sequence, y) in enumerate(zip(sequences, unpack_sequence(packed), strict=True)):
            y2, alone[b] = layer(sequence.unsqueeze(1), alone[b])
            near(y, y2.squeeze(1), name="y")
            for ours, theirs in zip(tensors(pick(state, b)), tensors(alone[b]), strict=True):
                near(ours, theirs, name="state")
            losses = [loss + part.square().sum() for loss, part in zip(losses, (y, y2), strict=True)]
        if isinstance(state, State):
            assert state.t.tolist() == [end.t for end in alone]
    losses = [losses[0] + sum(s.sum() for s in tensors(state)), losses[1] + sum(s.sum() for end in alone for s in tensors(end))]
    leaves = [*layer.parameters(), *chunks[0], *chunks[1]]
    for ours, theirs in zip(*(torch.autograd.grad(loss, leaves) for loss in losses), strict=True):
        near(ours, theirs, 1e-9, "gradient")


@pytest.mark.parametrize("execution", ["auto", "loop", "reference"])
@pytest.mark.parametrize("base", VENDOR)
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    layers=st.integers(1, 3),
    both=st.booleans(),
    bias=st.booleans(),
    in_order=st.booleans(),
    given_state=st.booleans(),
)
def test_plain_packed_equals_torchs(base, execution, lengths, layers, both, bias, in_order, given_state):
    """Outputs, state and gradients to 1e-6, given state included, `batch_first` of the layer ignored as torch does."""
    torch.manual_seed(sum(lengths))
    lengths = sorted(lengths, reverse=True) if in_order else lengths
    options = dict(num_layers=layers, bidirectional=both, bias=bias, batch_first=not in_order)
    theirs = VENDOR[base](3, 5, **options)
    ours = Recurrent(CellSpec(base), 3, 5, **options, execution=execution)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(max(lengths), len(lengths), 3, requires_grad=True)
    hx = [torch.randn(layers * (1 + both), len(lengths), 5, requires_grad=True) for _ in range(2 if base == "lstm" else 1)]
    results = []
    for layer in (ours, theirs):
        packed, state = layer(
            pack_padded_sequence(x, lengths, enforce_sorted=in_order), (tuple(hx) if base == "lstm" else hx[0]) if given_state else None
        )
        outputs = [pad_packed_sequence(packed)[0], *tensors(state)]
        leaves = [x, *(hx if given_state else []), *layer.parameters()]
        grads = torch.autograd.grad(sum(o.square().mean() for o in outputs), leaves)
        assert packed.batch_sizes.tolist() == sorted(packed.batch_sizes.tolist(), reverse=True)
        results.append([packed.data, *outputs, *grads])
    for mine, their in zip(*results, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-6, atol=1e-6)


def test_a_state_of_several_counts_goes_on_unpacked():
    """The schedule of each sequence goes on at its own step, in every execution."""
    layer = Recurrent(CellSpec("lstm", "nesterov", {"restart": 5}), 3, 4, 2, bidirectional=True, dtype=torch.float64)
    first = [torch.randn(n, 3, dtype=torch.float64) for n in (2, 9, 4)]
    more = torch.randn(45, 3, 3, dtype=torch.float64)  # more steps than a chunk of the scan
    _, state = layer(pack_sequence(first, enforce_sorted=False))
    assert state.t.tolist() == [2, 9, 4] and state.t.dtype == torch.int64
    y, end = layer(more, state)
    near(layer.reference()(more, state)[0], y)
    assert end.t.tolist() == [47, 54, 49]
    for b in range(3):
        y2, end2 = layer(more[:, b : b + 1], pick(state, b))
        near(y[:, b : b + 1], y2)
        for ours, theirs in zip(tensors(pick(end, b)), tensors(end2), strict=True):
            near(ours, theirs)


def test_dropout_acts_on_packed_sequences():
    packed = pack_sequence([torch.ones(4, 3), torch.ones(2, 3)])
    layer = Recurrent(preset("lstm"), 3, 8, 2, dropout=0.9, init="torch")
    assert not torch.equal(layer(packed)[0].data, layer(packed)[0].data)
    layer.eval()
    assert torch.equal(layer(packed)[0].data, layer(packed)[0].data)


# --- Constructor and dtypes ---


def test_every_argument_of_torchs_constructor_is_there():
    mine = inspect.signature(Recurrent).parameters
    assert {"input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"} <= mine.keys()
    assert {"proj_size", "device", "dtype"} <= mine.keys()
    assert Recurrent(preset("lstm"), 3, 4, proj_size=0).proj_size == 0
    with pytest.raises(SpecError, match="proj_size = 2, allowed: 0; .*torch.nn.Linear"):
        Recurrent(preset("lstm"), 3, 4, proj_size=2)
    with pytest.raises(SpecError, match=r"dtype = torch.int64, allowed: a floating-point"):
        Recurrent(preset("lstm"), 3, 4, dtype=torch.int64)
    assert Recurrent(preset("lstm"), 3, 4).flatten_parameters() is None


@pytest.mark.parametrize("init", ["paper", "torch"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@by_name
def test_device_and_dtype(spec, dtype, init):
    learned = CellSpec(spec.base, spec.rule, spec.coefficients, ["epsilon"] if spec.rule != "plain" else [], spec.options)
    layer = Recurrent(learned, 3, 4, bidirectional=True, init=init, device="cpu", dtype=dtype)
    kept = dtype if dtype == torch.float64 else torch.float32  # the centre of an orthogonal map is never narrower
    assert all(p.dtype == dtype and p.isfinite().all() for p in layer.parameters())
    assert all(b.dtype == kept and b.isfinite().all() for b in layer.buffers())
    meta = Recurrent(learned, 3, 4, bidirectional=True, init=init, device="meta", dtype=dtype)
    assert all(p.is_meta and p.dtype == dtype for p in meta.parameters()) and all(b.is_meta for b in meta.buffers())
    blank = skip_init(Recurrent, learned, 3, 4, bidirectional=True, dtype=dtype)
    blank.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 3, dtype=dtype)
    assert torch.equal(blank(x)[0], layer(x)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("rule", "coefficients"),
    [
        ("plain", {}),
        ("heavy_ball", {"mu": 0.999, "epsilon": 0.1}),  # 0.999 is 1 in bfloat16
        ("rmsprop", {"beta": 0.999}),
        ("adam", {"beta": 0.999}),
        ("nesterov", {}),
    ],
)
def test_half_precision_is_near_float32_on_the_same_numbers(base, rule, coefficients, dtype):
    """Norm of the error against the norm of the result, in units of the dtype's eps.

    Inputs and weights are exact in both layers. Each step rounds gates and state by about half an eps and the recurrence
    adds such errors up: 16 eps for outputs and gated gradients over 40 steps (6 and 9 were seen over many seeds). The
    moments are linear in the drive and kept in float32: 1 eps, the rounding of the drive itself.
    """
    torch.manual_seed(1)
    spec, eps = CellSpec(base, rule, coefficients), torch.finfo(dtype).eps
    narrow, wide = Recurrent(spec, 5, 16, init="torch", dtype=dtype), Recurrent(spec, 5, 16, init="torch")
    wide.load_state_dict(narrow.state_dict())
    x = torch.randn(40, 4, 5).to(dtype)
    results = []
    for layer, given_x in ((narrow, x), (wide, x.float())):
        y, state = layer(given_x)
        assert y.dtype == given_x.dtype == tensors(state)[0].dtype
        rule_state = getattr(state, "rule", ())
        assert all(m.dtype == torch.float32 for m in rule_state)
        results.append((y.float(), torch.autograd.grad(y.float().square().mean(), list(layer.parameters())), rule_state))
    (y, grads, moments), (y2, grads2, moments2) = results

    def error(ours, theirs):
        return float(((ours.float() - theirs).norm() / theirs.norm()).detach())

    assert error(y, y2) <= 16 * eps
    for ours, theirs in zip(moments, moments2, strict=True):
        assert error(ours, theirs) <= eps
    for ours, theirs in zip(grads, grads2, strict=True):
        if base == "orthogonal":  # modReLU jumps: a unit on the other side of the jump has another gradient, not a rounded one
            assert torch.cosine_similarity(ours.float().flatten(), theirs.flatten(), dim=0) > 0.95
            continue
        assert error(ours, theirs) <= 16 * eps
    first, state = narrow(x[:17])
    second, _ = narrow(x[17:], state)
    assert error(torch.cat([first, second]), y.detach()) <= 16 * eps


def test_an_orthogonal_layer_in_float64():
    for mapping in ("exponential", "cayley", "householder"):
        layer = Recurrent(CellSpec("orthogonal", "adam", options={"map": mapping}), 3, 4, device="cpu", dtype=torch.float64)
        assert all(p.dtype == torch.float64 for p in [*layer.parameters(), *layer.buffers()])
        q = layer.recurrent_matrix()
        near(q @ q.T, torch.eye(4, dtype=torch.float64), 1e-6)  # its start is drawn in float32
        assert layer(torch.randn(5, 2, 3, dtype=torch.float64))[0].dtype == torch.float64


def test_zero_drive_in_half_precision_is_finite():
    """Black leading pixels and no bias: the guard 1e-16 inside the root is 0 in float16, its inverse root above float16's range."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for name in ("adam_lstm", "rmsprop_lstm"):
            layer = Recurrent(preset(name), 3, 4, bias=False, dtype=dtype)
            y, _ = layer(torch.zeros(6, 2, 3, dtype=dtype))
            y.float().sum().backward()
            assert y.isfinite().all()
            assert dtype == torch.float16 or all(p.grad.isfinite().all() for p in layer.parameters())


@by_name
def test_moving_between_dtypes(spec):
    layer = Recurrent(spec, 3, 4, init="torch")
    x = torch.randn(7, 2, 3)
    before = layer(x)[0]
    near(layer.double()(x.double())[0].float(), before, 1e-4)
    near(layer.float()(x)[0], before, 1e-5)
    assert layer.half()(x.half())[0].isfinite().all()
    assert layer.to(torch.bfloat16)(x.bfloat16())[0].dtype == torch.bfloat16
    with pytest.raises(SpecError, match="input has dtype torch.float32, allowed: the layer's, torch.bfloat16"):
        layer(x)


def test_autocast():
    """bfloat16 GEMMs around float32 weights; the scan keeps float32. modReLU jumps where rounding turns a sign: finite, no more."""
    torch.manual_seed(0)
    x = torch.randn(9, 2, 3)
    for spec in ONE_OF_EACH:
        layer = Recurrent(spec, 3, 4, init="torch", execution="loop")
        exact, _ = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            y, state = layer(x)
            again, _ = layer(x, state)
        if spec.base != "orthogonal":
            near(y.float(), exact, 0.1)
        assert all(m.dtype == torch.float32 for m in getattr(state, "rule", ())) and again.isfinite().all()
        y.float().sum().backward()


# --- torch.compile, copies, functional calls ---


@pytest.mark.parametrize("spec", [preset("nesterov_lstm"), CellSpec("orthogonal", "adam")], ids=lambda spec: spec.name)
def test_compiled_gives_the_same(spec):
    """Traced by dynamo and run eagerly: what the tracing could break; no compiler is needed."""
    torch._dynamo.reset()
    layer = Recurrent(spec, 3, 4, bidirectional=True, init="torch")
    compiled = torch.compile(layer, backend="eager")
    x, packed = torch.randn(4, 2, 3), pack_sequence([torch.randn(n, 3) for n in (2, 3)], enforce_sorted=False)
    for given_x in (x, packed):
        (y, state), (y2, state2) = compiled(given_x), layer(given_x)
        assert type(y) is type(y2) and type(state) is type(state2)
        rows = [p.data if isinstance(p, PackedSequence) else p for p in (y, y2)]
        torch.testing.assert_close(rows[0], rows[1])
        for ours, theirs in zip(tensors(state), tensors(state2), strict=True):
            torch.testing.assert_close(ours, theirs)
        grads = [torch.autograd.grad(r.square().sum(), list(layer.parameters())) for r in rows]
        torch.testing.assert_close(grads[0], grads[1])
    y, state = compiled(x, layer(x)[1])
    y2, state2 = layer(x, layer(x)[1])
    torch.testing.assert_close(y, y2)
    assert not isinstance(state2, State) or state.t == state2.t == 8


@by_name
def test_copies_and_saved_state_dicts(spec):
    layer = Recurrent(spec, 3, 4, 2, bidirectional=True)
    torch.optim.SGD(layer.parameters(), 0.1).zero_grad()
    x = torch.randn(6, 2, 3)
    y, _ = layer(x)
    y.square().sum().backward()
    with torch.no_grad():  # away from the initial values
        for p in layer.parameters():
            p -= 0.01 * p.grad
    y, _ = layer(x)
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(twin(x)[0], y)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1)
    torch.testing.assert_close(layer(x)[0], y)  # nothing is shared
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = Recurrent(spec, 3, 4, 2, bidirectional=True)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(fresh(x)[0], y)


def test_orthogonal_base_keeps_its_parametrization_in_copies():
    layer = Recurrent(preset("exprnn"), 3, 6)
    twin = copy.deepcopy(layer)
    assert parametrize.is_parametrized(twin, "weight_hh_l0")
    twin(torch.randn(5, 2, 3))[0].sum().backward()
    torch.optim.SGD(twin.parameters(), 0.5).step()
    q = twin.recurrent_matrix()
    torch.testing.assert_close(q @ q.T, torch.eye(6), rtol=0, atol=1e-5)
    assert not torch.equal(q, layer.recurrent_matrix())
    with parametrize.cached():
        assert twin.weight_hh_l0 is twin.weight_hh_l0
    layer.weight_hh_l0 = q.detach().T  # assigning goes through the parametrization
    torch.testing.assert_close(layer.recurrent_matrix(), q)
    # Names and numbers of torch's own parametrization, so that its state_dicts load.
    theirs = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(6, 6, bias=False), orthogonal_map="matrix_exp")
    chain = layer.parametrizations.weight_hh_l0
    assert theirs.parametrizations.weight.state_dict().keys() == chain.state_dict().keys()
    with torch.no_grad():
        theirs.parametrizations.weight.original.normal_()
    chain.load_state_dict(theirs.parametrizations.weight.state_dict())
    torch.testing.assert_close(layer.weight_hh_l0, theirs.weight)


@by_name
def test_functional_call_and_grad(spec):
    learned = CellSpec(spec.base, spec.rule, spec.coefficients, ["epsilon"] if spec.rule != "plain" else [], spec.options)
    layer = Recurrent(learned, 3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    weights = dict(layer.named_parameters())
    moved = {n: p.detach() + 0.01 for n, p in weights.items()}
    y, _ = functional_call(layer, moved, (x,))
    assert not torch.equal(y, layer(x)[0])

    def loss(parameters):
        return functional_call(layer, parameters, (x,))[0].square().mean()

    grads = grad(loss)({n: p.detach() for n, p in weights.items()})
    expected = torch.autograd.grad(layer(x)[0].square().mean(), list(weights.values()))
    for name, theirs in zip(weights, expected, strict=True):
        near(grads[name], theirs, 1e-12, name)


# --- Stacks, directions, devices ---


@by_name
def test_the_reverse_direction_is_a_layer_that_reads_backwards(spec):
    both = Recurrent(spec, 3, 4, bidirectional=True, init="torch", dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    y, state = both(x)
    for d, suffix in enumerate(("_l0", "_l0_reverse")):
        one = Recurrent(spec, 3, 4, init="torch", dtype=torch.float64)
        one.load_state_dict({n.replace("_l0_reverse", "_l0"): v for n, v in both.state_dict().items() if _direction(n) == suffix})
        y2, state2 = one(x.flip(0) if d else x)
        near(y[..., 4 * d : 4 * d + 4], y2.flip(0) if d else y2)
        for ours, theirs in zip(tensors(state), tensors(state2), strict=True):
            near(ours[d : d + 1], theirs)


def _direction(name):
    return "_l0_reverse" if "_l0_reverse" in name else "_l0"


@by_name
def test_dropout_is_torchs_between_layers_and_not_after_the_last(spec):
    stack = Recurrent(spec, 3, 4, 2, dropout=0.5, init="torch", dtype=torch.float64)
    layers = []
    for n, width in enumerate((3, 4)):
        layer = Recurrent(spec, width, 4, init="torch", dtype=torch.float64)
        layer.load_state_dict({name.replace(f"_l{n}", "_l0"): v for name, v in stack.state_dict().items() if f"_l{n}" in name})
        layers.append(layer)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    for training in (True, False):
        torch.manual_seed(0)
        y, _ = stack.train(training)(x)
        torch.manual_seed(0)
        near(y, layers[1](torch.nn.functional.dropout(layers[0](x)[0], 0.5, training))[0])


@pytest.mark.parametrize("base", VENDOR)
def test_state_dicts_go_both_ways(base):
    options = dict(num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 6, 3)
    ours, theirs = Recurrent(CellSpec(base), 3, 5, **options), VENDOR[base](3, 5, **options)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-6, atol=1e-6)
    ours, theirs = Recurrent(CellSpec(base), 3, 5, **options), VENDOR[base](3, 5, **options)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@by_name
def test_cuda_gives_what_the_cpu_gives(spec):
    """In float64, where no TF32 comes in. Made there, and moved there; whole, packed, and going on from a state of the CPU."""
    layer = Recurrent(spec, 3, 4, 2, bidirectional=True, init="torch", dtype=torch.float64)
    there = Recurrent(spec, 3, 4, 2, bidirectional=True, init="torch", dtype=torch.float64, device="cuda")
    there.load_state_dict(layer.state_dict())
    assert all(p.is_cuda for p in [*there.parameters(), *there.buffers()])
    x = torch.randn(7, 3, 3, dtype=torch.float64)
    packed = pack_padded_sequence(x, [4, 7, 2], enforce_sorted=False)
    with torch.no_grad():  # parameters must not be reached through the given state
        _, start = layer(packed)
    if isinstance(start, State):
        moved = start.map(torch.Tensor.cuda)
    else:
        moved = tuple(s.cuda() for s in start) if isinstance(start, tuple) else start.cuda()
    for module in (there, copy.deepcopy(layer).cuda()):
        for given_x, ours, theirs in ((x, None, None), (packed, None, None), (x, moved, start), (packed, moved, start)):
            (y, state), (y2, state2) = module(given_x.to("cuda"), ours), layer(given_x, theirs)
            rows, rows2 = (p.data if isinstance(p, PackedSequence) else p for p in (y, y2))
            near(rows.cpu(), rows2, 1e-9)
            for mine, their in zip(tensors(state), tensors(state2), strict=True):
                near(mine.cpu(), their, 1e-9)
            grads = torch.autograd.grad(rows.square().sum(), list(module.parameters()))
            for mine, their in zip(grads, torch.autograd.grad(rows2.square().sum(), list(layer.parameters())), strict=True):
                near(mine.cpu(), their, 1e-8)


# --- States ---


@by_name
def test_given_states_and_their_gradients_equal_the_references(spec):
    """The cell's part and the rule's; scheduled rules go on at step t + 1."""
    layer = Recurrent(spec, 3, 4, 2, bidirectional=True, init="torch", dtype=torch.float64)
    _, like = layer(torch.randn(1, 2, 3, dtype=torch.float64))
    leaves = [torch.rand_like(s).requires_grad_() for s in tensors(like)]
    count = layer._base.states
    cell = tuple(leaves[:count]) if count > 1 else leaves[0]
    hx = State(leaves[:count], leaves[count:], 3) if isinstance(like, State) else cell
    x = torch.randn(40, 2, 3, dtype=torch.float64)  # more steps than a chunk of the scan
    results = []
    for path in (layer, layer.reference()):
        y, state = path(x, hx)
        total = sum(part.square().sum() for part in [y, *tensors(state)])
        results.append([y, *tensors(state), *torch.autograd.grad(total, [*leaves, *layer.parameters()])])
        assert not isinstance(state, State) or state.t == 43
    for ours, theirs in zip(*results, strict=True):
        near(ours, theirs, 1e-9)


@pytest.mark.parametrize("base", VENDOR)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_given_states_as_torchs(base, batched, both):
    theirs = VENDOR[base](3, 5, 2, bidirectional=both)
    ours = Recurrent(CellSpec(base), 3, 5, 2, bidirectional=both)
    ours.load_state_dict(theirs.state_dict())
    x, shape = (torch.randn(6, 2, 3), (4 if both else 2, 2, 5)) if batched else (torch.randn(6, 3), (4 if both else 2, 5))
    hx = (torch.randn(shape), torch.randn(shape)) if base == "lstm" else torch.randn(shape)
    (y, state), (y2, state2) = ours(x, hx), theirs(x, hx)
    assert type(state) is type(state2)
    torch.testing.assert_close([y, *tensors(state)], [y2, *tensors(state2)], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours(x, None)[0], theirs(x, None)[0], rtol=1e-6, atol=1e-6)


def test_an_empty_batch_passes():
    for spec in ONE_OF_EACH:
        layer = Recurrent(spec, 3, 4, 2)
        assert layer(torch.zeros(5, 0, 3))[0].shape == (5, 0, 4)


def test_a_plain_state_starts_a_rule_from_rest():
    layer = Recurrent(preset("momentum_lstm"), 3, 4)
    x, h, c = torch.randn(6, 2, 3), torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    _, state = layer(x, (h, c))
    _, state2 = layer(x, State((h, c), [torch.zeros(1, 2, 16)], 0))
    assert state.t == 6
    torch.testing.assert_close(tensors(state), tensors(state2))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda s: pickle.loads(pickle.dumps(s)), lambda s: s.map(torch.clone)])
def test_states_copy_with_the_rules_part(duplicate):
    layer = Recurrent(preset("adam_lstm"), 3, 4)
    with torch.no_grad():
        _, state = layer(torch.randn(5, 2, 3))
    twin = duplicate(state)
    assert type(twin) is State and twin.t == 5
    for ours, theirs in zip(tensors(twin), tensors(state), strict=True):
        assert torch.equal(ours, theirs)


def test_detached_states_cut_the_history():
    layer = Recurrent(preset("adam_lstm"), 3, 4)
    _, state = layer(torch.randn(5, 2, 3))
    cut = state.detach()
    assert cut.t == 5 and not any(s.requires_grad for s in tensors(cut)) and all(s.requires_grad for s in tensors(state))


ZEROS = torch.zeros(1, 2, 4)


@pytest.mark.parametrize(
    ("name", "x", "hx", "words"),
    [
        ("lstm", torch.zeros(5, 2, 3), ZEROS, r"state has shapes \[\(1, 2, 4\)\], allowed: 2 of \(1, 2, 4\)"),
        ("gru", torch.zeros(5, 2, 3), (ZEROS, ZEROS), r"allowed: 1 of \(1, 2, 4\)"),
        ("lstm", torch.zeros(5, 3), (ZEROS, ZEROS), r"allowed: 2 of \(1, 4\), as the input has no batch dimension"),
        ("lstm", torch.zeros(5, 2, 3), (ZEROS, None), "state has a NoneType in it, allowed: tensors"),
        ("gru", torch.zeros(5, 2, 3), "zeros", "state has a str in it, allowed: tensors"),
        ("gru", torch.zeros(5, 2, 3), ZEROS.double(), r"state has dtypes \['torch.float64'\], allowed: the input's, torch.float32"),
        ("gru", torch.zeros(5, 2, 3).double(), None, "input has dtype torch.float64, allowed: the layer's, torch.float32"),
        ("momentum_lstm", torch.zeros(5, 2, 3), State((ZEROS, ZEROS), [ZEROS], 0), r"rule state has shapes .* 1 of \(1, 2, 16\)"),
        ("lstm", torch.zeros(5, 2, 3), State((ZEROS, ZEROS), [ZEROS], 0), "rule state has shapes .* allowed: 0 of"),
        (
            "momentum_lstm",
            torch.zeros(5, 2, 3),
            State((ZEROS, ZEROS), [torch.zeros(1, 2, 16)], torch.tensor([1, 2, 3])),
            r"state.t has shape \(3,\), allowed: an int, or \(2,\)",
        ),
        ("lstm", pack_sequence([torch.zeros(3, 2)]), None, r"input has shape \(3, 2\), allowed: \(N, 3\) in a PackedSequence"),
        ("lstm", pack_sequence([torch.zeros(3)]), None, r"input has shape \(3,\), allowed: \(N, 3\) in a PackedSequence"),
        ("lstm", pack_sequence([torch.zeros(3, 3)]), (ZEROS, ZEROS), r"allowed: 2 of \(1, 1, 4\)"),
    ],
)
def test_errors_say_what_is_allowed(name, x, hx, words):
    with pytest.raises(SpecError, match=words):
        Recurrent(preset(name), 3, 4)(x, hx)


@pytest.mark.parametrize("base", ["lstm", "orthogonal"])
@pytest.mark.parametrize("rule", ["m(mu) / sqrt(n(0.99) + 1e-8)", "u + 0.5 * r"])
def test_a_layer_whose_rule_is_a_formula_is_pickled(base, rule):
    layer = Recurrent(CellSpec(base, rule), 3, 4, 2)
    x = torch.randn(5, 2, 3)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    for twin in (pickle.loads(pickle.dumps(layer)), torch.load(buffer, weights_only=False), copy.deepcopy(layer)):
        assert torch.equal(twin(x)[0], layer(x)[0]) and twin.spec == layer.spec


def test_what_is_no_spec_is_refused():
    with pytest.raises(SpecError, match="spec = 'momentum_lstm', allowed: a CellSpec"):
        Recurrent("momentum_lstm", 3, 4)


@pytest.mark.parametrize("learned", [[], ["mu"], {"mu": "unit"}, {"mu": "input"}])
@pytest.mark.parametrize("rule", ["abs(u)^mu", "sqrt(abs(u)) * mu", "abs(u)^0.5 * mu", "n(mu)^0.5"])
@pytest.mark.parametrize("execution", ["reference", "loop"])
def test_gradients_of_powers_are_finite_at_a_drive_of_zero(rule, learned, execution):
    layer = Recurrent(CellSpec("rnn", rule, {"mu": 0.6}, learned), 3, 4, bias=False, execution=execution)
    layer(torch.zeros(5, 2, 3))[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    "rule",
    ["u / (t - 1)", "u * exp(exp(3 * t))", "u * (0.5 - t)^0.5", "u * log(t - 1)", "u * 0^(1 - t)", "u + t^t^t^t * 0", "u / (cycle(2) - 1)"],
)
@pytest.mark.parametrize("scope", ["drive", "preactivation", "hidden"])
def test_numbers_overflow_as_tensors_do(rule, scope):
    x = torch.randn(6, 2, 3)
    layer = Recurrent(CellSpec("rnn", rule, scope=scope), 3, 4, execution="loop")
    assert torch.equal(layer(x)[0].isfinite(), layer.reference()(x)[0].isfinite())


@pytest.mark.parametrize("scope", ["drive", "hidden"])
@pytest.mark.parametrize("rule", ["plain", "adam", "nesterov", "u * 2 + tanh(m(0.9))"])
@pytest.mark.parametrize("execution", ["loop", "reference"])
def test_a_layer_is_one_graph(rule, scope, execution):
    layer = Recurrent(CellSpec("rnn", rule, scope=scope), 3, 4, execution=execution)
    x = torch.randn(3, 2, 3)
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(layer, backend="eager", fullgraph=True)(x)[0], layer(x)[0], atol=1e-6)


def test_coefficients_of_the_input_are_float32_under_autocast():
    """In bfloat16 beta = 0.999 would be 1, and 1 - beta^t nothing."""
    layer = Recurrent(CellSpec("rnn", "adam_corrected", learned={"beta": "input"}, options={"activation": "relu"}), 3, 4, execution="loop")
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    assert torch.allclose(y.float(), layer(x)[0], atol=0.2)


@pytest.mark.parametrize("spec", [CellSpec("gru", "adam"), CellSpec("lstm", "heavy_ball"), CellSpec("mgu", "lion", scope="hidden")])
def test_shapes_can_be_asked_on_the_meta_device(spec):
    assert Recurrent(spec, 3, 4, device="meta")(torch.zeros(5, 2, 3, device="meta"))[0].shape == (5, 2, 4)
