r"""Approximate posteriors q(z|x): from what an encoder computes to a distribution.

Scales are carried as :math:`\log \sigma^2`, clamped to [−14, 6], that is σ between 9.1e-4 and
20.1: outside, :math:`e^{\log\sigma^2}` overflows or a posterior becomes narrower than any use of
it. The clamp has zero gradient outside the interval.
"""

from __future__ import annotations

__all__ = ["LOG_VARIANCE_RANGE", "diagonal_gaussian", "standard_normal"]

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

LOG_VARIANCE_RANGE = (-14.0, 6.0)


def diagonal_gaussian(
    mu: Float[Tensor, "B *Z"], log_variance: Float[Tensor, "B *Z"]
) -> Distribution:
    r"""Returns :math:`\mathcal N(\mu, \mathrm{diag}\,\sigma^2)`, the event being all of (*Z).

    Args:
        mu: Means, one row a datapoint.
        log_variance: :math:`\log\sigma^2`, clamped to :data:`LOG_VARIANCE_RANGE`.

    Example:
        >>> q = diagonal_gaussian(torch.zeros(4, 2), torch.full((4, 2), -100.0))
        >>> q.stddev[0, 0].log().item()  # clamped: σ = e^-7
        -7.0
    """
    sigma = (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
    return Independent(Normal(mu, sigma, validate_args=False), mu.ndim - 1, validate_args=False)


def standard_normal(latent_shape: tuple[int, ...], like: Tensor) -> Distribution:
    """Returns N(0, I) with event shape ``(*Z)``, on the device and in the dtype of ``like``.

    Example:
        >>> standard_normal((2,), torch.zeros(1)).log_prob(torch.zeros(2)).item()
        -1.837...
    """
    zeros = torch.zeros(latent_shape, device=like.device, dtype=like.dtype)
    p = Normal(zeros, torch.ones_like(zeros), validate_args=False)
    return Independent(p, len(latent_shape), validate_args=False)
