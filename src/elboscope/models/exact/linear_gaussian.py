r"""The linear-Gaussian VAE (probabilistic PCA): every quantity in closed form.

.. math:: z \sim N(0, I_d), \quad x \mid z \sim N(Wz + b, \sigma^2 I_D), \quad
          q(z \mid x) = N(Ax + c, S).

The posterior p(z | x) = N(m, Λ⁻¹) has Λ = I + WᵀW/σ² and m = Λ⁻¹Wᵀ(x − b)/σ². The best factorised
Gaussian keeps m and takes the variances 1/Λ_jj (not the diagonal of Λ⁻¹); what it loses, the
approximation gap, is the same for every x. What a bound, an importance sampler or ELBO surgery
must find is therefore known: quantities *of data x* are per datapoint; quantities *of the
population* hold for x ~ p_θ(x), the model's own data, not for a finite data set.
"""

from __future__ import annotations

__all__ = ["LinearGaussian"]

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError, seeded

from . import gaussian_pair
from .affine_encoder import AffineDiagonal, AffineFull, maximum_likelihood
from .gaussian_pair import full_covariance, gaussian_kl, standard_normal

Encoder = AffineDiagonal | AffineFull


class LinearGaussian(nn.Module):
    r"""log p(x) = log N(x; b, WWᵀ + σ²I): a model with a known answer to every question.

    W, b and log σ² are parameters of the decoder; the encoder has its own. Without one it is the
    best factorised Gaussian *of the W, b, σ² given here*, and does not follow them in training.
    Computes in W's dtype: give float64 where digits matter.

    Args:
        W: Loadings, ``(D, d)``.
        b: Mean of x, ``(D,)``.
        sigma2: σ² > 0, the variance of the noise.
        encoder: q(z | x); see the ``with_…`` methods for the exact and for sick ones.

    Raises:
        InputError: If the shapes disagree or σ² is not positive.

    References:
        Tipping, Bishop 1999, Probabilistic principal component analysis; Lucas, Tucker, Grosse,
        Norouzi 2019, Don't blame the ELBO!, arXiv 1911.02469.

    Example:
        >>> model = LinearGaussian.instance_1()
        >>> x = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
        >>> round(model.log_likelihood(x).item(), 10), round(model.elbo(x).item(), 10)
        (-3.6964690082, -3.7639911095)
    """

    def __init__(
        self,
        W: Float[Tensor, "D d"],
        b: Float[Tensor, "_"],
        sigma2: float,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        _check_parameters(W, b, sigma2)
        self.W = nn.Parameter(W.detach().clone())
        self.b = nn.Parameter(b.detach().clone())
        self.log_sigma2 = nn.Parameter(torch.full_like(W[0, 0].detach(), sigma2).log())
        self.encoder: Encoder = self._optimal_encoder() if encoder is None else encoder

    @classmethod
    def instance_1(cls) -> LinearGaussian:
        """D = 3, d = 2 in float64 with light-tailed weights, k = 0.355: z-tests hold."""
        return cls(_float64([[1.0, 0.2], [0.5, 1.0], [0.2, -0.4]]), _float64([0.1, -0.2, 0.3]), 0.5)

    @classmethod
    def instance_2(cls) -> LinearGaussian:
        """As instance 1 with infinite weight variance, k = 0.680: an estimator must warn."""
        return cls(_float64([[1.0, 0.8], [0.5, 1.0], [0.2, 0.4]]), _float64([0.1, -0.2, 0.3]), 0.5)

    @classmethod
    def conjugate(
        cls, sigma2: float = 1.0, mean: float = 0.0, variance: float = 1.0
    ) -> LinearGaussian:
        """z ~ N(0, 1), x | z ~ N(z, σ²), q(z) = N(mean, variance) for every x, in float64."""
        one = _float64([[1.0]])
        return cls(
            one, 0 * one[0], sigma2, AffineDiagonal(0 * one, mean * one[0], variance * one[0])
        )

    @classmethod
    def perfect(
        cls, latent_dim: int, data_dim: int, *, sigma2: float = 0.02, seed: int = 0
    ) -> LinearGaussian:
        """Orthonormal loadings: the encoder is exact and q(z) = p(z) in the population; float64.

        Each unit holds ½ ln(1 + 1/σ²) nats, so that KL(q_N‖p) of a finite data set is large
        although KL(q‖p) = 0: ≈ 32 nats with 20 units and N = 1000 at the default.
        """
        with seeded(seed):
            W = torch.linalg.qr(torch.randn(data_dim, latent_dim, dtype=torch.float64)).Q
        return cls(W, torch.zeros(data_dim, dtype=torch.float64), sigma2)

    @classmethod
    def fit(
        cls, x: Float[Tensor, "N D"], latent_dim: int, sigma2: float | None = None
    ) -> LinearGaussian:
        """The maximum-likelihood model, in float64; see :func:`ppca.maximum_likelihood`."""
        return cls(*maximum_likelihood(x, latent_dim, sigma2))

    def prior(self) -> Distribution:
        """p(z) = N(0, I)."""
        zero = torch.zeros_like(self.W[0])
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z: Float[Tensor, "*K d"]) -> Distribution:
        """p(x | z) = N(Wz + b, σ²I)."""
        mean = z @ self.W.T + self.b
        return Independent(Normal(mean, self.sigma2.sqrt().expand_as(mean)), 1)

    def encode(self, x: Float[Tensor, "B D"]) -> Distribution:
        """q(z | x) of the encoder in place."""
        return cast(Distribution, self.encoder(x))

    def sample(
        self, n: int, seed: int | None = None
    ) -> tuple[Float[Tensor, "n D"], Float[Tensor, "n d"]]:
        """n draws (x, z) from p(x, z)."""
        with seeded(seed), torch.no_grad():
            z = self.prior().sample((n,))
            return self.decode(z).sample(), z

    # The truth for data x.

    @property
    def sigma2(self) -> Float[Tensor, ""]:
        """σ², the variance of the noise."""
        return self.log_sigma2.exp()

    @property
    def posterior_precision(self) -> Float[Tensor, "d d"]:
        """Λ = I + WᵀW/σ², the same for every x."""
        return torch.eye(self.W.shape[1]).to(self.W) + self.W.T @ self.W / self.sigma2

    def marginal(self) -> MultivariateNormal:
        """p(x) = N(b, WWᵀ + σ²I)."""
        noise = self.sigma2 * torch.eye(len(self.b)).to(self.W)
        return MultivariateNormal(self.b, covariance_matrix=self.W @ self.W.T + noise)

    def log_likelihood(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """log p(x)."""
        return cast(Tensor, self.marginal().log_prob(x))

    def posterior(self, x: Float[Tensor, "B D"]) -> MultivariateNormal:
        """p(z | x) = N(m, Λ⁻¹)."""
        return self.tempered_posterior(x, 1.0)

    def optimal_diagonal(self, x: Float[Tensor, "B D"]) -> Distribution:
        """The factorised Gaussian of the largest ELBO: mean m, variances 1/Λ_jj."""
        mean = self.posterior(x).mean
        scale = self.posterior_precision.diagonal().rsqrt()
        return Independent(Normal(mean, scale.expand_as(mean)), 1)

    def reconstruction(
        self, x: Float[Tensor, "B D"], q: Distribution | None = None
    ) -> Float[Tensor, "B"]:
        """E_q log p(x | z) = −½D ln 2πσ² − (‖x − b − Wμ‖² + tr WSWᵀ)/(2σ²), any Gaussian q."""
        full = full_covariance(self.encode(x) if q is None else q)
        spread = torch.einsum("Di,...ij,Dj->...", self.W, full.covariance_matrix, self.W)
        return self.decode(full.mean).log_prob(x) - spread / (2 * self.sigma2)

    def kl(self, x: Float[Tensor, "B D"], q: Distribution | None = None) -> Float[Tensor, "B"]:
        """KL(q(z | x)‖p(z)); the rate."""
        return gaussian_kl(self.encode(x) if q is None else q, self.prior())

    def elbo(self, x: Float[Tensor, "B D"], q: Distribution | None = None) -> Float[Tensor, "B"]:
        """The ELBO of any Gaussian q with batch shape ``(B,)``; of the encoder if not given."""
        return self.reconstruction(x, q) - self.kl(x, q)

    def gap(self, x: Float[Tensor, "B D"], q: Distribution | None = None) -> Float[Tensor, "B"]:
        """The inference gap log p(x) − ELBO = KL(q‖p(z | x))."""
        return gaussian_kl(self.encode(x) if q is None else q, self.posterior(x))

    def approximation_gap(self) -> Float[Tensor, ""]:
        """The gap of the best factorised Gaussian, ½(Σ ln Λ_jj − ln|Λ|), for every x."""
        precision = self.posterior_precision
        return 0.5 * (precision.diagonal().log().sum() - precision.logdet())

    def amortisation_gap(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Gap of the encoder − gap of the best factorised Gaussian; < 0 for a better family."""
        return self.gap(x) - self.approximation_gap()

    def importance_variance(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """χ² = Var_q[w]/p(x)² of the encoder's importance weights; ESS/K tends to 1/(1 + χ²)."""
        return gaussian_pair.chi_square(self.posterior(x), self.encode(x))

    def pareto_index(self) -> Float[Tensor, ""]:
        """The tail index k of the encoder's importance weights, for every x; variance if < ½."""
        x = self.b.detach()[None]
        return gaussian_pair.pareto_index(self.posterior(x), self.encode(x))[0]

    def tempered_posterior(self, x: Float[Tensor, "B D"], beta: float) -> MultivariateNormal:
        """f_β ∝ p(z) p(x | z)^β = N(m_β, Λ_β⁻¹), Λ_β = I + βWᵀW/σ²: prior at 0, posterior at 1."""
        scaled = beta / self.sigma2
        precision = torch.eye(self.W.shape[1]).to(self.W) + scaled * self.W.T @ self.W
        mean = torch.linalg.solve(precision, scaled * self.W.T @ (x - self.b).T).T
        return MultivariateNormal(mean, precision_matrix=precision)

    def forward_gap(self, x: Float[Tensor, "B D"], betas: Float[Tensor, "T"]) -> Float[Tensor, "B"]:
        """log p(x) − E log w of AIS with exact transitions and one chain, Σ KL(f_{t−1}‖f_t)."""
        f = [self.tempered_posterior(x, beta) for beta in betas.tolist()]
        return torch.stack([gaussian_kl(p, q) for p, q in pairwise(f)]).sum(0)

    def reverse_gap(self, x: Float[Tensor, "B D"], betas: Float[Tensor, "T"]) -> Float[Tensor, "B"]:
        """E(−log u) − log p(x) of reverse AIS, exact transitions, one chain, Σ KL(f_t‖f_{t−1})."""
        return self.forward_gap(x, betas.flip(0))

    # The truth of the population, x ~ p_θ(x).

    def aggregate_posterior(self) -> MultivariateNormal:
        """q(z) = ∫ q(z | x) p(x) dx = N(Ab + c, AΣ_xAᵀ + S)."""
        A, marginal = self.encoder.A, self.marginal()
        covariance = A @ marginal.covariance_matrix @ A.T + self.encoder.covariance
        return MultivariateNormal(A @ self.b + self.encoder.c, covariance_matrix=covariance)

    def expected_log_likelihood(self) -> Float[Tensor, ""]:
        """E log p(x), minus the entropy of the model's data."""
        return -cast(Tensor, self.marginal().entropy())

    def expected_kl(self) -> Float[Tensor, ""]:
        """E KL(q(z | x)‖p(z)) = mutual information + marginal KL."""
        return self.mutual_information() + self.marginal_kl()

    def mutual_information(self) -> Float[Tensor, ""]:
        """I(x; z) under p(x) q(z | x), ½(ln|Cov q(z)| − ln|S|)."""
        aggregate = self.aggregate_posterior().covariance_matrix
        return 0.5 * (aggregate.logdet() - self.encoder.covariance.logdet())

    def marginal_kl(self) -> Float[Tensor, ""]:
        """KL(q(z)‖p(z)) = Σ_j dimension-wise KL + total correlation; of q_N it is larger."""
        q = self.aggregate_posterior()
        return gaussian_kl(q, standard_normal(q.mean))

    def dimensionwise_kl(self) -> Float[Tensor, "d"]:
        """KL(q(z_j)‖p(z_j)), one value a unit."""
        return gaussian_pair.dimensionwise_kl(self.aggregate_posterior())

    def total_correlation(self) -> Float[Tensor, ""]:
        """KL(q(z)‖Π_j q(z_j))."""
        return gaussian_pair.total_correlation(self.aggregate_posterior())

    # The same decoder with another posterior.

    def with_encoder(self, encoder: Encoder) -> LinearGaussian:
        """A copy of the decoder with this encoder."""
        return LinearGaussian(self.W, self.b, self.sigma2.item(), encoder)

    def with_exact_posterior(self) -> LinearGaussian:
        """q(z | x) = p(z | x), with its full covariance: all gaps are zero."""
        A, c = self._posterior_map()
        return self.with_encoder(AffineFull(A, c, torch.linalg.inv(self.posterior_precision)))

    def with_prior_as_posterior(self) -> LinearGaussian:
        """q(z | x) = p(z): posterior collapse, complete."""
        A, c = self._posterior_map()
        return self.with_encoder(AffineDiagonal(0 * A, 0 * c, torch.ones_like(c)))

    def with_mistuned_posterior(
        self, mean_shift: float | Tensor = 0.0, variance_factor: float | Tensor = 1.0
    ) -> LinearGaussian:
        """The best factorised Gaussian with its mean shifted and its variances multiplied."""
        best = self._optimal_encoder()
        variance = best.log_variance.exp() * torch.as_tensor(variance_factor).to(self.W)
        shifted = best.c + torch.as_tensor(mean_shift).to(self.W)
        return self.with_encoder(AffineDiagonal(best.A, shifted, variance))

    def _posterior_map(self) -> tuple[Tensor, Tensor]:
        """A and c of the posterior's mean m = Ax + c."""
        A = torch.linalg.solve(self.posterior_precision, self.W.T / self.sigma2)
        return A, -A @ self.b

    def _optimal_encoder(self) -> AffineDiagonal:
        A, c = self._posterior_map()
        return AffineDiagonal(A, c, 1 / self.posterior_precision.diagonal())


def _float64(values: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _check_parameters(W: Tensor, b: Tensor, sigma2: float) -> None:
    if b.shape != W.shape[:1]:
        got = f"{tuple(W.shape)} and {tuple(b.shape)}"
        raise InputError("W and b of LinearGaussian", expected="(D, d) and (D,)", got=got)
    if not sigma2 > 0:
        raise InputError("sigma2", expected="a positive variance", got=str(sigma2))
