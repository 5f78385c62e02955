r"""The KL divergence of each latent unit: how many nats the encoder pays for it.

.. math:: \mathrm{KL}_j = \frac1N \sum_n \mathrm{KL}(q(z_j \mid x_n) \,\|\, p(z_j))

A unit at zero is unused. The converse does not hold: a unit can cost nats and the decoder can
ignore it, which only the effect of zeroing it shows.
"""

from __future__ import annotations

__all__ = ["UnitKL", "plot_unit_kl", "unit_kl_data"]

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from elboscope.core import Estimate

from .style import BLUE, GREY, ORANGE, blank, legend_above

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
