r"""ELBO surgery: the bound cut into reconstruction, mutual information and marginal KL.

.. math:: \frac1N \sum_n \mathrm{ELBO}(x_n) = \mathbb{E}[\log p(x \mid z)] - I_q(n; z)
          - \mathrm{KL}(q_N(z) \| p(z))

All parts share one set of draws from the aggregate posterior q_N of the given data. What is
unavailable for a family of posteriors or a prior is None, with the reason in ``unavailable``.
"""

from __future__ import annotations

__all__ = ["ElboSurgery", "elbo_surgery"]

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    evaluating,
    seeded,
    standard_error,
)

from .aggregate_draws import AggregateDraws, averages, draw_aggregate
from .evaluation import Progress, prepared
from .held_out_kl import held_out_marginal_kl
from .latent_dimensions import MarginalDraws, dimensionwise_kl_of, total_correlation_of
from .lower_bound import reconstruction
from .marginal_kl import marginal_kl_of, plain_marginal_kl_of
from .mutual_information import information_of

RECONSTRUCTION_SAMPLES = 10
T = TypeVar("T")


class ElboSurgery(NamedTuple):
    """The parts of the average ELBO, in nats.

    Attributes:
        reconstruction: E_q log p(x|z).
        kl: KL(q(z|x) ‖ p(z)) per datapoint: the rate.
        mutual_information: I(n; z) ≤ log N.
        marginal_kl: KL(q_N ‖ p), the low-variance form.
        marginal_kl_plain: The same by plain Monte Carlo; the two must agree.
        marginal_kl_held_out: A lower bound on the population's KL(q ‖ p).
        total_correlation: The part of the marginal KL between dimensions.
        dimensionwise_kl: The part within each dimension, per unit.
        log_n: The ceiling of the mutual information.
        unavailable: Why a part is None, by its name.
    """

    reconstruction: Estimate
    kl: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate
    marginal_kl_plain: Estimate
    marginal_kl_held_out: Estimate | None
    total_correlation: Estimate | None
    dimensionwise_kl: Estimate | None
    log_n: float
    unavailable: Mapping[str, str]

    @property
    def interval(self) -> tuple[float, float]:
        """(avgKL − log N, or 0, avgKL), which contains KL(q_N ‖ p) whatever the draws were."""
        return max(0.0, self.kl.mean - self.log_n), self.kl.mean


def elbo_surgery(
    model: LatentVariableModel,
    x: object,
    *,
    num_draws: int | None = None,
    seed: int | None = None,
    x_held_out: object = None,
    condition: Tensor | None = None,
    condition_held_out: Tensor | None = None,
    progress: Progress | None = None,
) -> ElboSurgery:
    r"""Cuts the average ELBO into reconstruction, mutual information and marginal KL.

    The mixture q_N is over all of x. Its mutual information and marginal KL are statements about
    N datapoints; where I comes near log N they say little about the population, whose KL(q‖p)
    is bounded from below by ``marginal_kl_held_out``.

    Args:
        model: The model, with an encoder.
        x: Data.
        num_draws: S, draws from q_N; by default as many as take seconds.
        seed: Of all draws.
        x_held_out: Other data for the held-out bound; by default a part of x.
        condition: One row per datapoint of x.
        condition_held_out: One row per datapoint of x_held_out.
        progress: Called with the draws scored and their number.

    Returns:
        The parts, each an Estimate.

    Raises:
        InputError: x cannot be data; fewer than two draws.
        ContractError: The posterior has no density, so that q_N has none.

    References:
        | ELBO surgery (Hoffman, Johnson, 2016)
        | Isolating Sources of Disentanglement (Chen et al., 2018),
          https://arxiv.org/abs/1802.04942

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(500, seed=0)
        >>> parts = elbo_surgery(model, x, num_draws=500, seed=0)
        >>> total = parts.mutual_information.mean + parts.marginal_kl.mean
        >>> abs(total - parts.kl.mean) < 1e-9
        True
    """
    inputs = prepared(model, x, condition)
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, inputs, num_draws, used, progress=progress)
    unavailable: dict[str, str] = {}

    def or_reason(name: str, part: Callable[[], T]) -> T | None:
        try:
            return part()
        except InputError as error:
            unavailable[name] = str(error)
            return None

    marginal = or_reason("total_correlation", lambda: MarginalDraws(draws))
    held_out = or_reason(
        "marginal_kl_held_out",
        lambda: held_out_marginal_kl(
            model,
            x,
            x_held_out=x_held_out,
            seed=used,
            condition=condition,
            condition_held_out=condition_held_out,
        ),
    )
    by_dimension = None
    if marginal is None:
        unavailable["dimensionwise_kl"] = unavailable["total_correlation"]
    else:
        shared = marginal
        by_dimension = or_reason("dimensionwise_kl", lambda: dimensionwise_kl_of(shared))
    return ElboSurgery(
        reconstruction(model, x, RECONSTRUCTION_SAMPLES, seed=used, condition=condition),
        average_kl_of(draws),
        information_of(draws),
        marginal_kl_of(draws),
        plain_marginal_kl_of(draws),
        held_out,
        None if marginal is None else total_correlation_of(marginal),
        by_dimension,
        draws.log_n,
        unavailable,
    )


def average_kl_of(draws: AggregateDraws) -> Estimate:
    """From draws to KL(q(z|x) ‖ p(z)) per datapoint, sampled where it has no closed form."""
    name, settings = "KL(q(z|x) ‖ p(z))", {"seed": draws.seed}
    if draws.kl is not None:
        exact = torch.zeros_like(draws.kl)
        return Estimate.per_datapoint(
            name,
            "analytic",
            draws.kl,
            exact,
            "unbiased",
            data_id=draws.data_id,
            settings=settings,
            nonnegative=True,
        )
    a = averages(draws.log_own - draws.log_prior, draws.index, len(draws.posteriors))
    return Estimate(
        name,
        "sampled",
        a.values,
        a.mc_stderr,
        "unbiased",
        standard_error(a.values),
        axis=a.axis,
        settings=draws.settings,
        data_id=draws.data_id,
        nonnegative=True,
    )
