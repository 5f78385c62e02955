"""Ways through the latents: from one code to another, and along one unit from low to high."""

from __future__ import annotations

__all__ = [
    "InterpolationRows",
    "TraversalRows",
    "interpolations_data",
    "plot_interpolations",
    "plot_traversals",
    "traversals_data",
]

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elboscope.estimators import LatentInterpolations, LatentTraversals

from .manifold import draw_lines, moving_features, quiet, side_by_side
from .samples import as_images, value_range
from .style import BLUE, FAINT, GREY, INK, ORANGE

WIDTH = 400.0
FOOT = 40.0
LEFT, RIGHT = 46.0, 8.0
CURVE, GAP, LINES_HEIGHT = 46.0, 12.0, 84.0
LINES_RIGHT = 48.0  # room for the features' names
LARGEST_SIDE = 48
POINTS_PER_INCH = 72
BESIDE = 0.3  # of a tile, between a datapoint and the reconstructions
TICKS = 3


@dataclass(frozen=True, eq=False)
class InterpolationRows:
    """What is drawn.

    Attributes:
        labels: The two rows of x, a label a path.
        ends: The datapoints as pictures; None where data are not images.
        tiles: The way as pictures; None where data are not images.
        values: The decoded features; None where they are images.
        log_ratio: log q(z) − log p(z), in nats; None where it is unavailable.
        path: "linear" or "spherical".
    """

    labels: tuple[str, ...]
    ends: UInt8[np.ndarray, "m 2 h w 3"] | None
    tiles: UInt8[np.ndarray, "m s h w 3"] | None
    values: Float[np.ndarray, "m s D"] | None
    log_ratio: Float[np.ndarray, "m s"] | None
    path: str


def interpolations_data(found: LatentInterpolations | None) -> InterpolationRows | None:
    """Returns what is drawn, or None without paths.

    Example:
        >>> interpolations_data(None) is None
        True
    """
    if found is None:
        return None
    m, s = found.z.shape[:2]
    flat, ends = found.mean.flatten(0, 1), found.ends.flatten(0, 1)
    limits = value_range(torch.cat([flat, ends]))
    tiles, shown = as_images(flat, limits, LARGEST_SIDE), as_images(ends, limits, LARGEST_SIDE)
    images = tiles is not None and shown is not None
    return InterpolationRows(
        tuple(f"x[{a}] to x[{b}]" for a, b in found.pairs.tolist()),
        shown.reshape(m, 2, *shown.shape[1:]) if shown is not None else None,
        tiles.reshape(m, s, *tiles.shape[1:]) if tiles is not None else None,
        None if images else flat.double().cpu().numpy().reshape(m, s, -1),
        None if found.log_ratio is None else found.log_ratio.cpu().numpy(),
        found.path,
    )


def plot_interpolations(data: InterpolationRows) -> Figure:
    """Draws for each path its tiles (or its features' lines) and below them the density.

    Example:
        >>> ends, tiles = (np.zeros((1, n, 8, 8, 3), np.uint8) for n in (2, 5))
        >>> data = InterpolationRows(("",), ends, tiles, None, np.zeros((1, 5)), "linear")
        >>> len(plot_interpolations(data).axes)
        2
    """
    m, s = _counts(data)
    right = RIGHT if data.tiles is not None else LINES_RIGHT
    across = WIDTH - LEFT - right
    upper = _tile_height(data, across) if data.tiles is not None else LINES_HEIGHT
    lower = CURVE if data.log_ratio is not None else 0.0
    total = m * (upper + lower + GAP) + FOOT
    size = (WIDTH / POINTS_PER_INCH, total / POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=POINTS_PER_INCH, facecolor="none", edgecolor=GREY)

    def place(top: float, height: float) -> Axes:
        box = (LEFT / WIDTH, 1 - (top + height) / total, across / WIDTH, height / total)
        axes = figure.add_axes(box)
        quiet(axes)
        return axes

    limits = _limits(data.log_ratio)
    for i in range(m):
        top = i * (upper + lower + GAP) + GAP / 2
        last = place(top, upper)
        _draw_way(last, data, i)
        if data.log_ratio is not None:
            last = place(top + upper, lower)
            _draw_density(last, data.log_ratio[i], limits)
        last.set_xlim(-1 - BESIDE - 0.5, s + BESIDE + 0.5) if data.tiles is not None else None
    last.set_xlabel(_foot(data), color=INK, fontsize=9)
    return figure


def _counts(data: InterpolationRows) -> tuple[int, int]:
    shown = data.tiles if data.tiles is not None else data.values
    assert shown is not None
    return shown.shape[0], shown.shape[1]


def _tile_height(data: InterpolationRows, across: float) -> float:
    assert data.tiles is not None
    _, s, h, w, _ = data.tiles.shape
    return float(across / (s + 2 + 2 * BESIDE) * h / w)


def _draw_way(axes: Axes, data: InterpolationRows, i: int) -> None:
    if data.values is not None:
        values = data.values[i]
        draw_lines(axes, np.arange(len(values)) * 1.0, values, moving_features(values))
        axes.tick_params(labelbottom=False)
        axes.set_title(data.labels[i], loc="left", fontsize=8.5, color=INK, pad=2)
        return
    assert data.tiles is not None
    assert data.ends is not None
    s = len(data.tiles[i])
    places = [-1 - BESIDE, *range(s), s + BESIDE]
    pictures = [data.ends[i, 0], *data.tiles[i], data.ends[i, 1]]
    for place, picture in zip(places, pictures, strict=True):
        extent = (place - 0.5, place + 0.5, 0.0, 1.0)
        axes.imshow(picture, interpolation="none", aspect="auto", extent=extent)
    axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    axes.set_ylim(0, 1)
    axes.set_axis_off()


def _draw_density(
    axes: Axes, log_ratio: Float[np.ndarray, " s"], limits: tuple[float, float]
) -> None:
    axes.axhline(0, color=GREY, lw=0.8, ls="--")
    axes.plot(np.arange(len(log_ratio)), log_ratio, ".-", ms=4, lw=1.4, color=BLUE)
    lowest = int(np.argmin(log_ratio))
    axes.plot([lowest], [log_ratio[lowest]], "o", ms=5, color=ORANGE)
    axes.set_ylim(*limits)
    axes.locator_params(axis="y", nbins=TICKS)
    axes.set_xticks([])
    axes.spines[["top", "right"]].set_color(FAINT)
    axes.set_ylabel("nats", color=INK, fontsize=8.5, labelpad=1)


def _limits(log_ratio: Float[np.ndarray, "m s"] | None) -> tuple[float, float]:
    """One scale for all paths, with zero in it."""
    if log_ratio is None:
        return -1.0, 1.0
    low, high = min(0.0, float(log_ratio.min())), max(0.0, float(log_ratio.max()))
    room = 0.12 * (high - low) + 0.1
    return low - room, high + room


def _foot(data: InterpolationRows) -> str:
    ways = f"{data.path} path from one code to the other"
    return f"{ways}; curve: log q(z) − log p(z)" if data.log_ratio is not None else ways


# Latent traversals: a row a unit, from low to high quantiles of q(z_j), the most telling first.

LABELS_WIDTH, HEAD = 92, 6
PANEL_HEIGHT = 92.0


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
    width = WIDTH - LABELS_WIDTH - 6
    height = width / s * h / w * r
    figure = _figure(height + HEAD + FOOT)
    total = height + HEAD + FOOT
    axes = figure.add_axes(
        (
            LABELS_WIDTH / WIDTH,
            FOOT / total,
            width / WIDTH,
            height / total,
        )
    )
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
    figure = _figure(PANEL_HEIGHT * len(data.labels))
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
