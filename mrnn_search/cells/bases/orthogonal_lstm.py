"""An LSTM whose four recurrent matrices are orthogonal."""

from .base import bases
from .lstm import LSTM
from .orthogonal import Rotations


@bases.register("orthogonal_lstm")
class OrthogonalLSTM(Rotations, LSTM):
    """The lstm with ``U_i, U_f, U_g, U_o`` orthogonal, each the map of a matrix of its own; biases as lstm.

    Options: see `Rotations`.

    No gate's pre-activation can then grow with the recurrent weights: ``|U h| = |h| < sqrt(H)``. The recurrence as a whole is
    not norm-preserving, as sigmoid and tanh are not.

    No paper known to us constrains all four. In the gated orthogonal recurrent unit (GORU: Jing et al., arXiv 1706.02761) it is the
    candidate's matrix only, in a GRU-like cell with modReLU for tanh; in the complex gated RNN (Wolter and Yao, NeurIPS 2018,
    arXiv 1806.08267) the state transition, unitary; in NC-GRU (Mucllari et al., arXiv 2208.06496) the candidate's, or the
    candidate's and the reset gate's, of a GRU. All leave the other gates free.
    """

    options = {**Rotations.options, **LSTM.options}
    later_options = Rotations.later_options | LSTM.later_options
    equations = (
        *LSTM.equations,
        "U = [U_i, U_f, U_g, U_o], each orthogonal:",
        "expm(A - A^T), the Cayley transform of A - A^T, or a product of Householder reflections",
    )
    source = (
        "ours, after Jing et al., Gated orthogonal recurrent units, arXiv 1706.02761, where the candidate's matrix alone is"
        f" orthogonal, in a GRU-like cell; lstm: {LSTM.source}"
    )
