r"""Maximum likelihood of the linear-Gaussian model: probabilistic PCA.

With λ_1 ≥ … ≥ λ_D the eigenvalues of the data's covariance (divided by N) and U its eigenvectors,
the likelihood of x ~ N(Wz + b, σ²I) is largest at b = mean, W_j = U_j √(λ_j − σ²) and
σ² = the mean of the D − d discarded eigenvalues, up to a rotation of z. With σ² held fixed the
optimum keeps the units with λ_j > σ² and collapses the others, W_j = 0: the exact account of
posterior collapse. Unit j then holds ½ ln(λ_j/σ²) nats of mutual information. A trained linear
VAE can reach this likelihood and no more.

References:
    Tipping, Bishop 1999, Probabilistic principal component analysis; Lucas, Tucker, Grosse,
    Norouzi 2019, Don't blame the ELBO!, arXiv 1911.02469.
"""

from __future__ import annotations

__all__ = ["PrincipalComponents", "maximum_likelihood", "principal_components"]

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError


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
