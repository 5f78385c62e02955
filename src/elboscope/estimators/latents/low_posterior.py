r"""Samples from where the posterior never goes: prior draws with the lowest :math:`\log q_N(z)`.

A decoder is trained on draws of the aggregate posterior q(z) and asked to decode the prior. Of S
prior draws those with the lowest density under q show what it makes of latents that it has never
seen (algorithm 1 of Rosca et al.). Two orders are kept:

- by :math:`\log q_N(z)`, which also ranks by ‖z‖: far-out draws are rare under q *and* p;
- by :math:`\log q_N(z) - \log p(z)`, which asks where q lacks mass that the prior has. With
  Gaussian q and p these lie along the eigenvectors of Cov q(z) with the smallest eigenvalues.

Both are finite-mixture values: where posteriors are narrow for N, log q_N of a fresh draw is low
although q is not. Hence the *reference*: draws of q(z) from one half of the data, scored, like the
prior draws, under the mixture of the other half. ``uncovered`` is the share of the prior draws
with a lower density ratio than all but one percent of that reference; 0.01 if q(z) = p(z).

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847, section 3.3 and appendix A
"""

from __future__ import annotations

__all__ = ["LatentSamples", "LowPosteriorSamples", "low_posterior_samples"]

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, evaluating, given, seeded

from ..inputs import Inputs, blocks, prepared, require_positive
from ..posteriors import OtherPosteriors, Posteriors, encode_posteriors, gaussian_posteriors
from ..streaming import Progress
from .aggregate import log_aggregate_posterior, log_prior

# S: the default of algorithm 1, and what pairs (draw, component) take seconds.
MOST_PRIOR, GAUSSIAN_PAIRS, OTHER_PAIRS = 100_000, 10**9, 10**7
MOST_REFERENCE = 2000
REFERENCE_QUANTILE = 0.01
DECODED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class LatentSamples:
    """Some of the prior draws, decoded.

    Attributes:
        which: Which of the S draws.
        z: The latents.
        log_q: :math:`\\log q_N(z)`, in nats.
        log_p: log p(z), in nats.
        mean: The decoder's means, smoother than data and likelier than samples.
        drawn: One sample of p(x|z) each: what a likelihood of data may be compared with.
        condition: A condition each, of a datapoint chosen at random; None without conditions.
    """

    which: Int64[Tensor, " n"]
    z: Float[Tensor, "n *Z"]
    log_q: Float64[Tensor, " n"]
    log_p: Float64[Tensor, " n"]
    mean: Float[Tensor, "n *X"]
    drawn: Float[Tensor, "n *X"]
    condition: Shaped[Tensor, "n *C"] | None = None


@dataclass(frozen=True, eq=False)
class LowPosteriorSamples:
    r"""The least covered prior draws beside ordinary ones.

    Attributes:
        by_density: Those with the lowest :math:`\log q_N(z)`, the lowest first.
        by_ratio: Those with the lowest :math:`\log q_N(z) - \log p(z)`, the lowest first.
        ordinary: As many draws chosen uniformly.
        log_q: :math:`\log q_N` of all S draws.
        log_p: log p of all S draws.
        reference: :math:`\log q_{N/2} - \log p` of draws of q(z) from the other half of the data.
        prior_reference: The same of prior draws.
        uncovered: The share of the latter below all but one percent of the former.
        mixture_size: N, the posteriors behind q_N.
        settings: S, N, the seed. For display only.
        data_id: Checksum of the data behind q_N.
    """

    by_density: LatentSamples
    by_ratio: LatentSamples
    ordinary: LatentSamples
    log_q: Float64[Tensor, " S"]
    log_p: Float64[Tensor, " S"]
    reference: Float64[Tensor, " R"]
    prior_reference: Float64[Tensor, " R2"]
    uncovered: float
    mixture_size: int
    settings: Mapping[str, object]
    data_id: str

    def __str__(self) -> str:
        low = (self.by_ratio.log_q - self.by_ratio.log_p).mean().item()
        return (
            f"{len(self.by_ratio.z)} of {len(self.log_q)} prior draws: mean log q(z) − log p(z) "
            f"{low:.1f} nats; {self.uncovered:.1%} of the prior lies where q(z) hardly goes "
            "(1% if it goes everywhere)"
        )


def low_posterior_samples(
    model: LatentVariableModel,
    x: object,
    num_low: int = 100,
    *,
    num_prior: int | None = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> LowPosteriorSamples:
    r"""Finds the prior draws to which the aggregate posterior gives the lowest density.

    Low density is no fault by itself: see ``uncovered`` for whether q(z) misses parts of the
    prior at all, and :func:`examine_low_samples` for whether the model knows of them.

    Args:
        model: A model whose posterior has a density.
        x: The data behind q(z), usually all training data; at least four datapoints.
        num_low: n, the samples kept of each kind.
        num_prior: S; by default 100 000, fewer where N·S would take minutes.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint; each draw is decoded with that of a random one.
        progress: Called with the draws scored and their number; True shows a bar.

    Raises:
        InputError: Fewer than four datapoints, or S < n.
        ContractError: The posterior has no density.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
        >>> x, _ = model.sample(500, seed=0)
        >>> low = low_posterior_samples(model, x, 10, num_prior=1000, seed=0)
        >>> low.uncovered < 0.05
        True
    """
    inputs = prepared(model, x, condition)
    require_positive("num_low", num_low)
    require_positive("number of datapoints", len(inputs.x), 4)
    with evaluating(model), seeded(seed) as used:
        q = encode_posteriors(model, inputs)
        S = _default_num_prior(q) if num_prior is None else num_prior
        if num_low > S:
            raise InputError("num_low", expected=f"at most num_prior, {S}", got=str(num_low))
        local = given(model, inputs.rows(slice(0, 1))[1])
        prior = local.prior()
        conditions = _conditions(inputs, S)
        z = prior.sample(torch.Size((S,)))
        flat = z.flatten(1).double()
        log_p = log_prior(prior, gaussian_posteriors(prior), flat, inputs.x.dtype)
        log_q = log_aggregate_posterior(flat, q, progress=progress)
        reference, prior_reference = _reference(model, inputs, flat, log_p)
        by_density, by_ratio, ordinary = (
            _decode(model, z, log_q, log_p, which, conditions)
            for which in (
                log_q.argsort(stable=True)[:num_low],
                (log_q - log_p).argsort(stable=True)[:num_low],
                torch.randperm(S)[:num_low].to(log_q.device),
            )
        )
    threshold = reference.quantile(REFERENCE_QUANTILE)
    uncovered = (prior_reference < threshold).double().mean().item()
    settings = {"num_prior": S, "mixture_size": len(inputs.x), "num_low": num_low, "seed": used}
    return LowPosteriorSamples(
        by_density, by_ratio, ordinary, log_q, log_p, reference, prior_reference, uncovered,
        len(inputs.x), settings, inputs.data_id,
    )  # fmt: skip


def _default_num_prior(q: Posteriors) -> int:
    pairs = OTHER_PAIRS if isinstance(q, OtherPosteriors) else GAUSSIAN_PAIRS
    return max(1000, min(MOST_PRIOR, pairs // len(q)))


def _reference(
    model: LatentVariableModel, inputs: Inputs, z: Tensor, log_p: Tensor
) -> tuple[Float64[Tensor, " R"], Float64[Tensor, " R2"]]:
    """Draws from one half of the posteriors, and prior draws, both scored by the other half."""
    order = torch.randperm(len(inputs.x)).to(inputs.x.device)
    half = len(order) // 2
    mixture = encode_posteriors(model, inputs.take(order[:half]))
    others = encode_posteriors(model, inputs.take(order[half:]))
    chosen = torch.randint(len(others), (min(MOST_REFERENCE, len(z)),)).to(order.device)
    drawn = others.draw(chosen)
    prior = given(model, inputs.rows(slice(0, 1))[1]).prior()
    own = log_prior(prior, gaussian_posteriors(prior), drawn, inputs.x.dtype)
    few = slice(0, MOST_REFERENCE)
    return (
        log_aggregate_posterior(drawn, mixture) - own,
        log_aggregate_posterior(z[few], mixture) - log_p[few],
    )


def _conditions(inputs: Inputs, S: int) -> Tensor | None:
    """The condition that each draw takes from a random datapoint, if there are conditions."""
    if inputs.condition is None:
        return None
    return inputs.condition[torch.randint(len(inputs.x), (S,)).to(inputs.condition.device)]


def _decode(
    model: LatentVariableModel,
    z: Tensor,
    log_q: Tensor,
    log_p: Tensor,
    which: Tensor,
    conditions: Tensor | None,
) -> LatentSamples:
    condition = None if conditions is None else conditions[which]
    means, drawn = [], []
    for rows in blocks(len(which), DECODED_AT_ONCE):
        local = given(model, None if condition is None else condition[rows])
        p = local.decode(z[which[rows]])
        means.append(p.mean)
        drawn.append(p.sample())
    return LatentSamples(
        which, z[which], log_q[which], log_p[which], torch.cat(means), torch.cat(drawn), condition
    )
