"""The log-likelihood of each datapoint: the mean hides which ones the model does not know.

What is drawn are the estimates log p̂(x), each a lower bound in expectation; a low value can be
an unlikely datapoint or one whose estimate failed, and the Pareto k̂ beside it tells which.
"""

from __future__ import annotations

__all__ = ["LogLikelihoods", "log_likelihood_data", "plot_log_likelihood"]

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from elboscope.core import Estimate

from .style import BLUE, INK, ORANGE, blank


@dataclass(frozen=True, eq=False)
class LogLikelihoods:
    """What is drawn.

    Attributes:
        edges: Edges of the bins, in nats.
        counts: Datapoints in each bin.
        mean: The mean, in nats.
        worst: Indices of the lowest datapoints, the lowest first; not finite ones before all.
        worst_values: Their values, in nats.
        worst_khat: Their Pareto k̂; NaN where there is none.
        not_finite: How many values are NaN or infinite, which no bin holds.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean: float
    worst: NDArray[np.int64]
    worst_values: NDArray[np.float64]
    worst_khat: NDArray[np.float64]
    not_finite: int


def log_likelihood_data(log_px: Estimate | None, num_worst: int = 12) -> LogLikelihoods | None:
    """Returns the histogram of log p̂(x) and the datapoints at its lower end.

    Args:
        log_px: One value per datapoint.
        num_worst: How many to list.

    Example:
        >>> import torch
        >>> values = torch.tensor([-1.0, -9.0, -2.0])
        >>> log_px = Estimate.per_datapoint("log p(x)", "exact", values, values * 0, "unbiased")
        >>> log_likelihood_data(log_px, num_worst=2).worst.tolist()
        [1, 2]
    """
    if log_px is None or not len(log_px.values):
        return None
    values = log_px.values.detach().double().cpu().numpy()
    finite = np.isfinite(values)
    if not finite.any():
        return None
    khat = log_px.diagnostics.get("khat")
    tails = np.full(len(values), np.nan) if khat is None else khat.detach().double().cpu().numpy()
    order = np.argsort(np.where(finite, values, -np.inf), kind="stable")[:num_worst]
    bins = int(np.clip(np.sqrt(finite.sum()) * 1.5, 8, 50))
    counts, edges = np.histogram(values[finite], bins=bins)
    return LogLikelihoods(
        edges.astype(np.float64),
        counts.astype(np.int64),
        float(values[finite].mean()),
        order.astype(np.int64),
        values[order],
        tails[order],
        int((~finite).sum()),
    )


def plot_log_likelihood(data: LogLikelihoods) -> Figure:
    """Draws the histogram, with the mean and the datapoints that are shown beside it.

    Example:
        >>> index, value = np.array([0]), np.array([-1.0])
        >>> edges, counts = np.array([-1.5, 0.0]), np.array([1])
        >>> data = LogLikelihoods(edges, counts, -1.0, index, value, value, 0)
        >>> plot_log_likelihood(data).axes[0].get_ylabel()
        'datapoints'
    """
    figure, axes = blank()
    axes.bar(data.edges[:-1], data.counts, np.diff(data.edges) * 0.96, align="edge", color=BLUE)
    axes.axvline(data.mean, color=INK, lw=1.2, ls="--")
    shown = data.worst_values[np.isfinite(data.worst_values)]
    for value in shown:
        axes.axvline(value, ymax=0.07, color=ORANGE, lw=2)
    axes.text(
        0.0,
        1.04,
        f"mean {data.mean:.2f} (dashed); the lowest {len(data.worst)} in orange".replace("-", "−"),
        transform=axes.transAxes,
        color=INK,
        size=11,
    )
    axes.set_xlabel("log p(x) estimate, nats")
    axes.set_ylabel("datapoints")
    axes.grid(axis="x", visible=False)
    return figure
