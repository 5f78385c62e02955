"""Pictures of hybrids: what each model draws and reconstructs, its scores, and its sweep."""

from __future__ import annotations

__all__ = ["plot_pictures", "plot_scores", "plot_settings"]

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from elboscope.plots.images import ImageRange, as_images
from elboscope.plots.style import BLUE, GREY, INK, ORANGE, blank, dressed, legend_above

from .hybrids_plan import MODELS, HybridsPlan
from .hybrids_scores import KINDS, Scores
from .hybrids_table import LABELS, Found, over_settings, own_runs

COLOURS = {"samples": BLUE, "reconstructions": ORANGE}
Pictures = Mapping[str, Mapping[str, Tensor]]
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 2, 330, 210
MARGIN = 2


def plot_pictures(pictures: Pictures, data: Float[Tensor, "n C H W"]) -> Figure:
    """Returns a row a model: samples of the prior, and reconstructions of the data above them.

    Args:
        pictures: By model: "samples", and "reconstructions" where it has an encoder.
        data: What is reconstructed; it stands in the first row on both sides.
    """
    rows = {"data": dict.fromkeys(KINDS, data), **pictures}
    figure, first = blank(760, 30 + 38 * len(rows))
    figure.delaxes(first)
    grid = figure.subplots(len(rows), len(KINDS), squeeze=False)
    for line, (name, found) in zip(grid, rows.items(), strict=True):
        for axes, kind in zip(line, KINDS, strict=True):
            _strip(axes, found.get(kind), len(data))
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK, fontsize=11)
    for axes, kind in zip(grid[0], ("samples of the prior", "reconstructions"), strict=True):
        axes.set_title(kind, loc="left", fontsize=11, color=INK)
    return figure


def _strip(axes: Axes, x: Tensor | None, n: int) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor("none")
    if x is None:
        axes.text(0.0, 0.5, "no encoder", transform=axes.transAxes, color=GREY, va="center")
        return
    axes.imshow(_side_by_side(x[:n]), interpolation="nearest", aspect="equal")


def _side_by_side(x: Float[Tensor, "n C H W"]) -> UInt8[np.ndarray, "h w 3"]:
    tiles = as_images(x, ImageRange(0.0, 1.0))
    assert tiles is not None
    framed = np.pad(tiles, ((0, 0), (0, 0), (0, MARGIN), (0, 0)), constant_values=255)
    strip: UInt8[np.ndarray, "h w 3"] = np.concatenate(list(framed), axis=1)
    return strip


def plot_scores(found: Found, of_data: Scores, plan: HybridsPlan) -> Figure:
    """Returns a panel a score: a dot a run, a bar at their mean; dashed: held-out data.

    Args:
        found: Scores of all runs.
        of_data: Those of data in the place of samples.
        plan: Their settings.
    """
    scores = [score for score in LABELS if f"samples: {score}" in of_data]
    lines = math.ceil(len(scores) / COLUMNS)
    figure, first = blank(COLUMNS * PANEL_WIDTH, 40 + lines * PANEL_HEIGHT)
    figure.delaxes(first)
    grid = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True).flatten()
    for axes, score in zip(grid, scores, strict=False):
        _panel(axes, score, found, plan)
        axes.axvline(of_data[f"samples: {score}"].value, color=INK, linewidth=1.2, linestyle="--")
    for axes in grid[len(scores) :]:
        figure.delaxes(axes)
    legend_above(figure, grid[0])
    return figure


def _panel(axes: Axes, score: str, found: Found, plan: HybridsPlan) -> None:
    dressed(axes)
    for kind, shift in zip(KINDS, (-0.15, 0.15), strict=True):
        label = "samples of the prior" if kind == "samples" else kind
        for row, model in enumerate(MODELS):
            runs = own_runs(found, plan, model)
            x = [r[f"{kind}: {score}"].value for r in runs if f"{kind}: {score}" in r]
            if x:
                _dots(axes, x, row + shift, COLOURS[kind], label if row == 0 else "")
    axes.set_yticks(range(len(MODELS)), list(MODELS))
    axes.set_ylim(len(MODELS) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(LABELS[score][0])


def _dots(axes: Axes, x: Sequence[float], y: float, colour: str, label: str) -> None:
    axes.plot(x, [y] * len(x), "o", ms=4, color=colour, alpha=0.55, linestyle="", label=label)
    axes.plot([sum(x) / len(x)], [y], "|", ms=12, mew=2, color=colour)


def plot_settings(found: Found, plan: HybridsPlan) -> Figure:
    """Returns Ŵ of each setting of each swept model; dark: the setting of the tables.

    Args:
        found: Scores of all runs.
        plan: Their settings.
    """
    figure, axes = blank(560, 80 + 30 * len(plan.swept))
    names = []
    for row, model in enumerate(plan.swept):
        x = over_settings(found, plan, model, "critic_test")
        own = x[:1] if (plan.own(model), 0) in found else x[:0]
        axes.plot(x, [row] * len(x), "o", ms=6, color=BLUE, alpha=0.5, linestyle="")
        axes.plot(own, [row] * len(own), "o", ms=6, color=INK, linestyle="")
        names.append(f"{model} ({len(x)})")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("independent critic Ŵ(test) of samples, a dot a setting; lower is better")
    return figure
