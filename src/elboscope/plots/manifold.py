"""The manifold of two latents: decoded tiles of equal prior mass; orange where q(z) hardly goes."""

from __future__ import annotations

__all__ = [
    "COLOURS",
    "MOST_FEATURES",
    "ManifoldTiles",
    "draw_lines",
    "manifold_data",
    "moving_features",
    "plot_manifold",
    "quiet",
    "side_by_side",
]

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from elboscope.estimators import LatentManifold

from .samples import as_images, value_range
from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, RED

WIDTH, MARGIN = 400, 44
LINES_HEIGHT = 200.0
LARGEST_SIDE = 32
POINTS_PER_INCH = 72
# Nats below the prior's density at which q(z) is taken not to cover a tile: 5 % of it.
UNCOVERED = -3.0
NUM_TICKS = 5


@dataclass(frozen=True, eq=False)
class ManifoldTiles:
    """What is drawn.

    Attributes:
        levels: The tiles' middles in the prior's own probability.
        places: z₁ of a strip's tiles, for lines.
        tiles: Pictures, z₁ along the first axis; None where data are not images.
        values: Decoded features; None where they are images.
        uncovered: Where log q(z) − log p(z) < −3 nats; None where that is unknown.
        nodes_by: How the nodes were found.
    """

    levels: Float[np.ndarray, " n"]
    places: Float[np.ndarray, " P"]
    tiles: UInt8[np.ndarray, "P Q h w 3"] | None
    values: Float[np.ndarray, "P Q D"] | None
    uncovered: Bool[np.ndarray, "P Q"] | None
    nodes_by: str


def manifold_data(found: LatentManifold | None) -> ManifoldTiles | None:
    """Returns what is drawn, or None without a manifold.

    Example:
        >>> manifold_data(None) is None
        True
    """
    if found is None:
        return None
    P, Q = found.z.shape[:2]
    flat = found.mean.flatten(0, 1)
    tiles = as_images(flat, value_range(flat), LARGEST_SIDE)
    uncovered = None if found.log_ratio is None else (found.log_ratio < UNCOVERED).cpu().numpy()
    return ManifoldTiles(
        found.levels.cpu().numpy(),
        found.z[:, 0, 0].cpu().numpy(),
        None if tiles is None else tiles.reshape(P, Q, *tiles.shape[1:]),
        None if tiles is not None else flat.double().cpu().numpy().reshape(P, Q, -1),
        uncovered,
        found.nodes_by,
    )


def plot_manifold(data: ManifoldTiles) -> Figure:
    """Draws the tiles, z₁ to the right and z₂ upwards; features as maps or lines for other data.

    Example:
        >>> levels, tiles = np.array([0.25, 0.75]), np.zeros((2, 2, 8, 8, 3), np.uint8)
        >>> data = ManifoldTiles(levels, levels, tiles, None, np.eye(2, dtype=bool), "")
        >>> len(plot_manifold(data).axes[0].patches)  # two tiles are outlined
        2
    """
    if data.tiles is not None:
        return _tiled(data, data.tiles)
    assert data.values is not None
    return _lined(data, data.values) if data.values.shape[1] == 1 else _mapped(data, data.values)


def _tiled(data: ManifoldTiles, tiles: UInt8[np.ndarray, "P Q h w 3"]) -> Figure:
    P, Q, h, w, _ = tiles.shape
    across = WIDTH - MARGIN - 4
    height = across * (Q * h) / (P * w)
    total = height + MARGIN + 4
    figure = _figure(total)
    axes = figure.add_axes((MARGIN / WIDTH, MARGIN / total, across / WIDTH, height / total))
    upwards = tiles.transpose(1, 0, 2, 3, 4)[::-1]
    axes.imshow(side_by_side(upwards), extent=(0, P, 0, Q), interpolation="none", aspect="auto")
    quiet(axes)
    axes.grid(visible=False)
    _outline(axes, data.uncovered)
    _ticks(axes, data.levels, P, Q)
    return figure


def _mapped(data: ManifoldTiles, values: Float[np.ndarray, "P Q D"]) -> Figure:
    P, Q, D = values.shape
    features = moving_features(values.reshape(P * Q, D))
    rows = -(-len(features) // 2)
    figure = _figure(rows * WIDTH / 2.2 + 10)
    figure.set_layout_engine("constrained")
    for i, feature in enumerate(features.tolist()):
        axes = figure.add_subplot(rows, min(2, len(features)), i + 1)
        quiet(axes)
        drawn = axes.imshow(
            values[..., feature].T, extent=(0, P, 0, Q), origin="lower", interpolation="none",
            aspect="auto", cmap="viridis",
        )  # fmt: skip
        axes.grid(visible=False)
        axes.set_title(f"x[{feature}]", loc="left", fontsize=9, color=INK, pad=2)
        bar = figure.colorbar(drawn, ax=axes, pad=0.02)
        bar.ax.tick_params(colors=GREY, labelsize=8, length=2)
        bar.outline.set_visible(False)
        _outline(axes, data.uncovered)
        _ticks(axes, data.levels, P, Q)
    return figure


def _lined(data: ManifoldTiles, values: Float[np.ndarray, "P 1 D"]) -> Figure:
    figure = _figure(LINES_HEIGHT)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    draw_lines(axes, data.places, values[:, 0], moving_features(values[:, 0]))
    axes.set_xlabel("z, nodes of equal prior mass", color=INK, fontsize=9.5)
    return figure


def _outline(axes: Axes, uncovered: Bool[np.ndarray, "P Q"] | None) -> None:
    if uncovered is None:
        return
    for i, j in np.argwhere(uncovered).tolist():
        axes.add_patch(
            Rectangle((i + 0.04, j + 0.04), 0.92, 0.92, fill=False, edgecolor=ORANGE, linewidth=1.1)
        )


def _ticks(axes: Axes, levels: Float[np.ndarray, " n"], P: int, Q: int) -> None:
    places = np.unique(np.linspace(0, len(levels) - 1, NUM_TICKS).round().astype(int))
    names = [f"{levels[k]:.2g}" for k in places]
    axes.set_xticks(places + 0.5, names)
    axes.set_xlabel("prior quantile of z₁" if Q > 1 else "prior quantile of z", color=INK,
                    fontsize=9.5)  # fmt: skip
    if Q == 1:
        axes.set_yticks([])
        return
    axes.set_yticks(places + 0.5, names)
    axes.set_ylabel("prior quantile of z₂", color=INK, fontsize=9.5)


def _figure(height: float) -> Figure:
    size = (WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH)
    return Figure(figsize=size, dpi=POINTS_PER_INCH, facecolor="none", edgecolor=GREY)


# What the three latent pictures share: tiles set side by side, and lines for other data.
#
# Data that are no images are shown by the few features that move most, each a line; the others
# move less, by construction.

MOST_FEATURES = 5
COLOURS = (BLUE, ORANGE, GREEN, RED, GREY, INK)


def side_by_side(
    rows: UInt8[np.ndarray, "r s h w 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns one picture of r rows of s tiles.

    Example:
        >>> side_by_side(np.zeros((2, 3, 8, 4, 3), np.uint8)).shape
        (16, 12, 3)
    """
    r, s, h, w, _ = rows.shape
    return rows.transpose(0, 2, 1, 3, 4).reshape(r * h, s * w, 3)


def moving_features(values: Float[np.ndarray, "n D"]) -> Int64[np.ndarray, " m"]:
    """Returns the features with the largest range over n places, at most five, in order.

    Example:
        >>> moving_features(np.array([[0.0, 1.0, 5.0], [0.0, 2.0, -5.0]])).tolist()
        [0, 1, 2]
    """
    largest = np.argsort(-np.ptp(values, axis=0), kind="stable")[:MOST_FEATURES]
    return np.sort(largest).astype(np.int64)


def draw_lines(
    axes: Axes,
    places: Float[np.ndarray, " s"],
    values: Float[np.ndarray, "s D"],
    features: Int64[np.ndarray, " m"],
) -> None:
    """Draws the chosen features over the places, named beside the axes."""
    for colour, feature in zip(COLOURS, features.tolist(), strict=False):
        axes.plot(
            places, values[:, feature], ".-", ms=4, lw=1.3, color=colour, label=f"x[{feature}]"
        )
    quiet(axes)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, labelcolor=INK,
        handlelength=1.0, borderaxespad=0.2, labelspacing=0.2,
    )  # fmt: skip


def quiet(axes: Axes) -> None:
    """The house style for axes that a figure has many of."""
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)
    axes.tick_params(colors=GREY, labelsize=8.5, length=2, width=0.5)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
