"""A map of the posterior means in two dimensions, with the datapoint under the pointer.

With two latent units the map is the latent space itself; with more it is the projection on the
two directions along which the posterior means vary most (principal components), which says
nothing about the others, and the axes say what share of the variance they carry. Distances on it
are not distances in x. Drawn with bokeh, whose code is put into the page: it opens without a
network.
"""

from __future__ import annotations

__all__ = ["LatentMap", "LatentMapHtml", "bokeh_code", "latent_map_data", "latent_map_html"]

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import Estimate

from .samples import as_images, png_uri, value_range

# Points on the map: enough to see clusters, few enough for a page that opens at once.
MAX_POINTS = 500
# Pictures are reduced to this side, and all of them together to this many characters.
LARGEST_SIDE, MAX_CHARACTERS = 32, 1_200_000
# A grey that can be read on white and on near-black: the drawing cannot follow the page's theme.
_NEUTRAL, _FAINT = "#7a8390", "rgba(122, 131, 144, 0.22)"


@dataclass(frozen=True, eq=False)
class LatentMap:
    """What is drawn.

    Attributes:
        points: Coordinates, ``(n, 2)``.
        axes: What the two coordinates are.
        index: Which datapoint each point is.
        log_px: Its log-likelihood estimate, in nats; NaN where unknown.
        images: Its picture as a data URI; empty strings for data that are not images.
        shown_of: How many datapoints there were.
    """

    points: NDArray[np.float64]
    axes: tuple[str, str]
    index: NDArray[np.int64]
    log_px: NDArray[np.float64]
    images: tuple[str, ...]
    shown_of: int


class LatentMapHtml(NamedTuple):
    """Two pieces of a page: where the map stands, and the script that draws it there."""

    place: str
    script: str


def latent_map_data(
    posterior_means: Float[Tensor, "n d"] | None,
    x: Float[Tensor, "n *X"],
    log_px: Estimate | None = None,
    max_points: int = MAX_POINTS,
) -> LatentMap | None:
    """Returns the coordinates and pictures of at most ``max_points`` datapoints.

    Args:
        posterior_means: E_q[z|x], flattened.
        x: The data they belong to.
        log_px: log p̂(x), for the colour.
        max_points: How many datapoints to show, evenly spaced in the order of the data.

    Example:
        >>> z = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        >>> data = latent_map_data(z, torch.zeros(2, 5))
        >>> data.points.tolist(), data.axes
        ([[0.0, 1.0], [2.0, 3.0]], ('latent unit 0', 'latent unit 1'))
    """
    if posterior_means is None or len(posterior_means) < 2:
        return None
    z = posterior_means.detach().double().cpu()
    finite = torch.isfinite(z).all(1).nonzero().squeeze(1)
    if len(finite) < 2:
        return None
    values = _values(log_px, len(z))
    points, axes = _coordinates(z[finite], values[finite.numpy()])
    chosen = np.unique(np.linspace(0, len(finite) - 1, min(max_points, len(finite))).astype(int))
    images = _pictures(x, finite[chosen])
    if images:  # fewer points where the pictures are heavy
        longest = max(map(len, images))
        step = -(-longest * len(images) // MAX_CHARACTERS)
        chosen, images = chosen[::step], images[::step]
    index = finite[chosen].numpy()
    images = images or ("",) * len(chosen)
    return LatentMap(points[chosen], axes, index, values[index], images, len(z))


def _values(log_px: Estimate | None, n: int) -> NDArray[np.float64]:
    if log_px is None or len(log_px.values) != n:
        return np.full(n, np.nan)
    values: NDArray[np.float64] = log_px.values.detach().double().cpu().numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _coordinates(
    z: Tensor, log_px: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[str, str]]:
    d = z.shape[1]
    if d == 1:
        missing = bool(np.isnan(log_px).all())
        other = np.zeros(len(z)) if missing else np.nan_to_num(log_px, nan=float(np.nanmin(log_px)))
        label = "(one latent unit)" if missing else "log p(x) estimate, nats"
        return np.stack([z[:, 0].numpy(), other], axis=1), ("latent unit 0", label)
    if d == 2:
        return z.numpy(), ("latent unit 0", "latent unit 1")
    centred = z - z.mean(0)
    U, S, _ = torch.linalg.svd(centred, full_matrices=False)
    share = S.square() / S.square().sum().clamp(min=1e-300)
    labels = [f"principal component {j + 1} ({100 * share[j]:.0f} % of variance)" for j in (0, 1)]
    return (U[:, :2] * S[:2]).numpy(), (labels[0], labels[1])


def _pictures(x: Tensor, index: Tensor) -> tuple[str, ...]:
    shown = x[index.to(x.device)]
    images = as_images(shown, value_range(x), LARGEST_SIDE)
    return () if images is None else tuple(png_uri(image) for image in images)


@functools.cache
def bokeh_code() -> str:
    """Returns bokeh's own code as ``<script>`` elements (1.3 MB), needed once a page.

    Example:
        >>> "src=" in bokeh_code().partition(">")[0]
        False
    """
    from bokeh.resources import Resources

    return str(Resources(mode="inline", components=["bokeh"]).render_js())


def latent_map_html(data: LatentMap) -> LatentMapHtml:
    """Draws the map; the pointer over a point shows its datapoint.

    Example:
        >>> data = latent_map_data(torch.eye(2), torch.zeros(2, 5))
        >>> latent_map_html(data).place.strip()[:8]
        '<div id='
    """
    from bokeh.embed import components
    from bokeh.models import ColumnDataSource, HoverTool
    from bokeh.plotting import figure

    log_px = [
        f"{v:.2f} nats".replace("-", "−") if np.isfinite(v) else "unknown" for v in data.log_px
    ]
    columns: dict[str, Any] = {
        "horizontal": data.points[:, 0],
        "vertical": data.points[:, 1],
        "index": data.index,
        "log_px": log_px,
        "colour": _colours(data.log_px),
        "image": list(data.images),
    }
    plot = figure(
        sizing_mode="stretch_width",
        height=430,
        tools="box_zoom,reset",
        active_drag=None,
        toolbar_location="above",
        x_axis_label=data.axes[0],
        y_axis_label=data.axes[1],
        output_backend="canvas",
    )
    points = plot.scatter(
        "horizontal",
        "vertical",
        size=9,
        fill_color="colour",
        fill_alpha=0.85,
        line_color=_NEUTRAL,
        line_width=0.5,
        source=ColumnDataSource(columns),
    )
    has_images = any(data.images)
    plot.add_tools(HoverTool(renderers=[points], tooltips=_tooltip(has_images), limit=1))
    _make_neutral(plot)
    script, place = components(plot)
    return LatentMapHtml(place, script)


# The page's variables reach into the tooltip. "@" names a column; bokeh escapes its values.
def _tooltip(has_images: bool) -> str:
    picture = (
        '<img src="@image" alt="datapoint @index" width="84" height="84" '
        'style="image-rendering: pixelated; object-fit: contain; display: block; '
        'margin-bottom: 6px">'
    )
    return (
        '<div class="map-tip" style="margin: -5px; padding: 8px; font-size: 12px; '
        'background: var(--card, #fff); color: var(--ink, #232a34)">'
        f"{picture if has_images else ''}"
        "<b>datapoint @index</b><br>log p(x) ≈ @log_px</div>"
    )


def _colours(values: NDArray[np.float64]) -> list[str]:
    """Colours by rank, so that a few outliers do not take the whole scale."""
    from bokeh.palettes import Viridis256

    known = np.isfinite(values)
    ranks = np.zeros(len(values))
    if known.any():
        order = np.argsort(np.argsort(values[known]))
        ranks[known] = order / max(1, known.sum() - 1)
    palette = Viridis256[30:236]
    shades = [palette[int(rank * (len(palette) - 1))] for rank in ranks]
    return [shade if ok else _NEUTRAL for shade, ok in zip(shades, known, strict=True)]


def _make_neutral(plot: object) -> None:
    """Makes everything but the points transparent or grey, for a light and a dark page."""
    from bokeh.plotting import figure

    assert isinstance(plot, figure)
    plot.background_fill_alpha = 0
    plot.border_fill_alpha = 0
    plot.outline_line_color = None
    plot.toolbar.logo = None
    plot.grid.grid_line_color = _FAINT
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = _NEUTRAL
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = _NEUTRAL
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
