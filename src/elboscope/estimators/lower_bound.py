r"""The evidence lower bound and its reconstruction term, as numbers about data.

.. math:: \mathrm{ELBO}(x) = \mathbb{E}_{q(z|x)}[\log p(x \mid z)]
          - \mathrm{KL}(q(z \mid x) \| p(z))
          \le \log p(x)

Where the KL is known in closed form only the reconstruction is sampled; elsewhere both are
(log p(x, z) − log q(z|x)), and the method says which. This is the bound at β = 1 with every
additive constant, whatever the model was trained with.
"""

from __future__ import annotations

__all__ = ["analytic_kl", "evidence_lower_bound", "reconstruction"]

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.kl import kl_divergence

from elboscope.core import (
    Estimate,
    LatentVariableModel,
    evaluating,
    given,
    sample_posterior,
    seeded,
    values_per_sample,
)

from .evaluation import Inputs, Progress, blocks, likelihood_of, prepared, require_positive
from .importance import BATCH_SIZE, default_chunk


def evidence_lower_bound(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 100,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Estimate:
    r"""Estimates the ELBO, a lower bound on log p(x) whose gap is KL(q(z|x) ‖ p(z|x)).

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``.
        num_samples: K, the samples of each datapoint. They reduce the Monte Carlo error, not the
            gap.
        seed: Of the draws.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints taken at once, by default 256.
        progress: Called with the samples done and their total.

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
    return _bound(
        model,
        prepared(model, x, condition),
        num_samples,
        seed,
        sample_chunk,
        batch_size,
        progress,
        whole=True,
    )


def reconstruction(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 100,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Estimate:
    r"""Estimates :math:`\mathbb{E}_{q(z|x)} \log p(x \mid z)`, minus the distortion; unbiased.

    It is a log-density of x given its own code, not a score of the model: it can exceed log p(x)
    by as much as the code costs.

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``.
        num_samples: K, the samples of each datapoint.
        seed: Of the draws.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints taken at once, by default 256.
        progress: Called with the samples done and their total.

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
    return _bound(
        model,
        prepared(model, x, condition),
        num_samples,
        seed,
        sample_chunk,
        batch_size,
        progress,
        whole=False,
    )


def analytic_kl(q: Distribution, p: Distribution) -> Float[Tensor, " B"] | None:
    """Returns KL(q ‖ p) where torch knows it in closed form, and None where it does not."""
    try:
        kl: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        return None
    return kl


def _bound(
    model: LatentVariableModel,
    inputs: Inputs,
    K: int,
    seed: int | None,
    sample_chunk: int | None,
    batch_size: int | None,
    progress: Progress | None,
    *,
    whole: bool,
) -> Estimate:
    require_positive("num_samples", K)
    require_positive("batch_size", batch_size)
    require_positive("sample_chunk", sample_chunk)
    B = min(batch_size or BATCH_SIZE, len(inputs.x))
    each = values_per_sample(model, inputs.x, inputs.condition) if sample_chunk is None else 1
    chunk = min(K, sample_chunk or default_chunk(B, each))
    parts = []
    with evaluating(model), seeded(seed) as used:
        settings = likelihood_of(model, inputs)
        for rows in blocks(len(inputs.x), B):
            x, condition = inputs.rows(rows)
            parts.append(_terms(given(model, condition), x, K, chunk, whole))
            if progress is not None:
                progress(rows.stop * K, len(inputs.x) * K)
    terms = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    analytic = whole and "sampled" not in terms
    record = {"num_samples": K, "seed": used, **settings, "sample_chunk": chunk, "batch_size": B}
    return Estimate.per_datapoint(
        "log p(x)" if whole else "E_q log p(x|z)",
        f"ELBO, {'analytic' if analytic else 'sampled'} KL" if whole else "Monte Carlo",
        terms["value"],
        terms["mc_stderr"],
        "lower" if whole else "unbiased",
        diagnostics={key: terms[key] for key in ("reconstruction", "kl") if whole},
        settings=record,
        data_id=inputs.data_id,
    )


def _terms(
    model: LatentVariableModel, x: Tensor, K: int, chunk: int, whole: bool
) -> Mapping[str, Float64[Tensor, " B"]]:
    kl = analytic_kl(model.encode(x), model.prior()) if whole else None
    sampled = whole and kl is None
    log_px, log_ratio = [], []
    for samples in blocks(K, chunk):
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
