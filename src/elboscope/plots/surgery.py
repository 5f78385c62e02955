r"""Where the average KL goes: to information about x, or to a mismatch with the prior.

.. math:: \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))
          = I(n; z) + \mathrm{KL}(q_N(z) \,\|\, p(z)), \qquad 0 \le I \le \log N

The ceiling is drawn because it is where the split stops meaning anything: at I = log N the
posteriors are too narrow for N points, and KL(q_N ‖ p) overstates that of the population.
"""

from __future__ import annotations

__all__ = [
    "KLEstimate",
    "MarginalKLPlot",
    "SurgeryBars",
    "marginal_kl_data",
    "plot_marginal_kl",
    "plot_surgery",
    "surgery_data",
]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

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
