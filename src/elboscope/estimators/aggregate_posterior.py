r"""The aggregate posterior of the given data, exactly: a mixture over *all* N datapoints.

.. math:: q_N(z) = \frac1N \sum_{n=1}^N q(z \mid x_n), \qquad
          \log q_N(z) = \operatorname{logsumexp}_n \log q(z \mid x_n) - \log N

For diagonal Gaussians the expanded square turns N·S·d operations into one matrix product,

.. math:: \log q(z_s \mid x_n) = \bigl(-\tfrac12 z_s^2,\ z_s,\ 1\bigr) \cdot
          \bigl(1/\sigma_n^2,\ \mu_n/\sigma_n^2,\ c_n\bigr)

taken in blocks that stay in cache, with a running maximum and sum. The expanded form cancels, by
27 nats at worst in float32; so it is float64 throughout, z and μ are centred, the component a
draw came from is always computed directly, and where σ is so small that even float64 would lose
more than 1e-6 nats the differences are taken directly. Flows are inverted N·S times.

This is a statement about the given data. It is not the population's q(z) = E q(z|x): narrow
posteriors overlap in the population and hardly do in a sample of N.
"""

from __future__ import annotations

__all__ = ["log_aggregate_posterior", "log_marginal_posteriors"]

import math

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from .evaluation import Progress, blocks
from .posteriors import BLOCK, LOG_2PI, DiagonalPosteriors, Posteriors

# Nats below the running maximum at which even 10⁶ components add less than float64's rounding.
NEGLIGIBLE = 60.0


def log_aggregate_posterior(
    z: Float64[Tensor, "S d"],
    posteriors: Posteriors,
    own: Int64[Tensor, " S"] | None = None,
    *,
    progress: Progress | None = None,
) -> Float64[Tensor, " S"]:
    r"""Returns :math:`\log q_N(z_s)` over all N components, in nats.

    Args:
        z: Points, float64, latent axes flattened.
        posteriors: The N components, as :func:`encode_posteriors` returns them.
        own: The component each z was drawn from: computed directly, so that
            log q(z|x_n) − log q_N(z) ≤ log N holds to rounding.
        progress: Called with the points done and their number.

    Returns:
        The log-density of every z.

    References:
        | ELBO surgery (Hoffman, Johnson, 2016), http://approximateinference.org/2016/accepted/
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847, algorithm 2

    Example:
        >>> from elboscope.estimators import DiagonalPosteriors
        >>> mu = torch.tensor([[-20.0], [20.0]]).double()
        >>> q = log_aggregate_posterior(mu, DiagonalPosteriors(mu, torch.ones_like(mu)))
        >>> bool((q + math.log(2) + LOG_2PI / 2).abs().max() < 1e-12)
        True
    """
    parts = []
    for points in blocks(len(z), BLOCK):
        mine = None if own is None else own[points]
        parts.append(_log_mixture(z[points], posteriors, mine))
        if progress is not None:
            progress(points.stop, len(z))
    return torch.cat(parts) - math.log(len(posteriors))


def log_marginal_posteriors(
    z: Float64[Tensor, "S d"], posteriors: DiagonalPosteriors, own: Int64[Tensor, " S"]
) -> Float64[Tensor, "S d"]:
    r"""Returns :math:`\log q_N(z_{s,j})` of every latent dimension, in nats.

    N·S·d exponentials. Each is taken relative to the component the point was drawn from, which
    is part of the sum, so that nothing under- or overflows.

    Args:
        z: Draws from the components ``own``, float64.
        posteriors: The one-dimensional marginals of the N components.
        own: The component of each draw.
    """
    columns = [
        _log_marginal(z[:, j], posteriors.mu[:, j], posteriors.sigma[:, j], own)
        for j in range(z.shape[1])
    ]
    return torch.stack(columns, dim=1) - math.log(len(posteriors))


def _log_marginal(z: Tensor, mu: Tensor, sigma: Tensor, own: Tensor) -> Tensor:
    log_own = -0.5 * ((z - mu[own]) / sigma[own]).square() - sigma[own].log()
    scale = math.sqrt(0.5) / sigma
    total = torch.zeros_like(z)
    for points in blocks(len(z), BLOCK):
        for rows in blocks(len(mu), BLOCK):
            u = (z[points, None] - mu[rows]).mul_(scale[rows]).square_()
            terms = u.neg_().sub_(sigma[rows].log()).sub_(log_own[points, None]).exp_()
            total[points] += terms.sum(1)
    return total.log() + log_own - 0.5 * LOG_2PI


def _log_mixture(z: Tensor, q: Posteriors, own: Tensor | None) -> Tensor:
    """logsumexp over all components with a running maximum and sum.

    The sum is at least the own component, so that points to which a block adds less than
    rounding does need no exponentials of it.
    """
    log_own = None if own is None else q.own_log_prob(z, own)
    top = torch.full_like(z[:, 0], -math.inf) if log_own is None else log_own.clone()
    total = torch.zeros_like(top)
    for rows in blocks(len(q), q.block_size(len(z))):
        log_q = q.log_prob(z, rows)
        if own is not None and log_own is not None:
            _replace_own(log_q, rows, own, log_own)
        highest = log_q.amax(1)
        live = (~(highest <= top - NEGLIGIBLE)).nonzero()[:, 0]  # a NaN is not lost
        old, new = top[live], torch.maximum(top[live], highest[live])
        kept = log_q if len(live) == len(z) else log_q[live]
        terms = kept.sub_(new[:, None]).exp_().sum(1)
        total[live] = total[live] * (old - new).exp() + terms
        top[live] = new
    return top + total.log()


def _replace_own(log_q: Tensor, rows: slice, own: Tensor, log_own: Tensor) -> None:
    here = ((own >= rows.start) & (own < rows.stop)).nonzero()[:, 0]
    log_q[here, own[here] - rows.start] = log_own[here]
