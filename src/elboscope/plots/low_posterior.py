r"""Low-posterior samples: a gallery, four histograms, and where the latents lie.

The gallery sets the samples with the lowest :math:`\log q(z) - \log p(z)` above their nearest
datapoints and above ordinary samples. The histograms show pixel values, KL and ELBO of data, of
these neighbours and of the samples; the map shows prior, q(z) and the low-q latents.
"""

from __future__ import annotations

__all__ = [
    "LowPosteriorPlot",
    "low_posterior_data",
    "plot_low_posterior",
    "plot_low_posterior_places",
    "plot_low_posterior_scores",
]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from elboscope.estimators import LowSampleAnalysis

from .samples import as_images, value_range
from .style import BLUE, GREEN, GREY, INK, ORANGE, RED, blank, dressed, legend_above

NUM_SHOWN = 12
ROWS = ("low q(z)", "nearest data", "ordinary")
COLOURS = {"data": BLUE, "neighbours": GREEN, "low": ORANGE, "ordinary": GREY, "low means": RED}
COLOURS |= {"prior": GREY, "aggregate posterior": BLUE}
SHORT = {"aggregate posterior": "q(z)", "low": "low q(z)"}


@dataclass(frozen=True, eq=False)
class LowPosteriorPlot:
    """What is drawn.

    Attributes:
        gallery: Row by row the first pictures (n, H, W, 3); None where data are not images.
        pixels: Shares of pixel values, all channels together, (256,).
        edges: The 257 edges of their bins.
        kl: KL(q(z|x) ‖ p(z)), in nats; may be empty.
        elbo: The ELBO, in nats.
        separation: How well the ELBO tells data from low samples, in words.
        embedding: Points of the map by name; may be empty.
        embedded_by: "t-SNE" or "latents".
    """

    gallery: Mapping[str, NDArray[np.uint8]] | None
    pixels: Mapping[str, NDArray[np.float64]]
    edges: NDArray[np.float64]
    kl: Mapping[str, NDArray[np.float64]]
    elbo: Mapping[str, NDArray[np.float64]]
    separation: str
    embedding: Mapping[str, NDArray[np.float64]]
    embedded_by: str


def low_posterior_data(analysis: LowSampleAnalysis | None) -> LowPosteriorPlot | None:
    """Returns what is drawn, or None without an analysis.

    Example:
        >>> low_posterior_data(None) is None
        True
    """
    if analysis is None:
        return None
    pixels = {name: _numpy(counts.sum(0)) for name, counts in analysis.pixels.items()}
    return LowPosteriorPlot(
        _gallery(analysis),
        {name: counts / counts.sum() for name, counts in pixels.items()},
        _numpy(analysis.edges),
        {name: _numpy(values) for name, values in analysis.kl.items()},
        {name: _numpy(values) for name, values in analysis.elbo.items()},
        str(analysis.separation),
        {name: _numpy(points) for name, points in analysis.embedding.items()},
        analysis.embedded_by,
    )


def _gallery(analysis: LowSampleAnalysis) -> dict[str, NDArray[np.uint8]] | None:
    limits = value_range(analysis.neighbours)
    rows = (analysis.low.mean, analysis.neighbours, analysis.samples.ordinary.mean)
    images = [as_images(some[:NUM_SHOWN], limits) for some in rows]
    found = {name: some for name, some in zip(ROWS, images, strict=True) if some is not None}
    return found or None


def _numpy(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return array


def plot_low_posterior(data: LowPosteriorPlot) -> Figure:
    """Draws the gallery where there are images, the histograms, and the map.

    Example:
        >>> ones = {"data": np.ones(3), "low": np.zeros(3)}
        >>> edges = np.linspace(0, 1, 4)
        >>> data = LowPosteriorPlot(None, ones, edges, {}, ones, "AUROC 1", {}, "")
        >>> [axes.get_xlabel() for axes in plot_low_posterior(data).axes]
        ['pixel value', 'ELBO, nats (AUROC 1)']
    """
    figure, first = blank(width=760, height=760 if data.gallery else 480)
    figure.delaxes(first)
    panels = ["pixels"] + ["kl"] * bool(data.kl) + ["elbo"] + ["map"] * bool(data.embedding)
    lines = -(-len(panels) // 2)
    heights = [1.1] * bool(data.gallery) + [1.0] * lines
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    if data.gallery is not None:
        _draw_gallery(figure.add_subplot(grid[0, :]), data.gallery)
    for i, panel in enumerate(panels):
        axes = dressed(figure.add_subplot(grid[i // 2 + bool(data.gallery), i % 2]))
        _DRAWN[panel](axes, data)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def plot_low_posterior_scores(data: LowPosteriorPlot) -> Figure:
    """Draws the histograms of the ELBO and of the KL, one below the other.

    Example:
        >>> ones = {"data": np.ones(3), "low": np.zeros(3)}
        >>> data = LowPosteriorPlot(None, {}, np.ones(2), ones, ones, "AUROC 1", {}, "")
        >>> [axes.get_xlabel() for axes in plot_low_posterior_scores(data).axes]
        ['ELBO, nats (AUROC 1)', 'KL(q(z|x) ‖ p(z)), nats']
    """
    return _stacked(data, ["elbo"] + ["kl"] * bool(data.kl))


def plot_low_posterior_places(data: LowPosteriorPlot) -> Figure:
    """Draws the shares of pixel values, and below it where the latents lie."""
    return _stacked(data, ["pixels"] + ["map"] * bool(data.embedding))


def _stacked(data: LowPosteriorPlot, panels: list[str]) -> Figure:
    """Figures as wide as all others of a page."""
    figure, first = blank(height=60 + 185 * len(panels))
    figure.delaxes(first)
    for i, panel in enumerate(panels):
        axes = dressed(figure.add_subplot(len(panels), 1, i + 1))
        _DRAWN[panel](axes, data)
        if panel == "map":
            axes.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=3, markerscale=2)
    legend_above(figure, figure.axes[0], columns=3)
    return figure


def _draw_gallery(axes: Axes, gallery: Mapping[str, NDArray[np.uint8]]) -> None:
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in gallery.values()])
    axes.imshow(picture, interpolation="nearest")
    height = picture.shape[0] / len(gallery)
    axes.set_yticks([height * (i + 0.5) - 0.5 for i in range(len(gallery))], list(gallery))
    axes.set_xticks([])
    axes.grid(visible=False)


def _draw_pixels(axes: Axes, data: LowPosteriorPlot) -> None:
    for name, share in data.pixels.items():
        axes.stairs(share, data.edges, color=COLOURS[name], label=name)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_xlabel("pixel value")


def _draw_kl(axes: Axes, data: LowPosteriorPlot) -> None:
    _histograms(axes, data.kl)
    axes.set_xlabel("KL(q(z|x) ‖ p(z)), nats")


def _draw_elbo(axes: Axes, data: LowPosteriorPlot) -> None:
    _histograms(axes, data.elbo)
    axes.set_xlabel(f"ELBO, nats ({data.separation})")


def _histograms(axes: Axes, sets: Mapping[str, NDArray[np.float64]]) -> None:
    together = np.concatenate(list(sets.values()))
    edges = np.histogram_bin_edges(together[np.isfinite(together)], bins=30).tolist()
    for name, values in sets.items():
        axes.hist(values, edges, density=True, histtype="step", color=COLOURS[name], label=name)


def _draw_map(axes: Axes, data: LowPosteriorPlot) -> None:
    for name, points in data.embedding.items():
        axes.plot(*points.T, ".", ms=4, color=COLOURS[name], label=SHORT.get(name, name))
    axes.set_xlabel(data.embedded_by)
    if data.embedded_by != "latents":  # distances of t-SNE have no unit
        axes.set_xticks([])
        axes.set_yticks([])


_DRAWN = {"pixels": _draw_pixels, "kl": _draw_kl, "elbo": _draw_elbo, "map": _draw_map}
