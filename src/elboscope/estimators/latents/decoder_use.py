r"""What the decoder does with its input: which units it uses, and how far off its mean is.

The effect of zeroing a unit, with m_j the prior's mean,

.. math:: \mathbb{E}_{q(z|x)}\bigl[\log p(x \mid z) - \log p(x \mid z_{-j}, z_j = m_j)\bigr]

is paired: both terms share z, so only the difference is noisy. And a Gaussian decoder declares a
variance, which at the optimum equals its mean squared error (Rybkin et al., 2020): the ratio of
the two says how the likelihood is scaled.
"""

from __future__ import annotations

__all__ = ["implied_kl_weight", "implied_variance", "zeroing_effect"]

import math
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    ContractError,
    Estimate,
    LatentVariableModel,
    decode_in_pieces,
    evaluating,
    family,
    given,
    seeded,
    standard_error,
)

from ..inputs import Inputs, error_per_unit, prepared, require_positive
from ..likelihood.importance import Weigh, reduce_weights
from ..posteriors import DiagonalPosteriors, gaussian_posteriors
from ..streaming import Progress, Samples, Streaming, reporting

PRIOR_SAMPLES = 10_000


def zeroing_effect(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 1,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates the nats of reconstruction lost when unit j is set to its prior mean.

    The effects of units do not add up: two units that repeat each other are each dispensable.

    Args:
        model: The model, with an encoder.
        x: Data. The cost is one decoder pass over them per unit.
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the samples done and their total; True shows a bar.

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
    streaming = Streaming(num_samples, seed, None, batch_size, reporting(progress))
    with evaluating(model), seeded(0):
        mean = _prior_mean(given(model, inputs.rows(slice(0, 1))[1]).prior())

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        z = _draw(given(model, condition), x, samples)
        effects = partial(_effects, mean=mean)
        return decode_in_pieces(effects, model, x, z, samples.pieces, condition)

    found, settings = reduce_weights(model, inputs, weigh, _moments, streaming)
    return _per_unit(found["mean"], found["variance"], num_samples, settings, inputs)


def _draw(model: LatentVariableModel, x: Tensor, samples: Samples) -> Tensor:
    return model.encode(x).sample(torch.Size((samples.stop - samples.start,)))


def _effects(
    model: LatentVariableModel, x: Tensor, z: Tensor, mean: Tensor
) -> Float64[Tensor, "K B d"]:
    flat = z.flatten(2)
    intact = model.decode(z).log_prob(x).double()
    columns = []
    for j in range(flat.shape[2]):
        zeroed = flat.clone()
        zeroed[..., j] = mean[j]
        columns.append(intact - model.decode(zeroed.reshape(z.shape)).log_prob(x).double())
    return torch.stack(columns, dim=2)


def _moments(drawn: Float64[Tensor, "K B n"]) -> dict[str, Float64[Tensor, "B n"]]:
    """Mean over the samples and their variance, NaN of a single one."""
    mean = drawn.mean(0)
    variance = drawn.var(0) if len(drawn) > 1 else torch.full_like(mean, torch.nan)
    return {"mean": mean, "variance": variance}


def _per_unit(
    per_datapoint: Float64[Tensor, "B d"],
    variance: Float64[Tensor, "B d"],
    K: int,
    settings: dict[str, object],
    inputs: Inputs,
) -> Estimate:
    return Estimate(
        "reconstruction lost by zeroing unit j",
        "paired Monte Carlo",
        per_datapoint.mean(0),
        (variance.sum(0) / K).sqrt() / len(per_datapoint),
        "unbiased",
        standard_error(per_datapoint.sum(1)),
        axis="unit",
        diagnostics={"stderr": error_per_unit(per_datapoint)},
        settings=settings,
        data_id=inputs.data_id,
        num_samples=K,
        notes=inputs.notes,
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
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        batch_size: Datapoints decoded at once; by default all that are drawn together.

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

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        z = _draw(given(model, condition), x, samples)
        return decode_in_pieces(_squared_errors, model, x, z, samples.pieces, condition)

    streaming = Streaming(num_samples, seed, None, batch_size)
    found, settings = reduce_weights(model, inputs, weigh, _moments, streaming)
    error, declared, standardised = found["mean"].unbind(1)
    return Estimate.per_datapoint(
        "implied σ²",
        "mean squared error of reconstructions",
        error,
        (found["variance"][:, 0] / num_samples).sqrt(),
        "unbiased",
        diagnostics={"declared": declared, "standardised": standardised},
        settings=settings,
        data_id=inputs.data_id,
        nonnegative=True,
        measured_in="x²",
        num_samples=num_samples,
        notes=inputs.notes,
    )


def _squared_errors(model: LatentVariableModel, x: Tensor, z: Tensor) -> Float64[Tensor, "K B 3"]:
    """Squared error, declared variance, and their quotient, each the mean over dimensions."""
    p = model.decode(z)
    if family(p) != "Normal":
        raise ContractError(
            "decode(z)",
            expected="a Gaussian likelihood, which declares a variance",
            got=family(p),
            do="The implied variance is unavailable for it.",
        )
    squared = (x - p.mean).double().square()
    variance = p.variance.double().expand_as(squared)
    means = [t.flatten(2).mean(2) for t in (squared, variance, squared / variance)]
    return torch.stack(means, -1)


# With which weight of the KL was the encoder trained? Its widths remember.
#
# An encoder at the optimum of :math:`\mathbb E_q \log p(x|z) - \beta\,\mathrm{KL}(q(z|x) \|
# p(z))` balances, for every unit, what a wider posterior loses in reconstruction against what it
# gains in KL. With z = μ + σ ε, summed over the data, where the last layer's bias alone makes it
# hold,
#
# .. math:: \sum_n \mathbb E_q\bigl[(z_j - \mu_j)\, \partial_{z_j} \log p(x_n | z)\bigr]
#           = \beta \sum_n \bigl(\sigma_{nj}^2 / \sigma_p^2 - 1\bigr),
#
# so that the quotient of the two sides is the β in force: 1 for an ELBO. A KL taken against a
# cross-entropy *averaged* over D pixels shows as β = D. Nothing is assumed of the likelihood;
# what is assumed is that training had converged and that these data resemble those trained on.
#
# References:
#     | Fixing a Broken ELBO (Alemi et al., 2018), https://arxiv.org/abs/1711.00464: β as the slope
#       of distortion over rate.


class _Sides(NamedTuple):
    """Per datapoint and unit: what widening costs in reconstruction, and what it gains in KL."""

    cost: Float64[Tensor, "N d"]
    gain: Float64[Tensor, "N d"]


def implied_kl_weight(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 16,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> Estimate:
    r"""Estimates the β for which the encoder's widths are stationary.

    It is not read from the training's settings, and does not exist where every unit equals the
    prior (0/0); near there its error is large. A model that memorised x_train should be asked
    about x_train.

    Args:
        model: A model with factorised Gaussian posterior and prior, and a decoder that can be
            differentiated in z.
        x: Data like those it was trained on.
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.

    Returns:
        One value per datapoint, linearised so that their mean is β (the delta method of a
        quotient of sums). ``stderr`` joins their spread and how far units are off the common
        balance, one by one: what training has not settled (``settings["unsettled"]``).
        ``diagnostics["gain"]`` is the Σ_j (1 − σ²) of each datapoint.

    Raises:
        ContractError: Posterior or prior do not factorise, or are one and the same.
        InputError: x cannot be data; fewer than two datapoints; K < 1.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
        >>> x, _ = model.sample(500, seed=0)
        >>> beta = implied_kl_weight(model, x, seed=0)
        >>> abs(beta.mean - 1) < 4 * beta.stderr
        True
    """
    inputs = prepared(model, x, condition)
    require_positive("num_samples", num_samples)
    require_positive("number of datapoints", len(inputs.x), 2)
    found, settings = reduce_weights(
        model,
        inputs,
        _weigh_sides(model),
        lambda d: {"sides": d.mean(0)},
        Streaming(num_samples, seed),
    )
    return _quotient(_Sides(*found["sides"].unbind(-1)), num_samples, settings, inputs)


def _weigh_sides(model: LatentVariableModel) -> Weigh:
    """Returns what draws both sides of the balance, one after the other on the last axis."""

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        local = given(model, condition)
        q = local.encode(x)
        gaussian, prior = gaussian_posteriors(q), gaussian_posteriors(local.prior())
        if not isinstance(gaussian, DiagonalPosteriors) or not isinstance(
            prior, DiagonalPosteriors
        ):
            raise ContractError(
                "encode(x) and prior()",
                expected="factorised Gaussians, whose widths balance one by one",
                got="a posterior or prior of another family",
                do="For other families the KL weight of training cannot be read from the model.",
            )
        z = q.sample(torch.Size((samples.stop - samples.start,)))
        slope = decode_in_pieces(_slope, model, x, z, samples.pieces, condition)
        cost = -(z.flatten(2).double() - gaussian.mu) * slope.flatten(2).double()
        gain = 1 - (gaussian.sigma / prior.sigma).square()
        return torch.stack([cost, gain.expand_as(cost)], -1)

    return weigh


def _slope(model: LatentVariableModel, x: Tensor, z: Tensor) -> Tensor:
    """∂ log p(x|z)/∂z."""
    with torch.enable_grad():
        place = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.decode(place).log_prob(x).sum(), place)
    return slope


def _quotient(sides: _Sides, K: int, settings: dict[str, object], inputs: Inputs) -> Estimate:
    cost, gain = sides.cost.sum(1), sides.gain.sum(1)
    mean_gain = gain.mean()
    if not sides.gain.any():
        raise ContractError(
            "encode(x)",
            expected="a unit that is narrower or wider than the prior",
            got="the prior itself, to which any KL weight leads",
            do="The KL weight of training cannot be read from this model.",
        )
    beta = cost.mean() / mean_gain
    values = beta + (cost - beta * gain) / mean_gain
    unsettled = _unsettled(sides.cost - beta * sides.gain) / mean_gain.abs().item()
    return Estimate(
        "implied KL weight",
        "stationarity of the posterior's widths",
        values,
        torch.full_like(values, math.nan),
        "none",
        math.hypot(standard_error(values), unsettled),
        diagnostics={"gain": gain},
        settings={**settings, "unsettled": unsettled},
        data_id=inputs.data_id,
        measured_in="nats of reconstruction per nat of KL",
        num_samples=K,
        notes=inputs.notes,
    )


def _unsettled(residual: Float64[Tensor, "N d"]) -> float:
    """How far single units are from their balance, beyond what these data explain."""
    noise = residual.var(0) / len(residual)
    return (residual.mean(0).square() - noise).clamp(min=0).sum().sqrt().item()
