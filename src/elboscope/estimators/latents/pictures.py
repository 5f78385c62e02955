r"""Places in the latent space to look at, and what the decoder makes of them.

A place is shown by the mean of p(x|z). A decoder without one (an autoregressive decoder has no
closed form) is shown by a draw, and the pictures say so: what differs between two draws is then
partly chance.
"""

from __future__ import annotations

__all__ = [
    "Decoded",
    "LatentManifold",
    "decode_points",
    "latent_manifold",
    "location",
    "marginal_quantiles",
    "prior_location",
    "ratio_to_prior",
]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution, Independent

from elboscope.core import (
    ContractError,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    draw_x,
    evaluating,
    given,
    mean_of,
    seeded,
)
from elboscope.core.errors import first_line

from ..inputs import blocks, prepared, require_positive
from ..posteriors import DiagonalPosteriors, Posteriors, encode_posteriors, gaussian_posteriors
from .aggregate import log_aggregate_posterior, log_prior

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


def decode_points(
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
            shown = mean_of(p)
        except NotImplementedError:
            shown, kind = draw_x(p, like), DRAWS
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
        mean = mean_of(p).double()
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


# The latent manifold of one or two latents: the decoder over cells of equal prior mass.
#
# For a prior whose coordinates are independent the nodes are the quantiles
#
# .. math:: z_{ij} = \bigl(F_1^{-1}(u_i), F_2^{-1}(u_j)\bigr), \qquad u_i = \frac{i + 1/2}{n},
#
# the middles of n² cells of mass 1/n² (Kingma and Welling, figure 4). For any other prior
# (mixtures, flows, a VampPrior) the first coordinate's quantiles divide draws into n strips of
# equal mass, and in each strip those of the second take n cells: the same cells, with the second
# coordinate given the first, from draws. What is seen is therefore what the prior samples, every
# tile equally often; tiles that q(z) hardly covers are known by :math:`\log q_N(z) - \log p(z)`.
#
# References:
#     | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114

DRAWS_PER_CELL = 400
EXACT = "inverse CDF of each coordinate of the prior"
NO_DATA, NO_ENCODER = "no data were given", "the model has no encoder"


@dataclass(frozen=True, eq=False)
class LatentManifold:
    """The decoder over cells of equal prior mass, 1/n² each, or 1/n of a single latent.

    Attributes:
        levels: u_i, the middles of the cells in the prior's own probability.
        z: The nodes, z₁ along the first axis; Q = 1 where there is a single latent.
        mean: The decoder's means, or its draws where it has no mean.
        log_ratio: log q(z) − log p(z) at the nodes, in nats; None without data or density.
        why_no_ratio: The reason, or nothing.
        nodes_by: How the nodes were found.
        decoded: What ``mean`` shows, in words: means or draws of p(x|z).
        settings: What was done.
    """

    levels: Float64[Tensor, " n"]
    z: Float64[Tensor, "P Q d"]
    mean: Float[Tensor, "P Q *X"]
    log_ratio: Float64[Tensor, "P Q"] | None
    why_no_ratio: str
    nodes_by: str
    decoded: str
    settings: Mapping[str, object]


def latent_manifold(
    model: GenerativeModel,
    x: object | None = None,
    *,
    num_steps: int = 15,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> LatentManifold:
    """Decodes a grid of cells of equal prior mass, of a model with one or two latents.

    Two latents only: a plane cut out of more is none that is ever sampled.

    Args:
        model: A model with one or two latents; an encoder is needed only with x.
        x: The data behind q(z), whose ratio to the prior is wanted at the nodes.
        num_steps: n, the cells along each latent.
        seed: Random seed, for priors whose coordinates depend on each other; None picks one.
        condition: One row per datapoint; the decoder takes the first.

    Raises:
        InputError: More than two latents; x cannot be data.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> grid = latent_manifold(model, num_steps=3)
        >>> [round(u, 6) for u in torch.special.ndtr(grid.z[:, 0, 0]).tolist()]
        [0.166667, 0.5, 0.833333]
    """
    require_positive("num_steps", num_steps)
    first = None if condition is None else condition[:1]
    with evaluating(model), seeded(seed) as used:
        prior = given(model, first).prior()
        d = math.prod(prior.event_shape)
        if d > 2:
            raise InputError(
                "model",
                expected="one or two latents, which can be laid out",
                got=f"{d}",
                do="Look at es.latents.latent_traversals(model, x).",
            )
        levels = (torch.arange(num_steps, dtype=torch.float64) + 0.5) / num_steps
        z, how = _nodes(prior, levels, d)
        pictures = decode_points(model, z.flatten(0, 1), first)
        log_ratio, why = _log_ratio(model, x, condition, z)
    settings = {"num_steps": num_steps, "seed": used, "decoded": pictures.kind}
    means = pictures.x.unflatten(0, z.shape[:2])
    return LatentManifold(levels, z, means, log_ratio, why, how, pictures.kind, settings)


def _nodes(prior: Distribution, levels: Tensor, d: int) -> tuple[Float64[Tensor, "P Q d"], str]:
    quantiles = _independent_quantiles(prior, levels)
    if quantiles is not None:
        n = len(levels)
        first = quantiles[:, :1].expand(n, n if d == 2 else 1)
        columns = [first] if d == 1 else [first, quantiles[:, 1].expand(n, n)]
        return torch.stack(columns, -1), EXACT
    S = DRAWS_PER_CELL * len(levels) ** d
    z = prior.sample(torch.Size((S,))).double().reshape(S, d)
    words = f"quantiles of {S} draws of the prior"
    return _empirical(z, levels), words + (", those of z₂ within strips of z₁" if d == 2 else "")


def _independent_quantiles(prior: Distribution, levels: Tensor) -> Float64[Tensor, "n d"] | None:
    """F⁻¹ of each coordinate; None where they depend on each other, or where it is not told."""
    base = prior
    while isinstance(base, Independent):
        base = base.base_dist
    if base.event_shape:
        return None
    try:
        like = base.sample()
        shaped = levels.to(like).reshape(-1, *(1 for _ in like.shape)).expand(-1, *like.shape)
        return base.icdf(shaped).double().flatten(1)
    except NotImplementedError:
        return None


def _empirical(z: Float64[Tensor, "S d"], levels: Tensor) -> Float64[Tensor, "P Q d"]:
    """Equal counts: n strips by z₁, and in each strip n cells by z₂."""
    levels = levels.to(z.device)
    ordered = z[z[:, 0].argsort()]
    first = ordered[:, 0].quantile(levels)
    if z.shape[1] == 1:
        return first[:, None, None]
    second = torch.stack([strip[:, 1].quantile(levels) for strip in ordered.chunk(len(levels))])
    return torch.stack([first[:, None].expand_as(second), second], -1)


def _log_ratio(
    model: GenerativeModel, x: object | None, condition: Tensor | None, z: Tensor
) -> tuple[Float64[Tensor, "P Q"] | None, str]:
    if x is None:
        return None, NO_DATA
    if not isinstance(model, LatentVariableModel):
        return None, NO_ENCODER
    inputs = prepared(model, x, condition)
    prior = given(model, inputs.rows(slice(0, 1))[1]).prior()
    try:
        ratio = ratio_to_prior(z.flatten(0, 1), encode_posteriors(model, inputs), prior)
    except (ContractError, NotImplementedError) as error:
        return None, first_line(error)
    return ratio.unflatten(0, z.shape[:2]), ""
