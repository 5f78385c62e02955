r"""The evidence lower bound in its forms, and objectives that deviate from it.

.. math:: \log p(x) = L(x) + \mathrm{KL}(q(z|x) \| p(z|x)) \ge L(x)

- (a) all-sampled: :math:`L = \mathbb{E}_q[\log p(x, z) - \log q(z|x)]`, whose integrand is
  constant where q is the posterior: no variance there;
- (b) analytic KL: :math:`L = \mathbb{E}_q[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))`, where only
  the reconstruction is sampled. It has variance at the posterior; elsewhere usually less.

The others optimise something else on purpose (a weighted KL, a tempered entropy, free bits).
Their ``value`` is nevertheless the true bound at β = 1, so that numbers of different objectives
can be compared; what is minimised is ``loss``, and −loss is what was optimised.
"""

from __future__ import annotations

__all__ = [
    "ELBO",
    "AnnealedEntropy",
    "BetaELBO",
    "FreeBits",
    "annealed_entropy",
    "beta_elbo",
    "elbo",
    "elbo_analytic_kl",
    "free_bits",
]

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from elboscope.core import (
    Bound,
    InputError,
    LatentVariableModel,
    closed_form_kl,
    family,
    given,
    log_joint,
)

from .gradient_estimators import pathwise_draws, pathwise_weights, require_reparameterised
from .settings import Nonnegative, Weight, cyclical, entropy_annealing, linear_warm_up, objective


def elbo(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int = 1,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""The ELBO, all-sampled: :math:`\frac1K \sum_k \log p(x, z_k) - \log q(z_k | x)`.

    Args:
        model: The model; any posterior with a density.
        x: A minibatch.
        num_samples: K.
        condition: One row per datapoint.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> bound = elbo(model, x)
        >>> bool((bound.value.mean() + bound.loss).abs() < 1e-12)
        True
    """
    value = pathwise_weights(model, x, num_samples, condition=condition).mean(0)
    return Bound(value.detach(), -value.mean())


def elbo_analytic_kl(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int = 1,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""The ELBO with the KL in closed form.

    .. math:: \frac1K \sum_k \log p(x|z_k) - \mathrm{KL}(q(z|x) \| p(z))

    Args:
        model: The model; its posterior and prior must have a known KL.
        x: A minibatch.
        num_samples: K.
        condition: One row per datapoint.

    Raises:
        InputError: No closed form is known; :func:`elbo` needs none.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> elbo_analytic_kl(model, model.sample(4, seed=0)[0]).value.shape
        torch.Size([4])
    """
    return beta_elbo(model, x, 1.0, num_samples, condition=condition)


def beta_elbo(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    beta: float,
    num_samples: int = 1,
    *,
    kl: Literal["analytic", "sampled"] = "analytic",
    condition: Tensor | None = None,
) -> Bound:
    r"""β-VAE: maximises :math:`\mathbb{E}_q[\log p(x|z)] - \beta\, \mathrm{KL}(q(z|x) \| p(z))`.

    ``value`` is the ELBO (β = 1) and not what is optimised. A warm-up or a cycle is a schedule
    that passes β. Texts that weight the reconstruction instead (KL + β·reconstruction) mean the
    reciprocal: their β = 100 is ``beta=0.01`` here.

    Args:
        model: The model.
        x: A minibatch.
        beta: β of Higgins et al., the factor of the KL; 0 or more.
        num_samples: K.
        kl: In closed form, or sampled with the reconstruction's z (flow posteriors).
        condition: One row per datapoint.

    Raises:
        InputError: A negative β; no closed form is known.

    References:
        | beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl
        | KL warm-up: Ladder Variational Autoencoders (Sønderby et al., 2016),
          https://arxiv.org/abs/1602.02282
        | Cyclical Annealing Schedule (Fu et al., 2019), https://arxiv.org/abs/1903.10145

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> bound = beta_elbo(model, x, beta=4.0)
        >>> bool(-bound.loss < bound.value.mean())  # a heavier penalty
        True
    """
    if not beta >= 0:
        raise InputError("beta", expected="a number ≥ 0", got=str(beta))
    model = given(model, condition)
    reconstruction, divergence = (
        _analytic(model, x, num_samples) if kl == "analytic" else _sampled(model, x, num_samples)
    )
    value = reconstruction - divergence
    return Bound(value.detach(), -(reconstruction - beta * divergence).mean())


def annealed_entropy(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    lam: float,
    num_samples: int = 1,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""Entropy annealing: maximises :math:`\mathbb{E}_q[\log p(x, z) - \lambda \log q(z|x)]`.

    It tempers the whole joint, the optimum being :math:`q \propto p(x, z)^{1/\lambda}`, where
    KL warm-up tempers the likelihood alone. At λ = 0 the optimum is a point at the mode and
    σ → 0: do not stay there. ``value`` is the ELBO.

    Args:
        model: The model; any posterior with a density.
        x: A minibatch.
        lam: λ, raised from near 0 to 1 during training.
        num_samples: K.
        condition: One row per datapoint.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
          https://arxiv.org/abs/1801.03558

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> annealed_entropy(model, model.sample(4, seed=0)[0], lam=0.5).value.shape
        torch.Size([4])
    """
    model = given(model, condition)
    z, log_q = pathwise_draws(model, x, num_samples)
    log_p = log_joint(model, x, z)
    return Bound((log_p - log_q).mean(0).detach(), -(log_p - lam * log_q).mean())


def free_bits(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    nats: Nonnegative = 0.25,
    num_samples: int = 1,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""Free bits: the KL is penalised by :math:`\sum_j \max(\lambda, \mathrm{mean}_B\, KL_j)`.

    The maximum is taken after the mean over the minibatch: a unit whose mean KL is below λ feels
    no KL gradient at all. ``value`` is the ELBO with the unclamped KL.

    Args:
        model: A model whose posterior and prior both factorise over units.
        x: A minibatch.
        nats: λ, in nats per latent unit.
        num_samples: K, for the reconstruction.
        condition: One row per datapoint.

    Raises:
        InputError: The posterior or the prior does not factorise, or has no closed-form KL.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
          https://arxiv.org/abs/1606.04934

    Example:
        >>> import elboscope as es
        >>> model = es.from_modules(torch.nn.Linear(3, 4), torch.nn.Linear(2, 3))
        >>> free_bits(model, torch.ones(5, 3), nats=0.1).value.shape
        torch.Size([5])
    """
    model = given(model, condition)
    q = model.encode(x)
    reconstruction = _reconstruction(model, x, q, num_samples)
    unit_kl = _unit_kl(q, model.prior())
    value = reconstruction - unit_kl.sum(-1)
    penalty = unit_kl.mean(0).clamp(min=nats).sum()
    return Bound(value.detach(), penalty - reconstruction.mean())


# The same objectives as settings of a training run: the weight follows from the time.


def _elbo(model: LatentVariableModel, x: Float[Tensor, "B *X"], analytic_kl: bool = True) -> Bound:
    """The evidence lower bound.

    Args:
        model: The model.
        x: A minibatch.
        analytic_kl: Use the closed form of KL(q(z|x) ‖ p(z)); else everything is sampled, as
            a posterior or prior without one requires.

    Example:
        >>> ELBO().weight(3.0)
        1.0
    """
    return elbo_analytic_kl(model, x) if analytic_kl else elbo(model, x)


def _beta_at(epoch: float, beta: float, warm_up_epochs: float, cycle_epochs: float) -> Weight:
    """Returns β at this time, and its final value (that of a plateau, with cycles)."""
    if warm_up_epochs and cycle_epochs:
        raise InputError(
            "objective",
            expected="warm_up_epochs or cycle_epochs",
            got="both",
            do="A cycle begins with a warm-up of its own.",
        )
    if cycle_epochs:
        return Weight(cyclical(epoch, cycle_epochs, end=beta), beta)
    return Weight(linear_warm_up(epoch, warm_up_epochs, end=beta), beta)


def _beta_elbo_over_time(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    epoch: float,
    beta: Nonnegative = 1.0,
    warm_up_epochs: Nonnegative = 0.0,
    cycle_epochs: float = 0.0,
    analytic_kl: bool = True,
) -> Bound:
    r"""E log p(x|z) − β·KL, with β constant, warmed up from 0, or cyclical.

    Args:
        model: The model.
        x: A minibatch.
        epoch: Training time.
        beta: β of Higgins et al., multiplying the KL (some papers use its reciprocal).
        warm_up_epochs: Epochs of a linear rise from 0 to β; 0: none.
        cycle_epochs: Length of one cycle, half of it rising; 0: no cycles.
        analytic_kl: Use the closed form of KL(q(z|x) ‖ p(z)); else it is sampled, as a flow needs.

    References:
        | beta-VAE (Higgins et al., 2017), ICLR
        | Cyclical Annealing Schedule (Fu et al., 2019), arXiv 1903.10145

    Example:
        >>> BetaELBO(warm_up_epochs=10.0).weight(5.0), BetaELBO(cycle_epochs=10.0).weight(12.5)
        (0.5, 0.5)
    """
    weight = _beta_at(epoch, beta, warm_up_epochs, cycle_epochs).now
    return beta_elbo(model, x, weight, kl="analytic" if analytic_kl else "sampled")


def _lambda_at(epoch: float, epochs: float) -> Weight:
    return Weight(entropy_annealing(epoch, epochs), 1.0)


def _annealed_entropy_over_time(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    epoch: float,
    epochs: Nonnegative = 100.0,
) -> Bound:
    r"""E[log p(x, z) − λ log q(z|x)], with λ = min(1, epoch/epochs) in steps of an epoch.

    Args:
        model: The model.
        x: A minibatch.
        epoch: Training time.
        epochs: Epochs until λ = 1.

    References:
        | Inference Suboptimality in VAEs (Cremer et al., 2018), arXiv 1801.03558

    Example:
        >>> AnnealedEntropy(400.0).weight(0.5)
        0.0025
    """
    return annealed_entropy(model, x, entropy_annealing(epoch, epochs))


ELBO = objective("ELBO", _elbo)
BetaELBO = objective("BetaELBO", _beta_elbo_over_time, schedule=_beta_at)
AnnealedEntropy = objective("AnnealedEntropy", _annealed_entropy_over_time, schedule=_lambda_at)
FreeBits = objective("FreeBits", free_bits, omit=("num_samples",))


def _reconstruction(model: LatentVariableModel, x: Tensor, q: Distribution, K: int) -> Tensor:
    require_reparameterised(q)
    log_p: Tensor = model.decode(q.rsample(torch.Size((K,)))).log_prob(x)
    return log_p.mean(0)


def _analytic(model: LatentVariableModel, x: Tensor, K: int) -> tuple[Tensor, Tensor]:
    q = model.encode(x)
    return _reconstruction(model, x, q, K), _closed_form_kl(q, model.prior())


def _sampled(model: LatentVariableModel, x: Tensor, K: int) -> tuple[Tensor, Tensor]:
    z, log_q = pathwise_draws(model, x, K)
    return model.decode(z).log_prob(x).mean(0), (log_q - model.prior().log_prob(z)).mean(0)


def _closed_form_kl(q: Distribution, p: Distribution) -> Tensor:
    divergence = closed_form_kl(q, p)
    if divergence is None:
        raise InputError(
            "KL(q(z|x) ‖ p(z))",
            expected="a pair of families with a closed form",
            got=f"{family(q)} and {family(p)}",
            do="Sample it: objectives.elbo, beta_elbo(…, kl='sampled'), or in a configuration "
            "analytic_kl: false (--objective.analytic_kl false).",
        )
    return divergence


def _unit_kl(q: Distribution, p: Distribution) -> Float[Tensor, "B d"]:
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise InputError(
            "free_bits",
            expected="a posterior and a prior that factorise over units (Independent)",
            got=f"{type(q).__name__} and {type(p).__name__}",
            do="Use beta_elbo with a warm-up.",
        )
    return _closed_form_kl(q.base_dist, p.base_dist).flatten(1)
