r"""True posteriors beside q: a panel a datapoint, and contours for a model of two latents."""

from __future__ import annotations

__all__ = [
    "LocalPanel",
    "LocalPosteriors",
    "PosteriorPanel",
    "levels",
    "local_posteriors_data",
    "plot_local_posteriors",
    "plot_posterior_contours",
]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from elboscope.estimators import LocalPosterior, PicturedDensity

from .style import BLUE, GREEN, GREY, INK, ORANGE, RED

# True posteriors of single datapoints, and over each the contours of q and of every q*.
#
# The true posterior is filled. Every density is drawn as the lines around the densest sets that
# hold 39 % and 86 % of its mass: one and two standard deviations of a Gaussian. Beside each q
# stands :math:`\mathrm{KL}(q\|p(z|x))` by quadrature, and in brackets the estimate of it,
# :math:`\log\hat p(x) - L[q]`; a q without a density of z is drawn from draws, and has the second
# alone.

COLUMNS = 2
WIDTH, PANEL_HEIGHT, HEAD = 400, 276, 38
POINTS_PER_INCH = 72
LineStyle = Literal["solid", "dashed", "dashdot", "dotted"]
_STYLES: Mapping[str, tuple[str, LineStyle]] = {
    "q(z|x)": (ORANGE, "solid"),
    "q*_diagonal": (GREEN, "dashed"),
    "q*_full": (GREY, "dashdot"),
    "q*_flow": (RED, "dotted"),
}
_NAMES = {"q*_diagonal": "q* diagonal", "q*_full": "q* full", "q*_flow": "q* flow"}


@dataclass(frozen=True, eq=False)
class LocalPanel:
    """What one panel shows.

    Attributes:
        title: Which datapoint, why it was chosen, and its gaps in nats.
        z1: Nodes of the first latent.
        z2: Nodes of the second.
        density: p(z|x) at the nodes, z₁ along the first axis.
        contours: Density of each approximation, by its name.
        labels: The same names with KL and estimate, in nats.
    """

    title: str
    z1: Float[np.ndarray, " P"]
    z2: Float[np.ndarray, " Q"]
    density: Float[np.ndarray, "P Q"]
    contours: Mapping[str, Float[np.ndarray, "P Q"]]
    labels: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class LocalPosteriors:
    """The panels, and the names of what was drawn from draws.

    Attributes:
        panels: One a datapoint.
        from_draws: Approximations whose contours are those of smoothed draws.
        num_draws: How many draws.
    """

    panels: tuple[LocalPanel, ...]
    from_draws: tuple[str, ...]
    num_draws: int


def local_posteriors_data(found: Sequence[LocalPosterior] | None) -> LocalPosteriors | None:
    """Returns the panels of some datapoints, or ``None`` if there are none.

    Args:
        found: What :func:`elboscope.estimators.inference.local_posteriors` returned.
    """
    if not found:
        return None
    drawn = {q.name: q.num_draws for one in found for q in one.approximations if q.num_draws}
    return LocalPosteriors(tuple(map(_panel, found)), tuple(drawn), max(drawn.values(), default=0))


def plot_local_posteriors(data: LocalPosteriors) -> Figure:
    """Draws two panels a row, each on axes of its own.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> flat = np.ones((5, 5))
        >>> panel = LocalPanel("#0", axis, axis, flat, {"q(z|x)": flat}, {"q(z|x)": "KL 0.00"})
        >>> figure = plot_local_posteriors(LocalPosteriors((panel,), (), 0))
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['#0']
    """
    rows = math.ceil(len(data.panels) / COLUMNS)
    size = (WIDTH / POINTS_PER_INCH, (PANEL_HEIGHT * rows + HEAD) / POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=POINTS_PER_INCH, layout="constrained", facecolor="none")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axes, panel in zip(grid, data.panels, strict=False):
        _draw(axes, panel)
    for axes in grid[len(data.panels) :]:
        axes.remove()
    figure.suptitle(_head(data), fontsize=9, color=INK, x=0.02, ha="left")
    return figure


def _head(data: LocalPosteriors) -> str:
    text = "blue: true posterior p(z|x). Lines hold 39 % and 86 % of the mass.\n"
    text += "KL(q‖p(z|x)) in nats by quadrature (estimate: log p̂ − L[q])"
    if not data.from_draws:
        return text
    names = ", ".join(_NAMES.get(name, name) for name in data.from_draws)
    return text + f"\n{names}: lines from {data.num_draws} smoothed draws; KL ≤ the estimate"


def _panel(one: LocalPosterior) -> LocalPanel:
    (amortised, error), (approximate, other) = one.amortisation, one.approximation
    title = (
        f"#{one.row}: {one.reason}\namortisation {_number(amortised, error)} nats\n"
        f"approximation {_number(approximate, other)} nats"
    )
    return LocalPanel(
        title,
        one.z1.cpu().numpy(),
        one.z2.cpu().numpy(),
        one.density.cpu().numpy(),
        {q.name: q.density.cpu().numpy() for q in one.approximations},
        {q.name: _label(q) for q in one.approximations},
    )


def _label(q: PicturedDensity) -> str:
    estimate = _number(q.gap, q.gap_error)
    unknown = "KL ≤" if q.num_draws else "KL ≈"  # the grid was too coarse for it
    known = unknown if math.isnan(q.kl) else f"KL {_number(q.kl)}"
    return f"{_NAMES.get(q.name, q.name)}: {known} ({estimate})"


def _number(value: float, error: float = math.nan) -> str:
    text = f"{value:.2f}" if abs(value) >= 0.005 else "0.00"
    return text.replace("-", "−") + ("" if math.isnan(error) else f" ± {error:.2f}")


def _draw(axes: Axes, panel: LocalPanel) -> None:
    axes.set_facecolor("none")
    heights = levels(panel.density)
    top = panel.density.max() * (1 + 1e-9) + 1e-300
    places = (panel.z1, panel.z2)
    axes.contourf(*places, panel.density.T, levels=[*heights, top], colors=[BLUE], alpha=0.35)
    axes.contour(*places, panel.density.T, levels=heights, colors=[BLUE], linewidths=0.7)
    for name, density in panel.contours.items():
        colour, style = _STYLES[name]
        axes.contour(
            *places, density.T, levels=levels(density), colors=[colour], linestyles=[style],
            linewidths=1.4,
        )  # fmt: skip
    axes.set_title(panel.title, loc="left", fontsize=8, color=INK)
    axes.tick_params(colors=GREY, labelsize=8, length=2, width=0.5)
    axes.locator_params(nbins=5)
    for spine in axes.spines.values():
        spine.set_color(GREY)
        spine.set_linewidth(0.5)
    handles = [
        Line2D([], [], color=_STYLES[n][0], linestyle=_STYLES[n][1], linewidth=1.4, label=label)
        for n, label in panel.labels.items()
    ]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.09), frameon=False,
        fontsize=8, labelcolor=INK, handlelength=1.7, borderaxespad=0.0, labelspacing=0.3,
    )  # fmt: skip


# The true posterior of a two-dimensional model beside q(z|x), one panel an image.
#
# The posterior :math:`p(z|x) \propto p(z)\, p(x|z)` is a density on a grid; q, a Gaussian, is
# drawn as the ellipses that hold 39 % and 86 % of its mass (1 and 2 standard deviations).

PANEL = 100


@dataclass(frozen=True, eq=False)
class PosteriorPanel:
    """What one panel shows.

    Attributes:
        density: p(z|x) at the nodes, z₁ along the first axis.
        z1: Nodes of the first latent.
        z2: Nodes of the second.
        mean: Mean of q.
        sigma: Standard deviation of q in each latent.
        label: The model's label.
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
            _draw_contours(axes, panel)
        axes_of_row[0].set_ylabel(row[0].label, color=INK, fontsize=9)
    text = "blue: true posterior p(z|x); orange: q(z|x), 1 and 2 standard deviations"
    figure.suptitle(text, fontsize=8, color=GREY)
    return figure


def _draw_contours(axes: Axes, panel: PosteriorPanel) -> None:
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
