r"""Binary data small enough to enumerate: p(x) of all 2^D outcomes by Gauss–Hermite quadrature.

z ~ N(0, I_d), d ≤ 2, x | z ~ Π Bernoulli(logits Wz + b), D ≤ 12. The probabilities sum to one (at
any number of nodes, to rounding), and E log p(x) under any p*(x) is a finite sum: the truth for
bounds on binary data, where the posterior is not Gaussian and q is never exact. With 200 nodes a
dimension log p(x) is right to rounding for |W| ≤ 2; the error grows with the slope of the
sigmoids, whose poles lie at a distance of π/|W| from the real axis (1e-5 at 80 nodes, |W| ~ 4).
"""

from __future__ import annotations

__all__ = ["EnumerableBernoulli"]

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import softplus

from elboscope.core import InputError, seeded
from elboscope.models.affine_encoder import AffineDiagonal
from elboscope.models.quadrature import gauss_hermite, log_integral

_CHUNK = 8_000_000
"""Entries of nodes × outcomes held at once."""


class EnumerableBernoulli(nn.Module):
    r"""p(x) = ∫ N(z; 0, I) Π_i Bernoulli(x_i; σ(W_i z + b_i)) dz.

    The encoder is the factorised Gaussian of one Newton step from z = 0 (good, never exact).

    Args:
        W: ``(D, d)``, D ≤ 12, d ≤ 2.
        b: ``(D,)``.

    Raises:
        InputError: If D or d is too large to enumerate.

    Example:
        >>> model = EnumerableBernoulli.random(data_dim=4, latent_dim=1, seed=0)
        >>> round(model.log_likelihood(model.outcomes()).exp().sum().item(), 12)
        1.0
    """

    def __init__(self, W: Float[Tensor, "D d"], b: Float[Tensor, "D"]) -> None:
        super().__init__()
        D, d = W.shape
        if D > 12 or d > 2:
            raise InputError(
                "W of EnumerableBernoulli",
                expected="at most 12 rows and 2 columns",
                got=f"{D}, {d}",
            )
        self.W, self.b = nn.Parameter(W.detach().clone()), nn.Parameter(b.detach().clone())
        self.encoder = _newton_encoder(self.W.detach(), self.b.detach())

    @classmethod
    def random(
        cls, data_dim: int, latent_dim: int, *, scale: float = 1.5, seed: int | None = None
    ) -> EnumerableBernoulli:
        """W ~ scale·N(0, 1) and b ~ N(0, ¼), in float64."""
        with seeded(seed):
            W = scale * torch.randn(data_dim, latent_dim, dtype=torch.float64)
            return cls(W, 0.5 * torch.randn(data_dim, dtype=torch.float64))

    def prior(self) -> Distribution:
        """p(z) = N(0, I)."""
        zero = torch.zeros_like(self.W[0])
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z: Float[Tensor, "*K d"]) -> Distribution:
        """p(x | z) = Π_i Bernoulli(σ(W_i z + b_i))."""
        return Independent(Bernoulli(logits=z @ self.W.T + self.b), 1)

    def encode(self, x: Float[Tensor, "B D"]) -> Distribution:
        """One Newton step from z = 0, factorised."""
        q: Distribution = self.encoder(x)
        return q

    def outcomes(self) -> Float[Tensor, "N D"]:
        """All 2^D binary x."""
        bits = torch.arange(2 ** len(self.b))[:, None] >> torch.arange(len(self.b))
        return (bits & 1).to(self.b)

    def log_likelihood(self, x: Float[Tensor, "B D"], nodes: int = 200) -> Float[Tensor, "B"]:
        """log p(x) by Gauss–Hermite quadrature."""
        z, log_weight = gauss_hermite(nodes, self.W.shape[1])
        logits = z.to(self.W) @ self.W.T + self.b
        log_z = log_weight - softplus(logits).sum(-1)
        parts = x.split(max(1, _CHUNK // len(z)))
        return torch.cat([log_integral(log_z[:, None] + logits @ part.T, 0.0) for part in parts])

    def expected_log_likelihood(
        self, p_star: Float[Tensor, "N"] | None = None, nodes: int = 200
    ) -> Float[Tensor, ""]:
        """E_{p*} log p(x) over :meth:`outcomes`; of the model's own data if p* is not given."""
        log_p = self.log_likelihood(self.outcomes(), nodes)
        return ((log_p.exp() if p_star is None else p_star) * log_p).sum()

    def sample(
        self, n: int, seed: int | None = None
    ) -> tuple[Float[Tensor, "n D"], Float[Tensor, "n d"]]:
        """n draws (x, z) from p(x, z)."""
        with seeded(seed), torch.no_grad():
            z = self.prior().sample((n,))
            return self.decode(z).sample(), z


def _newton_encoder(W: Tensor, b: Tensor) -> AffineDiagonal:
    """Λ = I + Wᵀ diag(p(1 − p))W and m = Λ⁻¹Wᵀ(x − p) at p = σ(b)."""
    p = b.sigmoid()
    precision = torch.eye(W.shape[1]).to(W) + (W.T * (p * (1 - p))) @ W
    A = torch.linalg.solve(precision, W.T)
    return AffineDiagonal(A, -A @ p, 1 / precision.diagonal())
