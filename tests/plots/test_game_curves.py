"""The curves of a game are those of its rows; a history of bounds has none."""

import math

import numpy as np

from elboscope.plots import game_curves_data, plot_game_curves, training_curves_data

ROWS = [
    {"epoch": 1.0, "generator_loss": 2.0, "data_loss": 1.5, "data_accuracy": 0.7},
    {"epoch": 2.0, "generator_loss": math.nan, "data_loss": 1.4, "data_accuracy": 0.6},
]


def test_data_are_the_columns() -> None:
    data = game_curves_data(ROWS)
    assert data is not None
    assert data.epoch.tolist() == [1.0, 2.0]
    assert list(data.losses) == ["generator", "data"]
    assert np.array_equal(data.losses["generator"], [2.0, math.nan], equal_nan=True)
    assert {name: a.tolist() for name, a in data.accuracies.items()} == {"data": [0.7, 0.6]}
    assert training_curves_data(ROWS) is None  # no bound is drawn where none was measured


def test_bounds_are_no_game() -> None:
    assert game_curves_data([{"epoch": 1.0, "train_bound": -3.0, "loss": 3.0}]) is None
    assert game_curves_data(()) is None


def test_one_line_a_player_and_an_adversary() -> None:
    data = game_curves_data(ROWS)
    assert data is not None
    losses, accuracies = plot_game_curves(data).axes
    assert [line.get_label() for line in losses.get_lines()] == ["generator", "data"]
    drawn = [list(line.get_ydata()) for line in accuracies.get_lines()]
    assert [0.7, 0.6] in drawn
    assert accuracies.get_ylim() == (0.0, 1.0)
