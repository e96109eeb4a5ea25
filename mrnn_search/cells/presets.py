"""Named cells: the plain ones, the paper's, and the controls they must be compared with. Arguments have the paper's defaults."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

from .._registry import Registry
from . import bases as _bases  # noqa: F401  registers the built-ins, so that this module works on its own
from . import rules as _rules  # noqa: F401
from .spec import CellSpec

Preset = Callable[..., CellSpec]
_presets: Registry[Preset] = Registry("preset", "mrnn_search.presets")


def preset(name: str, **arguments: float | str | None) -> CellSpec:
    """The cell known as ``name``, e.g. ``preset("momentum_lstm", mu=0.6, epsilon=0.6)``.

    Raises:
        UnknownNameError: unknown name or argument.
        SpecError: a value outside its range.
    """
    from .._registry import UnknownNameError

    make = _presets[name]
    allowed = inspect.signature(make).parameters
    for key in arguments:
        if key not in allowed:
            raise UnknownNameError(f'argument of preset "{name}"', key, allowed)
    return make(**arguments)


def arguments(name: str) -> dict[str, float | str | None]:
    """The arguments of a preset and their defaults."""
    return {key: argument.default for key, argument in inspect.signature(_presets[name]).parameters.items()}


def presets() -> dict[str, str]:
    """Name -> one line on what it is."""
    return {name: (inspect.getdoc(_presets[name]) or "").splitlines()[0].replace("``", "") for name in _presets}


@_presets.register("rnn")
def rnn() -> CellSpec:
    """torch.nn.RNN (tanh)."""
    return CellSpec("rnn")


@_presets.register("lstm")
def lstm() -> CellSpec:
    """torch.nn.LSTM."""
    return CellSpec("lstm")


@_presets.register("gru")
def gru() -> CellSpec:
    """torch.nn.GRU."""
    return CellSpec("gru")


@_presets.register("exprnn")
def exprnn() -> CellSpec:
    """Orthogonal recurrence, static exponential map, modReLU (expRNN)."""
    return CellSpec("orthogonal")


@_presets.register("momentum_rnn")
def momentum_rnn(mu: float = 0.6, epsilon: float = 0.6) -> CellSpec:
    """MomentumRNN: heavy ball on the drive of a tanh RNN."""
    return CellSpec("rnn", "heavy_ball", {"mu": mu, "epsilon": epsilon})


@_presets.register("momentum_lstm")
def momentum_lstm(mu: float = 0.6, epsilon: float = 0.6) -> CellSpec:
    """MomentumLSTM: heavy ball on the drive of an LSTM."""
    return CellSpec("lstm", "heavy_ball", {"mu": mu, "epsilon": epsilon})


@_presets.register("momentum_gru")
def momentum_gru(mu: float = 0.6, epsilon: float = 0.6) -> CellSpec:
    """MomentumGRU: heavy ball on the drive of a GRU."""
    return CellSpec("gru", "heavy_ball", {"mu": mu, "epsilon": epsilon})


@_presets.register("rmsprop_lstm")
def rmsprop_lstm(epsilon: float = 0.6, beta: float = 0.9) -> CellSpec:
    """RMSPropLSTM, as released."""
    return CellSpec("lstm", "rmsprop", {"epsilon": epsilon, "beta": beta})


@_presets.register("adam_lstm")
def adam_lstm(mu: float = 0.6, epsilon: float = 0.6, beta: float = 0.1) -> CellSpec:
    """AdamLSTM, as released."""
    return CellSpec("lstm", "adam", {"mu": mu, "epsilon": epsilon, "beta": beta})


@_presets.register("nesterov_lstm")
def nesterov_lstm(epsilon: float = 1.0, restart: int = 2) -> CellSpec:
    """SRLSTM: Nesterov with scheduled restart on the drive, the paper's form."""
    return CellSpec("lstm", "nesterov", {"epsilon": epsilon, "restart": restart})


@_presets.register("nesterov_lstm_released")
def nesterov_lstm_released(epsilon: float = 1.0, restart: int = 2) -> CellSpec:
    """SRLSTM as in the authors' code for MNIST and TIMIT: Nesterov on the pre-activation, the drive's sign turned."""
    return CellSpec("lstm", "nesterov_released", {"epsilon": epsilon, "restart": restart})


@_presets.register("input_gain_lstm")
def input_gain_lstm(epsilon: float = 0.6) -> CellSpec:
    """Control: an LSTM with its drive scaled by epsilon, no momentum."""
    return CellSpec("lstm", "heavy_ball", {"mu": 0.0, "epsilon": epsilon})


@_presets.register("ema_lstm")
def ema_lstm(mu: float = 0.6) -> CellSpec:
    """Control: momentum at gain 1 (epsilon = 1 - mu), so that only memory changes."""
    mu = CellSpec("lstm", "ema", {"mu": mu}).coefficients["mu"]  # checked before it is computed with
    return CellSpec("lstm", "heavy_ball", {"mu": mu, "epsilon": 1 - mu})


@_presets.register("bias_matched_lstm")
def bias_matched_lstm(mu: float = 0.6, epsilon: float = 0.6) -> CellSpec:
    """Control: a plain LSTM with the initial forget bias that momentum_lstm(mu, epsilon) settles at (init="paper")."""
    from .controls import matched_forget_bias

    matched = matched_forget_bias(momentum_lstm(mu, epsilon))
    return CellSpec("lstm", options={"forget_bias": f"{matched:.12g}"})


# The orthogonal cells, with the released recipes' defaults. K = 1 is that of the smallest, PMNIST with 170 units (mu = 0.6,
# epsilon = 0.9); those with 360 and 512 units have K = "infty", here "once": around the initial matrix, and not again. The
# coefficients of the rmsprop, adam and nesterov cells are those of 512 units, the only ones there are (file names of the
# authors' curves); their K is not on record, and so is 1 as for the others, that a comparison differ in the rule alone.
Rebase = int | float | str | None


def _dtriv(rule: str, coefficients: dict[str, float], rebase: Rebase) -> CellSpec:
    """``rebase``: K, "once" or "never"; None and infinity mean "never"."""
    often = "never" if rebase is None or rebase == math.inf else rebase
    return CellSpec("orthogonal", rule, coefficients, options={"rebase": often})


@_presets.register("dtriv")
def dtriv(rebase: Rebase = 1) -> CellSpec:
    """DTRIV: orthogonal recurrence, exponential map re-centred every ``rebase`` optimizer steps, modReLU."""
    return _dtriv("plain", {}, rebase)


@_presets.register("momentum_dtriv")
def momentum_dtriv(mu: float = 0.6, epsilon: float = 0.9, rebase: Rebase = 1) -> CellSpec:
    """MomentumDTRIV: heavy ball on the drive of DTRIV."""
    return _dtriv("heavy_ball", {"mu": mu, "epsilon": epsilon}, rebase)


@_presets.register("rmsprop_dtriv")
def rmsprop_dtriv(epsilon: float = 0.3, beta: float = 0.9, rebase: Rebase = 1) -> CellSpec:
    """RMSPropDTRIV, as released."""
    return _dtriv("rmsprop", {"epsilon": epsilon, "beta": beta}, rebase)


@_presets.register("adam_dtriv")
def adam_dtriv(mu: float = 0.3, epsilon: float = 0.3, beta: float = 0.8, rebase: Rebase = 1) -> CellSpec:
    """AdamDTRIV, as released."""
    return _dtriv("adam", {"mu": mu, "epsilon": epsilon, "beta": beta}, rebase)


@_presets.register("nesterov_dtriv")
def nesterov_dtriv(epsilon: float = 0.3, restart: int = 2, rebase: Rebase = 1) -> CellSpec:
    """SRDTRIV: Nesterov with scheduled restart on the drive of DTRIV."""
    return _dtriv("nesterov", {"epsilon": epsilon, "restart": restart}, rebase)
