"""The importance-weighted bound against its number of samples, beside what AIS says.

L_K rises with K towards log p(x) and never beyond it in expectation. A curve that is still rising
at its end has not arrived; one that is flat below the line of AIS misses what q does not visit. All
values are of the same datapoints, and each is a lower bound: the higher is the better.
"""

from __future__ import annotations

__all__ = ["BoundBySamples", "bound_by_samples_data", "plot_bound_by_samples"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import Estimate

from .style import BLUE, GREY, INK, ORANGE, Figure, blank

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
    settings = annealed.settings
    how = f"T={settings['num_temperatures']}, C={settings['num_chains']}"
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
