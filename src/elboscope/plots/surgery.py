r"""Where the average KL goes: to information about x, or to a mismatch with the prior.

.. math:: \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))
          = I(n; z) + \mathrm{KL}(q_N(z) \,\|\, p(z)), \qquad 0 \le I \le \log N

The ceiling is drawn because it is where the split stops meaning anything: at I = log N the
posteriors are too narrow for N points, and KL(q_N ‖ p) overstates that of the population.
"""

from __future__ import annotations

__all__ = [
    "ActiveUnits",
    "KLEstimate",
    "MarginalKLPlot",
    "SurgeryBars",
    "UnitKL",
    "active_units_data",
    "marginal_kl_data",
    "plot_active_units",
    "plot_marginal_kl",
    "plot_surgery",
    "plot_unit_kl",
    "surgery_data",
    "unit_kl_data",
]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from elboscope.core import Estimate
from elboscope.estimators import ElboSurgery, MarginalKLComparison

from .style import BLUE, GREY, INK, ORANGE, RED, blank, legend_above


@dataclass(frozen=True)
class SurgeryBars:
    """What is drawn, in nats per datapoint.

    Attributes:
        kl: The average KL, the length of the whole bar.
        mutual_information: Its first part.
        marginal_kl: Its second part, for the mixture of these N posteriors.
        marginal_kl_stderr: The error of the second part.
        held_out: A lower bound on the population's marginal KL; None if not estimated.
        log_n: The ceiling of the first part.
        interval: Where the marginal KL must lie: [KL − log N, KL], cut at zero.
    """

    kl: float
    mutual_information: float
    marginal_kl: float
    marginal_kl_stderr: float
    held_out: float | None
    log_n: float
    interval: tuple[float, float]


def surgery_data(
    kl: Estimate | None,
    mutual_information: Estimate | None,
    marginal_kl: Estimate | None,
    held_out: Estimate | None,
    log_n: float,
) -> SurgeryBars | None:
    """Returns the parts of the bar, or None if one of the first three is missing.

    Args:
        kl: The average KL to the prior.
        mutual_information: I(n; z).
        marginal_kl: KL(q_N ‖ p).
        held_out: The held-out lower bound on KL(q ‖ p).
        log_n: log N.

    Example:
        >>> surgery_data(None, None, None, None, 1.0) is None
        True
    """
    if kl is None or mutual_information is None or marginal_kl is None:
        return None
    parts = (kl.mean, mutual_information.mean, marginal_kl.mean)
    if not all(map(math.isfinite, parts)):
        return None
    below = None if held_out is None or not math.isfinite(held_out.mean) else held_out.mean
    interval = (max(0.0, kl.mean - log_n), kl.mean)
    return SurgeryBars(*parts, marginal_kl.stderr, below, log_n, interval)


def plot_surgery(data: SurgeryBars) -> Figure:
    """Draws the bar, the ceiling and, below it, the interval with the held-out bound.

    Example:
        >>> bars = SurgeryBars(9.0, 4.0, 5.0, 0.1, 4.0, math.log(100), (4.4, 9.0))
        >>> plot_surgery(bars).axes[0].get_xlabel()
        'nats per datapoint'
    """
    figure, axes = blank(height=235)
    information, marginal = max(0.0, data.mutual_information), max(0.0, data.marginal_kl)
    axes.barh(1, information, height=0.5, color=BLUE, label="mutual information I(n; z)")
    axes.barh(1, marginal, left=information, height=0.5, color=ORANGE, label="marginal KL")
    axes.plot([data.log_n] * 2, [0.62, 1.38], color=RED, lw=2, label="ceiling log N")
    axes.plot(
        data.interval, [0, 0], "|-", color=GREY, ms=12, lw=1.6, label="interval of KL(q_N ‖ p)"
    )
    if data.held_out is not None:
        x = max(0.0, data.held_out)
        axes.plot([x], [0], ">", color=INK, ms=7, label="held-out lower bound")
    axes.plot([marginal], [0], "o", color=ORANGE, ms=6)
    axes.set_yticks([1, 0], ["average\nKL", "marginal\nKL"])
    axes.set_ylim(-0.6, 1.6)
    axes.set_xlim(0, 1.04 * max(data.kl, data.log_n, information + marginal, 1e-3))
    axes.set_xlabel("nats per datapoint")
    axes.grid(axis="y", visible=False)
    legend_above(figure, axes)
    return figure


# How much each unit's posterior mean moves with the data.
#
# .. math:: A_j = \mathrm{Var}_x\, \mathbb{E}_{q(z \mid x)}[z_j], \qquad
#           \mathrm{AU} = \#\{j : A_j > 0.01\}
#
# The histogram tells what the count alone does not: whether the threshold divides two groups, or
# cuts through one.

THRESHOLD = 0.01  # Burda et al. (2016)
# Variances below this are drawn at it: a unit that is exactly constant has log-variance −∞.
FLOOR = 1e-8


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """What is drawn: a histogram over log₁₀ of the variance.

    Attributes:
        edges: Edges of the bins, in log₁₀; one lies on the threshold.
        counts: Units in each bin.
        active: How many lie above the threshold.
        total: How many there are.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    active: int
    total: int


def active_units_data(active_units: Estimate | None) -> ActiveUnits | None:
    """Returns the histogram of the variances of the posterior means.

    Args:
        active_units: One variance per unit; axis "unit".

    Example:
        >>> import torch
        >>> values = torch.tensor([0.0, 0.5, 2.0])
        >>> a = Estimate("variance", "exact", values, values * 0, "unbiased", 0.0, "unit")
        >>> data = active_units_data(a)
        >>> data.active, data.total, int(data.counts.sum())
        (2, 3, 3)
    """
    if active_units is None:
        return None
    values = active_units.values.detach().double().cpu().numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    logs = np.log10(np.maximum(values, FLOOR))
    low, high = np.floor(min(-4.0, logs.min())), np.ceil(max(0.0, logs.max())) + 0.25
    edges = np.arange(low, high + 0.125, 0.25)
    counts, _ = np.histogram(logs, edges)
    return ActiveUnits(edges, counts.astype(np.int64), int((values > THRESHOLD).sum()), len(values))


def plot_active_units(data: ActiveUnits) -> Figure:
    """Draws the histogram, the threshold, and the count.

    Example:
        >>> data = ActiveUnits(np.array([-2.0, 0.0]), np.array([3]), 3, 3)
        >>> plot_active_units(data).axes[0].get_ylabel()
        'units'
    """
    figure, axes = blank()
    widths = np.diff(data.edges)
    above = data.edges[:-1] >= np.log10(THRESHOLD) - 1e-9
    axes.bar(
        data.edges[:-1],
        data.counts,
        width=widths * 0.94,
        align="edge",
        color=[BLUE if is_above else GREY for is_above in above],
    )
    axes.axvline(np.log10(THRESHOLD), color=INK, lw=1, ls="--")
    axes.text(
        0.5,
        1.04,
        f"{data.active} of {data.total} units above 0.01",
        transform=axes.transAxes,
        ha="center",
        color=INK,
        size=11,
    )
    ticks = np.arange(np.ceil(data.edges[0]), np.floor(data.edges[-1]) + 1)
    axes.set_xticks(ticks, [_power(int(tick)) for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("variance of the posterior mean over the data")
    axes.set_ylabel("units")
    axes.grid(axis="x", visible=False)
    return figure


def _power(exponent: int) -> str:
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "1" if exponent == 0 else "10" + str(exponent).translate(digits)


# Estimates of KL(q(z) ‖ p(z)) side by side, each drawn as what it is.
#
# The mixture of N posteriors has an interval that contains KL(q_N ‖ p) whatever was drawn,
# :math:`[\mathrm{avgKL} - \log N, \mathrm{avgKL}]`; a lower bound has an arrow towards where the
# population's KL lies; a density ratio is a point that nothing places. Bars are two standard
# errors.

Kind = Literal["mixture", "no bound", "lower bound"]
WORDS = {
    "mixture": "mixture of N",
    "mixture_plain": "mixture, plain",
    "ratio": "classifier",
    "discriminator": "discriminator",
    "donsker_varadhan": "Donsker–Varadhan",
    "nwj": "NWJ",
    "gmm": "Gaussian mixture",
    "maf": "flow",
    "lstm": "LSTM",
    "held_out": "held-out density",
    "fitted_prior": "fitted prior",
}
COLOURS: dict[Kind, str] = {"mixture": BLUE, "no bound": GREY, "lower bound": ORANGE}


@dataclass(frozen=True)
class KLEstimate:
    """One row.

    Attributes:
        label: What it is by.
        mean: In nats.
        stderr: Its standard error.
        kind: What kind of number it is.
    """

    label: str
    mean: float
    stderr: float
    kind: Kind


@dataclass(frozen=True)
class MarginalKLPlot:
    """What is drawn, in nats.

    Attributes:
        rows: From the top.
        interval: Where KL(q_N ‖ p) lies; None where the average KL is not known.
        log_n: log N.
    """

    rows: tuple[KLEstimate, ...]
    interval: tuple[float, float] | None
    log_n: float


def marginal_kl_data(
    comparison: MarginalKLComparison | None,
    surgery: ElboSurgery | None = None,
    bounds: Mapping[str, Estimate] | None = None,
) -> MarginalKLPlot | None:
    """Returns what is drawn, or None where nothing was estimated.

    Args:
        comparison: All estimates; without it those of the surgery alone are drawn.
        surgery: The mixture, where there is no comparison.
        bounds: Further lower bounds by name, and the model's own discriminator.

    Example:
        >>> marginal_kl_data(None) is None
        True
    """
    found: dict[str, Estimate] = {}
    if comparison is not None:
        found = dict(comparison.estimates)
        interval, log_n = comparison.interval, comparison.log_n
    elif surgery is not None:
        found["mixture"] = surgery.marginal_kl
        interval, log_n = surgery.interval, surgery.log_n
    else:
        return None
    found |= {name: e for name, e in (bounds or {}).items() if name not in found}
    lower = {"fitted_prior", *(name for name, e in found.items() if e.side == "lower")}
    rows = tuple(
        KLEstimate(WORDS.get(name, name), e.mean, e.stderr, _kind(name, name in lower))
        for name, e in found.items()
        if name != "mixture_plain" and math.isfinite(e.mean)
    )
    return MarginalKLPlot(rows, interval, log_n) if rows else None


def _kind(name: str, lower: bool) -> Kind:
    if lower:
        return "lower bound"
    return "mixture" if name == "mixture" else "no bound"


def plot_marginal_kl(data: MarginalKLPlot) -> Figure:
    """Draws a row an estimate, the interval as a band.

    Example:
        >>> rows = (KLEstimate("mixture of N", 2.0, 0.1, "mixture"),
        ...         KLEstimate("flow", 1.5, 0.1, "lower bound"))
        >>> figure = plot_marginal_kl(MarginalKLPlot(rows, (0.0, 5.0), 7.0))
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['mixture of N', 'flow']
    """
    figure, axes = blank(height=130 + 24 * len(data.rows))
    largest = max(max(row.mean + 2 * _known(row.stderr), 0.0) for row in data.rows)
    right = 1.18 * max(largest, 0.1)
    if data.interval is not None:
        low, high = data.interval
        axes.axvspan(low, min(high, right), color=BLUE, alpha=0.13, lw=0, label="KL(q_N ‖ p)")
    seen: set[Kind] = set()
    for place, row in enumerate(data.rows):
        colour, label = COLOURS[row.kind], None if row.kind in seen else row.kind
        seen.add(row.kind)
        error = 2 * _known(row.stderr)
        axes.errorbar(row.mean, place, xerr=error, fmt="o", color=colour, ms=5, lw=1.4, label=label)
        if row.kind == "lower bound":
            start = (row.mean + error, place)
            end = (row.mean + error + 0.07 * right, place)
            axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour})
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(data.rows)), [row.label for row in data.rows])
    axes.set_ylim(len(data.rows) - 0.4, -0.6)
    axes.set_xlim(min(0.0, *(row.mean - 2 * _known(row.stderr) for row in data.rows)), right)
    axes.set_xlabel("KL(q(z) ‖ p(z)), nats")
    axes.grid(axis="y", visible=False)
    legend_above(figure, axes)
    return figure


def _known(stderr: float) -> float:
    return stderr if math.isfinite(stderr) else 0.0


# The KL divergence of each latent unit: how many nats the encoder pays for it.
#
# .. math:: \mathrm{KL}_j = \frac1N \sum_n \mathrm{KL}(q(z_j \mid x_n) \,\|\, p(z_j))
#
# A unit at zero is unused. The converse does not hold: a unit can cost nats and the decoder can
# ignore it, which only the effect of zeroing it shows.

# Below this many nats a unit counts as unused (Lucas et al. 2019).
UNUSED = 0.01


@dataclass(frozen=True, eq=False)
class UnitKL:
    """What is drawn, sorted from the most to the least expensive unit.

    Attributes:
        unit: The unit's index in z, flattened.
        kl: Its mean KL, in nats.
        mc_stderr: Its Monte Carlo error.
        zeroing: Loss of reconstruction, in nats, when the unit is replaced by the prior's
            mean; None if not measured.
    """

    unit: NDArray[np.int64]
    kl: NDArray[np.float64]
    mc_stderr: NDArray[np.float64]
    zeroing: NDArray[np.float64] | None


def unit_kl_data(unit_kl: Estimate | None, zeroing: Estimate | None = None) -> UnitKL | None:
    """Returns the units in the order of their KL, or None without an estimate.

    Args:
        unit_kl: The KL per unit; axis "unit".
        zeroing: The effect of replacing each unit; axis "unit".

    Example:
        >>> import torch
        >>> values = torch.tensor([0.0, 2.0])
        >>> kl = Estimate("KL", "exact", values, values * 0, "unbiased", 0.0, "unit")
        >>> unit_kl_data(kl).unit.tolist()
        [1, 0]
    """
    if unit_kl is None:
        return None
    kl = _numpy(unit_kl)
    order = np.argsort(-kl, kind="stable")
    effect = None if zeroing is None or len(zeroing.values) != len(kl) else _numpy(zeroing)[order]
    mc_stderr = unit_kl.mc_stderr.detach().double().cpu().numpy()
    return UnitKL(order.astype(np.int64), kl[order], mc_stderr[order], effect)


def _numpy(estimate: Estimate) -> NDArray[np.float64]:
    values: NDArray[np.float64] = estimate.values.detach().double().cpu().numpy()
    return values


def plot_unit_kl(data: UnitKL) -> Figure:
    """Draws a bar per unit and, where known, the effect of zeroing it as a dot.

    Example:
        >>> one = np.ones(1)
        >>> len(plot_unit_kl(UnitKL(np.arange(1), one, one, None)).axes)
        1
    """
    figure, axes = blank()
    at = np.arange(len(data.kl))
    axes.bar(at, np.nan_to_num(data.kl), width=0.8, color=BLUE, label="KL")
    if data.zeroing is not None:
        axes.plot(at, data.zeroing, "o", ms=4, color=ORANGE, label="reconstruction lost without it")
    axes.axhline(UNUSED, color=GREY, lw=0.8, ls=":")
    axes.set_xlabel("latent unit, by KL")
    axes.set_ylabel("nats")
    if len(at) <= 20:
        axes.set_xticks(at, [str(unit) for unit in data.unit])
    axes.grid(axis="x", visible=False)
    legend_above(figure, axes)
    return figure
