r"""Which latent units carry information: posterior collapse, unit by unit.

Four views that need not agree. A unit is *active* when its posterior mean moves with x; it costs
KL(q(z_j|x) ‖ p(z_j)) nats; and zeroing it costs reconstruction if the decoder uses it. Where the
aggregate posterior matches the prior, Var_x(E[z_j|x]) + E_x(Var[z_j|x]) = Var_p(z_j).

Units are the latent axes flattened. ``diagnostics["stderr"]`` is the error of each unit's value
over the data; the ``stderr`` of the estimate is that of their total.
"""

from __future__ import annotations

__all__ = [
    "active_units",
    "dimensionwise_kl_of",
    "posterior_variance",
    "total_correlation_of",
    "unit_kl",
]

import math
from dataclasses import replace
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

from ..inputs import Inputs, blocks, error_per_unit, prepared, require_positive
from ..posteriors import (
    ENCODE_BATCH,
    DiagonalPosteriors,
    OtherPosteriors,
    encode_posteriors,
    gaussian_posteriors,
)
from .aggregate import AggregateDraws, averages, diagonal_kl, log_marginal_posteriors

ACTIVE = 0.01
MOMENT_SAMPLES = 64


def active_units(
    model: LatentVariableModel,
    x: object,
    *,
    threshold: float = ACTIVE,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> Estimate:
    r"""Returns :math:`\operatorname{Var}_x \mathbb{E}_{q(z|x)}[z_j]` per unit; active above 0.01.

    The unit of these variances is that of z², not nats. A unit may be active and useless to the
    decoder: see :func:`zeroing_effect`.

    Args:
        model: The model, with an encoder.
        x: At least two datapoints.
        threshold: Above it a unit counts as active.
        seed: Random seed, for posteriors whose mean has no closed form; None picks one.
        condition: One row per datapoint.

    Returns:
        The variance per unit, with n − 1; printed is the number of active units.
        ``diagnostics``: ``active`` (1 or 0) and ``stderr``, the error of each variance.

    Raises:
        InputError: x cannot be data; fewer than two datapoints.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(500, seed=0)
        >>> print(active_units(model, x))
        2 of 2 units active (units=2, exact means, 2 of 2 above 0.01)
    """
    moments = _moments(model, x, seed, condition)
    mu, noise = moments.mean, moments.noise
    centred = (mu - mu.mean(0)).square()
    values = mu.var(0) - noise.mean(0)
    active = values > threshold
    count = int(active.sum())
    return Estimate(
        "Var_x E_q[z_j|x]",
        f"{moments.method}, {count} of {len(values)} above {threshold:g}",
        values,
        _noise_stderr(values, noise),
        "unbiased",
        standard_error(centred.sum(1)),
        axis="unit",
        diagnostics={"active": active.double(), "stderr": _variance_stderr(mu)},
        settings={**moments.settings, "threshold": threshold, "active": count},
        data_id=moments.inputs.data_id,
        measured_in="z²",
        num_samples=moments.num_samples,
        notes=moments.inputs.notes,
        headline=f"{count} of {len(values)} units active",
    )


def posterior_variance(
    model: LatentVariableModel,
    x: object,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> Estimate:
    r"""Returns :math:`\mathbb{E}_x \operatorname{Var}_{q(z|x)}[z_j]` per unit.

    With the variances of :func:`active_units` it adds up to the variance of the aggregate
    posterior, 1 per unit where that matches a standard normal prior.

    Args:
        model: The model, with an encoder.
        x: At least two datapoints.
        seed: Random seed, for posteriors whose variance has no closed form; None picks one.
        condition: One row per datapoint.

    Returns:
        The mean variance per unit, in units of z².

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 4, sigma2=0.02)
        >>> x, _ = model.sample(100, seed=0)
        >>> [round(v, 4) for v in posterior_variance(model, x).values.tolist()]
        [0.0196, 0.0196]
    """
    moments = _moments(model, x, seed, condition)
    n = len(moments.variance)
    return Estimate(
        "E_x Var_q[z_j|x]",
        moments.method,
        moments.variance.mean(0),
        moments.noise.mean(0) * math.sqrt(2 * MOMENT_SAMPLES / n),
        "unbiased",
        standard_error(moments.variance.sum(1)),
        axis="unit",
        diagnostics={"stderr": moments.variance.std(0) / math.sqrt(n)},
        settings=moments.settings,
        data_id=moments.inputs.data_id,
        nonnegative=True,
        measured_in="z²",
        num_samples=moments.num_samples,
        notes=moments.inputs.notes,
    )


def unit_kl(model: LatentVariableModel, x: object, *, condition: Tensor | None = None) -> Estimate:
    r"""Returns the average :math:`\mathrm{KL}(q(z_j \mid x) \| p(z_j))` of every unit, in nats.

    It is the rate spent on the unit, not the information it carries, which is less by the
    dimension-wise KL.

    Args:
        model: A model with factorised Gaussian posterior and prior.
        x: Data.
        condition: One row per datapoint.

    Returns:
        Nats per unit, exact for this data; their total is the average KL. ``diagnostics``:
        ``stderr`` over the data, and ``collapsed``, the share of datapoints on which the unit
        spends less than 0.01 nats.

    Raises:
        ContractError: Posterior or prior do not factorise, so that the KL is not a sum.

    References:
        | Understanding Posterior Collapse in Generative Latent Variable Models (Lucas et al.,
          2019), https://arxiv.org/abs/1911.02469

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(500, seed=0)
        >>> abs(unit_kl(model, x).total - model.kl(x).mean().item()) < 1e-9
        True
    """
    inputs = prepared(model, x, condition)
    with evaluating(model):
        q = encode_posteriors(model, inputs)
        p = gaussian_posteriors(given(model, inputs.rows(slice(0, 1))[1]).prior())
    if not isinstance(q, DiagonalPosteriors) or not isinstance(p, DiagonalPosteriors):
        raise ContractError(
            "encode(x) and prior()",
            expected="factorised Gaussians, whose KL is a sum over units",
            got="a posterior or prior of another family",
            do="Use the KL of all units together; per unit it is unavailable.",
        )
    kl = diagonal_kl(q, p)
    return Estimate(
        "KL(q(z_j|x) ‖ p(z_j))",
        "analytic",
        kl.mean(0),
        torch.zeros_like(kl[0]),
        "unbiased",
        standard_error(kl.sum(1)),
        axis="unit",
        diagnostics={
            "stderr": error_per_unit(kl),
            "collapsed": (kl < ACTIVE).double().mean(0),
        },
        settings={"num_data": len(kl)},
        data_id=inputs.data_id,
        nonnegative=True,
        notes=inputs.notes,
    )


class _Moments(NamedTuple):
    """Posterior means and variances, and the sampling variance of each mean (zero if exact)."""

    mean: Float64[Tensor, "N d"]
    variance: Float64[Tensor, "N d"]
    noise: Float64[Tensor, "N d"]
    method: str
    settings: dict[str, object]
    inputs: Inputs
    num_samples: int | None = None


def _moments(
    model: LatentVariableModel, x: object, seed: int | None, condition: Tensor | None
) -> _Moments:
    inputs = prepared(model, x, condition)
    require_positive("number of datapoints", len(inputs.x), 2)
    record: dict[str, object] = {"num_data": len(inputs.x)}
    with evaluating(model), seeded(seed) as used:
        q = encode_posteriors(model, inputs)
        if not isinstance(q, OtherPosteriors):
            exact = q.marginals
            variance, noise = exact.sigma.square(), torch.zeros_like(exact.mu)
            return _Moments(exact.mu, variance, noise, "exact means", record, inputs)
        parts = []
        for rows in blocks(len(inputs.x), ENCODE_BATCH):
            local, c = inputs.rows(rows)
            z = given(model, c).encode(local).sample(torch.Size((MOMENT_SAMPLES,)))
            parts.append(torch.stack(torch.var_mean(z.double().flatten(2), 0)))
    variance, mean = torch.cat(parts, dim=1)
    record |= {"num_samples": MOMENT_SAMPLES, "seed": used}
    method = "sampled means, their noise subtracted"
    return _Moments(
        mean, variance, variance / MOMENT_SAMPLES, method, record, inputs, MOMENT_SAMPLES
    )


def _noise_stderr(
    variance: Float64[Tensor, " d"], noise: Float64[Tensor, "N d"]
) -> Float64[Tensor, " d"]:
    """The error that noisy means make in their variance: with the means, and with itself."""
    s = noise.mean(0)
    return ((4 * variance.clamp(min=0) * s + 2 * s.square()) / (len(noise) - 1)).sqrt()


def _variance_stderr(mu: Float64[Tensor, "N d"]) -> Float64[Tensor, " d"]:
    """The error of a sample variance, by its fourth central moment."""
    n = len(mu)
    centred = (mu - mu.mean(0)).square()
    fourth, second = centred.square().mean(0), mu.var(0)
    return ((fourth - second.square() * (n - 3) / (n - 1)).clamp(min=0) / n).sqrt()


# Where the marginal KL sits: in the dependence between latent dimensions, or in each of them.
#
# .. math:: \mathrm{KL}(q_N(z) \| p(z)) = \underbrace{\mathrm{KL}\bigl(q_N(z) \,\|\, {\textstyle
#           \prod_j} q_N(z_j)\bigr)}_{\text{total correlation}}
#           + \sum_j \mathrm{KL}(q_N(z_j) \| p(z_j))
#
# for a prior that factorises. Each one-dimensional KL has the low-variance form of the whole:
# average KL of the dimension minus its information. Both parts need N·d exponentials per draw, so
# they are computed on as many of the draws as take seconds.

# Exponentials by default: two or three seconds of one core.
EXPONENTIALS = 10**9
FEWEST_DRAWS = 200


class MarginalDraws:
    """The first draws with the one-dimensional densities of each: both estimates share them."""

    def __init__(self, draws: AggregateDraws) -> None:
        q = marginals_of(draws)
        N, d = q.mu.shape
        S = min(len(draws.z), max(FEWEST_DRAWS, EXPONENTIALS // (N * d)))
        S = S if S < N else S // N * N
        first = {k: getattr(draws, k)[:S] for k in ("index", "z", "log_own", "log_mixture")}
        self.draws = replace(draws, **first, log_prior=draws.log_prior[:S])
        self.q = q
        self.log_marginals = log_marginal_posteriors(self.draws.z, q, self.draws.index)


def marginals_of(draws: AggregateDraws) -> DiagonalPosteriors:
    """Returns the one-dimensional marginals of every posterior.

    Raises:
        ContractError: The family has no marginals in closed form.
    """
    if isinstance(draws.posteriors, OtherPosteriors):
        raise ContractError(
            "encode(x)",
            expected="a Gaussian, whose one-dimensional marginals are known",
            got="another family",
            do="Total correlation and dimension-wise KL are unavailable for it.",
        )
    return draws.posteriors.marginals


def total_correlation_of(marginal: MarginalDraws) -> Estimate:
    r"""From draws to the total correlation of q_N: mean of log q_N(z) − Σ_j log q_N(z_j)."""
    draws = marginal.draws
    terms = draws.log_mixture - marginal.log_marginals.sum(1)
    a = averages(terms, draws.index, len(draws.posteriors))
    estimand = "KL(q_N(z) ‖ Π_j q_N(z_j)) of this mixture"
    return draws.estimate("total correlation", f"mixture of N={len(draws.posteriors)}", a, estimand)


def dimensionwise_kl_of(marginal: MarginalDraws) -> Estimate:
    r"""From draws to KL(q_N(z_j) ‖ p(z_j)) per unit: average KL of the unit − its information.

    ``diagnostics["information"]`` is I(n; z_j), what each unit tells about which datapoint it was.

    Raises:
        ContractError: The prior is not a factorised Gaussian.
    """
    draws, q, p = marginal.draws, marginal.q, marginal.draws.prior
    if not isinstance(p, DiagonalPosteriors):
        raise ContractError(
            "prior()",
            expected="a factorised Gaussian, whose dimensions can be compared one by one",
            got="another prior",
            do="Use the marginal KL, which needs no factorisation.",
        )
    kl = diagonal_kl(q, p)
    i = _own_marginals(draws.z, q, draws.index) - marginal.log_marginals
    chosen = kl[draws.index] - i
    values = kl.mean(0) - i.mean(0)
    per_datapoint = averages(chosen.sum(1), draws.index, len(q))
    mc_stderr = i.std(0) / math.sqrt(len(draws.z))
    return Estimate(
        "dimension-wise KL(q_N(z_j) ‖ p(z_j))",
        f"average KL − information per unit, mixture of N={len(q)}",
        values,
        mc_stderr,
        "none",
        standard_error(per_datapoint.values),
        axis="unit",
        diagnostics={
            "stderr": _stderr_per_unit(chosen, draws.index, len(q)),
            "information": i.mean(0),
        },
        settings={**draws.settings, "estimand": "the one-dimensional marginals of this mixture"},
        data_id=draws.data_id,
        notes=draws.notes,
        nonnegative=True,
        mixture_size=len(q),
    )


def _stderr_per_unit(
    chosen: Float64[Tensor, "S d"], index: Tensor, N: int
) -> Float64[Tensor, " d"]:
    """The population's error of each unit: that of datapoints, each the mean of its draws."""
    errors = [standard_error(averages(unit, index, N).values) for unit in chosen.T]
    return torch.tensor(errors, dtype=torch.float64, device=chosen.device)


def _own_marginals(z: Tensor, q: DiagonalPosteriors, index: Tensor) -> Tensor:
    sigma = q.sigma[index]
    terms = -0.5 * ((z - q.mu[index]) / sigma).square() - sigma.log()
    return terms - 0.5 * math.log(2 * math.pi)
