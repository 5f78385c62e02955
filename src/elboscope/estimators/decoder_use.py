r"""What the decoder does with its input: which units it uses, and how far off its mean is.

The effect of zeroing a unit, with m_j the prior's mean,

.. math:: \mathbb{E}_{q(z|x)}\bigl[\log p(x \mid z) - \log p(x \mid z_{-j}, z_j = m_j)\bigr]

is paired: both terms share z, so only the difference is noisy. And a Gaussian decoder declares a
variance, which at the optimum equals its mean squared error (Rybkin et al., 2020): the ratio of
the two says how the likelihood is scaled.
"""

from __future__ import annotations

__all__ = ["implied_variance", "zeroing_effect"]

import math

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    ContractError,
    Estimate,
    LatentVariableModel,
    evaluating,
    family,
    given,
    seeded,
    standard_error,
)

from .evaluation import Progress, blocks, error_per_unit, likelihood_of, prepared, require_positive
from .importance import BATCH_SIZE

PRIOR_SAMPLES = 10_000


def zeroing_effect(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 1,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Estimate:
    r"""Estimates the nats of reconstruction lost when unit j is set to its prior mean.

    The effects of units do not add up: two units that repeat each other are each dispensable.

    Args:
        model: The model, with an encoder.
        x: Data. The cost is one decoder pass over them per unit.
        num_samples: K, the samples of each datapoint.
        seed: Of the draws.
        condition: One row per datapoint.
        batch_size: Datapoints taken at once, by default 256.
        progress: Called with the datapoints done and their number.

    Returns:
        Nats per unit, near zero for a collapsed one. ``diagnostics["stderr"]`` is the error of
        each, over the data and the draws together.

    Raises:
        InputError: x cannot be data; K < 1.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(500, seed=0)
        >>> bool((zeroing_effect(model, x, seed=0).values > 0.1).all())
        True
    """
    inputs = prepared(model, x, condition)
    require_positive("num_samples", num_samples)
    require_positive("batch_size", batch_size)
    parts = []
    with evaluating(model), seeded(seed) as used:
        settings = likelihood_of(model, inputs)
        mean = _prior_mean(given(model, inputs.rows(slice(0, 1))[1]).prior())
        for rows in blocks(len(inputs.x), batch_size or BATCH_SIZE):
            local_x, c = inputs.rows(rows)
            parts.append(_effects(given(model, c), local_x, num_samples, mean))
            if progress is not None:
                progress(rows.stop, len(inputs.x))
    effects = torch.cat(parts, dim=1)
    return _per_unit(
        effects, {"num_samples": num_samples, "seed": used, **settings}, inputs.data_id
    )


def _effects(
    model: LatentVariableModel, x: Tensor, K: int, mean: Tensor
) -> Float64[Tensor, "K B d"]:
    z = model.encode(x).sample(torch.Size((K,)))
    flat = z.flatten(2)
    intact = model.decode(z).log_prob(x).double()
    columns = []
    for j in range(flat.shape[2]):
        zeroed = flat.clone()
        zeroed[..., j] = mean[j]
        columns.append(intact - model.decode(zeroed.reshape(z.shape)).log_prob(x).double())
    return torch.stack(columns, dim=2)


def _per_unit(
    effects: Float64[Tensor, "K B d"], settings: dict[str, object], data_id: str
) -> Estimate:
    K, B, _ = effects.shape
    per_datapoint = effects.mean(0)
    spread = effects.var(0) if K > 1 else torch.full_like(per_datapoint, torch.nan)
    return Estimate(
        "reconstruction lost by zeroing unit j",
        "paired Monte Carlo",
        per_datapoint.mean(0),
        (spread.sum(0) / K).sqrt() / B,
        "unbiased",
        standard_error(per_datapoint.sum(1)),
        axis="unit",
        diagnostics={"stderr": error_per_unit(per_datapoint)},
        settings=settings,
        data_id=data_id,
    )


def _prior_mean(prior: Distribution) -> Tensor:
    """The prior's mean, flattened; the average of many draws where it has no closed form."""
    try:
        mean: Tensor = prior.mean
    except NotImplementedError:
        mean = prior.sample(torch.Size((PRIOR_SAMPLES,))).mean(0)
    return mean.flatten()


def implied_variance(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 10,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    batch_size: int | None = None,
) -> Estimate:
    r"""Estimates the σ² that the reconstructions imply: their mean squared error per dimension.

    .. math:: \sigma^2_{*} = \frac1D\, \mathbb{E}_{q(z|x)} \|x - \mu(z)\|^2

    It is the variance that maximises the reconstruction term with everything else held fixed.

    Args:
        model: A model with a Gaussian likelihood.
        x: Data.
        num_samples: K, the samples of each datapoint.
        seed: Of the draws.
        condition: One row per datapoint.
        batch_size: Datapoints taken at once, by default 256.

    Returns:
        The mean squared error per datapoint, in squared units of x. ``diagnostics``: ``declared``
        (the mean of the decoder's own σ²) and ``standardised`` (the mean of (x − μ)²/σ², which
        is 1 where the declared variance, per pixel or not, is right).

    Raises:
        ContractError: The likelihood is not Gaussian.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021),
          https://arxiv.org/abs/2006.13202

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.02)
        >>> x, _ = model.sample(500, seed=0)
        >>> implied = implied_variance(model, x, seed=0)
        >>> abs(implied.mean - 0.02) < 4 * implied.stderr
        True
    """
    inputs = prepared(model, x, condition)
    require_positive("num_samples", num_samples)
    require_positive("batch_size", batch_size)
    parts = []
    with evaluating(model), seeded(seed) as used:
        settings = likelihood_of(model, inputs)
        for rows in blocks(len(inputs.x), batch_size or BATCH_SIZE):
            local_x, c = inputs.rows(rows)
            parts.append(_squared_errors(given(model, c), local_x, num_samples))
    error, mc_stderr, declared, standardised = torch.cat(parts, dim=1)
    return Estimate.per_datapoint(
        "implied σ²",
        "mean squared error of reconstructions",
        error,
        mc_stderr,
        "unbiased",
        diagnostics={"declared": declared, "standardised": standardised},
        settings={"num_samples": num_samples, "seed": used, **settings},
        data_id=inputs.data_id,
        nonnegative=True,
        measured_in="x²",
    )


def _squared_errors(model: LatentVariableModel, x: Tensor, K: int) -> Float64[Tensor, "4 B"]:
    p = model.decode(model.encode(x).sample(torch.Size((K,))))
    if family(p) != "Normal":
        raise ContractError(
            "decode(z)",
            expected="a Gaussian likelihood, which declares a variance",
            got=family(p),
            do="The implied variance is unavailable for it.",
        )
    squared = (x - p.mean).double().square()
    variance = p.variance.double().expand_as(squared)
    error = squared.flatten(2).mean(2)
    spread = error.std(0) / math.sqrt(K) if K > 1 else torch.full_like(error[0], torch.nan)
    means = [t.flatten(2).mean((0, 2)) for t in (variance, squared / variance)]
    return torch.stack([error.mean(0), spread, *means])
