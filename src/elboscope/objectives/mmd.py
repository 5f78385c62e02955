r"""The maximum mean discrepancy of two samples, by an unbiased statistic.

.. math:: \mathrm{MMD}^2 = \mathbb{E}\, k(z, z') + \mathbb{E}\, k(\tilde z, \tilde z')
          - 2\, \mathbb{E}\, k(z, \tilde z), \qquad
          k(a, b) = \sum_s \frac{C_s}{C_s + \|a - b\|^2}

with inverse multiquadrics of scales :math:`C_s = 2 d \sigma_p^2 s`. A matching penalty, not in
nats and no bound on anything; being unbiased it can be slightly negative.

References:
    | A Kernel Two-Sample Test (Gretton et al., 2012)
    | Wasserstein Auto-Encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558
"""

from __future__ import annotations

__all__ = ["maximum_mean_discrepancy"]

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError

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
