r"""Two Gaussians: every divergence, ratio and weight law between them, and x = Aw + b, exactly.

For two normal densities p = N(a, P⁻¹) and q = N(μ, Q⁻¹) the log-ratio is a quadratic, so what a
classifier, an importance sampler or a variational posterior has to find is known: the KL
divergence, the Bayes-optimal logit log p/q and its variance, the χ² divergence (the variance of
the importance weights) and the Pareto index of their tail. Estimators are tested against these.

Everything here is exact up to rounding except :func:`jensen_shannon`, which is a quadrature in
one dimension. Values are in nats. Computed in the dtype of the distributions: use float64.
"""

from __future__ import annotations

__all__ = [
    "FactorGaussian",
    "chi_square",
    "dimensionwise_kl",
    "draws",
    "full_covariance",
    "gaussian_kl",
    "jensen_shannon",
    "log_ratio_variance",
    "optimal_logit",
    "pareto_index",
    "random_gaussian",
    "rescaled",
    "standard_normal",
    "total_correlation",
]

import math

import torch
from jaxtyping import Float, Float64
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from elboscope.core import InputError, seeded

from .quadrature import line


def standard_normal(like: Float[Tensor, "d"]) -> MultivariateNormal:
    """N(0, I) of the length, dtype and device of a vector."""
    return MultivariateNormal(torch.zeros_like(like), scale_tril=torch.diag(torch.ones_like(like)))


def full_covariance(q: Distribution) -> MultivariateNormal:
    """The same Gaussian as a :class:`MultivariateNormal`, whether q is diagonal or already full."""
    if isinstance(q, MultivariateNormal):
        return q
    return MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.stddev))


def gaussian_kl(p: Distribution, q: Distribution) -> Float[Tensor, "*B"]:
    """KL(p‖q) = ½[tr(QΣ) + (a − μ)ᵀQ(a − μ) − d + ln|P| − ln|Q|], Σ = P⁻¹.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> p = standard_normal(one)
        >>> gaussian_kl(p, MultivariateNormal(one, scale_tril=one[None])).item()
        0.5
    """
    kl: Tensor = torch.distributions.kl_divergence(full_covariance(p), full_covariance(q))
    return kl


def optimal_logit(
    x: Float[Tensor, "*B d"], p: MultivariateNormal, q: MultivariateNormal
) -> Float[Tensor, "*B"]:
    """log p(x) − log q(x), the logit of the Bayes classifier of p (label 1) against q (label 0).

    Its mean under p is KL(p‖q); a fitted classifier's is not a bound of it.
    """
    logit: Tensor = p.log_prob(x) - q.log_prob(x)
    return logit


def log_ratio_variance(p: MultivariateNormal, q: MultivariateNormal) -> Float[Tensor, "*B"]:
    """Var_p[log p/q] = ½ tr M² + ‖LᵀQ(a − μ)‖², M = LᵀQL − I, LLᵀ = P⁻¹.

    The Monte Carlo standard error of KL(p‖q) from S draws is the root of this over S.
    """
    L, Q = p.scale_tril, q.precision_matrix
    M = L.mT @ Q @ L - torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
    slope = (L.mT @ Q @ (p.mean - q.mean)[..., None])[..., 0]
    return 0.5 * (M * M.mT).sum((-2, -1)) + (slope**2).sum(-1)


def pareto_index(p: Distribution, q: Distribution) -> Float[Tensor, "*B"]:
    r"""The tail index k of the importance weight w = p(z)/q(z), z ~ q.

    With LLᵀ = Q⁻¹ and z = μ + Lu, log w is a quadratic whose steepest direction has the curvature
    λ, the largest eigenvalue of I − LᵀPL, so that Pr(w > t) ~ t^(−1/λ): k = max(λ, 0). Moments
    of w of order ≥ 1/k are infinite: the variance from k = ½ on. 0 where all moments exist.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry 2015, Pareto smoothed importance sampling,
        arXiv 1507.02646; Yao, Vehtari, Simpson, Gelman 2018, arXiv 1802.02538.
    """
    p, q = full_covariance(p), full_covariance(q)
    L = q.scale_tril
    M = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device) - L.mT @ p.precision_matrix @ L
    largest: Tensor = torch.linalg.eigvalsh(M)[..., -1]
    return largest.clamp(min=0)


def chi_square(p: Distribution, q: Distribution) -> Float[Tensor, "*B"]:
    r"""χ²(p‖q) = ∫ p²/q − 1, the relative variance of the importance weights under q.

    With R = 2P − Q and δ = a − μ: ln(1 + χ²) = ln|P| − ½ln|Q| − ½ln|R| + ½δᵀ(Q + QR⁻¹Q)δ;
    infinite unless R is positive definite, which is :func:`pareto_index` < ½.
    """
    p, q = full_covariance(p), full_covariance(q)
    P, Q = p.precision_matrix, q.precision_matrix
    finite = pareto_index(p, q) < 0.5
    R = torch.where(finite[..., None, None], 2 * P - Q, P)
    Qd = (Q @ (p.mean - q.mean)[..., None])[..., 0]
    shift = (Qd * (p.mean - q.mean)).sum(-1) + (Qd * _solve(R, Qd)).sum(-1)
    log_ratio = P.logdet() - 0.5 * Q.logdet() - 0.5 * R.logdet() + 0.5 * shift
    return torch.where(finite, log_ratio.expm1(), math.inf)


def dimensionwise_kl(q: MultivariateNormal) -> Float[Tensor, "d"]:
    """KL(q(z_j)‖N(0, 1)) of every marginal of a Gaussian q."""
    v = q.variance
    return 0.5 * (v + q.mean**2 - 1 - v.log())


def total_correlation(q: MultivariateNormal) -> Float[Tensor, ""]:
    """KL(q(z)‖Π_j q(z_j)) = ½(Σ_j ln Σ_jj − ln|Σ|) of a Gaussian q."""
    return 0.5 * q.variance.log().sum(-1) - q.scale_tril.diagonal().log().sum(-1)


def jensen_shannon(p: MultivariateNormal, q: MultivariateNormal) -> Float[Tensor, ""]:
    """½KL(p‖m) + ½KL(q‖m), m = (p + q)/2, of two one-dimensional Gaussians, by quadrature.

    The least mean binary cross-entropy of a classifier of p against q is ln 2 minus this.

    Raises:
        InputError: If p has more than one dimension.
    """
    if p.event_shape != (1,):
        raise InputError(
            "p of jensen_shannon",
            expected="one dimension",
            got=f"event shape {tuple(p.event_shape)}",
            do="Estimate it from samples instead.",
        )
    limit = max(abs(d.mean.item()) + 12 * d.stddev.item() for d in (p, q))
    z, log_cell = line(limit, 20_001)
    log_p, log_q = (d.log_prob(z[:, None].to(p.mean)) for d in (p, q))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    terms = 0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m))
    js: Tensor = terms.sum() * math.exp(log_cell)
    return js


def random_gaussian(
    dim: int, *, factors_per_dim: int = 10, mean_scale: float = 1.0, seed: int | None = None
) -> MultivariateNormal:
    r"""The law of x = Aw + b, w ~ N(0, I_m), m = 10 dim, A_ij ~ N(0, 1/m), b ~ N(0, τ²), float64.

    Two independent ones with b = 0 have E KL = ½n(n + 1)/(m − n − 1) (AAᵀ is Wishart): 0.125,
    0.618, 5.617, 55.6 nats at n = 1, 10, 100, 1000.

    Args:
        dim: n, the number of dimensions of x.
        factors_per_dim: m/n; with m = n the covariance would have a condition number of order n.
        mean_scale: τ.
        seed: Random seed of A and b.

    References:
        Rosca, Lakshminarayanan, Mohamed 2018, arXiv 1802.06847, appendix D.
    """
    m = factors_per_dim * dim
    with seeded(seed):
        A = torch.randn(dim, m, dtype=torch.float64) / math.sqrt(m)
        b = mean_scale * torch.randn(dim, dtype=torch.float64)
    return MultivariateNormal(b, covariance_matrix=A @ A.T)


def _solve(R: Tensor, y: Tensor) -> Tensor:
    """R⁻¹y for batches of matrices and vectors that broadcast."""
    solution: Tensor = torch.linalg.solve(R.expand(*y.shape, y.shape[-1]), y[..., None])[..., 0]
    return solution


# Gaussians as a generator makes them, x = Aw + b, and pairs of a divergence that is asked for.
#
# .. math:: w \sim \mathcal N(0, I_m) \quad\Rightarrow\quad x \sim \mathcal N(b, AA^\top)
#
# A and b are the parameters, so that a game can learn them from draws, while everything that the
# game is after is known: the law, its KL divergence from any other and the Bayes-optimal logit
# (:mod:`elboscope.models.exact.gaussian_pair`). The law is computed in float64 by a Cholesky
# factor and nothing is added to its diagonal: a covariance that has become singular has no
# density, and none is made up for it.
#
# References:
#     | Distribution Matching in Variational Inference (Rosca et al., 2018), appendix D,
#     | https://arxiv.org/abs/1802.06847


class FactorGaussian(nn.Module):
    """The generator x = Aw + b; A and b are its parameters.

    Args:
        A: Factor, ``(n, m)`` with m ≥ n.
        b: Mean, ``(n,)``.

    Raises:
        InputError: Fewer factors than dimensions: the law would have no density.

    Example:
        >>> q = FactorGaussian(torch.eye(2), torch.zeros(2))
        >>> q(torch.ones(3, 2)).shape, q.law().covariance_matrix.tolist()
        (torch.Size([3, 2]), [[1.0, 0.0], [0.0, 1.0]])
    """

    def __init__(self, A: Float[Tensor, "n m"], b: Float[Tensor, " n"]) -> None:
        super().__init__()
        if A.shape[0] > A.shape[1]:
            got = f"{A.shape[1]} for {A.shape[0]}"
            raise InputError("A", expected="as many factors as dimensions, or more", got=got)
        self.A, self.b = nn.Parameter(A.clone()), nn.Parameter(b.clone())

    @classmethod
    def random(
        cls,
        dim: int,
        *,
        factors_per_dim: int = 10,
        mean_scale: float = 1.0,
        seed: int | None = None,
    ) -> FactorGaussian:
        r"""Returns one with :math:`A_{ij} \sim N(0, 1/m)`, :math:`b \sim N(0, \tau^2)`, float32.

        The same seed makes the law of
        :func:`~elboscope.models.exact.gaussian_pair.random_gaussian`.

        Args:
            dim: n.
            factors_per_dim: m/n.
            mean_scale: τ.
            seed: Random seed of A and b.

        Example:
            >>> FactorGaussian.random(3, seed=0).A.shape
            torch.Size([3, 30])
        """
        m = factors_per_dim * dim
        with seeded(seed):
            A = torch.randn(dim, m, dtype=torch.float64) / math.sqrt(m)
            b = mean_scale * torch.randn(dim, dtype=torch.float64)
        return cls(A.float(), b.float())

    def forward(self, w: Float[Tensor, "S m"]) -> Float[Tensor, "S n"]:
        """Returns Aw + b of each row."""
        return torch.addmm(self.b, w, self.A.mT)

    def law(self) -> MultivariateNormal:
        """Returns N(b, AAᵀ) in float64; gradients reach A and b.

        Raises:
            InputError: AAᵀ has no Cholesky factor: it is singular, or not finite.
        """
        A, b = self.A.double(), self.b.double()
        L, failed = torch.linalg.cholesky_ex(A @ A.mT)
        if failed or not bool(L.isfinite().all() and b.isfinite().all()):
            raise InputError(
                "AAᵀ",
                expected="a covariance that is positive definite in float64",
                got="one that is not: the law has no density",
                do="Look at where its log-determinant fell; nothing is added to its diagonal.",
            )
        return MultivariateNormal(b, scale_tril=L, validate_args=False)

    def log_det(self) -> float:
        """Returns log|AAᵀ|, −∞ where it is singular."""
        A = self.A.detach().double()
        return float(torch.linalg.slogdet(A @ A.mT).logabsdet)


def draws(law: MultivariateNormal, num_draws: int) -> Float[Tensor, "S n"]:
    """Returns draws in float32, from the ambient random state.

    Example:
        >>> draws(FactorGaussian.random(3, seed=0).law(), 5).shape
        torch.Size([5, 3])
    """
    u = torch.randn(num_draws, len(law.loc), device=law.loc.device)
    return torch.addmm(law.loc.float(), u, law.scale_tril.float().mT)


def rescaled(p: MultivariateNormal, q: MultivariateNormal, kl: float) -> MultivariateNormal:
    r"""Returns q′ with KL(p‖q′) as asked, so that dimension and divergence vary one at a time.

    .. math:: \Sigma' = L\, e^{s \log(L^{-1} \Sigma_q L^{-\top})} L^\top, \quad
              \mu' = \mu_p + t (\mu_q - \mu_p), \quad LL^\top = \Sigma_p

    The covariance is that of q (s = 1) unless more than half of the divergence would be its own;
    then s < 1 makes it half. The shift of the mean is the rest: a covariance stretched to ten
    nats in one dimension would be 22 000 times as wide.

    Args:
        p: From which the divergence is.
        q: Gives the covariance and the direction of the shift.
        kl: KL(p‖q′) in nats, to 1e-10.

    Raises:
        InputError: Not a positive number, or p and q have one mean.

    Example:
        >>> from elboscope.models.exact.gaussian_pair import gaussian_kl, random_gaussian
        >>> p, q = random_gaussian(3, seed=0), random_gaussian(3, seed=1)
        >>> round(gaussian_kl(p, rescaled(p, q, 10.0)).item(), 9)
        10.0
    """
    if not 0 < kl < math.inf:
        raise InputError("kl", expected="a finite number of nats > 0", got=str(kl))
    L, shift = p.scale_tril.double(), (q.loc - p.loc).double()
    if not bool(shift.any()):
        raise InputError("q", expected="another mean than that of p", got="the same")
    whitened = torch.linalg.solve_triangular(L, q.scale_tril.double(), upper=False)
    eigenvalues, U = torch.linalg.eigh(whitened @ whitened.mT)
    log_ratio = _at_most(kl / 2, eigenvalues.log())
    along = U.mT @ torch.linalg.solve_triangular(L, shift[:, None], upper=False)[:, 0]
    of_shift = float(0.5 * (along**2 * (-log_ratio).exp()).sum())
    t = math.sqrt((kl - _covariance_kl(log_ratio)) / of_shift)
    triangular = torch.linalg.qr((L @ (U * (0.5 * log_ratio).exp())).mT).R.mT
    scale = triangular * triangular.diagonal().sign()
    return MultivariateNormal(p.loc.double() + t * shift, scale_tril=scale)


def _at_most(kl: float, log_ratio: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Logarithms of the ratios of variances, shrunk where their divergence is more than kl."""
    if _covariance_kl(log_ratio) <= kl:
        return log_ratio
    return log_ratio * float(brentq(lambda s: _covariance_kl(s * log_ratio) - kl, 0.0, 1.0))


def _covariance_kl(log_ratio: Float64[Tensor, " n"]) -> float:
    """KL of two Gaussians of one mean, along the axes that both covariances share."""
    return float(0.5 * (torch.expm1(-log_ratio) + log_ratio).sum())
