r"""How much the code says about which datapoint it came from.

.. math:: I_q(n; z) = \frac1N \sum_n \mathrm{KL}(q(z \mid x_n) \| q_N(z)) \le \log N

A value near log N says only that the posteriors are narrow for this many datapoints: the
mutual information of the population is then larger by an unknown amount.
"""

from __future__ import annotations

__all__ = ["mutual_information"]

from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded, standard_error

from .aggregate_draws import AggregateDraws, averages, draw_aggregate
from .evaluation import Progress, prepared


def mutual_information(
    model: LatentVariableModel,
    x: object,
    num_draws: int | None = None,
    *,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | None = None,
) -> Estimate:
    r"""Estimates :math:`I_q(n; z)` between the index of a datapoint and its code, in nats.

    It is not the population's I(x; z), which has no ceiling; ``settings["log_n"]`` is the
    ceiling of this one.

    Args:
        model: The model, with an encoder.
        x: Data; the mixture q_N is over all of them.
        num_draws: S, draws from q_N; by default as many as take seconds.
        seed: Of the draws.
        condition: One row per datapoint.
        progress: Called with the draws done and their number.

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
    return Estimate(
        "I(n; z)",
        f"mixture of N={N}, at most log N = {draws.log_n:.2f}",
        i.values,
        i.mc_stderr,
        "none",
        standard_error(i.values),
        axis=i.axis,
        settings={**draws.settings, "estimand": "the information of this mixture, at most log N"},
        data_id=draws.data_id,
        nonnegative=True,
    )
