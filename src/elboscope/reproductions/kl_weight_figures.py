"""Figures of the sweep: rate against distortion, what latents decode to, where codes lie."""

from __future__ import annotations

__all__ = ["manifold", "plot_latents", "plot_manifolds", "plot_rate_distortion"]

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal

from elboscope.core import evaluating
from elboscope.models import VAE
from elboscope.plots.sample_grid import sample_grid_data
from elboscope.plots.style import BLUE, GREY, INK, ORANGE, RED, blank, legend_above

from .kl_weight_measures import Latents, Measured
from .kl_weight_networks import LATENTS, Setting
from .linear_collapse import linear_collapse

SIDE = 12
POINTS = 800
PANEL = 300


def plot_rate_distortion(
    found: Mapping[Setting, Measured], eigenvalues: Float64[Tensor, " D"]
) -> Figure:
    """Draws rate and information against the squared error, beside the best linear VAE.

    Args:
        found: The measures of each setting.
        eigenvalues: Of the pixels' covariance.
    """
    figure, axes = blank(400, 290)
    grid = np.geomspace(1e-4, float(eigenvalues[0]), 200)
    linear = [linear_collapse(eigenvalues, float(s), LATENTS) for s in grid]
    curve = ([one.error for one in linear], [one.information for one in linear])
    axes.plot(*curve, color=GREY, lw=1.2, ls="--", label=f"linear VAE, {LATENTS} units")
    for reduction, colour in (("sum", BLUE), ("mean", ORANGE)):
        own = {setting: m for setting, m in found.items() if setting.reduction == reduction}
        errors = [m.error[0] for m in own.values()]
        rates = [m.rate[0] for m in own.values()]
        axes.plot(errors, rates, "o", color=colour, ms=4, label=f"rate R, {reduction}")
        axes.vlines(errors, [m.information[0] for m in own.values()], rates, color=colour, lw=1)
        information = [m.information[0] for m in own.values()]
        axes.plot(errors, information, "o", color=colour, ms=4, mfc="none", label=f"I, {reduction}")
        for rank, setting in enumerate(own):
            at, above = (errors[rank], rates[rank]), 14 if rank == 0 else 3
            text = f"{setting.kl_weight:g}"
            axes.annotate(
                text, at, (4, above), textcoords="offset points", fontsize=9, color=colour
            )
    axes.set_xlabel("squared error of an image")
    axes.set_ylabel("nats")
    legend_above(figure, axes, columns=3)
    return figure


@torch.no_grad()
def manifold(
    model: VAE, codes: Float[Tensor, "m two"] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns what a square of latents decodes to: equal steps of the prior's quantiles.

    Args:
        model: With two latents.
        codes: Of an autoencoder, whose fitted Gaussian then stands for the prior.
    """
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(SIDE) + 0.5) / SIDE)
    z = torch.cartesian_prod(-quantiles, quantiles).flip(1)
    if codes is not None:
        z = codes.mean(0) + z.to(codes) @ torch.linalg.cholesky(torch.cov(codes.T)).T
    with evaluating(model):
        means = model.decode(z.to(next(model.parameters()))).mean
    return sample_grid_data(means)


def plot_manifolds(pictures: Mapping[str, UInt8[np.ndarray, "height width 3"]]) -> Figure:
    """Draws pictures side by side, each below its name.

    Example:
        >>> black = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> len(plot_manifolds({"a": black, "b": black}).axes)
        2
    """
    figure, first = blank(PANEL * len(pictures), PANEL + 20)
    first.remove()
    for i, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(1, len(pictures), i + 1)
        axes.imshow(picture, interpolation="antialiased")
        axes.set_axis_off()
        axes.set_title(name, fontsize=11.5, color=INK, loc="left")
    return figure


def plot_latents(spaces: Mapping[str, Latents]) -> Figure:
    """Draws codes, and the draws that lie where no code is, one panel a latent space."""
    figure, first = blank(PANEL * len(spaces), PANEL)
    first.remove()
    for i, (name, space) in enumerate(spaces.items()):
        axes = figure.add_subplot(1, len(spaces), i + 1, facecolor="none")
        points = space.codes[:POINTS].cpu()
        holes = space.drawn[space.outside].cpu()[:POINTS]
        axes.plot(points[:, 0], points[:, 1], ".", color=BLUE, ms=2, alpha=0.6, label="codes")
        label = "draws where no code is"
        axes.plot(holes[:, 0], holes[:, 1], "x", color=RED, ms=4, mew=1, label=label)
        share = space.uncovered[0]
        axes.set_title(f"{name}: {share:.1%} uncovered", fontsize=11.5, color=INK, loc="left")
        axes.tick_params(colors=GREY, labelsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            legend_above(figure, axes)
    return figure
