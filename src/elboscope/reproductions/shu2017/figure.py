"""Figures of the single bit: the bound's parts against the copies, and the flat valley.

What training reached is a point for each seed; what is best is a line. The valley shows why a
collapsed KL must not be asked for: along s² = 1 − m² the loss rises as m⁸/12, and the KL as m²/2.
"""

from __future__ import annotations

__all__ = ["Valley", "plot_copies", "plot_valley", "valley"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from elboscope.models import SingleBit
from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, blank, legend_above

from .network import Bit

PARTS: Mapping[str, tuple[str, Callable[[Bit], float]]] = {
    "ELBO": (BLUE, lambda bit: -bit.elbo),
    "distortion": (ORANGE, lambda bit: -bit.reconstruction),
    "KL": (GREEN, lambda bit: bit.kl),
}


class Valley(NamedTuple):
    """The loss of one copy along s² = 1 − m², in nats.

    Attributes:
        m: Distance of the posterior means from zero.
        excess: The negative ELBO minus ln 2.
        kl: The KL that goes with it.
    """

    m: NDArray[np.float64]
    excess: NDArray[np.float64]
    kl: NDArray[np.float64]

    @property
    def law(self) -> NDArray[np.float64]:
        """m⁸/12, the leading term of the excess."""
        found: NDArray[np.float64] = self.m**8 / 12
        return found


@torch.no_grad()
def valley(m: Sequence[float]) -> Valley:
    """Returns the loss of one copy along the valley, by quadrature.

    Args:
        m: Distances in (0, 1).

    Example:
        >>> at = valley([0.5, 0.9])
        >>> [f"{excess:.2g}" for excess in at.excess.tolist()]
        ['0.00039', '0.19']
    """
    bits = [SingleBit(at, math.sqrt(1 - at**2)) for at in m]
    excess = [-bit.elbo().item() - math.log(2) for bit in bits]
    return Valley(np.array(m), np.array(excess), np.array([bit.kl().item() for bit in bits]))


def plot_valley(data: Valley) -> Figure:
    """Draws excess, law and KL on a logarithmic axis.

    Example:
        >>> plot_valley(valley([0.4, 0.8])).axes[0].get_xlabel()
        'm, with s² = 1 − m²'
    """
    figure, axes = blank()
    axes.plot(data.m, data.excess, color=BLUE, lw=1.6, label="loss − ln 2")
    axes.plot(data.m, data.law, color=GREY, lw=1, ls="--", label="m⁸/12")
    axes.plot(data.m, data.kl, color=GREEN, lw=1.6, label="KL(q(z|x)‖p(z))")
    axes.set_yscale("log")
    axes.set_xlabel("m, with s² = 1 − m²")
    axes.set_ylabel("nats")
    legend_above(figure, axes, columns=3)
    return figure


def plot_copies(trained: Mapping[int, Sequence[Bit]], optimum: Mapping[int, Bit]) -> Figure:
    """Draws −ELBO, distortion and KL against the number of copies.

    Args:
        trained: For each number of copies one outcome a seed.
        optimum: The best of each.

    Example:
        >>> bit = Bit(-0.9, -0.2, 0.7, 0.6, 0.1)
        >>> plot_copies({2: [bit]}, {2: bit}).axes[0].get_xlabel()
        'copies D of the bit'
    """
    figure, axes = blank()
    copies = sorted(optimum)
    for name, (colour, part) in PARTS.items():
        label = "−ELBO" if name == "ELBO" else name
        axes.plot(copies, [part(optimum[D]) for D in copies], color=colour, lw=1.2, label=label)
        found = [(D, part(bit)) for D in sorted(trained) for bit in trained[D]]
        axes.plot(*zip(*found, strict=True), "o", color=colour, ms=3.5, mfc="none", mew=1)
    axes.plot([], [], "o", color=GREY, ms=3.5, mfc="none", mew=1, label="trained, each seed")
    axes.axhline(math.log(2), color=GREY, lw=1, ls=":", label="ln 2, the entropy of the bit")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(copies))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(copies, [str(D) for D in copies])
    axes.set_xlabel("copies D of the bit")
    axes.set_ylabel("nats, all copies")
    legend_above(figure, axes, columns=3)
    return figure
