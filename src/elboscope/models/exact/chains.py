r"""The linear-Gaussian model with two stochastic layers: p(x) and the exact posterior chain.

.. math:: z_2 \sim N(0, I), \quad z_1 | z_2 \sim N(V z_2, \tau^2 I), \quad
          x | z_1 \sim N(W z_1 + b, \sigma^2 I)

Summed over z₂, z₁ is N(0, C) with C = VVᵀ + τ²I = RRᵀ, and so the model of x is the one-layer
:class:`LinearGaussian` with loadings WR. The posterior is a chain itself: q(z₁|x) follows from the
prior N(0, C), and given z₁, z₂ does not depend on x.
"""

from __future__ import annotations

__all__ = ["LinearChain", "LinearGaussianStateSpace"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError, seeded
from elboscope.distributions import Chained

from .affine_encoder import AffineDiagonal, AffineFull
from .gaussian_pair import standard_normal
from .linear_gaussian import LinearGaussian


class LinearChain(nn.Module):
    r"""A hierarchical model with a known log p(x), z = (z₁, z₂); its encoder is exact at first.

    Args:
        W: Loadings of x, ``(D, d1)``.
        b: Mean of x, ``(D,)``.
        sigma2: σ² > 0.
        V: Loadings of z₁, ``(d1, d2)``.
        tau2: τ² > 0.

    Example:
        >>> model = LinearChain.instance()
        >>> x, _ = model.sample(4, seed=0)
        >>> log_w = model.prior().log_prob(z := model.encode(x).rsample()) - (
        ...     model.encode(x).log_prob(z)) + model.decode(z).log_prob(x)
        >>> bool((log_w - model.log_likelihood(x)).abs().max() < 1e-10)  # the posterior is exact
        True
    """

    def __init__(
        self,
        W: Float[Tensor, "D d1"],
        b: Float[Tensor, "_"],
        sigma2: float,
        V: Float[Tensor, "d1 d2"],
        tau2: float,
    ) -> None:
        super().__init__()
        d1, d2 = V.shape
        C = V @ V.T + tau2 * torch.eye(d1).to(V)
        self.R: Tensor
        self.register_buffer("R", torch.linalg.cholesky(C))
        self.W, self.b = nn.Parameter(W.clone()), nn.Parameter(b.clone())
        self.sigma2 = sigma2
        self.prior_1 = AffineDiagonal(V, 0 * V[:, 0], torch.full_like(V[:, 0], tau2))
        S1 = torch.linalg.inv(torch.linalg.inv(C) + W.T @ W / sigma2)
        self.encoder_1 = AffineFull(S1 @ W.T / sigma2, -S1 @ W.T @ b / sigma2, S1)
        S2 = torch.linalg.inv(torch.eye(d2).to(V) + V.T @ V / tau2)
        self.encoder_2 = AffineFull(S2 @ V.T / tau2, 0 * V[0], S2)

    @classmethod
    def instance(cls) -> LinearChain:
        """D = 4, d₁ = 3, d₂ = 2 in float64."""
        W = [[1.0, 0.2, -0.3], [0.5, 1.0, 0.1], [0.2, -0.4, 0.7], [0.0, 0.6, 0.4]]
        V = [[0.8, 0.1], [-0.3, 0.9], [0.4, 0.4]]
        b = torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=torch.float64)
        return cls(
            torch.tensor(W, dtype=torch.float64), b, 0.5, torch.tensor(V, dtype=torch.float64), 0.6
        )

    def prior(self) -> Distribution:
        """p(z₁, z₂)."""
        d1, d2 = self.prior_1.A.shape
        top = standard_normal(torch.zeros(d2).to(self.W))
        return Chained(top, self.prior_1, d1, first_last=True)

    def encode(self, x: Float[Tensor, "B D"]) -> Distribution:
        """q(z₁, z₂|x)."""
        return Chained(self.encoder_1(x), self.encoder_2, self.encoder_2.A.shape[0])

    def decode(self, z: Float[Tensor, "*K d"]) -> Distribution:
        """p(x|z₁)."""
        mean = z[..., : self.W.shape[1]] @ self.W.T + self.b
        return Independent(Normal(mean, torch.full_like(mean, self.sigma2**0.5)), 1)

    def sample(
        self, n: int, seed: int | None = None
    ) -> tuple[Float[Tensor, "n D"], Float[Tensor, "n d"]]:
        """n draws (x, z) from p(x, z)."""
        with seeded(seed), torch.no_grad():
            z = self.prior().sample(torch.Size((n,)))
            return self.decode(z).sample(), z

    def one_layer(self) -> LinearGaussian:
        """The model of the same p(x) with one layer, loadings WR; of W and b as they are now."""
        return LinearGaussian(self.W.detach() @ self.R, self.b.detach(), self.sigma2)

    def log_likelihood(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """log p(x) in nats."""
        return self.one_layer().log_likelihood(x).detach()


# A linear-Gaussian state space: log p(x_{1:T}) by the Kalman filter.
#
# .. math:: z_1 \sim N(0, 1), \quad z_t \mid z_{t-1} \sim N(c z_{t-1}, 1), \quad
#           x_t \mid z_t \sim N(z_t, r).
#
# The test model of particle filters (FIVO, AESMC) and a latent-variable model like any other: its
# latent is the whole path z_{1:T}, jointly Gaussian with a tridiagonal precision.


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
