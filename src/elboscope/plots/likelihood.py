"""The log-likelihood of each datapoint: the mean hides which ones the model does not know.

What is drawn are the estimates log p̂(x), each a lower bound in expectation; a low value can be
an unlikely datapoint or one whose estimate failed, and the Pareto k̂ beside it tells which.

The file is long because the four pictures of one question stand together.
"""

from __future__ import annotations

__all__ = [
    "BoundBySamples",
    "LogLikelihoods",
    "ParetoK",
    "SandwichBounds",
    "bound_by_samples_data",
    "log_likelihood_data",
    "pareto_k_data",
    "plot_bound_by_samples",
    "plot_log_likelihood",
    "plot_pareto_k",
    "plot_sandwich",
    "sandwich_data",
]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import Estimate
from elboscope.estimators import LogLikelihood

from .style import BLUE, GREEN, GREY, INK, ORANGE, RED, blank


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


# The importance-weighted bound against its number of samples, beside what AIS says.
#
# L_K rises with K towards log p(x) and never beyond it in expectation. A curve that is still
# rising at its end has not arrived; one that is flat below the line of AIS misses what q does not
# visit. All values are of the same datapoints, and each is a lower bound: the higher is the
# better.

ERRORS = 2.0


@dataclass(frozen=True, eq=False)
class BoundBySamples:
    """What is drawn, in nats.

    Attributes:
        num_samples: K.
        bound: Mean of L_K over the datapoints.
        error: Its Monte Carlo error, the data held fixed.
        num_data: The datapoints, the same for all.
        annealed: Mean of AIS over them, or ``None``.
        annealed_error: Its Monte Carlo error.
        annealed_by: Temperatures and chains, in words.
    """

    num_samples: NDArray[np.int64]
    bound: NDArray[np.float64]
    error: NDArray[np.float64]
    num_data: int
    annealed: float | None = None
    annealed_error: float = 0.0
    annealed_by: str = ""


def bound_by_samples_data(
    bounds: Mapping[int, Estimate] | None,
    annealed: Estimate | None = None,
    rows: Tensor | None = None,
) -> BoundBySamples | None:
    """Returns the curve, of those datapoints that were annealed where there is AIS.

    Args:
        bounds: L_K by K, as ``importance_weighted_bounds`` returns them.
        annealed: AIS of some of their datapoints.
        rows: Which ones.

    Example:
        >>> import torch
        >>> v = torch.tensor([-2.0, -4.0])
        >>> e = Estimate.per_datapoint("log p(x)", "IS", v, v * 0, "lower")
        >>> bound_by_samples_data({1: e, 5: e}).bound.tolist()
        [-3.0, -3.0]
    """
    if not bounds:
        return None
    chosen = {K: _taken(e, None if annealed is None else rows) for K, e in sorted(bounds.items())}
    values = [_mean_and_error(*pair) for pair in chosen.values()]
    curve = np.array(values, dtype=np.float64)
    n = len(next(iter(chosen.values()))[0])
    K = np.array(list(chosen), dtype=np.int64)
    if annealed is None:
        return BoundBySamples(K, curve[:, 0], curve[:, 1], n)
    mean, error = _mean_and_error(annealed.values, annealed.mc_stderr)
    how = f"T={annealed.num_temperatures}, C={annealed.num_chains}"
    return BoundBySamples(K, curve[:, 0], curve[:, 1], n, mean, error, how)


def _taken(estimate: Estimate, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    if rows is None:
        return estimate.values, estimate.mc_stderr
    index = rows.to(estimate.values.device)
    return estimate.values[index], estimate.mc_stderr[index]


def _mean_and_error(values: Tensor, mc_stderr: Tensor) -> tuple[float, float]:
    error = mc_stderr.double().square().sum().sqrt() / len(values)
    return values.double().mean().item(), error.item()


def plot_bound_by_samples(data: BoundBySamples) -> Figure:
    """Draws the curve with bars of two errors, and AIS as a line with a band of two.

    Example:
        >>> K, v = np.array([1, 5]), np.array([-3.0, -2.0])
        >>> plot_bound_by_samples(BoundBySamples(K, v, v * 0, 10)).axes[0].get_xscale()
        'log'
    """
    figure, axes = blank()
    axes.set_xscale("log")
    if data.annealed is not None:
        spread = ERRORS * np.nan_to_num(data.annealed_error)
        axes.axhspan(data.annealed - spread, data.annealed + spread, color=ORANGE, alpha=0.18, lw=0)
        axes.axhline(data.annealed, color=ORANGE, lw=1.6)
    bars = ERRORS * np.nan_to_num(data.error)
    axes.errorbar(
        data.num_samples, data.bound, bars, color=BLUE, lw=1.8, marker="o", ms=3.5,
        elinewidth=1.0, ecolor=GREY,
    )  # fmt: skip
    axes.text(0.0, 1.04, _heading(data), transform=axes.transAxes, color=INK, size=11)
    axes.xaxis.set_major_formatter(lambda K, _: f"{K:g}")
    axes.set_xlabel("K, samples of the bound")
    axes.set_ylabel("lower bound on log p(x), nats")
    return figure


def _heading(data: BoundBySamples) -> str:
    if data.annealed is None:
        return f"n={data.num_data} datapoints; bars of two errors"
    return f"n={data.num_data}: L_K blue; AIS ({data.annealed_by}) orange"


# The Pareto tail index k̂ of each datapoint's importance weights: who can be believed.
#
# Below ½ the weights have a variance and the printed errors mean what they say; between ½ and 0.7
# the errors are too small; above 0.7 the estimate is not usable at practical K (Vehtari et al.,
# 2024, https://arxiv.org/abs/1507.02646). k̂ says nothing about a mode that no sample has found.

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


# log p(x) of simulated data between two bounds, and where the estimates lie between them.
#
# Upper bounds exist for data that the model simulates, since only there an exact draw of the
# posterior is known: nothing here is about the real data. AIS (blue) lies below log p(x) in
# expectation, reverse AIS (orange) above; with twice the temperatures they come closer.

_COLOURS = {"upper": ORANGE, "lower": BLUE, "estimate": GREEN}


@dataclass(frozen=True, eq=False)
class SandwichBounds:
    """What is drawn, from top to bottom, in nats.

    Attributes:
        labels: What each value is.
        kinds: ``"upper"``, ``"estimate"`` or ``"lower"``.
        means: Mean over the simulated datapoints.
        errors: Monte Carlo error of each mean, the data held fixed.
        num_data: Simulated datapoints.
        within: What the estimate is certified to, or would be; its error is in it.
        certified: Whether it is.
    """

    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    means: NDArray[np.float64]
    errors: NDArray[np.float64]
    num_data: int
    within: float
    certified: bool


def sandwich_data(found: LogLikelihood | None) -> SandwichBounds | None:
    """Returns the bounds on simulated data, and the estimates made on the same data.

    Args:
        found: What :func:`elboscope.estimators.likelihood.log_likelihood` returned.
    """
    if found is None:
        return None
    s = found.sandwich
    T, T2 = s.lower.num_temperatures, s.lower_doubled.num_temperatures
    rows: list[tuple[str, str, Estimate | None]] = [
        (f"reverse AIS, T={T}", "upper", s.upper),
        (f"reverse AIS, T={T2}", "upper", s.upper_doubled),
        ("both combined", "estimate", None if found.widened is None else found.simulated),
        ("importance sampling", "estimate", found.simulated_importance),
        (f"AIS, T={T2}", "lower", s.lower_doubled),
        (f"AIS, T={T}", "lower", s.lower),
    ]
    known = [(label, kind, e) for label, kind, e in rows if e is not None]
    return SandwichBounds(
        tuple(label for label, _, _ in known),
        tuple(kind for _, kind, _ in known),
        np.array([e.mean for *_, e in known]),
        np.array([e.mc_error_of_mean for *_, e in known]),
        len(s.x),
        found.certificate.within,
        found.certificate.certified,
    )


def plot_sandwich(data: SandwichBounds) -> Figure:
    """Draws each value with a bar of two errors, upper bounds on top.

    Example:
        >>> mean, error = np.array([-1.0, -2.0]), np.array([0.1, 0.1])
        >>> kinds = ("upper", "lower")
        >>> data = SandwichBounds(("above", "below"), kinds, mean, error, 20, 0.3, False)
        >>> [label.get_text() for label in plot_sandwich(data).axes[0].get_yticklabels()]
        ['above', 'below']
    """
    figure, axes = blank()
    places = np.arange(len(data.labels))[::-1]
    for place, kind, mean, error in zip(places, data.kinds, data.means, data.errors, strict=True):
        bar = ERRORS * np.nan_to_num(error)
        axes.errorbar(mean, place, xerr=bar, color=_COLOURS[kind], marker="o", ms=5, elinewidth=1.6)
    axes.set_yticks(places, data.labels)
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=5)
    axes.text(
        0.0, 1.04, f"simulated data, n={data.num_data}; bars of two errors",
        transform=axes.transAxes, color=INK, size=11,
    )  # fmt: skip
    axes.set_xlabel("log p(x) of simulated data, nats")
    axes.tick_params(axis="y", labelcolor=GREY, length=0)
    axes.grid(axis="y", visible=False)
    return figure
