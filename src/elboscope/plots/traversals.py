"""Latent traversals: a row a unit, from low to high quantiles of q(z_j), the most telling first."""

from __future__ import annotations

__all__ = ["TraversalRows", "plot_traversals", "traversals_data"]

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from elboscope.estimators import LatentTraversals

from .manifold import draw_lines, moving_features, quiet, side_by_side
from .samples import as_images, value_range
from .style import GREY, INK

WIDTH, LEFT, HEAD, FOOT = 400, 92, 6, 40
LINES_HEIGHT = 92.0
LARGEST_SIDE = 48
POINTS_PER_INCH = 72


@dataclass(frozen=True, eq=False)
class TraversalRows:
    """What is drawn.

    Attributes:
        labels: A unit and its nats, a row each.
        levels: The quantiles in percent, a column each.
        places: z_j of every tile.
        tiles: The pictures; None where data are not images.
        values: The decoded features; None where they are images.
        start: Where the other units stay, in words.
    """

    labels: tuple[str, ...]
    levels: tuple[str, ...]
    places: Float[np.ndarray, "r s"]
    tiles: UInt8[np.ndarray, "r s h w 3"] | None
    values: Float[np.ndarray, "r s D"] | None
    start: str


def traversals_data(found: LatentTraversals | None) -> TraversalRows | None:
    """Returns what is drawn, or None without traversals.

    Example:
        >>> traversals_data(None) is None
        True
    """
    if found is None:
        return None
    r, s = found.values.shape
    flat = found.mean.flatten(0, 1)
    tiles = as_images(flat, value_range(flat), largest=LARGEST_SIDE)
    values = None if tiles is not None else flat.double().cpu().numpy().reshape(r, s, -1)
    return TraversalRows(
        tuple(map(_label, found.units.tolist(), found.information.tolist())),
        tuple(f"{100 * level:.3g}%" for level in found.levels.tolist()),
        found.values.cpu().numpy(),
        None if tiles is None else tiles.reshape(r, s, *tiles.shape[1:]),
        values,
        found.start_is,
    )


def _label(unit: int, nats: float) -> str:
    return f"unit {unit}: {nats:.2f} nats"


def plot_traversals(data: TraversalRows) -> Figure:
    """Draws a row of tiles a unit, or a panel of lines a unit where data are not images.

    Example:
        >>> tiles = np.zeros((1, 2, 8, 8, 3), np.uint8)
        >>> data = TraversalRows(("unit 0",), ("5%", "95%"), np.zeros((1, 2)), tiles, None, "")
        >>> [t.get_text() for t in plot_traversals(data).axes[0].get_yticklabels()]
        ['unit 0\\nz 0 … 0']
    """
    return _tiled(data) if data.tiles is not None else _lined(data)


def _tiled(data: TraversalRows) -> Figure:
    assert data.tiles is not None
    r, s, h, w, _ = data.tiles.shape
    width = WIDTH - LEFT - 6
    height = width / s * h / w * r
    figure = _figure(height + HEAD + FOOT)
    total = height + HEAD + FOOT
    axes = figure.add_axes((LEFT / WIDTH, FOOT / total, width / WIDTH, height / total))
    axes.imshow(side_by_side(data.tiles), interpolation="none", aspect="auto")
    quiet(axes)
    axes.grid(visible=False)
    labels = [f"{label}\n{_range(z)}" for label, z in zip(data.labels, data.places, strict=True)]
    axes.set_yticks([h * (i + 0.5) - 0.5 for i in range(r)], labels)
    axes.set_xticks([w * (i + 0.5) - 0.5 for i in range(s)], list(data.levels))
    axes.tick_params(length=0)
    axes.tick_params(axis="y", colors=INK)
    axes.set_xlabel("quantile of q(z_j)", color=INK, fontsize=9.5)
    return figure


def _lined(data: TraversalRows) -> Figure:
    assert data.values is not None
    figure = _figure(LINES_HEIGHT * len(data.labels))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(data.labels), 1, squeeze=False)[:, 0]
    for axes, label, z, values in zip(grid, data.labels, data.places, data.values, strict=True):
        draw_lines(axes, z, values, moving_features(values))
        axes.set_title(label, loc="left", fontsize=9, color=INK, pad=2)
    grid[-1].set_xlabel(
        f"z_j, from the {data.levels[0]} to the {data.levels[-1]} quantile of q(z_j)",
        color=INK, fontsize=9.5,
    )  # fmt: skip
    return figure


def _range(z: Float[np.ndarray, " s"]) -> str:
    return f"z {z[0]:.2g} … {z[-1]:.2g}".replace("-", "−")


def _figure(height: float) -> Figure:
    size = (WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH)
    return Figure(figsize=size, dpi=POINTS_PER_INCH, facecolor="none", edgecolor=GREY)
