r"""How far the aggregate posterior is from the prior: the hole from which samples fall.

.. math:: \mathrm{KL}(q_N(z) \| p(z)) = \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \| p(z))
          - I_q(n; z) \in [\mathrm{avgKL} - \log N,\ \mathrm{avgKL}]

The form on the right is the low-variance one: the average KL is exact and each summand of I is at
most log N. The plain form averages log q_N(z) − log p(z) over the same draws; the two must agree.

Two errors belong to it. That of *this mixture* is Monte Carlo's (``mc_error_of_mean``). That of
the *population* is sd(kl_n − i_n)/√N (``stderr``); it does not include the bias of a finite
mixture, which overstates the population's KL(q‖p) where the posteriors are narrow for N: a
perfect linear-Gaussian model with d = 20 and N = 1000 gives 32 nats although KL(q‖p) = 0. So the
interval is printed beside it, and the held-out lower bound.
"""

from __future__ import annotations

__all__ = ["marginal_kl"]

import math

from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded, standard_error

from .aggregate_draws import AggregateDraws, Averages, averages, draw_aggregate
from .evaluation import Progress, prepared

ESTIMAND = "KL(q_N‖p) of this mixture; stderr: over the population, its finite-N bias apart"


def marginal_kl(
    model: LatentVariableModel,
    x: object,
    num_draws: int | None = None,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | None = None,
) -> Estimate:
    r"""Estimates :math:`\mathrm{KL}(q_N(z) \| p(z))` by average KL − mutual information, in nats.

    It is not the KL of the population's aggregate posterior, which it overstates for narrow
    posteriors; :func:`held_out_marginal_kl` bounds that from below.

    Args:
        model: The model, with an encoder.
        x: Data; the mixture q_N is over all of them.
        num_draws: S, draws from q_N; by default as many as take seconds, and at least 1000 for
            flows, which are inverted N·S times.
        seed: Of the draws.
        condition: One row per datapoint.
        progress: Called with the draws done and their number.

    Returns:
        kl_n − i_n per datapoint (per draw, where S < N), whose mean is the marginal KL. Where
        the average KL has no closed form it is sampled, and the method says so.

    Raises:
        InputError: x cannot be data; fewer than two draws.
        ContractError: The posterior has no density.

    References:
        | ELBO surgery (Hoffman, Johnson, 2016)
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847, algorithm 2

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(2000, seed=0)
        >>> kl = marginal_kl(model, x, seed=0)
        >>> abs(kl.mean - model.marginal_kl().item()) < 3 * kl.stderr
        True
    """
    inputs = prepared(model, x, condition)
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, inputs, num_draws, used, progress=progress)
    return marginal_kl_of(draws)


def marginal_kl_of(draws: AggregateDraws) -> Estimate:
    """From draws to the marginal KL: the low-variance form where the average KL is analytic."""
    if draws.kl is None:
        return _estimate(draws, _plain(draws), "sampled average KL − mutual information", None)
    i = averages(draws.log_own - draws.log_mixture, draws.index, len(draws.posteriors))
    chosen = draws.kl[i.which]
    values = chosen - i.values + (draws.kl.mean() - chosen.mean())
    stderr = _subsampled_stderr(chosen, i.values, draws.kl)
    method = "average KL − mutual information"
    return _estimate(draws, i._replace(values=values), method, stderr)


def plain_marginal_kl_of(draws: AggregateDraws) -> Estimate:
    """From draws to the plain average of log q_N(z) − log p(z)."""
    return _estimate(draws, _plain(draws), "plain Monte Carlo", None)


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


def _estimate(draws: AggregateDraws, a: Averages, method: str, stderr: float | None) -> Estimate:
    return Estimate(
        "KL(q_N(z) ‖ p(z))",
        f"{method}, mixture of N={len(draws.posteriors)}",
        a.values,
        a.mc_stderr,
        "none",
        standard_error(a.values) if stderr is None else stderr,
        axis=a.axis,
        settings={**draws.settings, "estimand": ESTIMAND},
        data_id=draws.data_id,
        nonnegative=True,
    )
