r"""Two Gaussians: every divergence, ratio and importance-weight law between them, exactly.

For two normal densities p = N(a, P⁻¹) and q = N(μ, Q⁻¹) the log-ratio is a quadratic, so what a
classifier, an importance sampler or a variational posterior has to find is known: the KL
divergence, the Bayes-optimal logit log p/q and its variance, the χ² divergence (the variance of
the importance weights) and the Pareto index of their tail. Estimators are tested against these.

Everything here is exact up to rounding except :func:`jensen_shannon`, which is a quadrature in
one dimension. Values are in nats. Computed in the dtype of the distributions: use float64.
"""

from __future__ import annotations

__all__ = [
    "chi_square",
    "dimensionwise_kl",
    "full_covariance",
    "gaussian_kl",
    "jensen_shannon",
    "log_ratio_variance",
    "optimal_logit",
    "pareto_index",
    "random_gaussian",
    "standard_normal",
    "total_correlation",
]

import math

import torch
from jaxtyping import Float
from torch import Tensor
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
        seed: Of A and b.

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
