r"""ELBO surgery: the bound cut into reconstruction, mutual information and marginal KL.

.. math:: \frac1N \sum_n \mathrm{ELBO}(x_n) = \mathbb{E}[\log p(x \mid z)] - I_q(n; z)
          - \mathrm{KL}(q_N(z) \| p(z))

All parts share one set of draws from the aggregate posterior q_N of the given data. What is
unavailable for a family of posteriors or a prior is None, with the reason in ``unavailable``.
"""

from __future__ import annotations

__all__ = ["ElboSurgery", "elbo_surgery", "mutual_information"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

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

from ..inputs import prepared
from ..likelihood.bounds import reconstruction
from ..streaming import Progress
from .aggregate import AggregateDraws, Averages, averages, draw_aggregate
from .aggregate_parts import aggregate_inputs
from .held_out import held_out_marginal_kl
from .units import MarginalDraws, dimensionwise_kl_of, total_correlation_of

RECONSTRUCTION_SAMPLES = 10
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ElboSurgery:
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

    def parts(self) -> tuple[Estimate | None, ...]:
        """Returns all estimates: a number that is not finite in one spoils the surgery."""
        return (
            self.reconstruction, self.kl, self.mutual_information, self.marginal_kl,
            self.marginal_kl_plain, self.marginal_kl_held_out, self.total_correlation,
            self.dimensionwise_kl,
        )  # fmt: skip

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
    x_train: object = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> ElboSurgery:
    r"""Cuts the average ELBO into reconstruction, mutual information and marginal KL.

    The mixture q_N is over all of x, or of x_train where that is given. Its mutual information
    and marginal KL are statements about N datapoints; where I comes near log N they say little
    about the population, whose KL(q‖p) is bounded from below by ``marginal_kl_held_out``.

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``.
        num_draws: S, draws from q_N; by default as many as take seconds.
        seed: Random seed; None picks one and records it.
        x_train: Data to take apart instead of x, on which the held-out bound is then evaluated.
        condition: One row per datapoint of x.
        condition_train: One row per datapoint of x_train.
        progress: Called with the draws scored and their number; True shows a bar.

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
    inputs = aggregate_inputs(model, prepared(model, x, condition), x_train, condition_train)
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
            x_train=x_train,
            seed=used,
            condition=condition,
            condition_train=condition_train,
        ),
    )
    by_dimension = None
    if marginal is None:
        unavailable["dimensionwise_kl"] = unavailable["total_correlation"]
    else:
        shared = marginal
        by_dimension = or_reason("dimensionwise_kl", lambda: dimensionwise_kl_of(shared))
    return ElboSurgery(
        reconstruction(
            model,
            x if x_train is None else x_train,
            RECONSTRUCTION_SAMPLES,
            seed=used,
            condition=inputs.condition,
        ),
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
            notes=draws.notes,
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
        notes=draws.notes,
        nonnegative=True,
    )


# How far the aggregate posterior is from the prior: the hole from which samples fall.
#
# .. math:: \mathrm{KL}(q_N(z) \| p(z)) = \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \| p(z))
#           - I_q(n; z) \in [\mathrm{avgKL} - \log N,\ \mathrm{avgKL}]
#
# The form on the right is the low-variance one: the average KL is exact and each summand of I is
# at most log N. The plain form averages log q_N(z) − log p(z) over the same draws; the two must
# agree.
#
# Two errors belong to it. That of *this mixture* is Monte Carlo's (``mc_error_of_mean``). That of
# the *population* is sd(kl_n − i_n)/√N (``stderr``); it does not include the bias of a finite
# mixture, which overstates the population's KL(q‖p) where the posteriors are narrow for N: a
# perfect linear-Gaussian model with d = 20 and N = 1000 gives 32 nats although KL(q‖p) = 0. So
# the interval is printed beside it, and the held-out lower bound.

ESTIMAND = "KL(q_N‖p) of this mixture; stderr: over the population, its finite-N bias apart"


def marginal_kl_of(draws: AggregateDraws) -> Estimate:
    """From draws to the marginal KL: the low-variance form where the average KL is analytic."""
    if draws.kl is None:
        return _estimate(draws, _plain(draws), "sampled average KL − mutual information")
    i = averages(draws.log_own - draws.log_mixture, draws.index, len(draws.posteriors))
    chosen = draws.kl[i.which]
    values = chosen - i.values + (draws.kl.mean() - chosen.mean())
    stderr = _subsampled_stderr(chosen, i.values, draws.kl)
    method = "average KL − mutual information"
    return _estimate(draws, i._replace(values=values), method, stderr)


def plain_marginal_kl_of(draws: AggregateDraws) -> Estimate:
    """From draws to the plain average of log q_N(z) − log p(z)."""
    return _estimate(draws, _plain(draws), "plain Monte Carlo")


def _plain(draws: AggregateDraws) -> Averages:
    return averages(draws.log_mixture - draws.log_prior, draws.index, len(draws.posteriors))


def _subsampled_stderr(chosen: Tensor, i: Tensor, kl: Tensor) -> float:
    """The population error where i is known for S of the N datapoints and kl for all.

    With f = S/N: avgKL − Î = mean_S(f·kl − i) + (1 − f)·mean_rest(kl), two independent means.
    """
    S, N = len(i), len(kl)
    if S == N:
        return standard_error(chosen - i)
    f = S / N
    within = (f * chosen - i).var().item() / S
    return math.sqrt(within + (1 - f) * kl.var().item() / N)


def _estimate(
    draws: AggregateDraws, a: Averages, method: str, stderr: float | None = None
) -> Estimate:
    method = f"{method}, mixture of N={len(draws.posteriors)}"
    return draws.estimate("KL(q_N(z) ‖ p(z))", method, a, ESTIMAND, stderr)


# How much the code says about which datapoint it came from.
#
# .. math:: I_q(n; z) = \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \| q_N(z)) \le \log N
#
# A value near log N says only that the posteriors are narrow for this many datapoints: the mutual
# information of the population is then larger by an unknown amount.


def mutual_information(
    model: LatentVariableModel,
    x: object,
    num_draws: int | None = None,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates :math:`I_q(n; z)` between the index of a datapoint and its code, in nats.

    It is not the population's I(x; z), which has no ceiling; ``settings["log_n"]`` is the
    ceiling of this one.

    Args:
        model: The model, with an encoder.
        x: Data; the mixture q_N is over all of them.
        num_draws: S, draws from q_N; by default as many as take seconds.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        progress: Called with the draws done and their number; True shows a bar.

    Returns:
        I per datapoint (per draw, where S < N). ``stderr`` is that of other data from the same
        population, ``mc_error_of_mean`` that of this very mixture.

    Raises:
        InputError: x cannot be data; fewer than two draws.
        ContractError: The posterior has no density.

    References:
        | ELBO surgery (Hoffman, Johnson, 2016)
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(2000, seed=0)
        >>> I = mutual_information(model, x, seed=0)
        >>> abs(I.mean - model.mutual_information().item()) < 3 * I.stderr
        True
    """
    inputs = prepared(model, x, condition)
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, inputs, num_draws, used, progress=progress)
    return information_of(draws)


def information_of(draws: AggregateDraws) -> Estimate:
    """From draws to the mutual information."""
    N = len(draws.posteriors)
    i = averages(draws.log_own - draws.log_mixture, draws.index, N)
    method = f"mixture of N={N}, at most log N = {draws.log_n:.2f}"
    estimand = "the information of this mixture, at most log N"
    return draws.estimate("I(n; z)", method, i, estimand)
