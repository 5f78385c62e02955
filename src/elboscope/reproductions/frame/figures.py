"""Figures that several papers draw: a value over training, and pictures of what models draw."""

from __future__ import annotations

__all__ = ["Curve", "curve", "plot_pictures"]

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from elboscope.plots.samples import ImageRange, as_images
from elboscope.plots.style import GREY, INK, blank

from .course import Look, Rows

KINDS = ("samples", "reconstructions")
MARGIN = 2
Pictures = Mapping[str, Mapping[str, Tensor]]


class Curve(NamedTuple):
    """Mean and standard deviation over seeds, by step."""

    step: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def curve(runs: Sequence[Rows], value: Callable[[Look], float]) -> Curve:
    """Returns a value against steps, as far as all runs came.

    Args:
        runs: The rows of each seed.
        value: Returns the value of a row.

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
