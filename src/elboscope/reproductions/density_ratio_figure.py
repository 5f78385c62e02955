"""Figures of the synthetic density ratios, against training steps.

The error of an estimate is drawn as a share of the true KL, so that all dimensions fit on one axis:
−1 says that nothing was seen. Lines are means over seeds, bands one standard deviation; of the
logarithm, where a divergence falls over several decades.
"""

from __future__ import annotations

__all__ = ["Curve", "curve", "plot_errors", "plot_learning"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, RED, blank, legend_above

from .density_ratio_runs import Look, Rows

COLOURS = (BLUE, ORANGE, GREEN, RED)


class Curve(NamedTuple):
    """Mean and standard deviation over seeds, by step."""

    step: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def curve(runs: Sequence[Rows], value: Callable[[Look], float]) -> Curve:
    """Returns a value against steps, as far as all runs came.

    Args:
        runs: The rows of each seed.
        value: Of a row.

    Example:
        >>> runs = [[{"step": 1, "kl": 2.0}], [{"step": 1, "kl": 4.0}]]
        >>> curve(runs, lambda row: row["kl"]).mean.tolist()
        [3.0]
    """
    together = list(zip(*runs, strict=False))
    values = np.array([[value(row) for row in rows] for rows in together])
    steps = np.array([float(rows[0]["step"]) for rows in together])
    sd = values.std(1, ddof=1) if len(runs) > 1 else np.zeros(len(values))
    return Curve(steps, values.mean(1), sd)


def plot_errors(estimated: Mapping[int, Sequence[Rows]]) -> Figure:
    """Draws (estimate − KL)/KL of each dimension, and that of the bound with the same critic.

    Args:
        estimated: The rows of each seed, by dimension; of one regime.
    """
    figure, axes = blank(520, 300)
    for (n, runs), colour in zip(estimated.items(), COLOURS, strict=False):
        error = curve(runs, lambda row: row["error"] / row["kl"])
        _band(axes, error, colour, f"n = {n}")
        bound = curve(runs, lambda row: (row["dv"] - row["kl"]) / row["kl"])
        axes.plot(bound.step, bound.mean, color=colour, lw=1, ls=":")
    axes.plot([], [], color=GREY, lw=1, ls=":", label="Donsker–Varadhan bound")
    axes.axhline(0, color=GREY, lw=1)
    axes.set_xscale("log")
    axes.set_xlabel("steps of the classifier")
    axes.set_ylabel("(estimate − KL) / KL")
    legend_above(figure, axes, columns=3)
    return figure


def plot_learning(learned: Mapping[int, Sequence[Rows]]) -> Figure:
    """Draws the true KL(q‖p) of each dimension while q is learned, and the online estimate.

    An estimate below zero has no place on the axis.

    Args:
        learned: The rows of each seed, by dimension; of one start.
    """
    figure, axes = blank(520, 300)
    for (n, runs), colour in zip(learned.items(), COLOURS, strict=False):
        found = curve(runs, lambda row: math.log(row["reverse"]))
        _band(axes, found, colour, f"n = {n}", scale=np.exp)
        online = curve(runs, lambda row: row["estimate"])
        axes.plot(online.step, online.mean, color=colour, lw=1, ls=":")
    axes.plot([], [], color=GREY, lw=1, ls=":", label="estimate −E_q[T]")
    axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel("steps of each player")
    axes.set_ylabel("KL(q‖p), nats")
    legend_above(figure, axes, columns=3)
    return figure


def _band(
    axes: Axes,
    values: Curve,
    colour: str,
    label: str,
    scale: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.asarray,
) -> None:
    low, high = scale(values.mean - values.sd), scale(values.mean + values.sd)
    axes.fill_between(values.step, low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(values.step, scale(values.mean), color=colour, lw=1.6, label=label)
