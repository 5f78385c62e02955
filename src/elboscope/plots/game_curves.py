r"""How a game went: the players' losses, and what their adversaries could still tell apart.

Losses of a game have no common scale and no best value: a steady generator's loss is no sign of
convergence. The accuracy of an adversary is easier to read. At ½ it sees no difference, whether
there is none or it is too weak; at 1 its ratio is beyond its means and teaches little.
"""

from __future__ import annotations

__all__ = ["GameCurves", "game_curves_data", "plot_game_curves"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .style import BLUE, GREY, ORANGE, RED, blank, legend_above

COLOURS = (BLUE, ORANGE, GREY, RED)
LOSS, ACCURACY = "_loss", "_accuracy"


@dataclass(frozen=True, eq=False)
class GameCurves:
    """What is drawn, by player; NaN where nothing was measured.

    Attributes:
        epoch: The abscissa.
        losses: Of each player.
        accuracies: Of each adversary that tells a ratio.
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
    losses = {n.removesuffix(LOSS): _column(history, n) for n in names if n.endswith(LOSS)}
    found = {n.removesuffix(ACCURACY): _column(history, n) for n in names if n.endswith(ACCURACY)}
    if not losses:
        return None
    return GameCurves(_column(history, "epoch"), losses, found)


def _column(history: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64]:
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
