r"""The linear-Gaussian model with two stochastic layers: p(x) and the exact posterior chain.

.. math:: z_2 \sim N(0, I), \quad z_1 | z_2 \sim N(V z_2, \tau^2 I), \quad
          x | z_1 \sim N(W z_1 + b, \sigma^2 I)

Summed over z₂, z₁ is N(0, C) with C = VVᵀ + τ²I = RRᵀ, and so the model of x is the one-layer
:class:`LinearGaussian` with loadings WR. The posterior is a chain itself: q(z₁|x) follows from the
prior N(0, C), and given z₁, z₂ does not depend on x.
"""

from __future__ import annotations

__all__ = ["LinearChain"]

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import seeded
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
