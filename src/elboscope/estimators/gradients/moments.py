r"""From gradient draws to signal-to-noise ratios, their intervals, and the direction's noise.

For one coordinate of the gradient Δ, SNR = \|E Δ\|/σ(Δ); of R draws its estimate is
\|mean\|/sd. A coordinate without any signal therefore reads √(2/(πR)) ≈ 0.8/√R and not 0: the
floor. Of squares that part can be subtracted on average,

.. math:: E\,\frac{\bar\Delta_i^2}{s_i^2} \approx \mathrm{SNR}_i^2 + \frac1R,

so that the root mean square over coordinates, corrected, falls below the floor where there are
many of them. The directional ratio is DSNR = E[‖Δ∥‖/‖Δ⊥‖], Δ∥ being the part along
u = E Δ/‖E Δ‖, here along the mean of the same draws: without signal it reads about 1/√R.

Means and sums of squares are accumulated in float64, chunk by chunk (Welford; Chan et al.).
Intervals are of the bootstrap over draws. Resampling adds the floor's bias a second time; the
*basic* bootstrap, 2θ̂ − θ*, takes it off again, but near the floor it is too narrow (74 % instead of
95 % for one coordinate with an SNR of 1/√R). The interval is therefore the hull of the basic one
and of the percentiles, and begins at 0 where the draws do not show any signal. For speed it looks
at some thousand coordinates, whose relative change with the resampling is that of all.

A weight behind a ReLU may have a gradient in a few draws only. In every average over coordinates
each counts by the share of draws in which it has one: with equal weights the number would fall
as more draws meet more of the rare ones, and no interval could cover it. A resample in which a
coordinate happens not to vary keeps a fortieth of its variance, not none.
"""

from __future__ import annotations

__all__ = ["Direction", "Interval", "Moments", "SnrSummary", "bootstrap", "floor", "merge"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Interval = tuple[float, float]
REPLICATES, AT_ONCE = 200, 50
LEVEL = 0.95
# The 97.5 % quantile of χ² with one degree of freedom: without signal the mean over coordinates of
# SNR² exceeds this over R no more often than 1 time in 40, however they are correlated.
QUANTILE = 5.024
# A standard deviation below this share of the mean is rounding: the draws do not vary.
ROUNDING = 1e-12
# What a resample that does not vary keeps of the variance: where one draw of R deviates from the
# others, the rate of such draws is 0.025/R or more (95 %, Poisson), not 0.
KEPT_VARIANCE = 0.025
# Draws from which quarters are compared with halves, and how slowly a series may fall at most.
FEWEST_TO_SPLIT, LARGEST_RATIO = 16, 0.8
# Below this share of ‖Δ‖² a difference of squares is rounding.
CANCELLATION = 1e-14


def floor(num_draws: int) -> float:
    """Returns what a coordinate without signal reads on average, √(2/(πR)).

    Example:
        >>> round(floor(10_000), 5)
        0.00798
    """
    return math.sqrt(2 / (math.pi * num_draws))


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of each coordinate: Welford's state.

    ``active`` is the number of draws in which a coordinate is not exactly 0.
    """

    num_draws: int
    mean: Float64[Tensor, " P"]
    squares: Float64[Tensor, " P"]
    active: Float64[Tensor, " P"]

    @property
    def std(self) -> Float64[Tensor, " P"]:
        """The standard deviation of one draw."""
        return (self.squares / (self.num_draws - 1)).sqrt()


def merge(state: Moments | None, draws: Float[Tensor, "r P"]) -> Moments:
    """Adds a chunk of draws to the state.

    Example:
        >>> x = torch.randn(10, 3)
        >>> torch.allclose(merge(merge(None, x[:4]), x[4:]).std, x.double().std(0))
        True
    """
    draws = draws.double()
    mean = draws.mean(0)
    active = (draws != 0).sum(0).to(mean)
    chunk = Moments(len(draws), mean, (draws - mean).square().sum(0), active)
    if state is None:
        return chunk
    n = state.num_draws + chunk.num_draws
    step = chunk.mean - state.mean
    between = step.square() * (state.num_draws * chunk.num_draws / n)
    return Moments(
        n,
        state.mean + step * (chunk.num_draws / n),
        state.squares + chunk.squares + between,
        state.active + active,
    )


def ratios(mean: Float64[Tensor, "*C"], std: Float64[Tensor, "*C"]) -> Float64[Tensor, "*C"]:
    """|mean|/std: infinite without noise, NaN for what has no gradient at all."""
    return mean.abs() / torch.where(std <= ROUNDING * mean.abs(), torch.zeros_like(std), std)


class SnrSummary(NamedTuple):
    """The SNR of many coordinates in one number.

    Attributes:
        mean: Over coordinates, each weighted by the share of draws in which it has a gradient.
        median: Over the coordinates that have a gradient in any draw.
        corrected: √(mean of SNR² − 1/R), weighted as the mean; 0 where noise alone would give more.
        silent: How many have no gradient in any draw (the weights of pixels that are always 0).
    """

    mean: float
    median: float
    corrected: float
    silent: int

    @classmethod
    def of(cls, state: Moments) -> SnrSummary:
        """Summarises the moments; NaN if all coordinates are silent."""
        speaks = state.active > 0
        snr, weight = ratios(state.mean, state.std)[speaks], state.active[speaks]
        silent = len(state.mean) - len(snr)
        if not len(snr):
            return cls(math.nan, math.nan, math.nan, silent)
        mean, square = (_average(v, weight).item() for v in (snr, snr.square()))
        root = math.sqrt(_at_least_0(square - 1 / state.num_draws))
        return cls(mean, snr.median().item(), root, silent)


def bootstrap(
    draws: Float64[Tensor, "R C"],
    weights: Float64[Tensor, " C"],
    whole: SnrSummary,
    seed_of: torch.Generator,
) -> tuple[Interval, Interval]:
    """Returns 95 % intervals of ``whole.mean`` and ``whole.corrected`` from resampled draws.

    Args:
        draws: All draws of the coordinates that were kept.
        weights: How many coordinates each of them stands for.
        whole: The summary of all coordinates.
        seed_of: Random seed of the resampling.
    """
    R = len(draws)
    centre, spread = draws.mean(0), draws.std(0)
    speaks = spread > ROUNDING * centre.abs()
    if not bool(speaks.any()) or not math.isfinite(whole.mean):
        return (math.nan, math.nan), (math.nan, math.nan)
    draws, weights = draws[:, speaks], weights[speaks]
    snr, shares = _resample(draws, seed_of)
    here, share = ratios(centre, spread)[speaks], weights * (draws != 0).sum(0) / R
    fall, fall_of_squares = _falls(draws, weights)
    plain = _hull(_average(here, share).item(), _average(snr, weights * shares), whole.mean, fall)
    # In the bootstrap's world the truth is what the draws have, uncorrected.
    square = _average(here.square(), share).item()
    replicates = _average(snr.square(), weights * shares) - 1 / R
    squares = _hull(square, replicates, square, fall_of_squares)
    scale = _ratio(whole.corrected**2, square - 1 / R)
    low, high = (math.sqrt(_at_least_0(v - 1 / R) * scale) for v in squares)
    if low == 0 and whole.corrected**2 + 1 / R <= QUANTILE / R:
        plain = (0.0, plain[1])
    return plain, (low, high)


def _resample(
    draws: Float64[Tensor, "R C"], seed_of: torch.Generator
) -> tuple[Float64[Tensor, "replicates C"], Float64[Tensor, "replicates C"]]:
    """SNR and share of draws with a gradient, of every coordinate in every replicate.

    A replicate has its own multinomial counts, the same for all coordinates.
    """
    R, centre = len(draws), draws.mean(0)
    deviations, active = draws - centre, (draws != 0).to(draws)
    squares = deviations.square()
    least = KEPT_VARIANCE * squares.mean(0)
    found, shares = [], []
    for _ in range(0, REPLICATES, AT_ONCE):
        picks = torch.randint(R, (AT_ONCE, R), generator=seed_of)
        counts = torch.stack([torch.bincount(row, minlength=R) for row in picks]).to(draws) / R
        shift = counts @ deviations
        variance = (counts @ squares - shift.square()).maximum(least) * (R / (R - 1))
        found.append((centre + shift).abs() / variance.sqrt())
        shares.append(counts @ active)
    return torch.cat(found), torch.cat(shares)


def _average(
    values: Float64[Tensor, "*n C"], weights: Float64[Tensor, "*n C"]
) -> Float64[Tensor, "*n"]:
    """The weighted mean over coordinates; 0 where none of them has a gradient."""
    total = weights.sum(-1)
    return torch.where(total > 0, (values * weights).sum(-1) / total, torch.zeros_like(total))


def _falls(draws: Float64[Tensor, "R C"], weights: Float64[Tensor, " C"]) -> tuple[float, float]:
    """How far the averages of SNR and of SNR² − 1/R would still fall with many more draws.

    A gradient with a heavy tail (that of a saturated pixel) shows its deviation late. From the
    quarters to the halves the average falls by a, from these to all draws by b: what is left is
    the rest of the geometric series, bρ/(1 − ρ) with ρ = b/a, which is exact for a bias of 1/R.
    """
    R = len(draws)
    if R < FEWEST_TO_SPLIT:
        return 0.0, 0.0
    least = math.sqrt(KEPT_VARIANCE) * draws.std(0)
    steps = []
    for parts in (4, 2, 1):
        found = []
        for part in draws[: R // 4 * 4].chunk(parts):
            snr = part.mean(0).abs() / part.std(0).maximum(least)
            share = weights * (part != 0).sum(0)
            squares = snr.square() - 1 / len(part)
            found.append(torch.stack([_average(snr, share), _average(squares, share)]))
        steps.append(torch.stack(found).mean(0))
    a, b = steps[0] - steps[1], (steps[1] - steps[2]).clamp(min=0)
    rho = torch.where(a > 0, (b / a).clamp(max=LARGEST_RATIO), LARGEST_RATIO)
    fall, fall_of_squares = (b * rho / (1 - rho)).tolist()
    return fall, fall_of_squares


def _hull(here: float, replicates: Float64[Tensor, " n"], whole: float, fall: float) -> Interval:
    """Basic and percentile interval of ``whole``, whose relative error is that of what was kept.

    The lower end allows for the fall that further draws would bring.
    """
    tail = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]).to(replicates)
    scale = _ratio(whole, here)
    low, high = ((q - here) * scale for q in replicates.quantile(tail).tolist())
    lowest = whole + min(low, -high) - fall * scale
    return _at_least_0(lowest), _at_least_0(whole + max(high, -low))


def _at_least_0(value: float) -> float:
    """NaN stays NaN, which Python's ``max(0.0, nan)`` makes 0."""
    return value if math.isnan(value) else max(0.0, value)


def _ratio(whole: float, part: float) -> float:
    return whole / part if part > 0 and whole > 0 else 1.0


class Direction(NamedTuple):
    """‖Δ∥‖/‖Δ⊥‖ of every draw, along the direction of the mean gradient."""

    ratio: Float64[Tensor, " R"]

    @classmethod
    def of(cls, along: Float64[Tensor, " R"], squared_norm: Float64[Tensor, " R"]) -> Direction:
        """From Δᵀu and ‖Δ‖² of every draw; NaN if nothing is left across u in any of them."""
        least = CANCELLATION * squared_norm
        across = squared_norm - along.square()
        if not bool((across > least).any()):
            return cls(torch.full_like(along, torch.nan))
        return cls(along.abs() / across.maximum(least).sqrt())

    @property
    def mean(self) -> float:
        """The DSNR; NaN for a single coordinate, which has no direction but its sign."""
        return self.ratio.mean().item()

    @property
    def interval(self) -> Interval:
        """A normal 95 % interval of the mean over draws, the direction being held."""
        half = 1.96 * self.ratio.std().item() / math.sqrt(len(self.ratio))
        return self.mean - half, self.mean + half
