r"""Families of learned priors that a VAE can have in the place of :math:`\mathcal N(0, I)`.

.. math:: \frac1N\sum_n \mathrm{ELBO}(x_n) = \mathbb{E}\log p(x|z) - I_q(n; z)
          - \mathrm{KL}(q(z) \| p(z))

The prior enters through the last term alone: the best prior is the aggregate posterior q(z), and
what a learned prior gains with encoder and decoder held fixed is at most the marginal KL.

- a *mixture of Gaussians* with diagonal covariances;
- a *VampPrior*: the mixture of the posteriors of K learned pseudo-inputs,
  :math:`p(z) = \frac1K \sum_k q(z | u_k)`, which shares the encoder; with all data as
  pseudo-inputs it is q(z) itself;
- a *flow*: N(0, I) through a masked autoregressive flow.

A family is a frozen dataclass of numbers, so that a configuration file can name it:
``mlp_vae(…, prior=VampPrior(num_components=500))``. KL(q(z|x) ‖ p(z)) has no closed form under any
of them and is sampled.
"""

from __future__ import annotations

__all__ = ["FlowPrior", "MixturePrior", "PriorFamily", "PseudoInputs", "VampPrior", "made_prior"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import ReshapeTransform

from elboscope.core import InputError
from elboscope.distributions import (
    LOG_VARIANCE_RANGE,
    FlowPosterior,
    GaussianMixture,
    masked_autoregressive_flow,
    standard_normal,
)

Shape = tuple[int, ...]


@runtime_checkable
class PriorFamily(Protocol):
    """What ``mlp_vae``, ``conv_vae`` and ``from_modules`` take as ``prior``."""

    def prior_module(self, latent_shape: Shape, data_shape: Shape) -> nn.Module:
        """Returns a new module with the prior's parameters, which when called returns p(z)."""
        ...


@dataclass(frozen=True)
class MixturePrior:
    r"""A mixture of Gaussians with diagonal covariances, its weights learned too.

    Attributes:
        num_components: K. Their means start as draws from N(0, I), their variances at 1.

    Example:
        >>> from elboscope.models import mlp_vae
        >>> model = mlp_vae((6,), 2, hidden=(8,), prior=MixturePrior(10))
        >>> model.prior()
        GaussianMixture(10 components, diagonal, z (2,))
    """

    num_components: int = 100

    def prior_module(self, latent_shape: Shape, data_shape: Shape) -> nn.Module:
        """The mixture's weights, means and variances."""
        return _Mixture(self, latent_shape)


@dataclass(frozen=True)
class VampPrior:
    r"""The mixture of the posteriors of K pseudo-inputs, :math:`\frac1K \sum_k q(z | u_k)`.

    Attributes:
        num_components: K.
        low: The least value of a pixel of a pseudo-input.
        high: The greatest.
        initial_mean: The pseudo-inputs start as normal draws with this mean.
        initial_scale: And this standard deviation.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120

    Example:
        >>> from elboscope.models import mlp_vae
        >>> model = mlp_vae((6,), 2, hidden=(8,), prior=VampPrior(num_components=5))
        >>> x = model.given_prior.pseudo_inputs
        >>> z, q = torch.zeros(2), model.encode(x)
        >>> bool(torch.allclose(model.prior().log_prob(z).exp(), q.log_prob(z).exp().mean()))
        True
    """

    num_components: int = 500
    low: float = 0.0
    high: float = 1.0
    initial_mean: float = 0.05
    initial_scale: float = 0.01

    def prior_module(self, latent_shape: Shape, data_shape: Shape) -> PseudoInputs:
        """The pseudo-inputs."""
        return PseudoInputs(self, data_shape)


@dataclass(frozen=True)
class FlowPrior:
    """N(0, I) through a masked autoregressive flow; it begins as N(0, I).

    Scoring is one pass through the networks, drawing d of them.

    Attributes:
        num_steps: Autoregressive transformations.
        hidden: Width of the hidden layer of their networks.

    Example:
        >>> from elboscope.models import mlp_vae
        >>> model = mlp_vae((6,), 2, hidden=(8,), prior=FlowPrior(hidden=8))
        >>> model.prior().log_prob(torch.zeros(2)).item()
        -1.837...
    """

    num_steps: int = 4
    hidden: int = 100

    def prior_module(self, latent_shape: Shape, data_shape: Shape) -> nn.Module:
        """The flow's networks."""
        return _Flow(self, latent_shape)


class _Mixture(nn.Module):
    def __init__(self, family: MixturePrior, latent_shape: Shape) -> None:
        super().__init__()
        self.family = family
        K = _at_least_one("num_components", family.num_components)
        self.logits = nn.Parameter(torch.zeros(K))
        self.mu = nn.Parameter(torch.randn(K, *latent_shape))
        self.log_variance = nn.Parameter(torch.zeros(K, *latent_shape))

    def forward(self) -> Distribution:
        sigma = (0.5 * self.log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
        return GaussianMixture(self.logits, self.mu, sigma)


class PseudoInputs(nn.Module):
    """The parameters of a VampPrior.

    Args:
        family: Its numbers.
        data_shape: ``(*X)``.
    """

    def __init__(self, family: VampPrior, data_shape: Shape) -> None:
        super().__init__()
        self.family = family
        K = _at_least_one("num_components", family.num_components)
        start = family.initial_mean + family.initial_scale * torch.randn(K, *data_shape)
        self.values = nn.Parameter(start.clamp(family.low, family.high))

    @property
    def pseudo_inputs(self) -> Tensor:
        """The u_k, ``(K, *X)``, kept between the least and the greatest value."""
        return self.values.clamp(self.family.low, self.family.high)

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Distribution:
        """Returns p(z), the mixture of what ``encode`` answers for the pseudo-inputs."""
        q = encode(self.pseudo_inputs)
        logits = torch.zeros_like(self.values.flatten(1)[:, 0])
        if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
            return GaussianMixture(logits, q.mean, q.stddev)
        weights = Categorical(logits=logits, validate_args=False)
        return MixtureSameFamily(weights, q, validate_args=False)


class _Flow(nn.Module):
    def __init__(self, family: FlowPrior, latent_shape: Shape) -> None:
        super().__init__()
        self.family, self.latent_shape = family, latent_shape
        self.flow = masked_autoregressive_flow(
            math.prod(latent_shape), 0, family.num_steps, family.hidden
        )

    def forward(self) -> Distribution:
        d = math.prod(self.latent_shape)
        like = next(self.flow.parameters())
        p = FlowPosterior(standard_normal((d,), like), self.flow)
        if len(self.latent_shape) == 1:
            return p
        back = ReshapeTransform(torch.Size((d,)), torch.Size(self.latent_shape))
        return TransformedDistribution(p, back, validate_args=False)


def made_prior(
    prior: Distribution | nn.Module | PriorFamily | None,
    latent_shape: Shape,
    data_shape: Shape,
    like: Tensor,
    *,
    conditional: bool = False,
) -> Distribution | nn.Module | None:
    """Returns what a VAE keeps: a family's new module, and everything else as it is.

    Args:
        prior: What the user gave.
        latent_shape: ``(*Z)``.
        data_shape: ``(*X)``.
        like: A tensor on the model's device, in its dtype.
        conditional: Whether the networks take a condition.

    Raises:
        InputError: A VampPrior for an encoder that takes a condition.
    """
    if not isinstance(prior, PriorFamily):
        return prior
    module = prior.prior_module(latent_shape, data_shape)
    if conditional and isinstance(module, PseudoInputs):
        raise InputError(
            "prior",
            expected="one that does not use the encoder, since that takes a condition",
            got=str(prior),
            do="Take MixturePrior or FlowPrior.",
        )
    return module.to(like)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InputError(name, expected="at least 1", got=repr(value))
    return value
