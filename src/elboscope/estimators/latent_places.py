r"""Places in the latent space to look at, and what the decoder makes of them.

A place is shown by the mean of p(x|z). A decoder without one (an autoregressive decoder has no
closed form) is shown by a draw, and the pictures say so: what differs between two draws is then
partly chance.
"""

from __future__ import annotations

__all__ = [
    "Decoded",
    "decoded",
    "location",
    "marginal_quantiles",
    "prior_location",
    "ratio_to_prior",
]

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import GenerativeModel, LatentVariableModel, given

from .aggregate_draws import log_prior
from .aggregate_posterior import log_aggregate_posterior
from .evaluation import blocks
from .posteriors import DiagonalPosteriors, Posteriors, gaussian_posteriors

BATCH_SIZE = 256
MEAN_SAMPLES = 10_000  # where a distribution tells no mean
BISECTIONS = 80
MEANS, DRAWS = "means of p(x|z)", "draws of p(x|z), which has no mean in closed form"


class Decoded(NamedTuple):
    """What the decoder makes of some z.

    Attributes:
        x: Its means, or draws where it has no mean.
        kind: Which of them.
    """

    x: Float[Tensor, "n *X"]
    kind: str


def decoded(
    model: GenerativeModel, z: Float[Tensor, "n d"], condition: Tensor | None = None
) -> Decoded:
    """Decodes latents, all under the one condition of ``condition``'s single row.

    Args:
        model: The model.
        z: Places, latent axes flattened, in any precision.
        condition: One row, or None.
    """
    local = given(model, condition)
    shape = local.prior().event_shape
    like = local.prior().sample()
    parts, kind = [], MEANS
    for rows in blocks(len(z), BATCH_SIZE):
        p = local.decode(z[rows].to(like).reshape(-1, 1, *shape))
        try:
            shown = p.mean
        except NotImplementedError:
            shown, kind = p.sample(), DRAWS
        parts.append(shown[:, 0])
    return Decoded(torch.cat(parts), kind)


def location(
    model: LatentVariableModel, x: Float[Tensor, "n *X"], condition: Tensor | None = None
) -> Float64[Tensor, "n d"]:
    """Returns E_q[z|x], flattened; an average of draws where q does not tell its mean."""
    return _mean(given(model, condition).encode(x), MEAN_SAMPLES // 10).flatten(1)


def prior_location(prior: Distribution) -> Float64[Tensor, " d"]:
    """Returns the prior's mean, flattened; an average of draws where it does not tell it."""
    return _mean(prior, MEAN_SAMPLES).flatten()


def _mean(p: Distribution, draws: int) -> Tensor:
    try:
        mean: Tensor = p.mean.double()
    except NotImplementedError:
        mean = p.sample(torch.Size((draws,))).double().mean(0)
    return mean


def marginal_quantiles(
    q: DiagonalPosteriors, units: Tensor, levels: Float64[Tensor, " s"]
) -> Float64[Tensor, "r s"]:
    r"""Returns the quantiles of :math:`q_N(z_j) = \frac1N \sum_n q(z_j|x_n)`, by bisection.

    Args:
        q: The one-dimensional marginals of the N components.
        units: The r units.
        levels: Between 0 and 1.

    Example:
        >>> mu = torch.tensor([[-2.0], [2.0]]).double()
        >>> q = DiagonalPosteriors(mu, torch.ones_like(mu))
        >>> half = torch.tensor([0.5]).double()
        >>> marginal_quantiles(q, torch.tensor([0]), half).abs().item() < 1e-9
        True
    """
    mu, sigma = q.mu[:, units, None], q.sigma[:, units, None]
    own = mu + sigma * torch.special.ndtri(levels)
    low, high = own.amin(0), own.amax(0)  # the mixture's lie between its components'
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        below = torch.special.ndtr((middle - mu) / sigma).mean(0) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    found: Tensor = 0.5 * (low + high)
    return found


def ratio_to_prior(
    z: Float64[Tensor, "S d"], q: Posteriors, prior: Distribution
) -> Float64[Tensor, " S"]:
    r"""Returns :math:`\log q_N(z) - \log p(z)`: below zero the prior goes where q(z) does not."""
    dtype = prior.sample().dtype
    return log_aggregate_posterior(z, q) - log_prior(prior, gaussian_posteriors(prior), z, dtype)
