r"""Where the average KL goes: to information about x, or to a mismatch with the prior.

.. math:: \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))
          = I(n; z) + \mathrm{KL}(q_N(z) \,\|\, p(z)), \qquad 0 \le I \le \log N

The ceiling is drawn because it is where the split stops meaning anything: at I = log N the
posteriors are too narrow for N points, and KL(q_N ‖ p) overstates that of the population.
"""

from __future__ import annotations

__all__ = ["SurgeryBars", "plot_surgery", "surgery_data"]

import math
from dataclasses import dataclass

from matplotlib.figure import Figure

from elboscope.core import Estimate

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
