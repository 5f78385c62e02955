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

__all__ = ["NeighbourMetrics", "expected_coverage", "neighbour_metrics"]

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elboscope.core import Estimate, InputError, standard_error

from .evaluation import blocks
from .jackknife import GROUPS, group_values

ROWS_AT_ONCE = 256
UNITS = {
    "precision": "of samples",
    "recall": "of data",
    "density": "of the data's",
    "coverage": "of data",
}


class NeighbourMetrics(NamedTuple):
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
        groups: Of the jackknife that gives the errors.

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
    rows = zip(NeighbourMetrics._fields, values.unbind(), ks, strict=True)
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
    )


def _check(data: Tensor, samples: Tensor, k: int, groups: int) -> None:
    if data.shape[1] != samples.shape[1]:
        got = f"{data.shape[1]} and {samples.shape[1]}"
        raise InputError("features", expected="one width of data and samples", got=got)
    if min(len(data), len(samples)) < max(2 * groups, 2 * k + 2):
        got = f"{len(data)} and {len(samples)}"
        expected = f"at least {max(2 * groups, 2 * k + 2)} data and samples"
        raise InputError("features", expected=expected, got=got)
