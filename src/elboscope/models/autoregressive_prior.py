r"""A slow prior under a quick posterior: the other committed rate of the δ-VAE.

The latents are n steps of stationary autoregressions of unit variance, one a channel,

.. math:: z_1 \sim \mathcal N(0, 1), \qquad
          z_t = \alpha z_{t-1} + \sqrt{1 - \alpha^2}\, \varepsilon_t,

and a posterior that factorises over the steps cannot follow their correlation. Whatever x is, it
pays at least

.. math:: \delta = \tfrac12 \bigl[(n - 2) \ln(1 + \alpha^2) - \ln(1 - \alpha^2)\bigr]

nats a channel, at mean 0 and the variances :math:`1/\Lambda_{tt}`, Λ being the precision of the
prior: the approximation gap of a factorised Gaussian. It is a toll and not information, as that
of :class:`CommittedGaussian`, and only a posterior that factorises over the steps pays it.

References:
    | Preventing Posterior Collapse with delta-VAEs (Razavi et al., 2019),
      https://arxiv.org/abs/1901.03416
"""

from __future__ import annotations

__all__ = ["AutoregressivePrior"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from elboscope.core import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AutoregressivePrior:
    r"""N(0, Σ) with :math:`\Sigma_{st} = \alpha^{|s - t|}` in each channel; nothing is learned.

    The latents are ordered channel by channel, n steps each.

    Attributes:
        alpha: α, in (0, 1).
        channels: Of which the number of latents is a multiple.

    Raises:
        InputError: α outside (0, 1); latents that are no vector, or no multiple of the channels,
            or fewer than two steps of each.

    Example:
        >>> from elboscope.models import mlp_vae
        >>> prior = AutoregressivePrior(alpha=0.9)
        >>> model = mlp_vae((6,), 5, hidden=(8,), prior=prior)
        >>> round(prior.committed_rate(5), 4)
        1.7204
        >>> model.prior().variance.round(decimals=5).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    alpha: float = 0.9
    channels: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError("alpha", expected="a number in (0, 1)", got=repr(self.alpha))
        if self.channels < 1:
            raise InputError("channels", expected="at least 1", got=repr(self.channels))

    def committed_rate(self, latent_dim: int) -> float:
        """Returns the least KL of a factorised Gaussian posterior, of all channels, in nats."""
        n, square = self._steps(latent_dim), self.alpha**2
        return self.channels * 0.5 * ((n - 2) * math.log1p(square) - math.log1p(-square))

    def prior_module(self, latent_shape: Shape, data_shape: Shape) -> nn.Module:
        """The Cholesky factor of Σ, a buffer."""
        if len(latent_shape) != 1:
            raise InputError("latents", expected="a vector", got=f"shape {latent_shape}")
        return _Autoregression(self, latent_shape[0])

    def scale_tril(self, latent_dim: int) -> Float[Tensor, "d d"]:
        """Returns the lower triangular factor of Σ, in float64: the recursion written out."""
        n = self._steps(latent_dim)
        lag = torch.arange(n)[:, None] - torch.arange(n)
        powers = torch.tril(self.alpha ** lag.clamp(min=0).double())
        noise = torch.full((n,), math.sqrt(1 - self.alpha**2), dtype=torch.float64)
        noise[0] = 1.0
        factor: Tensor = torch.block_diag(*[powers * noise] * self.channels)
        return factor

    def _steps(self, latent_dim: int) -> int:
        n, rest = divmod(latent_dim, self.channels)
        if rest or n < 2:
            raise InputError(
                "latent_dim",
                expected=f"a multiple of the {self.channels} channels, two steps each or more",
                got=str(latent_dim),
            )
        return n


class _Autoregression(nn.Module):
    scale_tril: Tensor

    def __init__(self, family: AutoregressivePrior, latent_dim: int) -> None:
        super().__init__()
        self.family = family
        self.register_buffer("scale_tril", family.scale_tril(latent_dim).float())

    def forward(self) -> Distribution:
        mean = torch.zeros_like(self.scale_tril[0])
        return MultivariateNormal(mean, scale_tril=self.scale_tril, validate_args=False)
