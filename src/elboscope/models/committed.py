r"""A Gaussian posterior that cannot become the prior: the δ-VAE's committed rate.

With σ bounded by σ_u < 1, every unit pays at least

.. math:: \delta = \tfrac12 (\sigma_u^2 - 1 - \ln \sigma_u^2)

nats against a standard normal prior, whatever x is. The toll being paid anyway, using the unit
becomes cheaper: in the linear VAE a unit is used iff the variance λ of the data along it exceeds
:math:`\sigma_u^2` times the decoder's noise, instead of the noise itself (Lucas et al., 2019).
It is a toll and not information: with μ = 0 everywhere the unit pays δ and says nothing, so look
at the mutual information, not at the KL. The aggregate posterior can match the prior only where
the means move enough to make up for the width that is missing.

References:
    | Preventing Posterior Collapse with delta-VAEs (Razavi et al., 2019),
      https://arxiv.org/abs/1901.03416
"""

from __future__ import annotations

__all__ = ["CommittedGaussian"]

import math
from dataclasses import dataclass

from scipy.special import lambertw
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from elboscope.core import InputError
from elboscope.distributions import diagonal_gaussian

from .posterior_heads import PosteriorHead

MOST_NATS = 6.0  # log σ² is clamped at −14, where a unit pays 6.5 nats


@dataclass(frozen=True)
class CommittedGaussian:
    r"""The diagonal Gaussian with :math:`\sigma < \sigma_u`: each unit pays at least δ nats.

    Attributes:
        nats: δ per unit, above 0 and at most 6.

    Example:
        >>> import torch
        >>> from elboscope.models import mlp_vae
        >>> model = mlp_vae((6,), 2, hidden=(8,), posterior=CommittedGaussian(nats=0.25))
        >>> q = model.encode(torch.zeros(3, 6))
        >>> bool((torch.distributions.kl_divergence(q, model.prior()) >= 0.5).all())
        True
    """

    nats: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.nats <= MOST_NATS:
            raise InputError("nats", expected="a number in (0, 6]", got=repr(self.nats))

    @property
    def largest_variance(self) -> float:
        r"""Returns :math:`\sigma_u^2`, where :math:`\sigma_u^2 - 1 - \ln \sigma_u^2 = 2\delta`.

        Example:
            >>> v = CommittedGaussian(nats=0.1).largest_variance
            >>> round(0.5 * (v - 1 - math.log(v)), 12)
            0.1
        """
        return float(-lambertw(-math.exp(-1 - 2 * self.nats)).real)

    def num_outputs(self, latent_dim: int) -> int:
        """μ and the unbounded number behind σ."""
        return 2 * latent_dim

    def head(self, latent_dim: int) -> PosteriorHead:
        r"""Reads μ and a, with :math:`\log\sigma^2 = \log\sigma_u^2 - \mathrm{softplus}(-a)`."""
        most = math.log(self.largest_variance)

        def read(_: nn.Module | None, mu: Tensor, a: Tensor, __: Tensor) -> Distribution:
            return diagonal_gaussian(mu, most - softplus(-a))

        return PosteriorHead(self, latent_dim, read)
