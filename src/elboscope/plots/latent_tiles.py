"""What the three latent pictures share: tiles set side by side, and lines for other data.

Data that are no images are shown by the few features that move most, each a line; the others move
less, by construction.
"""

from __future__ import annotations

__all__ = ["COLOURS", "MOST_FEATURES", "draw_lines", "moving_features", "quiet", "side_by_side"]

import numpy as np
from jaxtyping import Float, Int64, UInt8
from matplotlib.axes import Axes

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, RED

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
