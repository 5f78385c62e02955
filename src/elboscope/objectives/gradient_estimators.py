r"""Other gradients for the same bound: surrogates for the encoder, the plain one for the rest.

The value is always :math:`\log \frac1K \sum_k w_k` (the mean of :math:`\log w_k` for the score
function); the surrogate that the encoder descends is in ``encoder_loss`` and is no bound. With
:math:`\tilde w = \mathrm{softmax}(\log w)` held fixed, and :math:`\log w^{sg}` differentiated
through z but not through the parameters of log q, each encoder maximises

================== =====================================================================
path derivative    :math:`\sum_k \tilde w_k \log w^{sg}_k`: biased for K > 1, without variance
                   where q is the posterior
DReG               :math:`\sum_k \tilde w_k^2 \log w^{sg}_k`: unbiased for IWAE
DReG of the wake   :math:`\sum_k (\tilde w_k - \tilde w_k^2) \log w^{sg}_k`: unbiased for the next
phase
wake phase         :math:`\sum_k \tilde w_k \log q_\phi(z_k)`, z fixed: descends KL(p(z|x) ‖ q)
score function     :math:`\frac1K \sum_k (\log w_k - b_k) \log q_\phi(z_k)`, z fixed,
                   :math:`b_k` the mean of the others: unbiased for the ELBO, any posterior
================== =====================================================================

All other parameters follow :math:`\sum_k \tilde w_k \nabla \log p(x, z_k)`, or its ELBO form. A
parameter that the encoder shares (tied weights, a prior made of q) follows that as well with the
wake phase and the score function. With the path derivative and DReG its share of log p is weighted
like the encoder's, which is wrong for K > 1: use the plain bound there.
"""

from __future__ import annotations

__all__ = [
    "DReG",
    "ScoreFunction",
    "StickingTheLanding",
    "WakePhase",
    "count",
    "dreg",
    "pathwise_draws",
    "pathwise_weights",
    "require_reparameterised",
    "score_function",
    "sticking_the_landing",
    "wake_phase",
]

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    Bound,
    ContractError,
    InputError,
    LatentVariableModel,
    family,
    given,
    log_joint,
    log_mean_exp,
    sample_posterior,
)
from elboscope.core.weights import SamplesWithDensity

from .settings import Count, Share, at_least, objective

TwoOrMore = Annotated[int, at_least(2)]


def sticking_the_landing(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: Count = 1,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""The path derivative: :math:`\nabla_\phi \log q` at fixed z is left out.

    At K = 1 it is unbiased for the ELBO's gradient, since what is left out has mean zero; for
    K > 1 it is biased. Its variance vanishes where q(z|x) is the exact posterior.

    Args:
        model: The model; any reparameterised posterior with a density.
        x: A minibatch.
        num_samples: K.
        condition: One row per datapoint.

    Raises:
        InputError: K < 1.
        ContractError: The posterior has no density, or no reparameterised draws.

    References:
        | Sticking the Landing (Roeder et al., 2017), https://arxiv.org/abs/1703.09194

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1().with_exact_posterior()
        >>> bound = sticking_the_landing(model, model.sample(4, seed=0)[0], 5)
        >>> (gradient,) = torch.autograd.grad(bound.encoder_loss, model.encoder.c)
        >>> bool(gradient.abs().max() < 1e-12)
        True
    """
    log_w = pathwise_weights(model, x, count("num_samples", num_samples), freeze=True,
                             condition=condition)  # fmt: skip
    return _bound(log_w, _normalised(log_w))


def dreg(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: Count = 64,
    alpha: Share = 0.0,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""The doubly reparameterised gradient, whose signal-to-noise ratio grows with K.

    α = 0 is unbiased for the gradient of IWAE, α = 1 for that of the wake phase; in between
    the two are mixed, :math:`(1-\alpha) \tilde w^2 + \alpha (\tilde w - \tilde w^2)`.

    Args:
        model: The model; any reparameterised posterior with a density.
        x: A minibatch.
        num_samples: K. With K = 1 and α = 1 the encoder has no gradient.
        alpha: The share of the wake phase, in [0, 1].
        condition: One row per datapoint.

    Raises:
        InputError: K < 1; α outside [0, 1].
        ContractError: The posterior has no density, or no reparameterised draws.

    References:
        | Doubly Reparameterized Gradient Estimators (Tucker et al., 2018),
          https://arxiv.org/abs/1810.04152

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> dreg(model, model.sample(4, seed=0)[0], 8).value.shape
        torch.Size([4])
    """
    if not 0 <= alpha <= 1:
        raise InputError("alpha", expected="a share of the wake phase in [0, 1]", got=repr(alpha))
    log_w = pathwise_weights(model, x, count("num_samples", num_samples), freeze=True,
                             condition=condition)  # fmt: skip
    w = _normalised(log_w)
    return _bound(log_w, (1 - alpha) * w**2 + alpha * (w - w**2))


def wake_phase(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: TwoOrMore = 5,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""Reweighted wake-sleep: the encoder descends :math:`\mathrm{KL}(p(z|x) \| q(z|x))`.

    The expectation under the posterior is self-normalised over K draws of q, which biases it
    for small K; with K = 1 nothing is left of the posterior. Draws need not be differentiable,
    so discrete latents will do.

    Args:
        model: The model; any posterior with a density.
        x: A minibatch.
        num_samples: K ≥ 2.
        condition: One row per datapoint.

    Raises:
        InputError: K < 2.
        ContractError: The posterior has no density at given z.

    References:
        | Reweighted Wake-Sleep (Bornschein and Bengio, 2015), https://arxiv.org/abs/1406.2751
        | Revisiting Reweighted Wake-Sleep (Le et al., 2018), https://arxiv.org/abs/1805.10469

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> wake_phase(model, model.sample(4, seed=0)[0], 8).value.shape
        torch.Size([4])
    """
    joint, log_q = _at_fixed_draws(model, x, count("num_samples", num_samples, 2), condition)
    surrogate = (_normalised(joint - log_q) * log_q).sum(0)
    value = log_mean_exp(joint - log_q.detach()).to(joint.dtype)
    return Bound(value.detach(), -value.mean(), -(surrogate + _shared(value)).mean())


def score_function(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: TwoOrMore = 4,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""The ELBO by the score function, each sample's baseline being the mean of the others.

    .. math:: \nabla_\phi L = \mathbb{E}\, \frac1K \sum_k (\log w_k - b_k)
              \nabla_\phi \log q_\phi(z_k | x), \qquad
              b_k = \frac{1}{K-1} \sum_{j \ne k} \log w_j

    Unbiased for any posterior, discrete ones included; noisier than a reparameterised gradient
    where there is one. The value is the ELBO, not :math:`L_K`.

    Args:
        model: The model; any posterior with a density.
        x: A minibatch.
        num_samples: K ≥ 2, since one sample has no others.
        condition: One row per datapoint.

    Raises:
        InputError: K < 2.
        ContractError: The posterior has no density at given z.

    References:
        | Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool et al., 2019), ICLR workshop
        | VarGrad (Richter et al., 2020), https://arxiv.org/abs/2010.10436

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> score_function(model, model.sample(4, seed=0)[0], 8).value.shape
        torch.Size([4])
    """
    K = count("num_samples", num_samples, 2)
    joint, log_q = _at_fixed_draws(model, x, K, condition)
    log_w = (joint - log_q).detach()
    advantage = (log_w - log_w.mean(0)) * (K / (K - 1))  # = log w_k − mean of the others
    return Bound(log_w.mean(0), -joint.mean(), -(advantage * log_q + _shared(joint)).mean())


StickingTheLanding = objective("StickingTheLanding", sticking_the_landing)
DReG = objective("DReG", dreg)
WakePhase = objective("WakePhase", wake_phase)
ScoreFunction = objective("ScoreFunction", score_function)


def _at_fixed_draws(
    model: LatentVariableModel, x: Tensor, K: int, condition: Tensor | None
) -> tuple[Float[Tensor, "K B"], Float[Tensor, "K B"]]:
    """log p(x, z) and log q(z|x), both differentiable in their parameters but not through z."""
    local = given(model, condition)
    q = local.encode(x)
    with torch.no_grad():
        z = q.sample(torch.Size((K,)))
    try:
        return log_joint(local, x, z), q.log_prob(z)
    except NotImplementedError as error:
        raise ContractError(
            "encode(x).log_prob",
            expected="the density of given z, which the score of q needs",
            got=f"{family(q)}, which cannot score them",
            do="Use a pathwise objective: elbo, iwae, dreg.",
        ) from error


def _shared(log_p: Tensor) -> Tensor:
    """Zero, with the gradient of log p(x, z) at fixed z: for parameters that the encoder shares."""
    return log_p - log_p.detach()


def _normalised(log_w: Float[Tensor, "K B"]) -> Float[Tensor, "K B"]:
    return log_w.detach().softmax(0)


def _bound(log_w: Float[Tensor, "K B"], weight: Float[Tensor, "K B"]) -> Bound:
    value = log_mean_exp(log_w).to(log_w.dtype)
    return Bound(value.detach(), -value.mean(), -(weight * log_w).sum(0).mean())


# Log-weights whose gradient reaches the encoder through the draws.
#
# An objective built from :math:`\log w_k` at :math:`z_k = z_\phi(\varepsilon_k)` has its pathwise
# gradient only where the draws are differentiable. With a posterior that can only ``sample`` the
# same lines would run and follow a gradient that means nothing, so they are refused.


def pathwise_weights(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int,
    *,
    freeze: bool = False,
    condition: Tensor | None = None,
) -> Float[Tensor, "K B"]:
    r"""Returns :math:`\log p(x, z_k) - \log q(z_k | x)` with gradients through z.

    Args:
        model: The model.
        x: A minibatch.
        num_samples: K.
        freeze: Stop the gradient through the density's parameters, not through z.
        condition: One row per datapoint.

    Raises:
        ContractError: Gradients are asked for, and the posterior is not reparameterised.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> pathwise_weights(model, model.sample(4, seed=0)[0], 3).shape
        torch.Size([3, 4])
    """
    local = given(model, condition)
    z, log_q = pathwise_draws(local, x, num_samples, freeze=freeze)
    return log_joint(local, x, z) - log_q


def pathwise_draws(
    model: LatentVariableModel, x: Float[Tensor, "B *X"], num_samples: int, *, freeze: bool = False
) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
    """Returns z and log q(z|x) as :func:`elboscope.core.sample_posterior`, refusing z that have
    no gradient because the posterior cannot give any.

    Raises:
        ContractError: Gradients are asked for, and the posterior is not reparameterised.
    """
    z, log_q = sample_posterior(model, x, num_samples, freeze=freeze)
    # An encoder whose weights are all frozen gives draws without gradient too: that is fine.
    if torch.is_grad_enabled() and not z.requires_grad:
        require_reparameterised(model.encode(x[:1]))
    return z, log_q


def require_reparameterised(q: Distribution) -> None:
    """Refuses a posterior without differentiable draws."""
    if not q.has_rsample and not isinstance(q, SamplesWithDensity):
        raise ContractError(
            "encode(x)",
            expected="a posterior that is reparameterised (rsample)",
            got=f"{family(q)}, which can only be sampled",
            do="Use objectives.score_function or objectives.wake_phase, or another posterior.",
        )


def count(name: str, value: int, least: int = 1) -> int:
    """Returns the value if it is a whole number that is large enough.

    Raises:
        InputError: It is not.

    Example:
        >>> count("num_samples", 8)
        8
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise InputError(name, expected=f"a whole number ≥ {least}", got=repr(value))
    return value
