r"""β-TCVAE: the KL of the ELBO in three parts, each with a weight of its own.

.. math:: \frac1N \sum_n \mathrm{KL}(q(z|x_n) \| p(z)) = I_q(n; z)
          + \mathrm{KL}\bigl(q(z) \| {\textstyle\prod_j} q(z_j)\bigr)
          + \textstyle\sum_j \mathrm{KL}(q(z_j) \| p(z_j))

The aggregate posterior is estimated from the minibatch (:mod:`.minibatch_aggregate`). The three
parts add up to log q(z|x) − log p(z) draw by draw, whatever the estimator, so that at weights of
one the loss is exactly minus the all-sampled ELBO.
"""

from __future__ import annotations

__all__ = ["beta_tcvae"]

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import Bound, InputError, LatentVariableModel, given

from .minibatch_aggregate import MinibatchEstimator, minibatch_surgery
from .pathwise import require_reparameterised


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
