r"""Binary data small enough to enumerate: p(x) of all 2^D outcomes by Gauss–Hermite quadrature.

z ~ N(0, I_d), d ≤ 2, x | z ~ Π Bernoulli(logits Wz + b), D ≤ 12. The probabilities sum to one (at
any number of nodes, to rounding), and E log p(x) under any p*(x) is a finite sum: the truth for
bounds on binary data, where the posterior is not Gaussian and q is never exact. With 200 nodes a
dimension log p(x) is right to rounding for |W| ≤ 2; the error grows with the slope of the
sigmoids, whose poles lie at a distance of π/|W| from the real axis (1e-5 at 80 nodes, |W| ~ 4).
"""

from __future__ import annotations

__all__ = ["EnumerableBernoulli", "SingleBit"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import logsigmoid, softplus

from elboscope.core import InputError, seeded

from .affine_encoder import AffineDiagonal
from .quadrature import gauss_hermite, line, log_integral

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


# The single bit: n identical copies of one fair bit, one Gaussian latent, the Bayes decoder.
#
# x ∈ {0…0, 1…1} with probability ½ each, q(z | x) = N(±m, s²) and each copy decoded with the
# logit log q(z | 1)/q(z | 0) = 2mz/s², which is the optimal one. With a single copy the ELBO is
# −ln 2 − KL(q(z)‖p(z)) for *any* encoder: the optimum −ln 2 needs q(z) = N(0, 1), which two
# Gaussians reach only by collapsing. The valley is extremely flat (along s² = 1 − m² the loss
# rises as m⁸/12), so test the ELBO, not the KL. With two or more copies the bit is worth
# transmitting.
#
# References:
#     Rui Shu 2017; the flatness and the table over n are exact, computed for this library.


class SingleBit(nn.Module):
    r"""q(z | x) = N(±m, s²), p(x | z) = Bernoulli(logits 2mz/s²) for each copy, in float64.

    Args:
        m: Distance of the posterior means from zero.
        s: Their standard deviation, > 0.
        num_copies: n, the number of identical bits.

    Raises:
        InputError: If s is not positive.

    Example:
        >>> model = SingleBit.optimal(num_copies=2)
        >>> round(model.elbo().item(), 6), round(model.m.item(), 5), round(model.s.item(), 5)
        (-0.907558, 0.86547, 0.50097)
    """

    def __init__(self, m: float, s: float, num_copies: int = 1) -> None:
        super().__init__()
        if not s > 0:
            raise InputError("s of SingleBit", expected="a positive number", got=str(s))
        self.m = nn.Parameter(torch.tensor(m, dtype=torch.float64))
        self.log_s = nn.Parameter(torch.tensor(math.log(s), dtype=torch.float64))
        self.num_copies = num_copies

    @classmethod
    def optimal(cls, num_copies: int) -> SingleBit:
        """The (m, s) of the largest ELBO; for one copy the collapsed (0, 1), exactly."""
        if num_copies == 1:
            return cls(0.0, 1.0)
        model = cls(0.9, 0.4, num_copies)
        optimiser = torch.optim.LBFGS(
            model.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = -model.elbo()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        return cls(model.m.item(), model.s.item(), num_copies)

    @property
    def s(self) -> Float[Tensor, ""]:
        """The standard deviation of either posterior."""
        return self.log_s.exp()

    def data(self) -> Float[Tensor, "2 n"]:
        """Both datapoints, all zeros and all ones."""
        return torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat(1, self.num_copies)

    def prior(self) -> Distribution:
        """p(z) = N(0, 1), event shape ``(1,)``."""
        zero = torch.zeros_like(self.m)[None]
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z: Float[Tensor, "*K 1"]) -> Distribution:
        """n Bernoulli bits with the logit 2mz/s²."""
        return Independent(
            Bernoulli(logits=self._logit(z).expand(*z.shape[:-1], self.num_copies)), 1
        )

    def encode(self, x: Float[Tensor, "B n"]) -> Distribution:
        """N(m, s²) for ones, N(−m, s²) for zeros."""
        mean = self.m * (2 * x[:, :1] - 1)
        return Independent(Normal(mean, self.s.expand_as(mean)), 1)

    def reconstruction(self) -> Float[Tensor, ""]:
        """E_q log p(x | z), all copies, by quadrature; the same for both x."""
        u, weight = _standard_normal_nodes()
        return self.num_copies * (weight * logsigmoid(self._logit(self.m + self.s * u))).sum()

    def kl(self) -> Float[Tensor, ""]:
        """KL(q(z | x)‖p(z)), the same for both x."""
        return 0.5 * (self.m**2 + self.s**2 - 1) - self.log_s

    def elbo(self) -> Float[Tensor, ""]:
        """Reconstruction − KL, per datapoint (all copies)."""
        return self.reconstruction() - self.kl()

    def mutual_information(self) -> Float[Tensor, ""]:
        """I(x; z) under q = ln 2 + E log σ(2mz/s²), at most ln 2, by quadrature."""
        return math.log(2) + self.reconstruction() / self.num_copies

    def marginal_kl(self) -> Float[Tensor, ""]:
        """KL(½N(m, s²) + ½N(−m, s²)‖N(0, 1)), by quadrature of q log q/p itself."""
        u, weight = _standard_normal_nodes()
        z = self.m + self.s * u
        log_q = torch.logaddexp(-0.5 * u**2, -0.5 * ((z + self.m) / self.s) ** 2)
        return (weight * (log_q - math.log(2) - self.log_s + 0.5 * z**2)).sum()

    def _logit(self, z: Tensor) -> Tensor:
        return 2 * self.m * z / self.s**2


def _standard_normal_nodes() -> tuple[Tensor, Tensor]:
    """Equidistant nodes and weights for an expectation under N(0, 1)."""
    u, _ = line(12.0, 4001)
    return u, torch.softmax(-0.5 * u**2, 0)
