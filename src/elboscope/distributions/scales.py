r"""The scale of a likelihood: fixed, learned, predicted by the decoder, or optimal at each step.

Whatever it is, :math:`\ln s \ge -6` is kept for all but fixed ones: on pixels that take few values
a density is unbounded as s → 0.

The *optimal* scale is that of σ-VAE. Among all variances shared by all pixels, the mean squared
error of the reconstructions maximises the bound; so in training each batch is scored at its own,

.. math:: -\log p(x|z) = \tfrac D2 \ln \mathrm{MSE} + \tfrac D2 (1 + \ln 2\pi)

(for Laplace at the mean absolute error). Its gradient is that at a fixed scale: the derivative
with respect to an optimum is zero, so that the scale is held constant. In evaluation the scale is
the running mean over the training batches, as with batch normalisation: a model that is evaluated
before it is trained has the initial scale.

A file of its own because four likelihoods share it and none of them owns it.
"""

from __future__ import annotations

__all__ = ["OPTIMAL_MOMENTUM", "Scale", "ScaledLikelihood"]

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from elboscope.core import InputError

Scale = float | Literal["learned", "learned_per_pixel", "predicted", "optimal"]
LOG_SCALE_FLOOR = -6.0
# Beyond it a predicted scale is e⁵ on pixels in [0, 1], and its exponential soon overflows.
LOG_SCALE_CEILING = 5.0
OPTIMAL_MOMENTUM = 0.1


class ScaledLikelihood(nn.Module):
    """A likelihood around the decoder's output μ, with a scale s; a base class.

    Args:
        data_shape: ``(*X)``.
        scale: s > 0; or ``"learned"`` (one for all pixels), ``"learned_per_pixel"``, both
            independent of z; ``"predicted"`` (the decoder gives twice as many numbers, μ and then
            ln s); ``"optimal"`` (of each batch, see the module).
        initial_scale: Where a learned or optimal s begins.

    Raises:
        InputError: A scale that is not positive, or an unknown word.
    """

    log_scale: Tensor
    num_batches: Tensor
    takes_optimal = True

    def __init__(
        self, data_shape: tuple[int, ...], scale: Scale, initial_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.data_shape, self.scale = tuple(data_shape), scale
        if not isinstance(scale, str):
            _positive(scale)
            return
        start = math.log(_positive(initial_scale))
        if scale in ("learned", "learned_per_pixel"):
            shape = () if scale == "learned" else self.data_shape
            self.log_scale = nn.Parameter(torch.full(shape, start))
        elif scale == "optimal" and self.takes_optimal:
            self.register_buffer("log_scale", torch.tensor(start))
            self.register_buffer("num_batches", torch.tensor(0.0))
        elif scale != "predicted":
            raise _bad_scale(scale, self.takes_optimal)

    @property
    def num_outputs(self) -> int:
        """How many numbers a value the decoder gives: two where it predicts the scale."""
        return 2 if self.scale == "predicted" else 1

    def sigma(self, like: Tensor) -> Float[Tensor, "*X"]:
        """Returns s, a scalar or one per pixel, on the device and in the dtype of ``like``.

        Raises:
            InputError: The decoder predicts it.
        """
        if self.scale == "predicted":
            raise InputError("scale", expected="one that does not depend on z", got="'predicted'")
        if isinstance(self.scale, str):
            return self.log_scale.clamp(min=LOG_SCALE_FLOOR).exp()
        return torch.full((), self.scale, dtype=like.dtype, device=like.device)

    def forward(self, output: Float[Tensor, "*B_and_X"]) -> Distribution:
        """Returns p(x|z) for a decoder's output ``(*batch, *X)``, or ``(*batch, 2, *X)``."""
        n = len(self.data_shape)
        if self.scale == "predicted":
            mu, log_s = output.unbind(-n - 1)
            s = log_s.clamp(LOG_SCALE_FLOOR, LOG_SCALE_CEILING).exp()
            return Independent(self.density(mu, s), n, validate_args=False)
        p = self.density(output, self.sigma(output))
        if self.scale == "optimal" and self.training and torch.is_grad_enabled():
            return _AtOptimalScale(p, self)
        return Independent(p, n, validate_args=False)

    def density(self, mu: Tensor, s: Tensor) -> Distribution:
        """Returns the distribution of each pixel."""
        raise NotImplementedError

    def log_optimal_scale(self, error: Tensor) -> Tensor:
        """Returns the ln s that maximises the density of these x − μ."""
        raise NotImplementedError

    @torch.no_grad()
    def observed(self, error: Tensor) -> Tensor:
        """Returns the optimal s of a batch, and takes it into the running mean."""
        log_s = self.log_optimal_scale(error).clamp(min=LOG_SCALE_FLOOR)
        self.num_batches += 1
        weight = (1 / self.num_batches).clamp(min=OPTIMAL_MOMENTUM)
        self.log_scale += weight * (log_s.to(self.log_scale) - self.log_scale)
        return log_s.exp()

    def extra_repr(self) -> str:
        """Says s, or where it comes from."""
        if not isinstance(self.scale, str):
            return f"σ = {self.scale:g} (fixed)"
        return f"σ {self.scale}".replace("_", " ")


class _AtOptimalScale(Independent):  # type: ignore[type-arg]  # not generic in older torch
    """p(x|z) of a training batch, scored at the scale that is best for it."""

    def __init__(self, p: Distribution, head: ScaledLikelihood) -> None:
        super().__init__(p, len(head.data_shape), validate_args=False)
        self.head = head

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log-density at the batch's own optimal scale."""
        mu = self.base_dist.loc
        best = self.head.density(mu, self.head.observed(value - mu))
        n = len(self.head.data_shape)
        log_p: Tensor = Independent(best, n, validate_args=False).log_prob(value)
        return log_p


def _positive(scale: float) -> float:
    if not (scale > 0 and math.isfinite(scale)):
        raise _bad_scale(scale)
    return scale


def _bad_scale(scale: object, takes_optimal: bool = True) -> InputError:
    words = "'learned', 'learned_per_pixel'" + (
        ", 'predicted' or 'optimal'" if takes_optimal else " or 'predicted'"
    )
    return InputError(
        "scale",
        expected=f"a standard deviation σ > 0, {words}",
        got=repr(scale),
        do="For a loss ‖x − x̂‖² + w·KL summed over pixels, σ = √(w/2).",
    )
