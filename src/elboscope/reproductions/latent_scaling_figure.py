"""Sparse beside dense codes: where the means lie, how certain each dimension is, what is made."""

from __future__ import annotations

__all__ = ["plot_codes", "plot_pictures"]

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from elboscope.plots.sample_grid import sample_grid_data
from elboscope.plots.style import BLUE, GREEN, GREY, INK, ORANGE, blank, dressed, legend_above

from .latent_scaling_plan import Subject
from .latent_scaling_values import BINS, WIDEST, Codes

PANEL, ROW, PICTURE = 260, 200, 240
SHOWN = 3.5
Found = Mapping[Subject, Codes]


def plot_codes(found: Found) -> Figure:
    """Returns the figure of one data set: a column for each number of latents.

    Args:
        found: Its models.
    """
    sizes = sorted({subject.latents for subject in found})
    figure, first = blank(60 + PANEL * len(sizes), 60 + 2 * ROW)
    first.remove()
    for column, d in enumerate(sizes):
        means = dressed(figure.add_subplot(2, len(sizes), column + 1))
        scales = dressed(figure.add_subplot(2, len(sizes), len(sizes) + column + 1))
        z = np.linspace(-WIDEST, WIDEST, BINS)
        normal = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        means.plot(z, normal, color=GREY, lw=1, ls="--", label="prior")
        for subject, codes in found.items():
            if subject.latents == d:
                label, style = _drawn(subject)
                density = codes.histogram / codes.histogram.sum() * BINS / (2 * WIDEST)
                means.step(z, density, where="mid", color=style, lw=1.4, label=label)
                share = np.arange(1, d + 1) / d
                scales.plot(share, codes.unit_std.sort().values, color=style, lw=1.4)
        means.set_yscale("log")
        means.set_ylim(1e-3, 30)
        means.set_xlim(-SHOWN, SHOWN)
        means.set_title(f"{d} latents", fontsize=11.5, color=INK, loc="left")
        means.set_xlabel("posterior mean")
        scales.set_ylim(0, 1.1)
        scales.set_xlabel("share of the dimensions")
        if column == 0:
            means.set_ylabel("density")
            scales.set_ylabel("posterior std")
            legend_above(figure, means, columns=4)
    return figure


def _drawn(subject: Subject) -> tuple[str, str]:
    if subject.kind == "VAE":
        return "VAE", BLUE
    return ("AAE, wider discriminator", GREEN) if subject.wide else ("AAE", ORANGE)


def plot_pictures(found: Found) -> Figure:
    """Returns reconstructions (upper half) and samples (lower half) of every model of a data set.

    Args:
        found: Its models.
    """
    sizes = sorted({subject.latents for subject in found})
    rows = list(dict.fromkeys(_drawn(subject)[0] for subject in found))
    figure, first = blank(PICTURE * len(sizes), (PICTURE + 20) * len(rows))
    first.remove()
    for subject, codes in found.items():
        kind, _ = _drawn(subject)
        place = rows.index(kind) * len(sizes) + sizes.index(subject.latents) + 1
        axes = figure.add_subplot(len(rows), len(sizes), place)
        tiles = torch.cat([codes.reconstructed, codes.samples])
        axes.imshow(sample_grid_data(tiles), interpolation="antialiased")
        axes.set_axis_off()
        title = f"{kind.split(',')[0]}, {subject.latents} latents"
        axes.set_title(title, fontsize=11.5, color=INK, loc="left")
    return figure
