"""The objective during training, and the ELBO of held-out data beside it.

The training curve is the mean over an epoch in which the parameters moved, and at a weight other
than one it is not a bound; the held-out curve is the ELBO at β = 1. Only the latter is compared
with anything.
"""

from __future__ import annotations

__all__ = [
    "GameCurves",
    "TrainingCurves",
    "game_curves_data",
    "plot_game_curves",
    "plot_training_curves",
    "training_curves_data",
]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .style import BLUE, GREY, ORANGE, RED, blank, legend_above

# What the columns of metrics.csv are called, by this library and by others.
_TRAIN = ("train_bound", "train_elbo")
_HELD_OUT = ("validation_elbo", "valid_elbo", "val_elbo")


@dataclass(frozen=True, eq=False)
class TrainingCurves:
    """What is drawn: nats against epochs (or steps, or rows), NaN where nothing was measured.

    Attributes:
        axis: What the abscissa counts.
        at: The abscissa, one entry a row of the history.
        train: The objective's value on the training data; NaN where missing or not finite.
        held_out: The ELBO of held-out data.
        diverged_at: The first abscissa at which either was NaN or infinite in the history.
    """

    axis: str
    at: NDArray[np.float64]
    train: NDArray[np.float64]
    held_out: NDArray[np.float64]
    diverged_at: float | None


def training_curves_data(history: Sequence[Mapping[str, float]]) -> TrainingCurves | None:
    """Returns the curves of a training history, or None if it holds none.

    Args:
        history: Rows of ``metrics.csv``: ``epoch`` or ``step``, ``train_bound``,
            ``validation_elbo``.

    Example:
        >>> rows = [{"epoch": 1.0, "train_bound": -3.0}, {"epoch": 2.0, "train_bound": -2.0}]
        >>> training_curves_data(rows).train.tolist()
        [-3.0, -2.0]
    """
    train, held_out = _column(history, _TRAIN), _column(history, _HELD_OUT)
    if not (np.isfinite(train).any() or np.isfinite(held_out).any()):
        return None
    axis = next((key for key in ("epoch", "step") if history and key in history[0]), "row")
    at = np.array([float(row.get(axis, i)) for i, row in enumerate(history)])
    infinite = [x for x, row in zip(at, history, strict=True) if _diverged(row)]
    train, held_out = (np.where(np.isfinite(c), c, np.nan) for c in (train, held_out))
    return TrainingCurves(axis, at, train, held_out, float(infinite[0]) if infinite else None)


def _column(history: Sequence[Mapping[str, float]], names: tuple[str, ...]) -> NDArray[np.float64]:
    name = next((n for n in names if any(n in row for row in history)), names[0])
    return np.array([float(row.get(name, math.nan)) for row in history], dtype=np.float64)


def _diverged(row: Mapping[str, float]) -> bool:
    """A held-out value may be missing (NaN in the file); a training value may not."""
    train = [row[name] for name in (*_TRAIN, "loss") if name in row]
    held_out = [row[name] for name in _HELD_OUT if name in row]
    return not all(map(math.isfinite, train)) or any(map(math.isinf, held_out))


def plot_training_curves(data: TrainingCurves) -> Figure:
    """Draws the curves; divergence is a red line.

    Example:
        >>> rows = [{"epoch": 1.0, "train_bound": -3.0}, {"epoch": 2.0, "train_bound": -2.0}]
        >>> len(plot_training_curves(training_curves_data(rows)).axes)
        1
    """
    figure, axes = blank()
    few = len(data.at) < 30
    for curve, colour, label in (
        (data.train, BLUE, "training objective"),
        (data.held_out, ORANGE, "held-out ELBO"),
    ):
        known = np.isfinite(curve)
        if known.any():
            style = "o-" if few else "-"
            at = data.at[known]
            axes.plot(at, curve[known], style, ms=3, lw=1.6, color=colour, label=label)
    if data.diverged_at is not None:
        axes.axvline(data.diverged_at, color=RED, lw=1.4, ls="--", label="not finite")
    axes.set_xlabel(data.axis)
    axes.set_ylabel("nats per datapoint")
    axes.margins(x=0.02)
    axes.grid(axis="x", visible=False)
    axes.spines["left"].set_color(GREY)
    legend_above(figure, axes, columns=3)
    return figure


# How a game went: the players' losses, and what their adversaries could still tell apart.
#
# Losses of a game have no common scale and no best value: a steady generator's loss is no sign of
# convergence. The accuracy of an adversary is easier to read. At ½ it sees no difference, whether
# there is none or it is too weak; at 1 its ratio is beyond its means and teaches little.

COLOURS = (BLUE, ORANGE, GREY, RED)
LOSS, ACCURACY = "_loss", "_accuracy"


@dataclass(frozen=True, eq=False)
class GameCurves:
    """What is drawn, by player; NaN where nothing was measured.

    Attributes:
        epoch: The abscissa.
        losses: Each player's loss.
        accuracies: The accuracy of each adversary whose logit estimates a density ratio.
    """

    epoch: NDArray[np.float64]
    losses: Mapping[str, NDArray[np.float64]]
    accuracies: Mapping[str, NDArray[np.float64]]


def game_curves_data(history: Sequence[Mapping[str, float]]) -> GameCurves | None:
    """Returns the curves of a game's history, or None where no game was played.

    Args:
        history: Rows of ``metrics.csv``.

    Example:
        >>> rows = [{"epoch": 1.0, "data_loss": 1.4, "data_accuracy": 0.6}]
        >>> game_curves_data(rows).accuracies
        {'data': array([0.6])}
    """
    names = dict.fromkeys(name for row in history for name in row)
    losses = {n.removesuffix(LOSS): _named_column(history, n) for n in names if n.endswith(LOSS)}
    found = {
        n.removesuffix(ACCURACY): _named_column(history, n) for n in names if n.endswith(ACCURACY)
    }
    if not losses:
        return None
    return GameCurves(_named_column(history, "epoch"), losses, found)


def _named_column(history: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64]:
    values = np.array([float(row.get(name, math.nan)) for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def plot_game_curves(data: GameCurves) -> Figure:
    """Draws losses as lines, and accuracies dashed on an axis of their own from 0 to 1.

    Example:
        >>> rows = [{"epoch": 1.0, "data_loss": 1.4, "data_accuracy": 0.6}]
        >>> len(plot_game_curves(game_curves_data(rows)).axes)
        2
    """
    figure, axes = blank()
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(data.losses)}
    style = "o-" if len(data.epoch) < 30 else "-"
    for name, values in data.losses.items():
        axes.plot(data.epoch, values, style, ms=3, lw=1.4, color=colours[name], label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss of the player")
    axes.margins(x=0.02)
    axes.grid(axis="x", visible=False)
    if data.accuracies:
        right = axes.twinx()
        right.set_ylim(0, 1)
        right.set_ylabel("accuracy (dashed)")
        right.grid(visible=False)
        right.spines[:].set_visible(False)
        right.tick_params(colors=GREY)
        right.axhline(0.5, color=GREY, lw=0.8, ls=":")
        for name, values in data.accuracies.items():
            right.plot(data.epoch, values, "--", lw=1.2, color=colours.get(name, GREY))
    legend_above(figure, axes, columns=4)
    return figure
