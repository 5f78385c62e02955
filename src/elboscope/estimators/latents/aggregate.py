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

__all__ = [
    "AggregateDraws",
    "averages",
    "default_num_draws",
    "draw_aggregate",
    "log_aggregate_posterior",
    "log_marginal_posteriors",
]

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal
from torch.distributions.kl import kl_divergence

from elboscope.core import (
    Axis,
    Estimate,
    LatentVariableModel,
    closed_form_kl,
    given,
    standard_error,
)

from ..inputs import Inputs, blocks, require_positive
from ..posteriors import (
    BLOCK,
    ENCODE_BATCH,
    LOG_2PI,
    DiagonalPosteriors,
    FullPosteriors,
    OtherPosteriors,
    Posteriors,
    encode_posteriors,
    gaussian_posteriors,
)
from ..streaming import Progress, reporting

# Nats below the running maximum at which even 10⁶ components add less than float64's rounding.
NEGLIGIBLE = 60.0


def log_aggregate_posterior(
    z: Float64[Tensor, "S d"],
    posteriors: Posteriors,
    own: Int64[Tensor, " S"] | None = None,
    *,
    progress: Progress | bool | None = None,
) -> Float64[Tensor, " S"]:
    r"""Returns :math:`\log q_N(z_s)` over all N components, in nats.

    Args:
        z: Points, float64, latent axes flattened.
        posteriors: The N components, as :func:`encode_posteriors` returns them.
        own: The component each z was drawn from: computed directly, so that
            log q(z|x_n) − log q_N(z) ≤ log N holds to rounding.
        progress: Called with the points done and their number; True shows a bar.

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
    report, parts = reporting(progress), []
    for points in blocks(len(z), BLOCK):
        mine = None if own is None else own[points]
        parts.append(_log_mixture(z[points], posteriors, mine))
        if report is not None:
            report(points.stop, len(z))
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


# Draws from the aggregate posterior, with every density that ELBO surgery needs of them.
# Each datapoint gives equally many draws (stratified), so that the average over draws is an
# average over datapoints: S = m·N draws where they fit the budget, and one draw from each of S <
# N datapoints chosen at random where they do not. The mixture is over all N either way.
#
# .. math:: i_s = \log q(z_s \mid x_{n_s}) - \log q_N(z_s) \le \log N, \qquad
#           \mathrm{kl}_n = \mathrm{KL}(q(z \mid x_n) \| p(z))

MOST_DRAWS = 10_000
PRIOR_AT_ONCE = 500
# Pairs (draw, component) scored by default: seconds of matrix products, or of a flow's inversions.
GAUSSIAN_PAIRS, OTHER_PAIRS = 10**8, 10**7
# However many the components: sd/√S of the sampled parts is then a few hundredths of a nat.
FEWEST_GAUSSIAN, FEWEST_OTHER = 200, 1000


@dataclass(frozen=True)
class AggregateDraws:
    """S draws z_s ~ q(z | x_{n_s}) and their densities, in float64 nats.

    Attributes:
        posteriors: All N components.
        prior: The prior as a Gaussian of one component, where it is one.
        index: n_s, every datapoint equally often.
        z: The draws, latent axes flattened.
        log_own: log q(z_s | x_{n_s}), computed directly.
        log_mixture: log q_N(z_s).
        log_prior: log p(z_s).
        kl: KL(q(z|x_n) ‖ p) of every datapoint in closed form; None where there is none.
        data_id: Checksum of the data.
        seed: The random seed.
        notes: What was done to the data.
    """

    posteriors: Posteriors
    prior: DiagonalPosteriors | FullPosteriors | None
    index: Int64[Tensor, " S"]
    z: Float64[Tensor, "S d"]
    log_own: Float64[Tensor, " S"]
    log_mixture: Float64[Tensor, " S"]
    log_prior: Float64[Tensor, " S"]
    kl: Float64[Tensor, " N"] | None
    data_id: str
    seed: int
    notes: tuple[str, ...]

    @property
    def log_n(self) -> float:
        """The ceiling of the mutual information, log N."""
        return math.log(len(self.posteriors))

    @property
    def settings(self) -> dict[str, object]:
        """What was done, for the record of every estimate made of these draws."""
        return {
            "num_draws": len(self.z),
            "mixture_size": len(self.posteriors),
            "log_n": self.log_n,
            "seed": self.seed,
        }

    def estimate(
        self, name: str, method: str, a: Averages, estimand: str, stderr: float | None = None
    ) -> Estimate:
        """Returns averages over these draws as an estimate of a divergence of this mixture.

        Args:
            name: The divergence, which cannot be below zero.
            method: How it was averaged.
            a: Its averages.
            estimand: What exactly is estimated, for the record.
            stderr: The standard error over the population; sd/√n of the averages by default.
        """
        return Estimate(
            name,
            method,
            a.values,
            a.mc_stderr,
            "none",
            standard_error(a.values) if stderr is None else stderr,
            axis=a.axis,
            settings={**self.settings, "estimand": estimand},
            data_id=self.data_id,
            notes=self.notes,
            nonnegative=True,
            mixture_size=len(self.posteriors),
        )


class Averages(NamedTuple):
    """Values per datapoint (or per draw), the Monte Carlo error of each, and what they run over."""

    values: Float64[Tensor, " n"]
    mc_stderr: Float64[Tensor, " n"]
    axis: Axis
    which: Int64[Tensor, " n"]


def draw_aggregate(
    model: LatentVariableModel,
    inputs: Inputs,
    num_draws: int | None,
    seed: int,
    *,
    progress: Progress | bool | None = None,
) -> AggregateDraws:
    """Encodes all data, draws from q_N and scores the draws under all N components.

    Runs inside ``core.evaluating`` and ``core.seeded``.

    Args:
        model: The model.
        inputs: Data.
        num_draws: S; rounded up to a multiple of N where it exceeds N.
        seed: The seed in force, for the record.
        progress: Called with the draws done and their number; True shows a bar.
    """
    q = encode_posteriors(model, inputs)
    S = default_num_draws(q) if num_draws is None else num_draws
    require_positive("num_draws", S, 2)
    index = stratify(len(q), S).to(inputs.x.device)
    z = q.draw(index)
    prior = given(model, inputs.rows(slice(0, 1))[1]).prior()
    gaussian = gaussian_posteriors(prior)
    return AggregateDraws(
        q,
        gaussian,
        index,
        z,
        q.own_log_prob(z, index),
        log_aggregate_posterior(z, q, index, progress=progress),
        log_prior(prior, gaussian, z, inputs.x.dtype),
        _kl_to_prior(q, model, inputs, prior, gaussian),
        inputs.data_id,
        seed,
        inputs.notes,
    )


def default_num_draws(q: Posteriors) -> int:
    """Returns S: as many as take seconds, at most ten thousand, each datapoint equally often.

    A flow gets a thousand at least, since nothing of its marginal KL is known in closed form:
    N = 60 000 of them are 6·10⁷ inversions, minutes and not seconds.
    """
    other = isinstance(q, OtherPosteriors)
    pairs, fewest = (OTHER_PAIRS, FEWEST_OTHER) if other else (GAUSSIAN_PAIRS, FEWEST_GAUSSIAN)
    S = max(fewest, min(MOST_DRAWS, pairs // len(q)))
    return S if len(q) > S else S // len(q) * len(q)


def stratify(N: int, S: int) -> Int64[Tensor, " S2"]:
    """Returns component indices, each of N equally often in random order, or S < N of them."""
    return torch.cat([torch.randperm(N) for _ in range(-(-S // N))])[: S if S < N else None]


def averages(values: Float64[Tensor, " S"], index: Int64[Tensor, " S"], N: int) -> Averages:
    """From draws to datapoints: the mean of each datapoint's draws, where all N have some.

    With one draw per datapoint the Monte Carlo error of a single value is not known; that of
    their mean is bounded by their spread, which is what is stored.
    """
    m = len(values) // N
    if m >= 2:
        grouped = values[index.argsort(stable=True)].reshape(N, m)
        everyone = torch.arange(N, device=index.device)
        return Averages(grouped.mean(1), grouped.std(1) / math.sqrt(m), "datapoint", everyone)
    spread = values.std() if len(values) > 1 else values.new_tensor(math.nan)
    if m == 1:
        values, index = values[index.argsort()], index.sort().values
    return Averages(values, spread.expand_as(values), "datapoint" if m else "draw", index)


def log_prior(
    prior: Distribution,
    gaussian: DiagonalPosteriors | FullPosteriors | None,
    z: Float64[Tensor, "S d"],
    dtype: torch.dtype,
) -> Float64[Tensor, " S"]:
    """Returns log p(z), in float64 where the prior is Gaussian, else in the model's precision.

    Other priors take a few draws at a time: a mixture of torch.distributions has a number for
    every draw, component and dimension.
    """
    if gaussian is not None:
        return gaussian.own_log_prob(z, torch.zeros_like(z[:, 0], dtype=torch.int64))
    shaped = z.reshape(len(z), *prior.event_shape).to(dtype)
    parts = [prior.log_prob(shaped[rows]) for rows in blocks(len(z), PRIOR_AT_ONCE)]
    return torch.cat(parts).double()


def _kl_to_prior(
    q: Posteriors,
    model: LatentVariableModel,
    inputs: Inputs,
    prior: Distribution,
    gaussian: DiagonalPosteriors | FullPosteriors | None,
) -> Float64[Tensor, " N"] | None:
    if isinstance(q, OtherPosteriors):
        return _family_kl(model, inputs, prior)
    if gaussian is None:
        return None
    if isinstance(q, DiagonalPosteriors) and isinstance(gaussian, DiagonalPosteriors):
        return diagonal_kl(q, gaussian).sum(1)
    p = _multivariate(gaussian)
    kls = [kl_divergence(_multivariate(q, rows), p) for rows in blocks(len(q), ENCODE_BATCH)]
    return torch.cat(kls)


def diagonal_kl(q: DiagonalPosteriors, p: DiagonalPosteriors) -> Float64[Tensor, "N d"]:
    """Returns KL(q(z_j|x_n) ‖ p(z_j)) of every latent dimension."""
    variance = (q.sigma / p.sigma).square()
    return 0.5 * (variance + ((q.mu - p.mu) / p.sigma).square() - 1 - variance.log())


def _family_kl(
    model: LatentVariableModel, inputs: Inputs, prior: Distribution
) -> Float64[Tensor, " N"] | None:
    kls = []
    for rows in blocks(len(inputs.x), ENCODE_BATCH):
        x, condition = inputs.rows(rows)
        kl = closed_form_kl(given(model, condition).encode(x), prior)
        if kl is None:
            return None
        kls.append(kl.double())
    return torch.cat(kls)


def _multivariate(
    q: DiagonalPosteriors | FullPosteriors, rows: slice = slice(None)
) -> MultivariateNormal:
    L = torch.diag_embed(q.sigma[rows]) if isinstance(q, DiagonalPosteriors) else q.scale_tril[rows]
    return MultivariateNormal(q.mu[rows], scale_tril=L, validate_args=False)
