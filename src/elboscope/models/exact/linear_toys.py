r"""Linear-Gaussian toys: the one of Rainforth et al. (2018), chains and a state space.

.. math:: z \sim N(\mu, I_d), \quad x \mid z \sim N(z, I_d), \quad
          q(z \mid x) = N(Ax + b, \tfrac23 I_d)

θ is μ, φ is A and b; the variance of q is fixed, and wider than that of the posterior
N((x + μ)/2, I/2), so that the importance weights have all the moments that matter: with d = 20,
χ² = 0.907 at the optimum. For given data the optimum is μ = mean(x), A = I/2, b = μ/2. Near it
the encoder has almost nothing to learn, far from it much.
"""

from __future__ import annotations

__all__ = [
    "GaussianToy",
    "GradientMoments",
    "LinearChain",
    "LinearGaussianStateSpace",
    "elbo_gradient",
    "iwae_snr_constant",
    "path_gradient",
]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError, seeded
from elboscope.distributions import Chained

from .affine_encoder import AffineDiagonal, AffineFull
from .gaussian_pair import full_covariance, standard_normal
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


# The linear-Gaussian model with two stochastic layers: p(x) and the exact posterior chain.
#
# .. math:: z_2 \sim N(0, I), \quad z_1 | z_2 \sim N(V z_2, \tau^2 I), \quad
#           x | z_1 \sim N(W z_1 + b, \sigma^2 I)
#
# Summed over z₂, z₁ is N(0, C) with C = VVᵀ + τ²I = RRᵀ, and so the model of x is the one-layer
# :class:`LinearGaussian` with loadings WR. The posterior is a chain itself: q(z₁|x) follows from
# the prior N(0, C), and given z₁, z₂ does not depend on x.


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
