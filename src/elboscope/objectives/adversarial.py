r"""Losses of a game, on logits: one network tells two densities apart, others learn from it.

A discriminator's logit t estimates a log-ratio. With C = σ(t), label 1 for p₁ and 0 for p₂,

.. math:: -\log C = \mathrm{softplus}(-t), \quad -\log(1 - C) = \mathrm{softplus}(t), \quad
          t^* = \log \frac{p_1}{p_2}

Neither logarithm is ever taken of a probability, so that none is −∞. Every loss is minimised by
its own player only; none of them is a bound on log p(x), and the ratio of a trained classifier is
no measurement: see :func:`elboscope.estimators.compare_marginal_kl` for what it can be off.

References:
    | Generative Adversarial Nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2016),
      https://arxiv.org/abs/1610.03483
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017),
      https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

__all__ = [
    "discriminator_loss",
    "gradient_penalty",
    "maximum_mean_discrepancy",
    "non_saturating_loss",
    "ratio_accuracy",
    "reverse_kl_loss",
    "saturating_loss",
    "wasserstein_critic_loss",
]

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from elboscope.core import InputError

# Inside the square root of the norm: its gradient at zero would be NaN.
EPSILON = 1e-12


def discriminator_loss(
    real: Float[Tensor, " B"], *fake: Float[Tensor, " _"], fake_weight: float = 1.0
) -> Float[Tensor, ""]:
    r"""Returns :math:`\mathbb{E}_{p_1}[-\log C] + w \sum_k \mathbb{E}_{p_2^k}[-\log(1 - C)]`.

    With one fake and w = 1 its minimum is 2·(ln 2 − JS): twice the mean cross-entropy. With
    several fakes of weight 1 the optimal C is p₁/(p₁ + Σ p₂ᵏ), which is below ½ where all agree;
    weights of one over their number keep the classes balanced.

    Args:
        real: Logits of draws with label 1.
        fake: Logits of draws with label 0, of one source each.
        fake_weight: w, of each source.

    Returns:
        The loss in nats, a scalar to minimise by the discriminator.

    Raises:
        InputError: No fake logits, or a negative weight.

    Example:
        >>> discriminator_loss(torch.zeros(3), torch.zeros(5))  # blind: 2 ln 2
        tensor(1.3863)
    """
    if not fake or not fake_weight >= 0:
        got = "none" if not fake else f"fake_weight={fake_weight}"
        raise InputError("fake", expected="logits of one source or more, weight ≥ 0", got=got)
    of_fakes = torch.stack([softplus(t).mean() for t in fake]).sum()
    return softplus(-real).mean() + fake_weight * of_fakes


def non_saturating_loss(fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Returns E[−log C] of draws whose maker wants the label 1: a strong gradient when it loses.

    Example:
        >>> non_saturating_loss(torch.tensor([-10.0]))
        tensor(10.0000)
    """
    return softplus(-fake).mean()


def saturating_loss(fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Returns E[log(1 − C)], the loss of the minimax game: no gradient where C is sure.

    Example:
        >>> saturating_loss(torch.tensor([0.0]))
        tensor(-0.6931)
    """
    return -softplus(fake).mean()


def reverse_kl_loss(fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    r"""Returns E[−log C + log(1 − C)] = −E[t], with p₁ the target.

    At :math:`t^* = \log p_1/p_2` it *is* KL(p₂ ‖ p₁), and with t* held fixed its gradient is
    the KL's. With any other t it is no bound on it.

    Example:
        >>> reverse_kl_loss(torch.tensor([0.5, 1.5]))
        tensor(-1.)
    """
    return -fake.mean()


def ratio_accuracy(real: Float[Tensor, " B"], fake: Float[Tensor, " _"]) -> Float[Tensor, ""]:
    """Returns the balanced accuracy of a discriminator: ½ is blind, 1 a ratio that saturates.

    Example:
        >>> ratio_accuracy(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 1.0]))
        tensor(0.7500)
    """
    hits = (real > 0).double() + 0.5 * (real == 0), (fake < 0).double() + 0.5 * (fake == 0)
    return (0.5 * (hits[0].mean() + hits[1].mean())).to(real.dtype)


def wasserstein_critic_loss(
    real: Float[Tensor, " B"], fake: Float[Tensor, " _"]
) -> Float[Tensor, ""]:
    r"""Returns :math:`\mathbb{E}_{p_2} f - \mathbb{E}_{p_1} f`, minimised by the critic.

    Its negative is the distance of Wasserstein only at the best f of slope at most one; a critic
    of steeper slope overstates it, an unfinished one understates it.

    Example:
        >>> wasserstein_critic_loss(torch.tensor([2.0]), torch.tensor([0.5]))
        tensor(-1.5000)
    """
    return fake.mean() - real.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "B *X"],
    fake: Float[Tensor, "C *Y"],
    alpha: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    r"""Returns :math:`\mathbb{E}(\|\nabla f(\hat x)\|_2 - 1)^2` between real and fake.

    :math:`\hat x = \alpha x + (1 - \alpha) x_\text{fake}`, α uniform for each pair. The gradient
    is that of one datapoint: a critic with batch normalisation couples them and has none.

    Args:
        critic: f, from a batch to one number a datapoint.
        real: Draws of p₁.
        fake: As many of p₂, of the same shape.
        alpha: α of each pair; drawn where it is not given.

    Returns:
        The penalty, without its coefficient (10 in the paper).

    Raises:
        InputError: Batches of different shapes.

    Example:
        >>> x = torch.zeros(4, 2)
        >>> gradient_penalty(lambda x: 3 * x[:, 0], x, x + 1)
        tensor(4.)
    """
    if real.shape != fake.shape:
        raise InputError("fake", expected=f"shape {tuple(real.shape)}", got=f"{tuple(fake.shape)}")
    alpha = torch.rand(len(real), dtype=real.dtype, device=real.device) if alpha is None else alpha
    mixed = torch.lerp(fake, real, alpha.view(-1, *[1] * (real.dim() - 1))).detach()
    mixed.requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    norm = (slope.flatten(1).square().sum(1) + EPSILON).sqrt()
    return (norm - 1).square().mean()


# The maximum mean discrepancy of two samples, by an unbiased statistic.
#
# .. math:: \mathrm{MMD}^2 = \mathbb{E}\, k(z, z') + \mathbb{E}\, k(\tilde z, \tilde z')
#           - 2\, \mathbb{E}\, k(z, \tilde z), \qquad
#           k(a, b) = \sum_s \frac{C_s}{C_s + \|a - b\|^2}
#
# with inverse multiquadrics of scales :math:`C_s = 2 d \sigma_p^2 s`. A matching penalty, not in
# nats and no bound on anything; being unbiased it can be slightly negative.
#
# References:
#     | A Kernel Two-Sample Test (Gretton et al., 2012)
#     | Wasserstein Auto-Encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def maximum_mean_discrepancy(
    z: Float[Tensor, "n d"],
    prior: Float[Tensor, "m d"],
    prior_variance: float = 1.0,
    scales: tuple[float, ...] = SCALES,
) -> Float[Tensor, ""]:
    r"""Returns the U-statistic of MMD², the mean over all pairs of different draws.

    Args:
        z: Draws of q(z), at least two.
        prior: Draws of p(z), at least two.
        prior_variance: :math:`\sigma_p^2` of one latent.
        scales: s; the kernels are added.

    Returns:
        A scalar without a unit, differentiable; its expectation is 0 where both are equal.

    Raises:
        InputError: Fewer than two draws of either.

    Example:
        >>> z = torch.tensor([[0.0], [0.0]])
        >>> maximum_mean_discrepancy(z, z + 1, scales=(0.5,))  # k(0) = 1, k(1) = 1/2
        tensor(1.)
    """
    if min(len(z), len(prior)) < 2:
        raise InputError("z", expected="two draws of each side", got=f"{len(z)} and {len(prior)}")
    constants = [2 * z.shape[1] * prior_variance * scale for scale in scales]

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        # differences, not |a|² + |b|² − 2ab: close codes would cancel
        squared = (a[:, None] - b[None]).square().sum(-1)
        return torch.stack([C / (C + squared) for C in constants]).sum(0)

    return _pairs(kernel(z, z)) + _pairs(kernel(prior, prior)) - 2 * kernel(z, prior).mean()


def _pairs(k: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
