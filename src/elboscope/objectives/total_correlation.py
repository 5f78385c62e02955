r"""β-TCVAE: the KL of the ELBO in three parts, each with a weight of its own.

.. math:: \frac1N \sum_n \mathrm{KL}(q(z|x_n) \| p(z)) = I_q(n; z)
          + \mathrm{KL}\bigl(q(z) \| {\textstyle\prod_j} q(z_j)\bigr)
          + \textstyle\sum_j \mathrm{KL}(q(z_j) \| p(z_j))

The aggregate posterior is estimated from the minibatch (:mod:`.minibatch_aggregate`). The three
parts add up to log q(z|x) − log p(z) draw by draw, whatever the estimator, so that at weights of
one the loss is exactly minus the all-sampled ELBO.
"""

from __future__ import annotations

__all__ = [
    "BetaTCVAE",
    "MinibatchEstimator",
    "MinibatchSurgery",
    "beta_tcvae",
    "minibatch_surgery",
    "minibatch_weights",
]

import math
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from elboscope.core import Bound, InputError, LatentVariableModel, family, given

from .elbo import elbo
from .gradient_estimators import require_reparameterised
from .settings import Nonnegative, Weight, at_least, linear_warm_up, objective

MinibatchEstimator = Literal["mss", "mws"]


def beta_tcvae(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    dataset_size: int,
    beta: float,
    num_samples: int = 1,
    *,
    alpha: float = 1.0,
    gamma: float = 1.0,
    estimator: MinibatchEstimator = "mss",
    condition: Tensor | None = None,
) -> Bound:
    r"""Maximises :math:`\mathbb{E}_q[\log p(x|z)] - \alpha I - \beta\, \mathrm{TC} - \gamma\, D`.

    D is the dimension-wise KL. ``value`` is the ELBO (weights of 1) and not what is optimised.

    Args:
        model: A model whose posterior factorises over units.
        x: A minibatch of at least two datapoints.
        dataset_size: N, the number of training datapoints.
        beta: Weight of the total correlation.
        num_samples: K.
        alpha: Weight of the mutual information.
        gamma: Weight of the dimension-wise KL.
        estimator: ``"mss"`` (unbiased for q(z)) or ``"mws"``.
        condition: One row per datapoint.

    Raises:
        InputError: A negative weight; a posterior that does not factorise; fewer than two
            datapoints, or more than N.

    References:
        | Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018),
          https://arxiv.org/abs/1802.04942

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(8, seed=0)
        >>> bound = beta_tcvae(model, x, dataset_size=100, beta=1.0)
        >>> bool((bound.value.mean() + bound.loss).abs() < 1e-9)
        True
    """
    for name, weight in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not weight >= 0:
            raise InputError(name, expected="a number ≥ 0", got=str(weight))
    model = given(model, condition)
    q, prior = model.encode(x), model.prior()
    require_reparameterised(q)
    z = q.rsample(torch.Size((num_samples,)))
    log_p = model.decode(z).log_prob(x)
    information, correlation, by_unit = minibatch_surgery(q, prior, z, dataset_size, estimator)
    value = (log_p - (information + correlation + by_unit)).mean(0)
    weighted = alpha * information + beta * correlation + gamma * by_unit
    return Bound(value.detach(), -(log_p - weighted).mean())


def _warmed_up(epoch: float, beta: float, warm_up_epochs: float) -> Weight:
    return Weight(linear_warm_up(epoch, warm_up_epochs, end=beta), beta)


def _beta_tcvae_over_time(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    epoch: float,
    dataset_size: Annotated[int, at_least(2)],
    beta: Nonnegative = 6.0,
    alpha: Nonnegative = 1.0,
    gamma: Nonnegative = 1.0,
    estimator: MinibatchEstimator = "mss",
    warm_up_epochs: Nonnegative = 0.0,
) -> Bound:
    r"""E log p(x|z) − α·I − β·TC − γ·(dimension-wise KL), from the minibatch.

    A minibatch of one datapoint, which may end an epoch, has no other posterior to compare with
    and follows the ELBO.

    Args:
        model: The model.
        x: A minibatch.
        epoch: Training time.
        dataset_size: N, the number of training datapoints: the estimators need it.
        beta: Weight of the total correlation.
        alpha: Weight of the mutual information.
        gamma: Weight of the dimension-wise KL.
        estimator: "mss", or "mws" as in most published experiments.
        warm_up_epochs: Epochs in which β rises from 0; 0: none.

    References:
        | Isolating Sources of Disentanglement (Chen et al., 2018), arXiv 1802.04942

    Example:
        >>> BetaTCVAE(dataset_size=60_000, beta=6.0, warm_up_epochs=10.0).weight(5.0)
        3.0
    """
    if len(x) == 1:
        return elbo(model, x)
    weight = linear_warm_up(epoch, warm_up_epochs, end=beta)
    return beta_tcvae(model, x, dataset_size, weight, alpha=alpha, gamma=gamma, estimator=estimator)


BetaTCVAE = objective("BetaTCVAE", _beta_tcvae_over_time, schedule=_warmed_up)


# The aggregate posterior from one minibatch, for training: mutual information, TC, dimension KL.
#
# A minibatch has B = M + 1 of the N datapoints and one draw :math:`z_i \sim q(z|x_i)` of each.
# Both estimators are weighted sums over the posteriors of the minibatch,
#
# .. math:: \log \hat q(z_i) = \log \sum_{j=1}^B W_{ij}\, q(z_i \mid x_j)
#
# - *minibatch-weighted sampling* (MWS): :math:`W_{ij} = 1/(NB)`. Biased: low by log N where all
#   posteriors are equal, by log B where none overlap;
# - *minibatch stratified sampling* (MSS): 1/N for z's own posterior (j = i), 1/M for M − 1 of the
#   others and (N − M)/(NM) for one. The rows sum to 1, and :math:`\hat q(z_i)` is unbiased for
#   q_N(z_i) over minibatches that contain i; its logarithm is low by Jensen. Exact where all
#   posteriors are equal or none overlap.
#
# A published implementation writes the 1/N into the first column instead of the diagonal; then a
# draw's own posterior weighs 1/M, which overstates q(z) by log(N/M) where posteriors are narrow.
#
# None of this measures: log q̂ of a minibatch cannot exceed what B posteriors can say.
# ``estimators.marginal_kl`` mixes over all N.


class MinibatchSurgery(NamedTuple):
    """The sampled KL of each datapoint in three parts that add up to it, in nats.

    Attributes:
        mutual_information: log q(z|x) − log q̂(z).
        total_correlation: log q̂(z) − Σ_j log q̂(z_j).
        dimensionwise_kl: Σ_j log q̂(z_j) − log p(z).
    """

    mutual_information: Float[Tensor, "K B"]
    total_correlation: Float[Tensor, "K B"]
    dimensionwise_kl: Float[Tensor, "K B"]


def minibatch_weights(
    batch_size: int, dataset_size: int, estimator: MinibatchEstimator = "mss"
) -> Float[Tensor, "B B"]:
    r"""Returns :math:`\log W_{ij}` in float64.

    Args:
        batch_size: B = M + 1 ≥ 2.
        dataset_size: N ≥ B.
        estimator: ``"mss"`` or ``"mws"``.

    Raises:
        InputError: B < 2, N < B, or another estimator.

    References:
        | Isolating Sources of Disentanglement (Chen et al., 2018),
          https://arxiv.org/abs/1802.04942, appendix C

    Example:
        >>> minibatch_weights(3, 10).exp().sum(1)
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    B, N, M = batch_size, dataset_size, batch_size - 1
    _check(B, N)
    if estimator == "mws":
        return torch.full((B, B), -math.log(N * B), dtype=torch.float64)
    if estimator != "mss":
        raise InputError("estimator", expected="'mss' or 'mws'", got=repr(estimator))
    W = torch.full((B, B), 1 / M, dtype=torch.float64)
    i = torch.arange(B)
    W[i, i] = 1 / N
    W[i, (i + 1) % B] = (N - M) / (N * M)
    return W.log()


def minibatch_surgery(
    q: Distribution,
    prior: Distribution,
    z: Float[Tensor, "K B *Z"],
    dataset_size: int,
    estimator: MinibatchEstimator = "mss",
) -> MinibatchSurgery:
    r"""Cuts log q(z|x) − log p(z) of a minibatch's draws into its three parts.

    They are estimates for gradients, biased as the module says; each is differentiable in q's
    parameters and in z.

    Args:
        q: The posteriors of the minibatch, factorised over units (``Independent``).
        prior: p(z).
        z: K draws of each.
        dataset_size: N.
        estimator: ``"mss"`` or ``"mws"``.

    Returns:
        The parts of every draw.

    Raises:
        InputError: The posterior does not factorise; see :func:`minibatch_weights`.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> q, p = model.encode(x), model.prior()
        >>> z = q.sample((2,))
        >>> parts = minibatch_surgery(q, p, z, dataset_size=100)
        >>> bool(torch.allclose(sum(parts), q.log_prob(z) - p.log_prob(z)))
        True
    """
    B = z.shape[1]
    units = _unit_log_prob(q, z)
    log_W = minibatch_weights(B, dataset_size, estimator).to(units)
    joint = units.sum(-1)
    log_q = (joint + log_W).logsumexp(2)
    log_marginals = (units + log_W[..., None]).logsumexp(2).sum(-1)
    own = joint.diagonal(dim1=1, dim2=2)
    return MinibatchSurgery(own - log_q, log_q - log_marginals, log_marginals - prior.log_prob(z))


def _unit_log_prob(q: Distribution, z: Tensor) -> Float[Tensor, "K B B d"]:
    """log q(z_{i,u} | x_j) of every unit u, under every posterior of the minibatch."""
    if not isinstance(q, Independent) or tuple(q.base_dist.event_shape):
        raise InputError(
            "posterior",
            expected="one that factorises over units (Independent), as q̂(z_j) needs",
            got=family(q),
            do="Use es.objectives.beta_elbo, which asks for no marginals.",
        )
    units: Tensor = q.base_dist.log_prob(z[:, :, None])
    return units.flatten(3)


def _check(B: int, N: int) -> None:
    if B < 2:
        raise InputError(
            "x of a minibatch estimator",
            expected="at least two datapoints, one beside the draw's own",
            got=str(B),
            do="Choose a batch size that leaves no minibatch of one.",
        )
    if N < B:
        raise InputError(
            "dataset_size",
            expected=f"at least the {B} datapoints of the minibatch",
            got=str(N),
            do="Give the number of training datapoints, N.",
        )
