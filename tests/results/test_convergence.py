"""Epochs and seconds to a threshold, and the mean of a curve, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrnn_search.results.convergence import Convergence, best_so_far, convergence, final

VALUES = np.array([[0.2, 0.6, 0.5, 0.9], [0.4, 0.4, 0.7, 0.6]])
SECONDS = np.array([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]])


def test_the_mean_of_the_best_so_far_has_to_get_there() -> None:
    assert best_so_far(VALUES, "maximize") == pytest.approx([0.3, 0.5, 0.65, 0.8])
    assert convergence(VALUES, SECONDS, 0.5, "maximize") == Convergence(2, 5.0, pytest.approx(VALUES.mean()))
    assert convergence(VALUES, SECONDS, 0.2, "maximize").epochs == 1
    never = convergence(VALUES, SECONDS, 0.81, "maximize")
    assert never.epochs is None and math.isnan(never.seconds) and never.curve_mean == pytest.approx(VALUES.mean())


def test_less_is_better() -> None:
    assert convergence(-VALUES, SECONDS, -0.5, "minimize") == Convergence(2, 5.0, pytest.approx(-VALUES.mean()))
    assert best_so_far(VALUES, "minimize") == pytest.approx([0.3, 0.3, 0.3, 0.3])


def test_a_cell_reaches_its_own_end_and_no_threshold_is_never_reached() -> None:
    for direction in ("maximize", "minimize"):
        reached = convergence(VALUES, SECONDS, final(VALUES, direction), direction)
        assert reached.epochs == (4 if direction == "maximize" else 1)
        assert convergence(VALUES, SECONDS, math.nan, direction).epochs is None


def test_without_epochs_there_is_nothing() -> None:
    empty = np.zeros((2, 0))
    assert math.isnan(final(empty, "maximize"))
    found = convergence(empty, empty, 0.5, "maximize")
    assert found.epochs is None and math.isnan(found.seconds) and math.isnan(found.curve_mean)
