r"""Gaussian toy of Rainforth et al. (2018), on which gradients lose or gain signal with K.

.. math:: z \sim N(\mu, I_d), \quad x \mid z \sim N(z, I_d), \quad
          q(z \mid x) = N(Ax + b, \tfrac23 I_d)

θ is μ, φ is A and b; the variance of q is fixed, and wider than that of the posterior
N((x + μ)/2, I/2), so that the importance weights have all the moments that matter: with d = 20,
χ² = 0.907 at the optimum. For given data the optimum is μ = mean(x), A = I/2, b = μ/2. Near it
the encoder has almost nothing to learn, far from it much.
"""

from __future__ import annotations

__all__ = ["GaussianToy", "GradientMoments", "elbo_gradient", "iwae_snr_constant", "path_gradient"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError, seeded

from .gaussian_pair import full_covariance
from .linear_gaussian import LinearGaussian
from .quadrature import line

POSTERIOR_VARIANCE = 2 / 3


class GaussianToy(nn.Module):
    r"""p(x) = N(μ, 2I), exactly; a decoder with one parameter vector, an encoder with two.

    Args:
        mu: The prior's mean, ``(d,)``.
        A: The encoder's matrix, ``(d, d)``; I/2 if not given.
        b: The encoder's offset, ``(d,)``; μ/2 if not given.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> model = GaussianToy(torch.zeros(20))
        >>> x, _ = model.sample(3, seed=0)
        >>> torch.allclose(model.encode(x).mean, x / 2)
        True
    """

    def __init__(
        self,
        mu: Float[Tensor, " d"],
        A: Float[Tensor, "d d"] | None = None,
        b: Float[Tensor, " d"] | None = None,
    ) -> None:
        super().__init__()
        self.mu = nn.Parameter(mu.detach().clone())
        self.A = nn.Parameter(torch.eye(len(mu)).to(mu) / 2 if A is None else A.detach().clone())
        self.b = nn.Parameter(mu.detach() / 2 if b is None else b.detach().clone())

    @classmethod
    def data(
        cls, n: int = 1024, dim: int = 20, *, seed: int | None = None
    ) -> Float[Tensor, "{n} {dim}"]:
        """Draws n data from a model whose μ is itself drawn from N(0, I), in float64."""
        with seeded(seed), torch.no_grad():
            mu = torch.randn(dim, dtype=torch.float64)
            return cls(mu)._sample(n)[0]

    @classmethod
    def fitted(
        cls, x: Float[Tensor, "N d"], *, perturbation: float = 0.0, seed: int | None = None
    ) -> GaussianToy:
        """The optimum for data x, every parameter then moved by N(0, perturbation²).

        The paper's *near* is 0.01, its *far* 0.5.
        """
        model = cls(x.mean(0))
        with seeded(seed), torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(perturbation * torch.randn_like(parameter))
        return model

    def prior(self) -> Distribution:
        """p(z) = N(μ, I)."""
        return Independent(Normal(self.mu, torch.ones_like(self.mu)), 1)

    def decode(self, z: Float[Tensor, "*K d"]) -> Distribution:
        """p(x | z) = N(z, I)."""
        return Independent(Normal(z, torch.ones_like(z)), 1)

    def encode(self, x: Float[Tensor, "B d"]) -> Distribution:
        """q(z | x) = N(Ax + b, ⅔ I)."""
        mean = x @ self.A.T + self.b
        return Independent(Normal(mean, torch.full_like(mean, POSTERIOR_VARIANCE**0.5)), 1)

    def sample(
        self, n: int, seed: int | None = None
    ) -> tuple[Float[Tensor, "{n} d"], Float[Tensor, "{n} d"]]:
        """n draws (x, z) from p(x, z)."""
        with seeded(seed), torch.no_grad():
            return self._sample(n)

    def _sample(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.prior().sample(torch.Size((n,)))
        return self.decode(z).sample(), z

    def log_likelihood(self, x: Float[Tensor, "B d"]) -> Float[Tensor, " B"]:
        """log p(x) = log N(x; μ, 2I)."""
        scale = torch.full_like(self.mu, 2**0.5)
        log_p: Tensor = Independent(Normal(self.mu, scale), 1).log_prob(x)
        return log_p

    def posterior(self, x: Float[Tensor, "B d"]) -> MultivariateNormal:
        """p(z | x) = N((x + μ)/2, I/2)."""
        mean = (x + self.mu) / 2
        return MultivariateNormal(mean, covariance_matrix=torch.eye(len(self.mu)).to(mean) / 2)


# Signal-to-noise ratios of encoder gradients, exactly, for the linear-Gaussian model.
#
# The gradient of log w with respect to the encoder's offset c, at one draw z ~ N(μ, S):
#
# - reparameterised ("total"), Λ(m − z): mean Λ(m − μ), covariance ΛSΛ;
# - path (sticking the landing, DReG at K = 1), Λ(m − z) + S⁻¹(z − μ): the same mean, covariance
#   (S⁻¹ − Λ)S(S⁻¹ − Λ), which vanishes at the exact posterior.
#
# For IWAE's K → ∞ the ratio falls as K^(−½) with a known constant. In between (finite K) there is
# no closed form. SNR is |mean|/standard deviation, per coordinate of c.
#
# References:
#     Rainforth et al. 2018, Tighter variational bounds are not necessarily better,
#     arXiv 1802.04537; Roeder et al. 2017, arXiv 1703.09194; Tucker et al. 2018, arXiv 1810.04152.


class GradientMoments(NamedTuple):
    """Mean and standard deviation of one gradient draw, each ``(B, d)``."""

    mean: Tensor
    std: Tensor

    @property
    def snr(self) -> Tensor:
        """|mean|/std."""
        return self.mean.abs() / self.std


def elbo_gradient(model: LinearGaussian, x: Float[Tensor, "B D"]) -> GradientMoments:
    """Moments of ∂ log w/∂c for one reparameterised draw.

    Example:
        >>> model = LinearGaussian.conjugate(mean=0.3, variance=2 / 3)
        >>> gradient = elbo_gradient(model, torch.ones(1, 1, dtype=torch.float64))
        >>> round(gradient.mean.item(), 12), round(gradient.snr.item(), 5)
        (0.4, 0.24495)
    """
    precision = model.posterior_precision
    return _moments(model, x, -precision)


def path_gradient(model: LinearGaussian, x: Float[Tensor, "B D"]) -> GradientMoments:
    """Moments of the gradient through z alone: −∂ log q/∂c at fixed z (mean zero) is left out."""
    covariance = model.encoder.covariance
    return _moments(model, x, torch.linalg.inv(covariance) - model.posterior_precision)


@torch.no_grad()
def iwae_snr_constant(model: LinearGaussian, x: Float[Tensor, "1 1"]) -> float:
    r"""a of SNR → a √(M/K) for IWAE's gradient, in one dimension, by quadrature.

    With Z = p(x): a = |∇_c Var_q[w]| / (2Z σ_q[∇_c w]), ∇_c w = w Λ(m − z).

    Raises:
        InputError: If x has more than one dimension or the weights have no variance.
    """
    if model.W.shape != (1, 1) or model.pareto_index().item() >= 0.5:
        raise InputError(
            "model of iwae_snr_constant",
            expected="one dimension and a finite weight variance",
            got=f"W {tuple(model.W.shape)}, Pareto index {model.pareto_index().item():.2f}",
        )
    q, posterior = full_covariance(model.encode(x)), model.posterior(x)
    u, log_cell = line(20.0, 8001)
    z = q.mean + q.stddev * u[:, None, None]
    log_ratio = (posterior.log_prob(z) - q.log_prob(z))[:, 0]
    log_base = -0.5 * u**2 - 0.5 * math.log(2 * math.pi) + log_cell
    slope = (model.posterior_precision * (posterior.mean - z))[:, 0, 0]
    gradient = (log_base + log_ratio).exp() * slope
    second = (log_base + 2 * log_ratio).exp()
    variance = (second * slope**2).sum() - gradient.sum() ** 2
    # ∇E[w²] = 2E[w∇w]; ∇(E w)² = 0, since E w = p(x) whatever the encoder.
    return float((second * slope).sum().abs() / variance.sqrt())


def _moments(model: LinearGaussian, x: Tensor, slope: Tensor) -> GradientMoments:
    """A gradient whose draws are Λ(m − μ) + slope·(z − μ), z ~ N(μ, S)."""
    q = full_covariance(model.encode(x))
    mean = (model.posterior(x).mean - q.mean) @ model.posterior_precision
    variance = (slope @ model.encoder.covariance @ slope.T).diagonal()
    return GradientMoments(mean, variance.sqrt().expand_as(mean))
