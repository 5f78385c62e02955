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
    "evidence_lower_bound",
    "importance_weighted_bounds",
    "reconstruction",
    "sample_ladder",
]

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    closed_form_kl,
    effective_sample_size,
    evaluating,
    given,
    log_mean_exp,
    sample_posterior,
    seeded,
)

from ..inputs import Inputs, likelihood_of, prepared, require_positive
from ..streaming import Progress, Streaming, reporting
from .importance import as_estimate, averages, from_posterior, reduce_weights


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
        batch_size: Datapoints taken at once, by default 256.
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
        batch_size: Datapoints taken at once, by default 256.
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


def _bound(
    model: LatentVariableModel, inputs: Inputs, streaming: Streaming, *, whole: bool
) -> Estimate:
    streaming = streaming.fitted(model, inputs)
    K, parts = streaming.num_samples, []
    with evaluating(model), seeded(streaming.seed) as used:
        settings = likelihood_of(model, inputs)
        for rows in streaming.rows(inputs):
            x, condition = inputs.rows(rows)
            parts.append(_terms(given(model, condition), x, streaming.samples(), whole))
            if streaming.progress is not None:
                streaming.progress(rows.stop * K, len(inputs.x) * K)
    terms = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    analytic = whole and "sampled" not in terms
    record = {"seed": used, **settings, **streaming.blocks}
    return Estimate.per_datapoint(
        "log p(x)" if whole else "E_q log p(x|z)",
        f"ELBO, {'analytic' if analytic else 'sampled'} KL" if whole else "Monte Carlo",
        terms["value"],
        terms["mc_stderr"],
        "lower" if whole else "unbiased",
        diagnostics={key: terms[key] for key in ("reconstruction", "kl") if whole},
        settings=record,
        data_id=inputs.data_id,
        num_samples=K,
        notes=inputs.notes,
    )


def _terms(
    model: LatentVariableModel, x: Tensor, chunks: Iterable[slice], whole: bool
) -> Mapping[str, Float64[Tensor, " B"]]:
    kl = closed_form_kl(model.encode(x), model.prior()) if whole else None
    sampled = whole and kl is None
    log_px, log_ratio = [], []
    for samples in chunks:
        size = samples.stop - samples.start
        z, ratio = _draws(model, x, size, sampled)
        log_px.append(model.decode(z).log_prob(x).double())
        log_ratio.append(ratio)
    r, a = torch.cat(log_px), torch.cat(log_ratio)
    terms = {"reconstruction": r.mean(0), "kl": a.mean(0) if kl is None else kl.double()}
    terms["value"] = terms["reconstruction"] - terms["kl"]
    terms["mc_stderr"] = _stderr(r - a)
    return terms | ({"sampled": terms["kl"]} if sampled else {})


def _draws(
    model: LatentVariableModel, x: Tensor, size: int, sampled: bool
) -> tuple[Tensor, Float64[Tensor, "K B"]]:
    """Draws z and, where the KL is sampled, log q(z|x) − log p(z); zero elsewhere."""
    if not sampled:
        z = model.encode(x).sample(torch.Size((size,)))
        return z, torch.zeros(size, len(x), dtype=torch.float64, device=x.device)
    z, log_q = sample_posterior(model, x, size)
    return z, (log_q - model.prior().log_prob(z)).double()


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
        batch_size: Datapoints taken at once, by default 256.
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
