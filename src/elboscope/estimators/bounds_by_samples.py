r"""The importance-weighted bounds of several K, all from the same weights.

.. math:: L_K = \mathbb{E} \log \frac1K \sum_{k=1}^K w_k \le L_{K+1} \le \log p(x)

K samples hold ⌊K/K'⌋ disjoint blocks of K' samples; the mean over blocks of log of the block's
mean weight is unbiased for L_K'. Where one K' divides the next, and all samples are used, Jensen's
inequality orders the values of every single datapoint and draw, not only their expectations: the
curve shows how much of the bias is left, without the noise of a second run. Where it still rises
at its end K is too small; where it is flat it may still miss mass that q never visits.
"""

from __future__ import annotations

__all__ = ["importance_weighted_bounds", "sample_ladder"]

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    effective_sample_size,
    log_mean_exp,
)

from .evaluation import Progress, prepared, require_positive
from .importance import as_estimate, averages, from_posterior, reduced_weights

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
    progress: Progress | None = None,
) -> dict[int, Estimate]:
    r"""Estimates :math:`L_K = \mathbb{E} \log \frac1K \sum_k w_k` for several K in one pass.

    Each value is unbiased for its L_K, and L_K is a lower bound on log p(x). The values share
    their samples: compare two by :func:`~elboscope.core.paired_difference`, not by their errors.
    It is not a guarantee that the curve has arrived: only samples of q are looked at.

    Args:
        model: The model, with an encoder whose density is known.
        x: Data, ``(N, *X)``.
        num_samples: The K at which to evaluate; the largest is how many are drawn.
        seed: Of the draws; the same samples as :func:`importance_sampling` with the largest K.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints taken at once, by default 256.
        progress: Called with the weights done and their total.

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

    found, settings = reduced_weights(
        model,
        inputs,
        from_posterior(model),
        reduce,
        sizes[-1],
        seed,
        sample_chunk,
        batch_size,
        progress,
    )
    bounds = {}
    for K in sizes:
        mine = {key.split()[0]: v for key, v in found.items() if key.split()[1] == str(K)}
        used = {**settings, "num_samples": K, "blocks": sizes[-1] // K}
        method = "importance sampling" if sizes[-1] == K else "importance-weighted bound"
        bounds[K] = as_estimate(method, mine, used, inputs.data_id)
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
