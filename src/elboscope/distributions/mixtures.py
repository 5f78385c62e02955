r"""Mixtures of Gaussians, :math:`r(z) = \sum_k \pi_k\, \mathcal N(z; \mu_k, \Sigma_k)`, of latents.

With diagonal covariances the log-densities of S points under K components are one matrix product,

.. math:: \log\mathcal N(z_s; \mu_k, \sigma_k^2) = \bigl(-\tfrac12 z_s^2,\ z_s,\ 1\bigr) \cdot
          \bigl(1/\sigma_k^2,\ \mu_k/\sigma_k^2,\ c_k\bigr)

in float64, since the expanded square cancels; so a prior of 500 components costs 500·S·d
multiplications and 500·S numbers of memory. Everything is differentiable in z and in the
parameters; draws are not (which component is discrete).
"""

from __future__ import annotations

__all__ = ["GaussianMixture"]

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from elboscope.core import InputError

Shape = torch.Size | list[int] | tuple[int, ...]
LOG_2PI = math.log(2 * math.pi)


class GaussianMixture(Distribution):
    r"""The mixture :math:`\sum_k \pi_k\, \mathcal N(\mu_k, L_k L_k^\top)`, batch (), event (\*Z).

    Args:
        logits: :math:`\log\pi_k` up to a constant, ``(K,)``.
        mu: Means, ``(K, *Z)``.
        scale: Standard deviations, ``(K, *Z)``, or the lower triangular L, ``(K, d, d)``, d being
            the number of latents.

    Raises:
        InputError: Shapes that do not fit.

    Example:
        >>> r = GaussianMixture(torch.zeros(2), torch.tensor([[-9.0], [9.0]]), torch.ones(2, 1))
        >>> r.log_prob(torch.tensor([9.0])).item()  # log ½ N(0; 0, 1)
        -1.612...
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, logits: Float[Tensor, " K"], mu: Float[Tensor, "K *Z"], scale: Tensor
    ) -> None:
        d = mu[0].numel()
        self.is_diagonal = scale.shape == mu.shape
        if len(mu) != len(logits) or not (
            self.is_diagonal or tuple(scale.shape) == (len(mu), d, d)
        ):
            raise InputError(
                "mixture",
                expected=f"K logits, means (K, *Z), scales of that shape or (K, {d}, {d})",
                got=f"{tuple(logits.shape)}, {tuple(mu.shape)} and {tuple(scale.shape)}",
            )
        self.logits, self.mu, self.scale = logits, mu, scale
        super().__init__(torch.Size(), mu.shape[1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """Σ_k π_k μ_k."""
        mean: Tensor = torch.tensordot(self.logits.softmax(0), self.mu, 1)
        return mean

    @property
    def variance(self) -> Tensor:
        """Of each latent by itself."""
        own = self.scale if self.is_diagonal else self.scale.norm(dim=-1).reshape(self.mu.shape)
        second = own.square() + self.mu.square()
        variance: Tensor = torch.tensordot(self.logits.softmax(0), second, 1) - self.mean.square()
        return variance

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            k = torch.multinomial(self.logits.softmax(0), shape.numel(), replacement=True)
            mu = self.mu[k].flatten(1)
            noise = torch.randn_like(mu)
            if self.is_diagonal:
                z = mu + self.scale.flatten(1)[k] * noise
            else:
                z = mu
                for component, L in enumerate(self.scale):  # one by one: S factors are gigabytes
                    rows = k == component
                    z[rows] += noise[rows] @ L.T
            return z.reshape(*shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log r(z) in nats."""
        lead = value.shape[: value.ndim - len(self.event_shape)]
        z = value.reshape(lead.numel(), -1).double()
        by_component = self._diagonal(z) if self.is_diagonal else self._full(z)
        log_r = (by_component + self.logits.double().log_softmax(0)).logsumexp(1)
        return log_r.to(value.dtype).reshape(lead)

    def to(self, dtype: torch.dtype) -> GaussianMixture:
        """Returns the mixture in another floating dtype."""
        return GaussianMixture(self.logits.to(dtype), self.mu.to(dtype), self.scale.to(dtype))

    def _diagonal(self, z: Tensor) -> Float[Tensor, "S K"]:
        mu, s = self.mu.flatten(1).double(), self.scale.flatten(1).double()
        centre = mu.mean(0).detach()
        z, mu, precision = z - centre, mu - centre, s.square().reciprocal()
        c = (mu.square() * precision).sum(1) + 2 * s.log().sum(1) + z.shape[1] * LOG_2PI
        return z @ (mu * precision).T - 0.5 * (z.square() @ precision.T + c)

    def _full(self, z: Tensor) -> Float[Tensor, "S K"]:
        parts = [
            self._one_full(z, mu, L)
            for mu, L in zip(self.mu.flatten(1).double(), self.scale.double(), strict=True)
        ]
        return torch.stack(parts, dim=1)

    @staticmethod
    def _one_full(z: Tensor, mu: Tensor, L: Tensor) -> Float[Tensor, " S"]:
        u = torch.linalg.solve_triangular(L, (z - mu).T, upper=False)
        log_det = L.diagonal().log().sum()
        log_r: Tensor = -0.5 * (u.square().sum(0) + len(mu) * LOG_2PI) - log_det
        return log_r

    def __repr__(self) -> str:
        kind = "diagonal" if self.is_diagonal else "full"
        return f"GaussianMixture({len(self.mu)} components, {kind}, z {tuple(self.event_shape)})"
