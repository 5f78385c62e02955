r"""The evidence lower bound and its reconstruction term, as numbers about data.

.. math:: \mathrm{ELBO}(x) = \mathbb{E}_{q(z|x)}[\log p(x \mid z)]
          - \mathrm{KL}(q(z \mid x) \| p(z))
          \le \log p(x)

Where the KL is known in closed form only the reconstruction is sampled; elsewhere both are
(log p(x, z) − log q(z|x)), and the method says which. This is the bound at β = 1 with every
additive constant, whatever the model was trained with.
"""

from __future__ import annotations

__all__ = [
    "analytic_kl",
    "evidence_lower_bound",
    "importance_weighted_bounds",
    "reconstruction",
    "sample_ladder",
]

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.kl import kl_divergence

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    decode_in_pieces,
    effective_sample_size,
    evaluating,
    given,
    log_mean_exp,
    sample_posterior,
    seeded,
)

from ..inputs import Inputs, first_answered, prepared, require_positive
from ..streaming import Progress, Samples, Streaming, reporting
from .importance import (
    Weigh,
    as_estimate,
    averages,
    from_posterior,
    log_likelihood,
    reduce_weights,
)


def evidence_lower_bound(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 100,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates the ELBO, a lower bound on log p(x) whose gap is KL(q(z|x) ‖ p(z|x)).

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``.
        num_samples: K, the samples of each datapoint. They reduce the Monte Carlo error, not the
            gap.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the samples done and their total; True shows a bar.

    Returns:
        The bound per datapoint in nats; ``diagnostics``: ``reconstruction`` and ``kl``, whose
        difference it is. ``mc_stderr`` is NaN for K = 1.

    Raises:
        InputError: x cannot be data; K < 1.
        ContractError: The KL is unknown and the posterior has no density.

    References:
        | Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(50, seed=0)
        >>> elbo = evidence_lower_bound(model, x, 200, seed=0)
        >>> abs(elbo.mean - model.elbo(x).mean().item()) < 4 * elbo.mc_error_of_mean
        True
    """
    inputs = prepared(model, x, condition)
    streaming = Streaming(num_samples, seed, sample_chunk, batch_size, reporting(progress))
    return _bound(model, inputs, streaming, whole=True)


def reconstruction(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 100,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates :math:`\mathbb{E}_{q(z|x)} \log p(x \mid z)`, minus the distortion; unbiased.

    It is a log-density of x given its own code, not a score of the model: it can exceed log p(x)
    by as much as the code costs.

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``.
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the samples done and their total; True shows a bar.

    Returns:
        The reconstruction per datapoint in nats.

    Raises:
        InputError: x cannot be data; K < 1.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(50, seed=0)
        >>> r = reconstruction(model, x, 200, seed=0)
        >>> abs(r.mean - model.reconstruction(x).mean().item()) < 4 * r.mc_error_of_mean
        True
    """
    inputs = prepared(model, x, condition)
    streaming = Streaming(num_samples, seed, sample_chunk, batch_size, reporting(progress))
    return _bound(model, inputs, streaming, whole=False)


def analytic_kl(q: Distribution, p: Distribution) -> Float[Tensor, " B"] | None:
    """Returns KL(q ‖ p) where torch knows it in closed form, and None where it does not."""
    try:
        kl: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        return None
    return kl


def _bound(
    model: LatentVariableModel, inputs: Inputs, streaming: Streaming, *, whole: bool
) -> Estimate:
    with evaluating(model), seeded(0):
        analytic = whole and _knows_kl(model, inputs)
    terms, settings = reduce_weights(
        model, inputs, _weigh_terms(model, whole, analytic), _terms, streaming
    )
    return Estimate.per_datapoint(
        "log p(x)" if whole else "E_q log p(x|z)",
        f"ELBO, {'analytic' if analytic else 'sampled'} KL" if whole else "Monte Carlo",
        terms["value"],
        terms["mc_stderr"],
        "lower" if whole else "unbiased",
        diagnostics={key: terms[key] for key in ("reconstruction", "kl") if whole},
        settings=settings,
        data_id=inputs.data_id,
        num_samples=streaming.num_samples,
        notes=inputs.notes,
    )


def _knows_kl(model: LatentVariableModel, inputs: Inputs) -> bool:
    x, condition = inputs.rows(first_answered(model, inputs))
    local = given(model, condition)
    return analytic_kl(local.encode(x), local.prior()) is not None


def _weigh_terms(model: LatentVariableModel, whole: bool, analytic: bool) -> Weigh:
    """Returns what draws log p(x|z) and, beside it, the KL or what it is the mean of."""

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        local, size = given(model, condition), samples.stop - samples.start
        if whole and not analytic:
            z, log_q = sample_posterior(local, x, size)
            spent = log_q - local.prior().log_prob(z)
        else:
            q = local.encode(x)
            z = q.sample(torch.Size((size,)))
            kl = analytic_kl(q, local.prior()) if analytic else None
            spent = z.new_zeros(size, len(x)) if kl is None else kl.expand(size, -1)
        log_px = decode_in_pieces(log_likelihood, model, x, z, samples.pieces, condition)
        return torch.stack([log_px.double(), spent.double()], -1)

    return weigh


def _terms(drawn: Float64[Tensor, "K B 2"]) -> Mapping[str, Float64[Tensor, " B"]]:
    log_px, spent = drawn.unbind(-1)
    means = {"reconstruction": log_px.mean(0), "kl": spent.mean(0)}
    value = means["reconstruction"] - means["kl"]
    return {"value": value, "mc_stderr": _stderr(log_px - spent), **means}


def _stderr(values: Float64[Tensor, "K B"]) -> Float64[Tensor, " B"]:
    K = len(values)
    return values.std(0) / math.sqrt(K) if K > 1 else torch.full_like(values[0], torch.nan)


# The importance-weighted bounds of several K, all from the same weights.
#
# .. math:: L_K = \mathbb{E} \log \frac1K \sum_{k=1}^K w_k \le L_{K+1} \le \log p(x)
#
# K samples hold ⌊K/K'⌋ disjoint blocks of K' samples; the mean over blocks of log of the block's
# mean weight is unbiased for L_K'. Where one K' divides the next, and all samples are used,
# Jensen's inequality orders the values of every single datapoint and draw, not only their
# expectations: the curve shows how much of the bias is left, without the noise of a second run.
# Where it still rises at its end K is too small; where it is flat it may still miss mass that q
# never visits.

LADDER = (1, 2, 5, 10, 50, 64, 100, 500, 1000, 5000, 10_000, 50_000)
# Blocks from which an error is read off their spread; of fewer, each block's own error is pooled.
MANY_BLOCKS = 20


def sample_ladder(num_samples: int) -> tuple[int, ...]:
    """Returns the K' ≤ K at which a curve is drawn: published values are of K = 5, 50, 64, 5000.

    Example:
        >>> sample_ladder(400)
        (1, 2, 5, 10, 50, 64, 100, 400)
    """
    return (*(K for K in LADDER if num_samples > K), num_samples)


def importance_weighted_bounds(
    model: LatentVariableModel,
    x: object,
    num_samples: Iterable[int] = (1, 5, 50, 500, 5000),
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> dict[int, Estimate]:
    r"""Estimates :math:`L_K = \mathbb{E} \log \frac1K \sum_k w_k` for several K in one pass.

    Each value is unbiased for its L_K, and L_K is a lower bound on log p(x). The values share
    their samples: compare two by :func:`~elboscope.core.paired_difference`, not by their errors.
    It is not a guarantee that the curve has arrived: only samples of q are looked at.

    Args:
        model: The model, with an encoder whose density is known.
        x: Data, ``(N, *X)``.
        num_samples: The K at which to evaluate; the largest is how many are drawn.
        seed: Random seed; the samples are those of :func:`importance_sampling` with the largest K.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the weights done and their total; True shows a bar.

    Returns:
        By K, in rising order: log p(x) per datapoint in nats, lower bounds. That of the largest K
        equals :func:`importance_sampling`, with its diagnostics; the others have ``ess``, the
        mean over blocks.

    Raises:
        InputError: x cannot be data; no K, or one below 1.
        ContractError: The posterior has no density.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(50, seed=0)
        >>> bounds = importance_weighted_bounds(model, x, (1, 5, 50), seed=0)
        >>> bool((bounds[1].values <= bounds[5].values).all())
        True
    """
    sizes = _sizes(num_samples)
    inputs = prepared(model, x, condition)

    def reduce(log_w: Tensor) -> Mapping[str, Tensor]:
        found = {f"{key} {sizes[-1]}": v for key, v in averages(log_w).items()}
        return found | {
            f"{key} {K}": v for K in sizes[:-1] for key, v in block_averages(log_w, K).items()
        }

    streaming = Streaming(sizes[-1], seed, sample_chunk, batch_size, reporting(progress))
    found, settings = reduce_weights(model, inputs, from_posterior(model), reduce, streaming)
    bounds = {}
    for K in sizes:
        mine = {key.split()[0]: v for key, v in found.items() if key.split()[1] == str(K)}
        used = {**settings, "blocks": sizes[-1] // K}
        method = "importance sampling" if sizes[-1] == K else "importance-weighted bound"
        bounds[K] = as_estimate(method, mine, K, used, inputs)
    return bounds


def block_averages(log_w: Float64[Tensor, "S B"], K: int) -> dict[str, Tensor]:
    """Returns the mean over disjoint blocks of K samples of the log-mean weight, and its error."""
    blocks = len(log_w) // K
    grouped = log_w[: blocks * K].reshape(blocks, K, -1).transpose(0, 1)
    values, ess = log_mean_exp(grouped), effective_sample_size(grouped)
    if blocks >= MANY_BLOCKS:
        error = values.std(0) / math.sqrt(blocks)
    else:  # the delta method of each block, whose K is large as there are few
        excess = (1 / ess - 1 / K).clamp(min=0) * K / (K - 1) if K > 1 else ess * torch.nan
        error = (excess.mean(0) / blocks).sqrt()
    return {"value": values.mean(0), "mc_stderr": error, "ess": ess.mean(0)}


def _sizes(num_samples: Iterable[int]) -> tuple[int, ...]:
    if not isinstance(num_samples, Iterable):
        expected = "one or more numbers of samples, such as (1, 5, 50)"
        raise InputError("num_samples", expected=expected, got=repr(num_samples))
    sizes = list(num_samples)
    if not sizes:
        raise InputError("num_samples", expected="at least one number of samples", got="none")
    for K in sizes:
        require_positive("num_samples", K)
    return tuple(sorted({int(K) for K in sizes}))
