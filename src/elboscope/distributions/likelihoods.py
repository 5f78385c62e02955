r"""Likelihoods p(x|z): from what a decoder computes to a distribution over images.

Each is a small module that is called with the decoder's output, ``(*batch, *X)``, and returns a
distribution whose event is the whole image; all constants are kept, in nats.

- Bernoulli on logits, for binary pixels;
- continuous Bernoulli on logits, for grey values in [0, 1];
- Gaussian and Laplace around the output, with a scale that is fixed, learned, predicted or
  optimal (see :mod:`.scales`).

Masses of pixels with 256 levels are in :mod:`.level_likelihoods`.
"""

from __future__ import annotations

__all__ = [
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "Scale",
]

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Laplace, Normal

from .bernoulli import bernoulli, continuous_bernoulli
from .scales import Scale, ScaledLikelihood

LOGIT_EPS = 1e-6


def _logits(output: Tensor, parameter: Literal["logits", "probs"]) -> Tensor:
    return output if parameter == "logits" else torch.logit(output, eps=LOGIT_EPS)


class BernoulliLikelihood(nn.Module):
    r"""The likelihood :math:`\log p(x|z) = \sum_d x_d a_d - \log(1 + e^{a_d})` of binary pixels.

    On grey pixels its value is a cross-entropy and no likelihood: ``support`` says so.

    Args:
        data_shape: ``(*X)``.
        parameter: What the decoder computes: logits, or probabilities. Probabilities are
            clipped to [1e-6, 1 − 1e-6], which limits a pixel's loss to 13.8 nats and stops the
            gradient there: prefer logits.

    Example:
        >>> p = BernoulliLikelihood((2,))(torch.zeros(5, 3, 2))
        >>> p.log_prob(torch.ones(3, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self, data_shape: tuple[int, ...], parameter: Literal["logits", "probs"] = "logits"
    ) -> None:
        super().__init__()
        self.data_shape, self.parameter = tuple(data_shape), parameter

    def forward(self, output: Float[Tensor, "*B_and_X"]) -> Distribution:
        """Returns p(x|z) for a decoder's output ``(*batch, *X)``."""
        return bernoulli(_logits(output, self.parameter), len(self.data_shape))

    def extra_repr(self) -> str:
        """Says what the decoder's output is taken for."""
        return f"binary pixels, decoder output: {self.parameter}"


class ContinuousBernoulliLikelihood(nn.Module):
    r"""The density :math:`\prod_d a_d e^{a_d x_d} / (e^{a_d} - 1)` of grey pixels in [0, 1].

    Args:
        data_shape: ``(*X)``.
        parameter: What the decoder computes, as in :class:`BernoulliLikelihood`. The
            probabilities are σ(a), which is not the mean of the pixel.

    Example:
        >>> p = ContinuousBernoulliLikelihood((2,))(torch.full((3, 2), 4.0))
        >>> p.mean[0, 0].item()  # not sigmoid(4) = 0.982
        0.768...
    """

    def __init__(
        self, data_shape: tuple[int, ...], parameter: Literal["logits", "probs"] = "logits"
    ) -> None:
        super().__init__()
        self.data_shape, self.parameter = tuple(data_shape), parameter

    def forward(self, output: Float[Tensor, "*B_and_X"]) -> Distribution:
        """Returns p(x|z) for a decoder's output ``(*batch, *X)``."""
        return continuous_bernoulli(_logits(output, self.parameter), len(self.data_shape))

    def extra_repr(self) -> str:
        """Says what the decoder's output is taken for."""
        return f"pixels in [0, 1], decoder output: {self.parameter}"


class GaussianLikelihood(ScaledLikelihood):
    r"""The density :math:`\mathcal N(x; \mu(z), \sigma^2)` with the decoder's output as mean.

    Args:
        data_shape: ``(*X)``.
        scale: σ > 0, a standard deviation; or ``"learned"`` (one for all pixels) or
            ``"learned_per_pixel"``, both independent of z; ``"predicted"`` (the decoder gives μ
            and then ln σ); ``"optimal"`` (σ² is the mean squared error of each batch).
        initial_scale: Where a learned or optimal σ begins.

    Raises:
        InputError: A scale that is not positive, or an unknown word.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021),
          https://arxiv.org/abs/2006.13202

    Example:
        >>> GaussianLikelihood((2,), scale=0.5)(torch.zeros(3, 2)).stddev[0]
        tensor([0.5000, 0.5000])
    """

    def density(self, mu: Tensor, s: Tensor) -> Distribution:
        """Returns the normal distribution of each pixel."""
        return Normal(mu, s, validate_args=False)

    def log_optimal_scale(self, error: Tensor) -> Tensor:
        """Returns half the log of the mean squared error."""
        return 0.5 * error.square().mean().log()


class LaplaceLikelihood(ScaledLikelihood):
    r"""The density :math:`\prod_d \frac{1}{2b} e^{-|x_d - \mu_d(z)|/b}`, the decoder's output as μ.

    Up to constants the sum of absolute errors over b. Its standard deviation is :math:`\sqrt2 b`.

    Args:
        data_shape: ``(*X)``.
        scale: b > 0, or a word as in :class:`GaussianLikelihood`; the optimal b is the mean
            absolute error.
        initial_scale: Where a learned or optimal b begins.

    Raises:
        InputError: A scale that is not positive, or an unknown word.

    Example:
        >>> LaplaceLikelihood((2,), 0.5)(torch.zeros(1, 2)).log_prob(torch.ones(1, 2))
        tensor([-4.])
    """

    def density(self, mu: Tensor, s: Tensor) -> Distribution:
        """Returns the Laplace distribution of each pixel."""
        return Laplace(mu, s, validate_args=False)

    def log_optimal_scale(self, error: Tensor) -> Tensor:
        """Returns the log of the mean absolute error."""
        return error.abs().mean().log()

    def extra_repr(self) -> str:
        """Says b, or where it comes from."""
        return super().extra_repr().replace("σ", "b")
