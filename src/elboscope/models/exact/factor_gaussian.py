r"""Gaussians as a generator makes them, x = Aw + b, and pairs of a divergence that is asked for.

.. math:: w \sim \mathcal N(0, I_m) \quad\Rightarrow\quad x \sim \mathcal N(b, AA^\top)

A and b are the parameters, so that a game can learn them from draws, while everything that the
game is after is known: the law, its KL divergence from any other and the Bayes-optimal logit
(:mod:`elboscope.models.exact.gaussian_pair`). The law is computed in float64 by a Cholesky factor
and nothing is added to its diagonal: a covariance that has become singular has no density, and
none is made up for it.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018), appendix D,
    | https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["FactorGaussian", "draws", "rescaled"]

import math

import torch
from jaxtyping import Float, Float64
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from elboscope.core import InputError, seeded


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
            seed: Of A and b.

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
