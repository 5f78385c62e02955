"""log p(x) of simulated data between two bounds, and where the estimates lie between them.

Upper bounds exist for data that the model simulates, since only there an exact draw of the
posterior is known: nothing here is about the real data. AIS (blue) lies below log p(x) in
expectation, reverse AIS (orange) above; with twice the temperatures they come closer.
"""

from __future__ import annotations

__all__ = ["SandwichBounds", "plot_sandwich", "sandwich_data"]

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elboscope.core import Estimate
from elboscope.estimators import LogLikelihood

from .style import BLUE, GREEN, GREY, INK, ORANGE, Figure, blank

ERRORS = 2.0
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
        found: What :func:`elboscope.estimators.log_likelihood` returned.
    """
    if found is None:
        return None
    s = found.sandwich
    T, T2 = (e.settings["num_temperatures"] for e in (s.lower, s.lower_doubled))
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
