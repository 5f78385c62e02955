"""Where an encoder's nats go: from log p̂(x) down to L[q], step by step.

Every step is a paired difference over the same datapoints. Steps down to the best posterior of
the encoder's own family are the family's (approximation), the last one is the encoder's own
(amortisation). All is drawn below log p̂(x), so that training data stand beside evaluation data
whose likelihood is another.
"""

from __future__ import annotations

__all__ = [
    "Waterfall",
    "WaterfallSteps",
    "plot_waterfall",
    "waterfall_data",
]

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from elboscope.core import standard_error
from elboscope.estimators import InferenceGap

from .style import BLUE, GREY, INK, ORANGE, blank, legend_above

ERRORS = 2.0
# The families that contain the other: a step between two of them is a loss, but for errors.
_CONTAINS = {("full", "diagonal"), ("flow", "diagonal")}
_COLOURS = {"approximation": BLUE, "amortisation": ORANGE}
_PALE = 0.45


@dataclass(frozen=True, eq=False)
class WaterfallSteps:
    """The steps on one data set, from log p̂(x) down to L[q].

    Attributes:
        levels: Mean of each level in nats, log p̂(x) first, L[q] last.
        drops: Nats lost by each step; one fewer than levels.
        errors: Standard error of each drop, of the paired differences.
        log_px_error: Standard error of log p̂(x).
        num_data: Datapoints.
        left_out: Datapoints without a value, because their optimisation diverged.
    """

    levels: NDArray[np.float64]
    drops: NDArray[np.float64]
    errors: NDArray[np.float64]
    log_px_error: float
    num_data: int
    left_out: int


@dataclass(frozen=True, eq=False)
class Waterfall:
    """What is drawn.

    Attributes:
        labels: What each level is, ``"log p̂(x)"`` first.
        parts: Whose each step is: ``"approximation"`` or ``"amortisation"``.
        evaluation: The steps on evaluation data.
        train: The same steps on training data, or ``None``.
    """

    labels: tuple[str, ...]
    parts: tuple[str, ...]
    evaluation: WaterfallSteps
    train: WaterfallSteps | None


def waterfall_data(gap: InferenceGap | None) -> Waterfall | None:
    """Returns the levels and the paired steps between them.

    A richer family stands between log p̂(x) and the encoder's own only if it contains it: else
    it is not on the way.

    Args:
        gap: What :func:`elboscope.estimators.inference.gap` returned.
    """
    if gap is None or not len(gap.index):
        return None
    families = _families(gap)
    named = [f"L[q*], {family}" for family in families]
    train = gap.train
    if train is not None and not (len(train.index) and {*families} <= {*train.optimal_elbo}):
        train = None
    return Waterfall(
        ("log p̂(x)", *named, "L[q], encoder"),
        ("approximation",) * len(families) + ("amortisation",),
        _steps(gap, families),
        None if train is None else _steps(train, families),
    )


def _families(gap: InferenceGap) -> tuple[str, ...]:
    """The families on the way down, the richest first and the encoder's own last."""
    richer = [family for family in gap.optimal_elbo if (family, gap.family) in _CONTAINS]
    return (*sorted(richer, reverse=True)[-1:], gap.family)


def _steps(gap: InferenceGap, families: tuple[str, ...]) -> WaterfallSteps:
    bounds = (gap.log_px, *(gap.optimal_elbo[family] for family in families), gap.elbo)
    levels = [bound.values.double().cpu() for bound in bounds]
    drops = [above - below for above, below in pairwise(levels)]
    return WaterfallSteps(
        np.array([level.mean().item() for level in levels]),
        np.array([drop.mean().item() for drop in drops]),
        np.array([standard_error(drop) for drop in drops]),
        gap.log_px.stderr,
        len(gap.index),
        len(gap.diverged),
    )


def plot_waterfall(data: Waterfall) -> Figure:
    """Draws each step where the one above ended, with its nats and a bar of two errors.

    Example:
        >>> levels, drops = np.array([-5.0, -5.5, -7.0]), np.array([0.5, 1.5])
        >>> steps = WaterfallSteps(levels, drops, drops * 0 + 0.1, 0.3, 40, 0)
        >>> names = ("log p̂(x)", "L[q*], diagonal", "L[q], encoder")
        >>> data = Waterfall(names, ("approximation", "amortisation"), steps, None)
        >>> [text.get_text() for text in plot_waterfall(data).axes[0].texts][:3]
        ['−5.00 ± 0.30', '0.50 ± 0.10', '1.50 ± 0.10']
    """
    figure, axes = blank()
    sets = [data.evaluation] if data.train is None else [data.evaluation, data.train]
    places = np.arange(len(data.labels))[::-1]
    height = 0.62 / len(sets)
    for which, steps in enumerate(sets):
        centres = (places + (len(sets) - 1 - 2 * which) * height / 2).astype(np.float64)
        _bars(axes, data.parts, steps, centres, height, alpha=_PALE if which else 1.0)
    axes.set_yticks(places, data.labels)
    axes.set_ylim(-0.55, len(places) - 0.45)
    axes.axvline(0, color=GREY, lw=0.8)
    axes.margins(x=0.04)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("nats below log p̂(x)")
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.grid(axis="y", visible=False)
    _legend(figure, axes, data)
    return figure


def _below(steps: WaterfallSteps) -> NDArray[np.float64]:
    """Each level, from log p̂(x) = 0 downwards."""
    difference: NDArray[np.float64] = steps.levels - steps.levels[0]
    return difference


def _bars(
    axes: Axes,
    parts: tuple[str, ...],
    steps: WaterfallSteps,
    centres: NDArray[np.float64],
    height: float,
    *,
    alpha: float,
) -> None:
    below = _below(steps)
    _column(axes, centres[0], steps.levels[0], steps.log_px_error)
    rows = zip(parts, below, below[1:], steps.drops, steps.errors, centres[1:], strict=False)
    for part, start, end, drop, error, place in rows:
        axes.barh(place, end - start, 0.9 * height, left=start, color=_COLOURS[part], alpha=alpha)
        bar = ERRORS * np.nan_to_num(error)
        axes.errorbar(end, place, xerr=bar, color=INK, elinewidth=1.1, capsize=2)
        _column(axes, place, drop, error)


def _column(axes: Axes, place: float, value: float, error: float) -> None:
    """Numbers stand in a column of their own, where no bar can hide them."""
    text = f"{value:.2f} ± {error:.2f}".replace("-", "−")
    across = axes.get_yaxis_transform()
    axes.text(1.02, place, text, transform=across, va="center", color=INK, size=10.5)


def _legend(figure: Figure, axes: Axes, data: Waterfall) -> None:
    for part in dict.fromkeys(data.parts):
        axes.barh(0, 0, color=_COLOURS[part], label=part)
    legend_above(figure, axes)
    text = f"n={data.evaluation.num_data}; bars of two errors"
    if data.train is not None:
        text += f"; pale: training data, n={data.train.num_data}"
    axes.text(0.0, 1.04, text, transform=axes.transAxes, color=INK, size=10.5)
