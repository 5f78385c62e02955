r"""The true posterior of a two-dimensional model beside q(z|x), one panel an image.

The posterior :math:`p(z|x) \propto p(z)\, p(x|z)` is a density on a grid; q, a Gaussian, is drawn
as the ellipses that hold 39 % and 86 % of its mass (1 and 2 standard deviations).
"""

from __future__ import annotations

__all__ = ["PosteriorPanel", "levels", "plot_posterior_contours"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from .style import BLUE, GREY, INK, ORANGE

PANEL = 100
POINTS_PER_INCH = 72


@dataclass(frozen=True, eq=False)
class PosteriorPanel:
    """What one panel shows.

    Attributes:
        density: p(z|x) at the nodes, z₁ along the first axis.
        z1: Nodes of the first latent.
        z2: Nodes of the second.
        mean: Of q.
        sigma: Of q, a standard deviation per latent.
        label: Of the model.
    """

    density: Float[np.ndarray, "P Q"]
    z1: Float[np.ndarray, " P"]
    z2: Float[np.ndarray, " Q"]
    mean: tuple[float, float]
    sigma: tuple[float, float]
    label: str


def plot_posterior_contours(rows: Sequence[Sequence[PosteriorPanel]]) -> Figure:
    """Draws a row a model and a column an image; the panels of a column have their own axes.

    Args:
        rows: Panels, as many in each row.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> panel = PosteriorPanel(np.ones((5, 5)), axis, axis, (0.0, 0.0), (0.1, 0.2), "VAE")
        >>> len(plot_posterior_contours([[panel, panel]]).axes)
        2
    """
    size = (PANEL * len(rows[0]) / POINTS_PER_INCH, (PANEL * len(rows) + 20) / POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=POINTS_PER_INCH, layout="constrained", facecolor="none")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axes_of_row, row in zip(grid, rows, strict=True):
        for axes, panel in zip(axes_of_row, row, strict=True):
            _draw(axes, panel)
        axes_of_row[0].set_ylabel(row[0].label, color=INK, fontsize=9)
    text = "blue: true posterior p(z|x); orange: q(z|x), 1 and 2 standard deviations"
    figure.suptitle(text, fontsize=8, color=GREY)
    return figure


def _draw(axes: Axes, panel: PosteriorPanel) -> None:
    heights = levels(panel.density)
    axes.contourf(
        panel.z1,
        panel.z2,
        panel.density.T,
        levels=[*heights, panel.density.max() * (1 + 1e-9) + 1e-300],
        colors=[BLUE],
        alpha=0.35,
    )
    axes.contour(panel.z1, panel.z2, panel.density.T, levels=heights, colors=[BLUE], linewidths=0.7)
    for scale in (1.0, 2.0):
        width, height = (2 * scale * s for s in panel.sigma)
        ellipse = Ellipse(panel.mean, width, height, fill=False, edgecolor=ORANGE, linewidth=1.3)
        axes.add_patch(ellipse)
    axes.set_xlim(panel.z1[0], panel.z1[-1])
    axes.set_ylim(panel.z2[0], panel.z2[-1])
    axes.tick_params(colors=GREY, labelsize=6, length=2, width=0.5)
    for spine in axes.spines.values():
        spine.set_color(GREY)
        spine.set_linewidth(0.5)


def levels(density: Float[np.ndarray, "P Q"]) -> list[float]:
    """Returns the heights of the densest sets that hold 86 % and 39 % of the mass.

    A Gaussian's lines at these heights are the ellipses of 2 and 1 standard deviations.

    Args:
        density: At the nodes of an equidistant grid; it need not be normalised.
    """
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    shares = [1 - math.exp(-0.5 * scale**2) for scale in (2.0, 1.0)]
    found = [float(ordered[np.searchsorted(mass, share)]) for share in shares]
    return found if found[0] < found[1] else [found[0]]
