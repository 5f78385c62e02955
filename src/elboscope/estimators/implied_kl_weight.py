r"""With which weight of the KL was the encoder trained? Its widths remember.

An encoder at the optimum of :math:`\mathbb E_q \log p(x|z) - \beta\,\mathrm{KL}(q(z|x) \| p(z))`
balances, for every unit, what a wider posterior loses in reconstruction against what it gains in
KL. With z = μ + σ ε, summed over the data, where the last layer's bias alone makes it hold,

.. math:: \sum_n \mathbb E_q\bigl[(z_j - \mu_j)\, \partial_{z_j} \log p(x_n | z)\bigr]
          = \beta \sum_n \bigl(\sigma_{nj}^2 / \sigma_p^2 - 1\bigr),

so that the quotient of the two sides is the β in force: 1 for an ELBO. A KL taken against a
cross-entropy *averaged* over D pixels shows as β = D. Nothing is assumed of the likelihood; what
is assumed is that training had converged and that these data resemble those trained on.

References:
    | Fixing a Broken ELBO (Alemi et al., 2018), https://arxiv.org/abs/1711.00464: β as the slope
      of distortion over rate.
"""

from __future__ import annotations

__all__ = ["implied_kl_weight"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    LatentVariableModel,
    evaluating,
    given,
    seeded,
    standard_error,
)

from .evaluation import Inputs, blocks, likelihood_of, prepared, require_positive
from .importance import BATCH_SIZE
from .posteriors import DiagonalPosteriors, gaussian_posteriors


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
        seed: Of the draws.
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
    with evaluating(model), seeded(seed) as used:
        settings = likelihood_of(model, inputs)
        parts = [
            _sides(model, inputs.take(rows), num_samples)
            for rows in blocks(len(inputs.x), BATCH_SIZE)
        ]
    sides = _Sides(*(torch.cat(side) for side in zip(*parts, strict=True)))
    return _quotient(sides, {"num_samples": num_samples, "seed": used, **settings}, inputs.data_id)


def _sides(model: LatentVariableModel, inputs: Inputs, K: int) -> _Sides:
    local = given(model, inputs.condition)
    q = local.encode(inputs.x)
    gaussian, prior = gaussian_posteriors(q), gaussian_posteriors(local.prior())
    if not isinstance(gaussian, DiagonalPosteriors) or not isinstance(prior, DiagonalPosteriors):
        raise ContractError(
            "encode(x) and prior()",
            expected="factorised Gaussians, whose widths balance one by one",
            got="a posterior or prior of another family",
            do="For other families the KL weight of training cannot be read from the model.",
        )
    with torch.enable_grad():
        z = q.sample(torch.Size((K,))).requires_grad_()
        (slope,) = torch.autograd.grad(local.decode(z).log_prob(inputs.x).sum(), z)
    moved = z.detach().flatten(2).double() - gaussian.mu
    cost = -(moved * slope.flatten(2).double()).mean(0)
    return _Sides(cost, 1 - (gaussian.sigma / prior.sigma).square())


def _quotient(sides: _Sides, settings: dict[str, object], data_id: str) -> Estimate:
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
        data_id=data_id,
        measured_in="nats of reconstruction per nat of KL",
    )


def _unsettled(residual: Float64[Tensor, "N d"]) -> float:
    """How far single units are from their balance, beyond what these data explain."""
    noise = residual.var(0) / len(residual)
    return (residual.mean(0).square() - noise).clamp(min=0).sum().sqrt().item()
