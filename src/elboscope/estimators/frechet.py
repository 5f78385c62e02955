r"""The distance of Fréchet between Gaussians fitted to features of data and of samples.

.. math:: d^2 = \|\mu_1 - \mu_2\|^2
          + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

With the 2048 features of the ImageNet Inception network it is *the* FID. With any other features
it is another number, on another scale, and is labelled with the classifier it belongs to. It sees
means and covariances only, and is biased upwards for few images: compare equal counts.

References:
    | GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017),
      https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

__all__ = ["feature_frechet_distance", "frechet_distance"]

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elboscope.core import Estimate, InputError, standard_error

from .jackknife import GROUPS, group_values


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
        groups: Of the jackknife that gives the error.

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
