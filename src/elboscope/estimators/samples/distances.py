r"""Do samples lie where data lie, and the reverse: four answers from nearest neighbours.

With balls B(x, NND_k(x)) around each datapoint, reaching to its k-th neighbour of the same set:

- *precision*: the share of samples in some data ball; *recall*: of data in sample balls (k = 3);
- *density*: how many data balls a sample lies in, over k; *coverage*: the share of data balls that
  hold a sample (k = 5).

Samples of the data's own distribution have density 1 in expectation and, for N of both,

.. math:: \mathbb{E}\,\text{coverage} = 1 - \prod_{i=0}^{k-1} \frac{N - 1 - i}{2N - 1 - i}

(about 1 − 2⁻ᵏ). One outlier in the data, with its large ball, raises the precision of anything;
density and coverage resist it. None of the four sees memorised data. Distances are those of a
classifier's features: what it does not look at, they do not see.

References:
    | Improved Precision and Recall Metric (Kynkäänniemi et al., 2019),
      https://arxiv.org/abs/1904.06991
    | Reliable Fidelity and Diversity Metrics (Naeem et al., 2020), https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

__all__ = [
    "GROUPS",
    "NeighbourMetrics",
    "expected_coverage",
    "feature_frechet_distance",
    "frechet_distance",
    "group_values",
    "neighbour_metrics",
]

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from elboscope.core import Estimate, InputError, standard_error

from ..inputs import blocks

# Errors of statistics of two samples, by leaving out a group of both at a time.
#
# θ̂ of N data and M samples, θ₍g₎ without the g-th tenth of both:
#
# .. math:: \widehat{\mathrm{Var}}\,\hat\theta = \frac{G - 1}{G} \sum_g
#           (\theta_{(g)} - \bar\theta)^2
#
# It sees the fluctuations of the data, of the samples, and of neighbourhoods or covariances made
# of them; not the bias of θ̂ for few datapoints. A bootstrap would repeat datapoints, which sets
# the distances between nearest neighbours to zero.
#
# The error is *conservative*: in expectation the jackknife's variance is not below the true one
# (of samples a tenth smaller; Efron and Stein). It is right for smooth statistics, such as
# moments, and up to twice the true error for shares of nearest neighbours.
#
# References:
#     | The Jackknife Estimate of Variance (Efron and Stein, 1981),
#       https://doi.org/10.1214/aos/1176345462
#     | The Jackknife and Bootstrap (Shao and Tu, 1995), section 2.3

GROUPS = 10

Statistic = Callable[[Tensor, Tensor], Tensor]
"""From the rows of the data and of the samples to keep, to one or several numbers."""


def group_values(
    statistic: Statistic, num_data: int, num_samples: int, groups: int = GROUPS
) -> Float64[Tensor, "m G"]:
    """Returns G values of each number: their mean is θ̂, their sd/√G its standard error.

    They are the jackknife's pseudo-values, moved to the mean θ̂. Two statistics that share their
    data, group by group, can be subtracted: the difference has the paired error.

    Args:
        statistic: Statistic of the rows that are kept.
        num_data: N.
        num_samples: M.
        groups: G.

    Raises:
        InputError: Fewer than two groups, or less than two rows in each.

    Example:
        >>> x, y = torch.arange(20.0), torch.zeros(20)
        >>> values = group_values(lambda i, j: (x[i].mean() - y[j].mean())[None], 20, 20)
        >>> values.mean().item()
        9.5
    """
    if groups < 2 or min(num_data, num_samples) < 2 * groups:
        raise InputError(
            "groups",
            expected="at least 2, and two rows of data and of samples in each",
            got=f"{groups} groups of {num_data} and {num_samples} rows",
        )
    full = statistic(torch.arange(num_data), torch.arange(num_samples)).double()
    without = torch.stack(
        [
            statistic(_keep(num_data, g, groups), _keep(num_samples, g, groups)).double()
            for g in range(groups)
        ],
        1,
    )
    return full[:, None] + (groups - 1) * (without.mean(1, keepdim=True) - without)


def _keep(num: int, group: int, groups: int) -> Int64[Tensor, " n"]:
    rows = torch.arange(num)
    return rows[rows % groups != group]


ROWS_AT_ONCE = 256
UNITS = {
    "precision": "of samples",
    "recall": "of data",
    "density": "of the data's",
    "coverage": "of data",
}


@dataclass(frozen=True, eq=False)
class NeighbourMetrics:
    """Precision, recall, density and coverage, each an Estimate by groups."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def neighbour_metrics(
    data: Float[Tensor, "N f"],
    samples: Float[Tensor, "M g"],
    *,
    k_recall: int = 3,
    k_coverage: int = 5,
    groups: int = GROUPS,
) -> NeighbourMetrics:
    """Compares features of data and of samples by their neighbourhoods.

    Args:
        data: Features of N datapoints, in random order.
        samples: Features of M samples; M = N makes numbers comparable.
        k_recall: k of precision and recall.
        k_coverage: k of density and coverage.
        groups: Groups of the jackknife that gives the errors.

    Returns:
        Four estimates; three are shares in [0, 1], the density is not bounded above by 1.

    Raises:
        InputError: Features of different widths, or too few rows.

    Example:
        >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        >>> found = neighbour_metrics(x[:200], x[200:] + 100)
        >>> found.precision.mean, found.coverage.mean
        (0.0, 0.0)
    """
    _check(data, samples, max(k_recall, k_coverage), groups)
    within_data, within_samples = _distances(data, data), _distances(samples, samples)
    between = _distances(data, samples)
    for own in (within_data, within_samples):
        own.fill_diagonal_(torch.inf)

    def four(i: Tensor, j: Tensor) -> Tensor:
        radii = _radii(within_data[i][:, i], k_recall, k_coverage)
        sample_radii = _radii(within_samples[j][:, j], k_recall, k_coverage)[0]
        across = between[i][:, j]
        inside = across <= radii[1][:, None]
        return torch.stack(
            [
                (across <= radii[0][:, None]).any(0).double().mean(),
                (across <= sample_radii).any(1).double().mean(),
                inside.double().sum() / (k_coverage * len(j)),
                inside.any(1).double().mean(),
            ]
        )

    values = group_values(four, len(data), len(samples), groups)
    ks = (k_recall, k_recall, k_coverage, k_coverage)
    rows = zip([field.name for field in fields(NeighbourMetrics)], values.unbind(), ks, strict=True)
    return NeighbourMetrics(*(_estimate(*row, len(data), len(samples)) for row in rows))


def expected_coverage(num_data: int, num_samples: int, k: int = 5) -> float:
    """Returns the coverage to expect if samples have the data's distribution.

    The next sample beyond a datapoint's k nearest datapoints must be missed k times: of the
    N − 1 + M other points around it, in order of distance, the first k are all data.

    Example:
        >>> round(expected_coverage(1000, 1000), 5)
        0.96898
    """
    missed = 1.0
    for i in range(k):
        missed *= (num_data - 1 - i) / (num_data + num_samples - 1 - i)
    return 1 - missed


def _radii(distances: Tensor, *ks: int) -> tuple[Tensor, ...]:
    nearest = distances.topk(max(ks), dim=1, largest=False).values
    return tuple(nearest[:, k - 1] for k in ks)


def _distances(a: Float[Tensor, "N f"], b: Float[Tensor, "M f"]) -> Float[Tensor, "N M"]:
    """Differences are taken before squaring: two equal points have distance zero exactly."""
    mode = "donot_use_mm_for_euclid_dist"
    parts = [torch.cdist(a[rows], b, compute_mode=mode) for rows in blocks(len(a), ROWS_AT_ONCE)]
    return torch.cat(parts)


def _estimate(name: str, values: Float64[Tensor, " G"], k: int, n: int, m: int) -> Estimate:
    settings: dict[str, object] = {"k": k, "data": n, "samples": m}
    perfect = math.nan
    if name in ("density", "coverage"):
        perfect = 1.0 if name == "density" else expected_coverage(n, m, k)
        settings["expected of perfect samples"] = perfect
    return Estimate(
        name,
        f"k={k}, {m} samples, {n} data",
        values,
        torch.zeros_like(values),
        "none",
        standard_error(values),
        axis="group",
        settings=settings,
        measured_in=UNITS[name],
        expected=perfect,
    )


def _check(data: Tensor, samples: Tensor, k: int, groups: int) -> None:
    if data.shape[1] != samples.shape[1]:
        got = f"{data.shape[1]} and {samples.shape[1]}"
        raise InputError("features", expected="one width of data and samples", got=got)
    if min(len(data), len(samples)) < max(2 * groups, 2 * k + 2):
        got = f"{len(data)} and {len(samples)}"
        expected = f"at least {max(2 * groups, 2 * k + 2)} data and samples"
        raise InputError("features", expected=expected, got=got)


# The distance of Fréchet between Gaussians fitted to features of data and of samples.
#
# .. math:: d^2 = \|\mu_1 - \mu_2\|^2
#           + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)
#
# With the 2048 features of the ImageNet Inception network it is *the* FID. With any other
# features it is another number, on another scale, and is labelled with the classifier it belongs
# to. It sees means and covariances only, and is biased upwards for few images: compare equal
# counts.
#
# References:
#     | GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017),
#       https://arxiv.org/abs/1706.08500


def frechet_distance(
    mean_1: Float64[Tensor, " f"],
    covariance_1: Float64[Tensor, "f f"],
    mean_2: Float64[Tensor, " f"],
    covariance_2: Float64[Tensor, "f f"],
) -> Float64[Tensor, ""]:
    r"""Returns the *squared* distance of Wasserstein-2 between two Gaussians, the FID's formula.

    The trace of the root is that of :math:`(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}`, which
    is symmetric: covariances without full rank are no difficulty.

    Example:
        >>> zero, one = torch.zeros(2).double(), torch.eye(2).double()
        >>> frechet_distance(zero, one, zero + 3, 4 * one).item()
        20.0
    """
    values, vectors = torch.linalg.eigh(covariance_1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_2 @ root).clamp(min=0).sqrt().sum()
    traces: Tensor = covariance_1.trace() + covariance_2.trace() - 2 * cross
    return (mean_1 - mean_2).square().sum() + traces


def feature_frechet_distance(
    data: Float[Tensor, "N f"], samples: Float[Tensor, "M g"], *, groups: int = GROUPS
) -> Estimate:
    """Returns the squared distance of Fréchet between features, with n − 1 in the covariances.

    Args:
        data: Features of datapoints.
        samples: Features of samples.
        groups: Groups of the jackknife that gives the error.

    Returns:
        The estimate, in squared units of the features.

    Raises:
        InputError: Features of different widths, or too few rows.

    Example:
        >>> x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
        >>> found = feature_frechet_distance(x[:2000], 2 * x[2000:] + 3)
        >>> abs(found.mean - 20) < 3 * found.stderr
        True
    """
    if data.shape[1] != samples.shape[1]:
        got = f"{data.shape[1]} and {samples.shape[1]}"
        raise InputError("features", expected="one width of data and samples", got=got)
    a, b = data.double(), samples.double()

    def distance(i: Tensor, j: Tensor) -> Tensor:
        return frechet_distance(*_moments(a[i]), *_moments(b[j]))[None]

    values = group_values(distance, len(a), len(b), groups)[0]
    return Estimate(
        "Fréchet distance of features",
        f"{len(b)} samples, {len(a)} data",
        values,
        torch.zeros_like(values),
        "none",
        standard_error(values),
        axis="group",
        settings={"data": len(a), "samples": len(b), "features": a.shape[1]},
        nonnegative=True,
        measured_in="features²",
    )


def _moments(x: Float64[Tensor, "n f"]) -> tuple[Tensor, Tensor]:
    return x.mean(0), torch.atleast_2d(torch.cov(x.T))
