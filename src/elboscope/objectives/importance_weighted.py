r"""Importance-weighted bounds: what T samples of the posterior are averaged into.

.. math:: L_K = \mathbb{E}\,\log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)},
          \qquad z_k \sim q(z|x) \text{ independently}

:math:`L_1` is the ELBO, :math:`L_K \le L_{K+1} \le \log p(x)`, and the gap falls like
:math:`\chi^2/(2K)` where the weights have a variance. As K grows the bound needs q less and less,
and the signal-to-noise ratio of the encoder's gradient falls like :math:`1/\sqrt K`; the bounds
that split the samples in M groups of K (:math:`T = MK`), or mix in the ELBO, give it back.

All of them are of log-weights :math:`\log w`, drawn once, of shape ``(M, K, B)``. Other gradient
estimators for the same bound are in :mod:`elboscope.objectives.gradient_estimators`.
"""

from __future__ import annotations

__all__ = ["CIWAE", "IWAE", "MIWAE", "PIWAE", "ciwae", "iwae", "miwae", "piwae"]

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Bound, InputError, LatentVariableModel, log_mean_exp

from .gradient_estimators import count, pathwise_weights
from .settings import Count, Share, objective


def iwae(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: Count = 5,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""One draw of :math:`\log \frac1K \sum_k w_k` per datapoint, with its pathwise gradient.

    Args:
        model: The model; any reparameterised posterior with a density.
        x: A minibatch.
        num_samples: K.
        condition: One row per datapoint.

    Raises:
        InputError: K < 1.
        ContractError: The posterior has no density, or no reparameterised draws to follow.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> iwae(model, model.sample(4, seed=0)[0], num_samples=8).value.shape
        torch.Size([4])
    """
    log_w = pathwise_weights(model, x, count("num_samples", num_samples), condition=condition)
    return _bound(_log_mean(log_w))


def miwae(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_outer: Count = 8,
    num_samples: Count = 8,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""The mean of M draws of the bound: :math:`\frac1M \sum_m \log \frac1K \sum_k w_{mk}`.

    Its expectation is :math:`L_K`, whatever M; M divides the variance. It is not
    :math:`L_{MK}`, and M and K are not exchangeable.

    Args:
        model: The model.
        x: A minibatch.
        num_outer: M, the number of groups.
        num_samples: K, the samples inside each logarithm.
        condition: One row per datapoint.

    Raises:
        InputError: M < 1 or K < 1.
        ContractError: As :func:`iwae`.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> with es.seeded(0):
        ...     one = miwae(model, x, 1, 8).value
        >>> with es.seeded(0):
        ...     print(bool((one == iwae(model, x, 8).value).all()))
        True
    """
    return _bound(_grouped(_groups(model, x, num_outer, num_samples, condition)))


def piwae(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_outer: Count = 8,
    num_samples: Count = 8,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""Two bounds of the same T = MK samples: the encoder follows MIWAE, the rest IWAE.

    The value is :math:`\log \frac1T \sum_{mk} w_{mk}`, a draw of :math:`L_T`, which the decoder
    follows with ``loss``; the encoder follows ``encoder_loss``,
    :math:`-\frac1M \sum_m \log \frac1K \sum_k w_{mk}`. One optimiser step takes both.

    Args:
        model: The model.
        x: A minibatch.
        num_outer: M of the encoder's bound.
        num_samples: K of the encoder's bound.
        condition: One row per datapoint.

    Raises:
        InputError: M < 1 or K < 1.
        ContractError: As :func:`iwae`.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> bound = piwae(model, model.sample(4, seed=0)[0], 2, 8)
        >>> bool(bound.encoder_loss > bound.loss)  # the encoder's bound is the looser one
        True
    """
    log_w = _groups(model, x, num_outer, num_samples, condition)
    return _bound(_log_mean(log_w.flatten(0, 1)), -_grouped(log_w).mean())


def ciwae(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: Count = 64,
    beta: Share = 0.5,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""A mixture of two bounds: :math:`\beta \frac1K \sum_k \log w_k + (1-\beta) L_K`.

    β is no β-VAE's: both parts are lower bounds on log p(x), and so is the mixture.

    Args:
        model: The model.
        x: A minibatch.
        num_samples: K.
        beta: The share of the ELBO, from 0 (IWAE) to 1 (the ELBO).
        condition: One row per datapoint.

    Raises:
        InputError: K < 1; β outside [0, 1], where the mixture is no bound.
        ContractError: As :func:`iwae`.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          https://arxiv.org/abs/1802.04537

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> ciwae(model, model.sample(4, seed=0)[0], 8, beta=0.5).value.shape
        torch.Size([4])
    """
    if not 0 <= beta <= 1:
        raise InputError("beta", expected="a share of the ELBO in [0, 1]", got=repr(beta))
    log_w = pathwise_weights(model, x, count("num_samples", num_samples), condition=condition)
    return _bound(beta * log_w.mean(0) + (1 - beta) * _log_mean(log_w))


IWAE = objective("IWAE", iwae)
MIWAE = objective("MIWAE", miwae)
PIWAE = objective("PIWAE", piwae)
CIWAE = objective("CIWAE", ciwae)


def _groups(
    model: LatentVariableModel, x: Tensor, M: int, K: int, condition: Tensor | None
) -> Float[Tensor, "M K B"]:
    M, K = count("num_outer", M), count("num_samples", K)
    log_w = pathwise_weights(model, x, M * K, condition=condition)
    return log_w.reshape(M, K, *log_w.shape[1:])


def _grouped(log_w: Float[Tensor, "M K B"]) -> Float[Tensor, " B"]:
    return _log_mean(log_w.transpose(0, 1)).mean(0)


def _log_mean(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "*B"]:
    """In the model's dtype again, since float64 is for the sum alone."""
    return log_mean_exp(log_w).to(log_w.dtype)


def _bound(value: Float[Tensor, " B"], encoder_loss: Tensor | None = None) -> Bound:
    return Bound(value.detach(), -value.mean(), encoder_loss)
