"""How the gradient of the loss fades over time at initialisation, for h, v and x apart, as momentum grows.

    python analysis/01_gradient_norms.py --output gradient_norms.html

Nothing is trained: a MomentumLSTM as a training on digits-rows finds it before its first update, on that training's first
batch; the loss reads the last step alone. Printed is ‖∂L/∂·_t‖ at t = 1 over that at t = T (batch means; median over seeds,
and the range), once with the same epsilon for every mu, so that the gain epsilon / (1 - mu) grows with mu, and once with the
gain held at 1, so that mu changes the memory alone. 1 means that nothing fades. It says nothing about trained cells.

A 0 under dL/dh at t = 1 is exact with --init paper: there h reaches the input gate alone, whose gradient has the factor
tanh(g), and g is 0 while all rows so far are black, as a digit's first two mostly are. --init torch has no such zeros.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

import mrnn_search as ms
from mrnn_search.benchmarks import load_benchmark
from mrnn_search.engine.train import SequenceModel, derive_seed

MUS = (0.0, 0.3, 0.6, 0.9, 0.99, 0.999)
QUANTITIES = ("h", "v", "x")
Curves = dict[str, list[torch.Tensor]]  # quantity -> a curve (T,) a seed


def curves(mu: float, epsilon: float, options: argparse.Namespace) -> Curves:
    """Batch means of the three norms over time, for each seed."""
    benchmark = load_benchmark("digits-rows")
    x, y, _ = benchmark.train
    found: Curves = {name: [] for name in QUANTITIES}
    for seed in range(options.seeds):
        candidate = ms.Candidate(ms.preset("momentum_lstm", mu=mu, epsilon=epsilon), options.hidden, init=options.init)
        torch.manual_seed(derive_seed(seed, "init"))
        model = SequenceModel(candidate, benchmark.input_size, benchmark.output_size).double()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(derive_seed(seed, "order", 0)))
        rows = order[: options.batch]

        def loss(outputs: torch.Tensor, model: SequenceModel = model, labels: torch.Tensor = y[rows]) -> torch.Tensor:
            return benchmark.loss(model.readout(outputs[:, -1]), labels)

        mean = ms.gradient_norms(model.layer, x[rows].double(), loss).mean()
        for name in QUANTITIES:
            found[name].append(mean[name])
    return found


def cell(over_seeds: Sequence[torch.Tensor]) -> str:
    """First over last step: median [lowest, highest] over seeds."""
    ratios = [float(curve[0] / curve[-1]) for curve in over_seeds]
    return f"{statistics.median(ratios):8.2e} [{min(ratios):.1e}, {max(ratios):.1e}]"


def heat_maps(results: dict[str, list[Curves]], path: str, what: str) -> None:
    """One map a regime and quantity: time across, mu down, colour log10 of the norm (median over seeds)."""
    titles = [f"log10 ‖∂L/∂{name}<sub>t</sub>‖, {regime}" for regime in results for name in QUANTITIES]
    figure = make_subplots(rows=len(results), cols=len(QUANTITIES), subplot_titles=titles, horizontal_spacing=0.1)
    for row, by_mu in enumerate(results.values(), start=1):
        for column, name in enumerate(QUANTITIES, start=1):
            grid = torch.stack([torch.stack(found[name]).median(dim=0).values for found in by_mu]).log10()
            axes = figure.get_subplot(row, column)
            low, high = axes.yaxis.domain
            # Colours are each map's own: dL/dh, dL/dv and dL/dx have units of their own.
            place = dict(x=axes.xaxis.domain[1], y=(low + high) / 2, len=high - low, thickness=10)
            heat = go.Heatmap(z=grid.tolist(), x=list(range(1, grid.shape[1] + 1)), y=[f"μ {mu:g}" for mu in MUS], colorbar=place)
            figure.add_trace(heat, row=row, col=column)
            figure.update_xaxes(title_text="time step t", row=row, col=column)
    figure.update_layout(title=what, height=760)
    figure.write_html(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", default="./gradient_norms.html", help="where the heat maps go")
    parser.add_argument("--epsilon", type=float, default=0.6, help="of the rows at fixed epsilon")
    parser.add_argument("--init", choices=("paper", "torch"), default="paper")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    what = f"MomentumLSTM at initialisation ({options.init}), hidden {options.hidden}, first batch of {options.batch} of digits-rows"
    regimes = {
        f"fixed epsilon {options.epsilon:g}": [options.epsilon] * len(MUS),
        "fixed gain 1": [1 - mu for mu in MUS],
    }
    print(f"{what}; {options.seeds} seeds\nnorm at t = 1 over norm at t = T: median [lowest, highest]\n")
    results: dict[str, list[Curves]] = {}
    for regime, epsilons in regimes.items():
        print(f"{regime:<18} {'mu':>6} {'gain':>6}   " + "   ".join(f"{'dL/d' + name:<28}" for name in QUANTITIES))
        results[regime] = []
        for mu, epsilon in zip(MUS, epsilons, strict=True):
            found = curves(mu, epsilon, options)
            results[regime].append(found)
            gain = epsilon / (1 - mu)
            print(f"{'':<18} {mu:>6g} {gain:>6.4g}   " + "   ".join(f"{cell(found[name]):<28}" for name in QUANTITIES))
        print()
    heat_maps(results, options.output, what)
    print(f"heat maps in {options.output}")


if __name__ == "__main__":
    main()
