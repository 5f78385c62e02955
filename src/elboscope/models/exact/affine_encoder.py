r"""Encoders whose posterior is N(Ax + c, S) with one covariance S for every x.

The exact posterior of a linear-Gaussian model has this form, and so have its best factorised
approximation, a badly tuned encoder and the collapsed one (A = 0, S = I). They are modules with
parameters of their own, so that encoder and decoder can be told apart by the autograd graph.
"""

from __future__ import annotations

__all__ = [
    "AffineDiagonal",
    "AffineFull",
    "PrincipalComponents",
    "maximum_likelihood",
    "principal_components",
]

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError


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


# Maximum likelihood of the linear-Gaussian model: probabilistic PCA.
#
# With λ_1 ≥ … ≥ λ_D the eigenvalues of the data's covariance (divided by N) and U its
# eigenvectors, the likelihood of x ~ N(Wz + b, σ²I) is largest at b = mean, W_j = U_j √(λ_j − σ²)
# and σ² = the mean of the D − d discarded eigenvalues, up to a rotation of z. With σ² held fixed
# the optimum keeps the units with λ_j > σ² and collapses the others, W_j = 0: the exact account
# of posterior collapse. Unit j then holds ½ ln(λ_j/σ²) nats of mutual information. A trained
# linear VAE can reach this likelihood and no more.
#
# References:
#     Tipping, Bishop 1999, Probabilistic principal component analysis; Lucas, Tucker, Grosse,
#     Norouzi 2019, Don't blame the ELBO!, arXiv 1911.02469.


class PrincipalComponents(NamedTuple):
    """Eigenvalues in falling order, ``(D,)``, eigenvectors in columns, ``(D, D)``, and the mean."""

    eigenvalues: Tensor
    eigenvectors: Tensor
    mean: Tensor


def principal_components(x: Float[Tensor, "N D"]) -> PrincipalComponents:
    """The spectrum of the covariance of x (with 1/N), in float64."""
    mean = x.double().mean(0)
    centred = x.double() - mean
    eigenvalues, eigenvectors = torch.linalg.eigh(centred.T @ centred / len(x))
    return PrincipalComponents(eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1), mean)


def maximum_likelihood(
    x: Float[Tensor, "N D"], latent_dim: int, sigma2: float | None = None
) -> tuple[Float[Tensor, "D d"], Float[Tensor, "D"], float]:
    """W, b and σ² of the largest likelihood, in float64.

    Args:
        x: Data, ``(N, D)``.
        latent_dim: d < D.
        sigma2: A fixed variance of the noise; ``None`` fits it.

    Raises:
        InputError: If d is not in [1, D), or the fitted σ² is zero.

    Example:
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> W, b, sigma2 = maximum_likelihood(x, 1, sigma2=100.0)
        >>> W.abs().sum().item()  # collapsed: no eigenvalue exceeds the noise
        0.0
    """
    if not 1 <= latent_dim < x.shape[1]:
        raise InputError(
            "latent_dim",
            expected=f"1 to {x.shape[1] - 1}, fewer than the {x.shape[1]} dimensions of x",
            got=str(latent_dim),
        )
    spectrum = principal_components(x)
    noise = spectrum.eigenvalues[latent_dim:].mean().item() if sigma2 is None else sigma2
    if noise <= 1e-12 * spectrum.eigenvalues[0].item():
        raise InputError(
            "x",
            expected=f"variance outside its first {latent_dim} principal components",
            got=f"x of rank {latent_dim} or less",
            do="Take a smaller latent_dim.",
        )
    scale = (spectrum.eigenvalues[:latent_dim] - noise).clamp(min=0).sqrt()
    return spectrum.eigenvectors[:, :latent_dim] * scale, spectrum.mean, noise
