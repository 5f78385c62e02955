r"""A linear-Gaussian state space: log p(x_{1:T}) by the Kalman filter.

.. math:: z_1 \sim N(0, 1), \quad z_t \mid z_{t-1} \sim N(c z_{t-1}, 1), \quad
          x_t \mid z_t \sim N(z_t, r).

The test model of particle filters (FIVO, AESMC) and a latent-variable model like any other: its
latent is the whole path z_{1:T}, jointly Gaussian with a tridiagonal precision.
"""

from __future__ import annotations

__all__ = ["LinearGaussianStateSpace"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError


class LinearGaussianStateSpace(nn.Module):
    r"""p(x_{1:T}, z_{1:T}) with its exact posterior, the smoothing distribution, as the encoder.

    Args:
        length: T.
        noise: r > 0, the variance of x_t given z_t.
        transition: c.

    Raises:
        InputError: If r is not positive.

    References:
        Le, Igl, Rainforth, Jin, Wood 2018, Auto-encoding sequential Monte Carlo, arXiv 1705.10306.

    Example:
        >>> x = torch.tensor([[0.5, -0.2, 1.0, 1.5, 0.3]], dtype=torch.float64)
        >>> round(LinearGaussianStateSpace(5, noise=0.5).log_likelihood(x).item(), 9)
        -6.823135356
    """

    def __init__(self, length: int, noise: float, transition: float = 0.9) -> None:
        super().__init__()
        if not noise > 0:
            raise InputError("noise", expected="a positive variance", got=str(noise))
        self.length = length
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise), dtype=torch.float64))
        self.transition = nn.Parameter(torch.tensor(transition, dtype=torch.float64))

    @property
    def noise(self) -> Float[Tensor, ""]:
        """r, the variance of x_t given z_t."""
        return self.log_noise.exp()

    def prior(self) -> MultivariateNormal:
        """p(z_{1:T}), event shape ``(T,)``."""
        precision = self._prior_precision()
        return MultivariateNormal(torch.zeros_like(precision[0]), precision_matrix=precision)

    def decode(self, z: Float[Tensor, "*K T"]) -> Distribution:
        """p(x_{1:T} | z_{1:T}) = Π_t N(x_t; z_t, r)."""
        return Independent(Normal(z, self.noise.sqrt().expand_as(z)), 1)

    def encode(self, x: Float[Tensor, "B T"]) -> MultivariateNormal:
        """p(z_{1:T} | x_{1:T}), the smoothing distribution."""
        precision = self._prior_precision() + torch.eye(self.length).to(x) / self.noise
        mean = torch.linalg.solve(precision, (x / self.noise).T).T
        return MultivariateNormal(mean, precision_matrix=precision)

    def log_likelihood(self, x: Float[Tensor, "B T"]) -> Float[Tensor, "B"]:
        """log p(x_{1:T}) by the Kalman filter.

        Predict m = c m, P = c²P + 1 (at t = 1: 0 and 1); S = P + r; add log N(x_t; m, S); correct
        m += (P/S)(x_t − m), P = (1 − P/S)P.
        """
        m, P = torch.zeros_like(x[:, 0]), torch.ones_like(self.noise)
        total = torch.zeros_like(m)
        for t in range(x.shape[1]):
            if t > 0:
                m, P = self.transition * m, self.transition**2 * P + 1
            S = P + self.noise
            total = total + Normal(m, S.sqrt()).log_prob(x[:, t])
            m, P = m + P / S * (x[:, t] - m), (1 - P / S) * P
        return total

    def _prior_precision(self) -> Tensor:
        """DᵀD with Dz = (z_1, z_2 − cz_1, …)."""
        D = torch.eye(self.length).to(self.transition)
        D = D - self.transition * torch.diag(torch.ones(self.length - 1), -1).to(D)
        return D.T @ D
