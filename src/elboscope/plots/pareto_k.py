"""The Pareto tail index k̂ of each datapoint's importance weights: who can be believed.

Below ½ the weights have a variance and the printed errors mean what they say; between ½ and 0.7
the errors are too small; above 0.7 the estimate is not usable at practical K (Vehtari et al.,
2024, https://arxiv.org/abs/1507.02646). k̂ says nothing about a mode that no sample has found.
"""

from __future__ import annotations

__all__ = ["ParetoK", "pareto_k_data", "plot_pareto_k"]

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from elboscope.core import Estimate

from .style import BLUE, INK, ORANGE, RED, blank

# Where the errors stop being reliable, and where the estimate does.
LIMITS = (0.5, 0.7)


@dataclass(frozen=True, eq=False)
class ParetoK:
    """What is drawn.

    Attributes:
        edges: Edges of the bins.
        counts: Datapoints in each bin; k̂ outside [−0.5, 1.5] is counted in the outermost ones.
        shares: Shares of datapoints with k̂ below ½, in [½, 0.7), and of 0.7 or more.
        unknown: How many have no k̂ (too few samples, or weights that are not finite).
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    shares: tuple[float, float, float]
    unknown: int


def pareto_k_data(log_px: Estimate | None) -> ParetoK | None:
    """Returns the histogram of k̂, or None if there is no estimate with a k̂.

    Args:
        log_px: An importance-sampling estimate with the diagnostic "khat".

    Example:
        >>> import torch
        >>> v = torch.tensor([0.1, 0.6, 0.9, 0.2])
        >>> e = Estimate.per_datapoint("log p(x)", "IS", v, v, "lower", diagnostics={"khat": v})
        >>> pareto_k_data(e).shares
        (0.5, 0.25, 0.25)
    """
    khat = None if log_px is None else log_px.diagnostics.get("khat")
    if khat is None:
        return None
    values = khat.detach().double().cpu().numpy()
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    edges = np.linspace(-0.5, 1.5, 41)
    counts, _ = np.histogram(np.clip(known, -0.499, 1.499), edges)
    low, high = float((known < LIMITS[0]).mean()), float((known >= LIMITS[1]).mean())
    shares = (low, float(((known >= LIMITS[0]) & (known < LIMITS[1])).mean()), high)
    return ParetoK(edges, counts.astype(np.int64), shares, len(values) - len(known))


def plot_pareto_k(data: ParetoK) -> Figure:
    """Draws the histogram with the two limits.

    Example:
        >>> data = ParetoK(np.array([0.0, 0.1]), np.array([2]), (1.0, 0.0, 0.0), 0)
        >>> plot_pareto_k(data).axes[0].get_xlabel()
        'Pareto k̂ of the importance weights'
    """
    figure, axes = blank()
    left = data.edges[:-1] + 1e-9
    colours = np.select([left >= LIMITS[1], left >= LIMITS[0]], [RED, ORANGE], BLUE)
    axes.bar(left, data.counts, np.diff(data.edges) * 0.94, align="edge", color=list(colours))
    for limit in LIMITS:
        axes.axvline(limit, color=INK, lw=0.9, ls="--")
    _, middle, high = data.shares
    axes.text(
        0.0,
        1.04,
        f"{middle:.1%} between 0.5 and 0.7, {high:.1%} of 0.7 or more",
        transform=axes.transAxes,
        color=INK,
        size=11,
    )
    axes.set_xlim(data.edges[0], data.edges[-1])
    axes.set_xlabel("Pareto k̂ of the importance weights")
    axes.set_ylabel("datapoints")
    axes.grid(axis="x", visible=False)
    return figure
