r"""Pareto smoothing: whether an importance-sampling average can be believed at all.

The largest weights are fitted by a generalised Pareto distribution with tail index k. For
k < ½ the weights have a variance and the central limit theorem holds; beyond 0.7 the average is
not usable at practical K; for k ≥ 1 its mean does not exist. The fit is that of arviz-stats,
the reference implementation, whose convention is that of leave-one-out (it smooths the *other*
sign): the weights go in negated.
"""

from __future__ import annotations

__all__ = ["ParetoSmoothed", "pareto_smoothed"]

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

# Weights this close (in nats) are equal but for the rounding of sums over thousands of terms: an
# exact posterior gives them, and no tail can be fitted to rounding.
EQUAL = 1e-9
# Six weights in the tail: some versions of the reference fit five, others refuse.
FEWEST = 30


class ParetoSmoothed(NamedTuple):
    """The tail index of each column of weights and the smoothed log-mean."""

    khat: Float64[Tensor, " B"]
    log_mean: Float64[Tensor, " B"]


def pareto_smoothed(log_w: Float[Tensor, "K B"]) -> ParetoSmoothed:
    r"""Fits the tail of each datapoint's weights; returns k̂ and the PSIS value of log mean w.

    The PSIS value has less variance than the plain average and a bias of unknown side: it is
    not a bound. Columns that are not finite, and K < 30 (fewer than six weights in the tail),
    give NaN; where the largest weights are all equal (an exact posterior, few discrete latents)
    nothing is heavy: k̂ = −∞, and the value is the plain one.

    Args:
        log_w: Log-weights, in nats.

    References:
        | Pareto Smoothed Importance Sampling (Vehtari et al.), https://arxiv.org/abs/1507.02646

    Example:
        >>> from elboscope.core import seeded
        >>> with seeded(0):  # log w = c·Exp(1) has tail index c
        ...     log_w = 0.6 * torch.empty(20_000, 1, dtype=torch.float64).exponential_()
        >>> bool((pareto_smoothed(log_w).khat - 0.6).abs() < 0.1)
        True
    """
    rows = log_w.detach().double().cpu().T.numpy()
    pairs = [_smooth(row) for row in rows]
    khat, log_mean = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).T
    return ParetoSmoothed(khat.to(log_w.device), log_mean.to(log_w.device))


def _tail_length(K: int) -> int:
    """How many weights are fitted, as arviz-stats does."""
    return math.floor(min(K / 5, 3 * math.sqrt(K)))


def _smooth(log_w: np.ndarray) -> tuple[float, float]:
    from arviz_stats.base import array_stats

    K = len(log_w)
    if K < FEWEST or not np.isfinite(log_w).all():
        return math.nan, math.nan
    lowest = int(log_w.argmin())
    if log_w.max() - log_w[lowest] <= EQUAL:
        return -math.inf, float(log_w[lowest])
    tail = np.partition(log_w, K - _tail_length(K))[-_tail_length(K) :]
    if tail.max() - tail.min() <= EQUAL:
        return -math.inf, float(np.logaddexp.reduce(log_w) - math.log(K))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # ties: k̂ is NaN
        normalised, khat = array_stats.psislw(-log_w)
    # psislw returns weights that sum to one; the lowest weight lies outside the tail and was
    # not smoothed, so the difference there is the normaliser that was taken away.
    log_sum = log_w[lowest] - normalised[lowest]
    return float(khat), float(log_sum - math.log(K))
