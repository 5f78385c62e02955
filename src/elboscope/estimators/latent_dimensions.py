r"""Where the marginal KL sits: in the dependence between latent dimensions, or in each of them.

.. math:: \mathrm{KL}(q_N(z) \| p(z)) = \underbrace{\mathrm{KL}\bigl(q_N(z) \,\|\, {\textstyle
          \prod_j} q_N(z_j)\bigr)}_{\text{total correlation}}
          + \sum_j \mathrm{KL}(q_N(z_j) \| p(z_j))

for a prior that factorises. Each one-dimensional KL has the low-variance form of the whole:
average KL of the dimension minus its information. Both parts need N·d exponentials per draw, so
they are computed on as many of the draws as take seconds.
"""

from __future__ import annotations

__all__ = ["dimensionwise_kl_of", "total_correlation_of"]

import math
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import ContractError, Estimate, standard_error

from .aggregate_draws import AggregateDraws, averages, diagonal_kl
from .aggregate_posterior import log_marginal_posteriors
from .posteriors import DiagonalPosteriors, OtherPosteriors

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
    return Estimate(
        "total correlation",
        f"mixture of N={len(draws.posteriors)}",
        a.values,
        a.mc_stderr,
        "none",
        standard_error(a.values),
        axis=a.axis,
        settings={**draws.settings, "estimand": "KL(q_N(z) ‖ Π_j q_N(z_j)) of this mixture"},
        data_id=draws.data_id,
        nonnegative=True,
    )


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
        nonnegative=True,
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
