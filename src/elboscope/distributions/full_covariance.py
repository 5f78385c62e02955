r"""A Gaussian posterior with all its correlations, :math:`\mathcal N(\mu, LL^\top)`.

It contains the exact posterior of every linear-Gaussian model, where a factorised one is off by
:math:`\frac12(\sum_j \ln \Lambda_{jj} - \ln|\Lambda|)` nats. The factor is lower triangular; its
diagonal is carried as a logarithm and clamped as the diagonal Gaussian's, so that L is never
singular and log|L| never overflows.
"""

from __future__ import annotations

__all__ = ["full_covariance_gaussian"]

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.core import InputError

from .posteriors import LOG_VARIANCE_RANGE


def full_covariance_gaussian(
    mu: Float[Tensor, "*B d"], factor: Float[Tensor, "*B n m"]
) -> MultivariateNormal:
    r"""Returns :math:`\mathcal N(\mu, LL^\top)`, batch ``(*B,)``, event ``(d,)``.

    Args:
        mu: Means.
        factor: L below the diagonal, and :math:`\log L_{jj}` on it, clamped to half of
            :data:`LOG_VARIANCE_RANGE`; what stands above the diagonal is ignored.

    Raises:
        InputError: The factor is not d × d.

    Example:
        >>> factor = torch.tensor([[0.0, 9.0], [0.5, 0.0]])  # the 9 is not looked at
        >>> full_covariance_gaussian(torch.zeros(3, 2), factor.expand(3, 2, 2)).covariance_matrix[0]
        tensor([[1.0000, 0.5000],
                [0.5000, 1.2500]])
    """
    d = mu.shape[-1]
    if tuple(factor.shape[-2:]) != (d, d):
        raise InputError(
            "factor",
            expected=f"a matrix of {d} × {d} for each mean, lower triangular",
            got=f"shape {tuple(factor.shape)}",
        )
    low, high = LOG_VARIANCE_RANGE
    diagonal = factor.diagonal(dim1=-2, dim2=-1).clamp(0.5 * low, 0.5 * high).exp()
    L = factor.tril(-1) + torch.diag_embed(diagonal)
    return MultivariateNormal(mu, scale_tril=L, validate_args=False)
