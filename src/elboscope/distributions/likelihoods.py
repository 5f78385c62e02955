r"""Likelihoods p(x|z): from what a decoder computes to a distribution over images.

Each is a small module that is called with the decoder's output, ``(*batch, *X)``, and returns a
distribution whose event is the whole image; all constants are kept, in nats.

- Bernoulli on logits, for binary pixels;
- continuous Bernoulli on logits, for grey values in [0, 1];
- Gaussian around the output, with a fixed scale σ, one learned σ, or one learned σ per pixel.
  On pixels that take few values the density is unbounded as σ → 0, so that ln σ ≥ −6 is kept.
"""

from __future__ import annotations

__all__ = [
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "Scale",
]

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import InputError

from .bernoulli import bernoulli, continuous_bernoulli

Scale = float | Literal["learned", "learned_per_pixel"]
LOG_SCALE_FLOOR = -6.0
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


class GaussianLikelihood(nn.Module):
    r"""The density :math:`\mathcal N(x; \mu(z), \sigma^2)` with the decoder's output as mean.

    Args:
        data_shape: ``(*X)``.
        scale: σ > 0, a standard deviation; or ``"learned"`` (one for all pixels) or
            ``"learned_per_pixel"``, both independent of z.
        initial_scale: Where a learned σ begins.

    Raises:
        InputError: A scale that is not positive, or an unknown word.

    Example:
        >>> GaussianLikelihood((2,), scale=0.5)(torch.zeros(3, 2)).stddev[0]
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, data_shape: tuple[int, ...], scale: Scale, initial_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.data_shape, self.scale = tuple(data_shape), scale
        if not isinstance(scale, str):
            _positive(scale)
            return
        shape = {"learned": (), "learned_per_pixel": self.data_shape}.get(scale)
        if shape is None:
            raise _bad_scale(scale)
        self.log_scale = nn.Parameter(torch.full(shape, math.log(_positive(initial_scale))))

    def sigma(self, like: Tensor) -> Float[Tensor, "*X"]:
        """Returns σ, a scalar or one per pixel, on the device and in the dtype of ``like``."""
        if isinstance(self.scale, str):
            return self.log_scale.clamp(min=LOG_SCALE_FLOOR).exp()
        return torch.full((), self.scale, dtype=like.dtype, device=like.device)

    def forward(self, output: Float[Tensor, "*B_and_X"]) -> Distribution:
        """Returns p(x|z) for a decoder's output ``(*batch, *X)``."""
        p = Normal(output, self.sigma(output), validate_args=False)
        return Independent(p, len(self.data_shape), validate_args=False)

    def extra_repr(self) -> str:
        """Says σ, or how it is learned."""
        fixed = not isinstance(self.scale, str)
        return f"σ = {self.scale:g} (fixed)" if fixed else f"σ {self.scale}".replace("_", " ")


def _positive(scale: float) -> float:
    if not (scale > 0 and math.isfinite(scale)):
        raise _bad_scale(scale)
    return scale


def _bad_scale(scale: object) -> InputError:
    return InputError(
        "scale",
        expected="a standard deviation σ > 0, 'learned' or 'learned_per_pixel'",
        got=repr(scale),
        do="For a loss ‖x − x̂‖² + w·KL summed over pixels, σ = √(w/2).",
    )
