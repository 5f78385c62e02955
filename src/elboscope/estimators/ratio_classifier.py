r"""A classifier between draws of q(z) and of p(z), whose logit estimates their log-ratio.

.. math:: C^* = \arg\min_C -\mathbb{E}_{q(z)} \log C(z) - \mathbb{E}_{p(z)} \log(1 - C(z))
          \quad\Rightarrow\quad \operatorname{logit} C^*(z) = \log \frac{q(z)}{p(z)}

An MLP with leaky rectifiers (slope 0.2), trained by Adam (β = 0.5, 0.9) on fresh draws of both:
z ~ q(z|x_n) of the part that fits, as many z ~ p(z). It begins at C = ½ everywhere, *no
difference*, and its cross-entropy on other datapoints decides which weights are kept. Published
estimates depend on these choices by orders of magnitude, so each is a field of
:class:`RatioClassifier` and printed with the number.
"""

from __future__ import annotations

__all__ = ["RatioClassifier", "fitted_classifier"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.functional import softplus

from elboscope.core import InputError

from .aggregate_parts import Parts
from .early_stopping import Descent, descend
from .evaluation import blocks

BATCH, SCORED_AT_ONCE, CHOOSING_DRAWS = 512, 4096, 10_000

Critic = Callable[[Tensor], Tensor]
"""From z, float64 of shape (S, d), to the estimated log q(z)/p(z)."""


@dataclass(frozen=True)
class RatioClassifier:
    """What the classifier is and how it is trained.

    Args:
        hidden: Widths of the hidden layers.
        learning_rate: Adam's.
        max_steps: Gradient steps of 512 draws of each side at most.
        gradient_penalty: Weight of (‖∇ logit‖ − 1)² between draws of both sides; 0: none.
        activation_noise: Standard deviation of Gaussian noise on hidden activations in training.
        dropout: Probability of dropping a hidden activation in training.
        early_stopping: Keep the weights with the best cross-entropy on other datapoints; else
            the last ones.

    Example:
        >>> RatioClassifier(dropout=0.5).hidden
        (256, 256)
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    max_steps: int = 2000
    gradient_penalty: float = 0.0
    activation_noise: float = 0.0
    dropout: float = 0.0
    early_stopping: bool = True

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise InputError("max_steps", expected="at least 1", got=str(self.max_steps))
        if any(width < 1 for width in self.hidden):
            raise InputError("hidden", expected="widths of at least 1", got=str(self.hidden))
        if not 0 <= self.dropout < 1:
            raise InputError("dropout", expected="a number in [0, 1)", got=str(self.dropout))
        for name in ("learning_rate", "gradient_penalty", "activation_noise"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(name, expected="a finite number ≥ 0", got=str(value))

    def network(self, latent_dim: int) -> nn.Sequential:
        """Returns the network of d latents; its last layer is zero: C = ½."""
        widths = (latent_dim, *self.hidden)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
            layers += [_Noise(self.activation_noise)] if self.activation_noise else []
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
        last = nn.Linear(widths[-1], 1)
        for p in last.parameters():
            nn.init.zeros_(p)
        return nn.Sequential(*layers, last, nn.Flatten(0))


class _Noise(nn.Module):
    """Adds Gaussian noise in training."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, h: Float[Tensor, "S h"]) -> Float[Tensor, "S h"]:
        """Returns h, with noise in training mode."""
        return h + self.sigma * torch.randn_like(h) if self.training else h


def fitted_classifier(parts: Parts, classifier: RatioClassifier) -> tuple[Critic, Descent]:
    """Trains a classifier and returns its logit with how the training ended.

    Args:
        parts: Draws of q(z) to fit and to choose, and the prior.
        classifier: What is trained and how.
    """
    fit, choose = parts.fit, parts.choose
    centre, scale = _pooled(fit.z, parts.prior_draws(len(fit.z)))
    network = classifier.network(fit.z.shape[1]).to(fit.z.device)

    def placed(z: Float64[Tensor, "S d"]) -> Float[Tensor, "S d"]:
        return ((z - centre) / scale).float()

    def critic(z: Float64[Tensor, "S d"]) -> Float64[Tensor, " S"]:
        with torch.no_grad():
            u = [network(placed(z[rows])) for rows in blocks(len(z), SCORED_AT_ONCE)]
        return torch.cat(u).double()

    def loss() -> Tensor:
        q, p = placed(fit.fresh(BATCH)), placed(parts.prior_draws(BATCH))
        entropy = _cross_entropy(network(q), network(p))
        if not classifier.gradient_penalty:
            return entropy
        return entropy + classifier.gradient_penalty * _penalty(network, q, p)

    prior_draws = parts.prior_draws(CHOOSING_DRAWS)
    ended = descend(
        network,
        loss,
        lambda: -_cross_entropy(critic(choose.z), critic(prior_draws)).item(),
        max_steps=classifier.max_steps,
        learning_rate=classifier.learning_rate,
        betas=(0.5, 0.9),
        keep_best=classifier.early_stopping,
    )
    return critic, ended


def _cross_entropy(logit_q: Float[Tensor, " S"], logit_p: Float[Tensor, " T"]) -> Tensor:
    return 0.5 * (softplus(-logit_q).mean() + softplus(logit_p).mean())


def _penalty(network: nn.Module, q: Float[Tensor, "S d"], p: Float[Tensor, "S d"]) -> Tensor:
    """(‖∇ logit‖ − 1)² on random points between the two sides."""
    u = torch.rand_like(q[:, :1])
    between = (u * q + (1 - u) * p).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.norm(dim=1) - 1).square().mean()
    return penalty


def _pooled(q: Float64[Tensor, "S d"], p: Float64[Tensor, "S d"]) -> tuple[Tensor, Tensor]:
    """Centre and scale of both sides together, so that neither lies far outside the units."""
    both = torch.cat([q, p])
    return both.mean(0), both.std(0).clamp(min=torch.finfo(both.dtype).tiny)
