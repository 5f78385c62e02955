"""How every static figure looks, and how it becomes part of a page.

Figures are drawn with :class:`matplotlib.figure.Figure` itself: no window system, no pyplot state,
no change of the user's settings. Their few colours are also names: in the SVG each becomes a CSS
variable with the colour as its fallback, so that one drawing is right on a light and on a dark
page. Text stays text: it can be selected, searched and read aloud.
"""

from __future__ import annotations

__all__ = [
    "BLUE",
    "FAINT",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "RED",
    "Figure",
    "blank",
    "dressed",
    "legend_above",
    "to_svg",
]

import html
import re
from io import BytesIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#232a34"
GREY = "#6a7380"
FAINT = "#dde1e6"
BLUE = "#2f6db3"
ORANGE = "#c96a1b"
GREEN = "#2e8562"
RED = "#c23b3b"
_VARIABLES = {
    INK: "--ink",
    GREY: "--muted",
    FAINT: "--rule",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    RED: "--red",
}

# Figures are 400 units wide: side by side on a screen, one below the other on a telephone,
# where the text of a wider drawing would be too small to read.
WIDTH, HEIGHT = 400, 240
_POINTS_PER_INCH = 72


def blank(width: int = WIDTH, height: int = HEIGHT) -> tuple[Figure, Axes]:
    """Returns an empty figure (in SVG units) with one pair of axes in the house style.

    Example:
        >>> figure, axes = blank(440, 250)
        >>> figure.get_size_inches().tolist() == [440 / 72, 250 / 72]
        True
    """
    size = (width / _POINTS_PER_INCH, height / _POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=_POINTS_PER_INCH, layout="constrained", facecolor="none")
    axes = figure.add_subplot()
    dressed(axes)
    return figure, axes


def dressed(axes: Axes) -> Axes:
    """Gives a pair of axes the house style, and returns it."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(GREY)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(colors=GREY, labelsize=11, width=0.8, length=3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(11.5)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def legend_above(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Puts the legend above the axes, where it hides no data, without a frame."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=10.5,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.2,
    )


def to_svg(figure: Figure, *, name: str, description: str) -> str:
    """Returns a figure as an ``<svg>`` element to be put into a page.

    Args:
        figure: The figure; its colours become CSS variables.
        name: Letters, digits and hyphens; it makes the ids of the element unique on the page.
        description: What is seen, for those who cannot; escaped here.

    Example:
        >>> figure, axes = blank()
        >>> svg = to_svg(figure, name="empty", description="Nothing < something")
        >>> svg[:5], "var(--muted, #6a7380)" in svg, "Nothing &lt; something" in svg
        ('<svg ', True, True)
    """
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    label = html.escape(description, quote=True)
    viewbox = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg role="img" aria-label="{label}" xmlns="http://www.w3.org/2000/svg" '
    opening += f'xmlns:xlink="http://www.w3.org/1999/xlink" {viewbox[0] if viewbox else ""}>'
    svg = re.sub(r"^<svg [^>]*>", lambda _: opening, svg)
    return _with_variables(svg)


def _with_variables(svg: str) -> str:
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    return svg
