r"""Families of learned priors that a VAE can have instead of :math:`\mathcal N(0, I)`.

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

__all__ = [
    "AutoregressivePrior",
    "FlowPrior",
    "MixturePrior",
    "PriorFamily",
    "PseudoInputs",
    "VampPrior",
    "made_prior",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
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


# A slow prior under a quick posterior: the other committed rate of the δ-VAE.
#
# The latents are n steps of stationary autoregressions of unit variance, one a channel,
#
# .. math:: z_1 \sim \mathcal N(0, 1), \qquad
#           z_t = \alpha z_{t-1} + \sqrt{1 - \alpha^2}\, \varepsilon_t,
#
# and a posterior that factorises over the steps cannot follow their correlation. Whatever x is,
# it pays at least
#
# .. math:: \delta = \tfrac12 \bigl[(n - 2) \ln(1 + \alpha^2) - \ln(1 - \alpha^2)\bigr]
#
# nats a channel, at mean 0 and the variances :math:`1/\Lambda_{tt}`, Λ being the precision of the
# prior: the approximation gap of a factorised Gaussian. It is a toll and not information, as that
# of :class:`CommittedGaussian`, and only a posterior that factorises over the steps pays it.
#
# References:
#     | Preventing Posterior Collapse with delta-VAEs (Razavi et al., 2019),
#       https://arxiv.org/abs/1901.03416


@dataclass(frozen=True)
class AutoregressivePrior:
    r"""N(0, Σ) with :math:`\Sigma_{st} = \alpha^{|s - t|}` in each channel; nothing is learned.

    The latents are ordered channel by channel, n steps each.

    Attributes:
        alpha: α, in (0, 1).
        channels: Number of channels; it must divide the number of latents.

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
