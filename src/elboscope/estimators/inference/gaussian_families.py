r"""Families in which one datapoint's posterior is sought: diagonal and full-covariance Gaussians.

A member is :math:`z = m + L\epsilon`, L diagonal or lower triangular, one (m, L) a datapoint, none
shared. The gradient is that of sticking the landing, in the coordinates that L itself gives,

.. math:: e = L^\top \nabla_z \log p(x, z) + \epsilon, \qquad
          g_m = \mathbb{E}[e], \quad G = \mathbb{E}[e\,\epsilon^\top],

because :math:`-L^\top\nabla_z \log q = \epsilon`. It vanishes sample by sample where q is the
posterior. At the best member :math:`\mathbb{E}[-L^\top \nabla^2\log p\, L]` has ones on its
diagonal, so that in these coordinates the curvature of the ELBO is about 1 for the mean and for
what is below L's diagonal, and 2 for log L's diagonal, whatever the scales of the posterior are:
:math:`g_m` and :math:`G`, its diagonal halved, are Newton's steps but for correlations, and
:math:`\tfrac12 \|g_m\|^2 + \ldots` is what they promise to gain, in nats.

The noise of a step is shared by the datapoints and matched to its moments: its mean is exactly 0
and, where there are more samples than dimensions, its covariance exactly I, so that a Gaussian
posterior of any correlation has no gradient noise at all. It is used to move, never to report.

A flow (:mod:`.flow_family`) is a family too, without such steps; parameters are any tensors whose
first axis runs over the datapoints.
"""

from __future__ import annotations

__all__ = [
    "DiagonalGaussian",
    "Family",
    "FullGaussian",
    "GaussianFamily",
    "Parameters",
    "matched_noise",
]

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    ReshapeTransform,
    TransformedDistribution,
)

Parameters = tuple[Tensor, ...]
"""Local parameters, or a step of them: tensors whose first axis runs over the datapoints."""

LOG_2PI = math.log(2 * math.pi)
# The largest step in one direction: three standard deviations for a mean, half a nat for a
# log-scale. Farther away the curvature at the start says nothing about the place where the step
# would end.
LARGEST_SHIFT, LARGEST_STRETCH = 3.0, 0.5


@runtime_checkable
class Family(Protocol):
    """What the search asks of a family; ``noise`` is ``(K, B, e)``, or ``(K, 1, e)`` shared."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """``(*Z)``."""
        ...

    @property
    def noise_dim(self) -> int:
        """e, the numbers of noise that make one sample."""
        ...

    def start(self, mean: Tensor, std: Tensor) -> Parameters:
        """Returns the member with these means and standard deviations, ``(B, *Z)`` each."""
        ...

    def draw(self, parameters: Parameters, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z, ``(K, B, *Z)``, and log q(z), ``(K, B)``."""
        ...

    def distribution(self, parameters: Parameters) -> Distribution:
        """Returns q, batch ``(B,)``, event ``(*Z)``."""
        ...


@runtime_checkable
class GaussianFamily(Family, Protocol):
    """A family with Newton's steps, which :mod:`.local_optimisation` takes."""

    def ascent(self, parameters: Parameters, noise: Tensor, slope: Tensor) -> Parameters:
        """Returns the direction of ascent from ∂ log p(x, z)/∂z, ``(K, B, *Z)``."""
        ...

    def moved(self, parameters: Parameters, step: Parameters) -> Parameters:
        """Returns the parameters after a step, a multiple of a direction."""
        ...

    def promise(self, a: Parameters, b: Parameters) -> Tensor:
        """Returns the gain in nats that a direction promises, from two estimates of it, (B,)."""
        ...


@dataclass(frozen=True)
class DiagonalGaussian:
    r""":math:`\mathcal N(m, \mathrm{diag}\,\sigma^2)`; its parameters are m and log σ, ``(B, d)``.

    Example:
        >>> family = DiagonalGaussian((2,))
        >>> q = family.distribution(family.start(torch.zeros(3, 2), torch.ones(3, 2)))
        >>> q.batch_shape, q.event_shape
        (torch.Size([3]), torch.Size([2]))
    """

    latent_shape: tuple[int, ...]

    @property
    def noise_dim(self) -> int:
        """d."""
        return math.prod(self.latent_shape)

    def start(self, mean: Float[Tensor, "B *Z"], std: Float[Tensor, "B *Z"]) -> Parameters:
        """Returns (m, log σ)."""
        return mean.flatten(1), std.flatten(1).log()

    def draw(
        self, parameters: Parameters, noise: Float[Tensor, "K _ d"]
    ) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
        """Returns z = m + σε and log q(z)."""
        mean, log_std = parameters
        z = mean + log_std.exp() * noise
        return z.reshape(*z.shape[:2], *self.latent_shape), _log_q(noise, log_std)

    def ascent(
        self, parameters: Parameters, noise: Float[Tensor, "K _ d"], slope: Float[Tensor, "K B *Z"]
    ) -> Parameters:
        """Returns E[e] and ½E[eε], each no larger than a step may be."""
        e = slope.flatten(2) * parameters[1].exp() + noise
        shift, stretch = e.mean(0), (e * noise).mean(0) / 2
        return _bounded(shift, LARGEST_SHIFT), _bounded(stretch, LARGEST_STRETCH)

    def moved(self, parameters: Parameters, step: Parameters) -> Parameters:
        """Returns (m + σ'·shift, log σ') with log σ' = log σ + stretch."""
        log_std = parameters[1] + step[1]
        return parameters[0] + log_std.exp() * step[0], log_std

    def promise(self, a: Parameters, b: Parameters) -> Float[Tensor, " B"]:
        """Returns ½ shift² + stretch², summed."""
        return (a[0] * b[0]).sum(1) / 2 + (a[1] * b[1]).sum(1)

    def distribution(self, parameters: Parameters) -> Distribution:
        """Returns q."""
        shape = (-1, *self.latent_shape)
        mean, std = parameters[0].reshape(shape), parameters[1].exp().reshape(shape)
        q = Normal(mean, std, validate_args=False)
        return Independent(q, len(self.latent_shape), validate_args=False)


@dataclass(frozen=True)
class FullGaussian:
    r""":math:`\mathcal N(m, LL^\top)`; its parameters are m, ``(B, d)``, and L, ``(B, d, d)``.

    Example:
        >>> family = FullGaussian((1, 2))
        >>> q = family.distribution(family.start(torch.zeros(3, 1, 2), torch.ones(3, 1, 2)))
        >>> q.batch_shape, q.event_shape
        (torch.Size([3]), torch.Size([1, 2]))
    """

    latent_shape: tuple[int, ...]

    @property
    def noise_dim(self) -> int:
        """d."""
        return math.prod(self.latent_shape)

    def start(self, mean: Float[Tensor, "B *Z"], std: Float[Tensor, "B *Z"]) -> Parameters:
        """Returns (m, L) with a diagonal L."""
        return mean.flatten(1), torch.diag_embed(std.flatten(1))

    def draw(
        self, parameters: Parameters, noise: Float[Tensor, "K _ d"]
    ) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
        """Returns z = m + Lε and log q(z)."""
        mean, L = parameters
        z = mean + torch.matmul(noise.transpose(0, 1), L.mT).transpose(0, 1)
        log_std = L.diagonal(dim1=1, dim2=2).log()
        return z.reshape(*z.shape[:2], *self.latent_shape), _log_q(noise, log_std)

    def ascent(
        self, parameters: Parameters, noise: Float[Tensor, "K _ d"], slope: Float[Tensor, "K B *Z"]
    ) -> Parameters:
        """Returns E[e] and the lower triangle of E[eεᵀ], its diagonal halved."""
        e = torch.matmul(slope.flatten(2).transpose(0, 1), parameters[1])
        e = e + noise.transpose(0, 1)
        G = torch.matmul(e.mT, noise.transpose(0, 1)).tril() / len(noise)
        G.diagonal(dim1=1, dim2=2).div_(2)
        return _bounded(e.mean(1), LARGEST_SHIFT), _bounded(G, LARGEST_STRETCH)

    def moved(self, parameters: Parameters, step: Parameters) -> Parameters:
        """Returns (m + L'·shift, L') with L' = L·(exp of the diagonal + what is below it)."""
        A = step[1].tril(-1) + torch.diag_embed(step[1].diagonal(dim1=1, dim2=2).exp())
        L = parameters[1] @ A
        return parameters[0] + (L @ step[0][..., None])[..., 0], L

    def promise(self, a: Parameters, b: Parameters) -> Float[Tensor, " B"]:
        """Returns ½ shift² + ½ below² + diagonal², summed."""
        product = a[1] * b[1]
        scale = product.sum((1, 2)) + product.diagonal(dim1=1, dim2=2).sum(1)
        return ((a[0] * b[0]).sum(1) + scale) / 2

    def distribution(self, parameters: Parameters) -> Distribution:
        """Returns q; a reshaped one where the event is no vector."""
        mean, L = parameters
        q = MultivariateNormal(mean, scale_tril=L, validate_args=False)
        if len(self.latent_shape) == 1:
            return q
        reshape = ReshapeTransform(mean.shape[1:], torch.Size(self.latent_shape))
        return TransformedDistribution(q, [reshape], validate_args=False)


def matched_noise(K: int, d: int, like: Tensor) -> Float[Tensor, "{K} 1 {d}"]:
    """Draws K samples of N(0, I) whose mean is 0 and, for K > d, whose covariance is I, exactly.

    For K ≤ d they come in pairs ±ε. Fourth moments are short by 2/K of themselves: it is noise
    for moving to the optimum of a smooth function, not for reporting its value.

    Example:
        >>> with torch.random.fork_rng():
        ...     noise = matched_noise(16, 3, torch.zeros(1, dtype=torch.float64))[:, 0]
        >>> torch.allclose(noise.T @ noise / 16, torch.eye(3, dtype=torch.float64))
        True
    """
    if d + 1 >= K:
        half = torch.randn((K + 1) // 2, d).to(like)
        return torch.cat([half, -half])[:K, None]
    noise = torch.randn(K, d, dtype=torch.float64)
    Q, R = torch.linalg.qr(noise - noise.mean(0))
    matched: Tensor = Q * R.diagonal().sign() * math.sqrt(K)
    return matched.to(like)[:, None]


def _log_q(noise: Float[Tensor, "K _ d"], log_std: Float[Tensor, "B d"]) -> Float[Tensor, "K B"]:
    return -0.5 * (noise.square().sum(-1) + noise.shape[-1] * LOG_2PI) - log_std.sum(-1)


def _bounded(direction: Tensor, largest: float) -> Tensor:
    return direction.clamp(-largest, largest)
