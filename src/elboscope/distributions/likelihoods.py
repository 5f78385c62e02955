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
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "DequantizedNormalLikelihood",
    "DiscretisedLogisticLikelihood",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "QuantizedNormalLikelihood",
    "Scale",
]

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace, Normal

from .bernoulli import bernoulli, continuous_bernoulli
from .levels import (
    CategoricalLevels,
    DequantizedNormal,
    DiscretisedLogistic,
    QuantizedNormal,
    require_levels,
)
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


# Likelihoods p(x|z) of pixels with L levels, k/(L − 1): probabilities, as the Bernoulli's is.
#
# 8-bit images divided by 255 have L = 256. Each is called with the decoder's output and returns a
# distribution whose event is the whole image, in nats: at most 0, −ln L per value for a uniform
# guess, and −log P/(D ln 2) bits per value. Densities of the same images (Gaussian, Laplace,
# continuous Bernoulli) are in other units and may not be compared with them. The formulas are in
# :mod:`.levels`.


class _RoundedLikelihood(ScaledLikelihood):
    """A location–scale likelihood on levels."""

    takes_optimal = False

    def __init__(
        self,
        data_shape: tuple[int, ...],
        scale: Scale,
        levels: int = 256,
        initial_scale: float = 0.1,
    ) -> None:
        super().__init__(data_shape, scale, initial_scale)
        self.levels = require_levels(levels)

    def extra_repr(self) -> str:
        """Says the levels and the scale."""
        return f"{self.levels} levels, {super().extra_repr()}"


class QuantizedNormalLikelihood(_RoundedLikelihood):
    r"""The exact mass of a normal distribution in the bin of each level.

    Args:
        data_shape: ``(*X)``.
        scale: σ in units of x; a number, ``"learned"``, ``"learned_per_pixel"`` or
            ``"predicted"``.
        levels: L.
        initial_scale: Where a learned σ begins.

    Raises:
        InputError: A scale that is not positive, an unknown word, or fewer than two levels.

    Example:
        >>> p = QuantizedNormalLikelihood((2,), scale=0.1)(torch.tensor([[0.0, 0.4]]))
        >>> p.log_prob(torch.tensor([[0.0, 102 / 255]])).exp()
        tensor([0.0079])
    """

    def density(self, mu: Tensor, s: Tensor) -> Distribution:
        """Returns the distribution of each pixel."""
        return QuantizedNormal(mu, s, self.levels)


class DequantizedNormalLikelihood(_RoundedLikelihood):
    """The dequantised bound on :class:`QuantizedNormalLikelihood`, its expectation in closed form.

    What training on x + u with uniform noise u maximises, without the noise. A number of it is
    below the exact one; draws are the same.

    Args:
        data_shape: ``(*X)``.
        scale: As in :class:`QuantizedNormalLikelihood`.
        levels: L.
        initial_scale: Where a learned σ begins.

    Raises:
        InputError: As :class:`QuantizedNormalLikelihood`.
    """

    def density(self, mu: Tensor, s: Tensor) -> Distribution:
        """Returns the bound of each pixel, as a distribution."""
        return DequantizedNormal(mu, s, self.levels)


class DiscretisedLogisticLikelihood(_RoundedLikelihood):
    """The exact mass of a logistic distribution in the bin of each level.

    The first and the last level take the tails, so that the masses sum to one; the bin of k is
    [x − h, x + h], not [x, x + 1/256] with a constant added inside the logarithm, as in some code.

    Args:
        data_shape: ``(*X)``.
        scale: s, whose standard deviation is 1.81 s; as in :class:`QuantizedNormalLikelihood`.
        levels: L.
        initial_scale: Where a learned s begins.

    Raises:
        InputError: As :class:`QuantizedNormalLikelihood`.
    """

    def density(self, mu: Tensor, s: Tensor) -> Distribution:
        """Returns the distribution of each pixel."""
        return DiscretisedLogistic(mu, s, self.levels)

    def extra_repr(self) -> str:
        """Says the levels and the scale."""
        return super().extra_repr().replace("σ", "s")


class CategoricalLikelihood(nn.Module):
    """One probability for each level of each pixel, by a softmax.

    Args:
        data_shape: ``(*X)``.
        levels: L; the decoder gives L numbers for each value, level by level: ``(N, L·D)``, or
            ``(N, L·C, H, W)``.

    Raises:
        InputError: Fewer than two levels.

    Example:
        >>> p = CategoricalLikelihood((1, 2, 2), levels=17)(torch.zeros(3, 17, 1, 2, 2))
        >>> p.batch_shape, p.event_shape
        (torch.Size([3]), torch.Size([1, 2, 2]))
    """

    def __init__(self, data_shape: tuple[int, ...], levels: int = 256) -> None:
        super().__init__()
        self.data_shape, self.levels = tuple(data_shape), require_levels(levels)

    @property
    def num_outputs(self) -> int:
        """How many numbers a value the decoder gives: one for each level."""
        return self.levels

    def forward(self, output: Float[Tensor, "*B_and_levels_and_X"]) -> Distribution:
        """Returns p(x|z) for a decoder's output ``(*batch, L, *X)``."""
        n = len(self.data_shape)
        p = CategoricalLevels(torch.movedim(output, -n - 1, -1))
        return Independent(p, n, validate_args=False)

    def extra_repr(self) -> str:
        """Says the levels."""
        return f"{self.levels} levels"
