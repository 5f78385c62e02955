"""The manifold of two latents: decoded tiles of equal prior mass; orange where q(z) hardly goes."""

from __future__ import annotations

__all__ = ["ManifoldTiles", "manifold_data", "plot_manifold"]

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from elboscope.estimators import LatentManifold

from .images import as_images, value_range
from .latent_tiles import draw_lines, moving_features, quiet, side_by_side
from .style import GREY, INK, ORANGE

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
