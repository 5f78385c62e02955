r"""Likelihoods p(x|z) of pixels with L levels, k/(L − 1): probabilities, as the Bernoulli's is.

8-bit images divided by 255 have L = 256. Each is called with the decoder's output and returns a
distribution whose event is the whole image, in nats: at most 0, −ln L per value for a uniform
guess, and −log P/(D ln 2) bits per value. Densities of the same images (Gaussian, Laplace,
continuous Bernoulli) are in other units and may not be compared with them. The formulas are in
:mod:`.levels`.
"""

from __future__ import annotations

__all__ = [
    "CategoricalLikelihood",
    "DequantizedNormalLikelihood",
    "DiscretisedLogisticLikelihood",
    "QuantizedNormalLikelihood",
]

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from .levels import (
    CategoricalLevels,
    DequantizedNormal,
    DiscretisedLogistic,
    QuantizedNormal,
    require_levels,
)
from .scales import Scale, ScaledLikelihood


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
