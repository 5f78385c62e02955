r"""Gaussian toy of Rainforth et al. (2018), on which gradients lose or gain signal with K.

.. math:: z \sim N(\mu, I_d), \quad x \mid z \sim N(z, I_d), \quad
          q(z \mid x) = N(Ax + b, \tfrac23 I_d)

θ is μ, φ is A and b; the variance of q is fixed, and wider than that of the posterior
N((x + μ)/2, I/2), so that the importance weights have all the moments that matter: with d = 20,
χ² = 0.907 at the optimum. For given data the optimum is μ = mean(x), A = I/2, b = μ/2. Near it
the encoder has almost nothing to learn, far from it much.
"""

from __future__ import annotations

__all__ = ["GaussianToy"]

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import seeded

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
