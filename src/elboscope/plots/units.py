r"""Latent units: the KL that each costs, and how far its mean moves with the data."""

from __future__ import annotations

__all__ = [
    "ActiveUnits",
    "UnitKL",
    "active_units_data",
    "plot_active_units",
    "plot_unit_kl",
    "unit_kl_data",
]

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from elboscope.core import Estimate

from .style import BLUE, GREY, INK, ORANGE, blank, legend_above

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
