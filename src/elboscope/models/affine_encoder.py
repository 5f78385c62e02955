r"""Encoders whose posterior is N(Ax + c, S) with one covariance S for every x.

The exact posterior of a linear-Gaussian model has this form, and so have its best factorised
approximation, a badly tuned encoder and the collapsed one (A = 0, S = I). They are modules with
parameters of their own, so that encoder and decoder can be told apart by the autograd graph.
"""

from __future__ import annotations

__all__ = ["AffineDiagonal", "AffineFull"]

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal


class AffineDiagonal(nn.Module):
    r"""q(z | x) = N(Ax + c, diag v), the fully factorised Gaussian (FFG).

    Args:
        A: Weight, ``(d, D)``.
        c: Bias, ``(d,)``.
        variance: v > 0, ``(d,)``.

    Example:
        >>> encode = AffineDiagonal(torch.zeros(2, 3), torch.zeros(2), torch.ones(2))
        >>> encode(torch.zeros(5, 3))
        Independent(Normal(loc: torch.Size([5, 2]), scale: torch.Size([5, 2])), 1)
    """

    def __init__(
        self, A: Float[Tensor, "d D"], c: Float[Tensor, "d"], variance: Float[Tensor, "d"]
    ) -> None:
        super().__init__()
        self.A = nn.Parameter(A.detach().clone())
        self.c = nn.Parameter(c.detach().clone())
        self.log_variance = nn.Parameter(variance.detach().log())

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """S = diag v."""
        return torch.diag(self.log_variance.exp())

    def forward(self, x: Float[Tensor, "*B D"]) -> Distribution:
        """q(z | x), batch shape ``(*B,)``, event shape ``(d,)``."""
        mean = x @ self.A.T + self.c
        return Independent(Normal(mean, (0.5 * self.log_variance).exp().expand_as(mean)), 1)


class AffineFull(nn.Module):
    r"""q(z | x) = N(Ax + c, LLᵀ), L lower triangular with diagonal exp(l).

    Args:
        A: Weight, ``(d, D)``.
        c: Bias, ``(d,)``.
        covariance: S = LLᵀ, positive definite, ``(d, d)``.

    Example:
        >>> encode = AffineFull(torch.zeros(2, 3), torch.zeros(2), torch.eye(2))
        >>> encode(torch.zeros(5, 3)).batch_shape
        torch.Size([5])
    """

    def __init__(
        self, A: Float[Tensor, "d D"], c: Float[Tensor, "d"], covariance: Float[Tensor, "d d"]
    ) -> None:
        super().__init__()
        L = torch.linalg.cholesky(covariance.detach())
        self.A = nn.Parameter(A.detach().clone())
        self.c = nn.Parameter(c.detach().clone())
        self.below = nn.Parameter(L.tril(-1))
        self.log_diagonal = nn.Parameter(L.diagonal().log())

    @property
    def scale_tril(self) -> Float[Tensor, "d d"]:
        """L."""
        return self.below.tril(-1) + torch.diag(self.log_diagonal.exp())

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """S = LLᵀ."""
        return self.scale_tril @ self.scale_tril.T

    def forward(self, x: Float[Tensor, "*B D"]) -> MultivariateNormal:
        """q(z | x), batch shape ``(*B,)``, event shape ``(d,)``."""
        return MultivariateNormal(x @ self.A.T + self.c, scale_tril=self.scale_tril)
