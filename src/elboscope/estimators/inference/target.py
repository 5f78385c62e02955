r"""What a local posterior is measured against: log p(x, z) of single datapoints, as z moves.

Gradients are taken with respect to z alone. A density that is no finite number counts as zero, and
its gradient too, whether the model passes NaN on or a distribution of it raises; a datapoint for
which that is so at every z that was tried is called lost. All else goes on without it.
"""

from __future__ import annotations

__all__ = ["Target", "score", "take"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from elboscope.core import GenerativeModel, given
from elboscope.core.torch_errors import refuses_values

from ..inputs import Inputs, blocks
from ..likelihood.annealed_run import BLOCK_ELSEWHERE, BLOCK_ON_CPU
from ..likelihood.hmc import State, evaluate
from .gaussian_families import Family, Parameters

# Datapoints whose samples are decoded together where many samples of each are wanted.
SCORED_AT_ONCE = 64


@dataclass(frozen=True)
class Target:
    """The joint density of some datapoints, as a function of z."""

    model: GenerativeModel
    inputs: Inputs

    def block(self, K: int) -> int:
        """Returns the number of datapoints evaluated at once with K samples each."""
        x = self.inputs.x
        rows, elements = BLOCK_ON_CPU if x.device.type == "cpu" else BLOCK_ELSEWHERE
        return max(1, min(rows, elements // x[0].numel()) // K)

    def slope(
        self, z: Float[Tensor, "K B *Z"], index: Int64[Tensor, " B"], beta: float = 1.0
    ) -> tuple[Float[Tensor, "K B *Z"], Bool[Tensor, " B"]]:
        """Returns ∂ [log p(z) + β log p(x|z)]/∂z, and which datapoints have no finite density.

        The slope is zero where it is not finite.
        """
        parts = []
        for rows in blocks(len(index), self.block(len(z))):
            state = self._state(z[:, rows], index[rows])
            lost = (state.log_base + state.log_ratio == -torch.inf).all(0)
            parts.append((state.gradient(beta), lost))
        slopes, lost_parts = zip(*parts, strict=True)
        return torch.cat(slopes, 1), torch.cat(lost_parts)

    def log_joint(
        self, z: Float[Tensor, "K B *Z"], index: Int64[Tensor, " B"]
    ) -> Float64[Tensor, "K B"]:
        """Returns log p(x, z) without gradients; −∞ where it is no number."""
        try:
            with torch.no_grad():
                log_prior, log_px = self._log_densities(index)(z)
        except ValueError as error:
            if not refuses_values(error):
                raise
            state = self._state(z, index)
            log_prior, log_px = state.log_base, state.log_ratio
        log_p = log_prior.double() + log_px.double()
        return log_p.nan_to_num(-math.inf, -math.inf, -math.inf)

    def _state(self, z: Tensor, index: Tensor) -> State:
        """The densities with gradients; datapoints whose model is refused everywhere are lost."""
        try:
            return evaluate(self._log_densities(index), z)
        except ValueError as error:
            if not refuses_values(error):
                raise
        if len(index) == 1:
            none, still = z.new_full(z.shape[:2], -torch.inf), torch.zeros_like(z)
            return State(z, none, none, still, still)
        half = len(index) // 2
        parts = (self._state(z[:, :half], index[:half]), self._state(z[:, half:], index[half:]))
        return State(*(torch.cat(pair, 1) for pair in zip(*parts, strict=True)))

    def _log_densities(self, index: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        x, condition = self.inputs.rows(index)
        local = given(self.model, condition)
        return lambda z: (local.prior().log_prob(z), local.decode(z).log_prob(x))


def score(
    target: Target,
    family: Family,
    parameters: Parameters,
    index: Int64[Tensor, " B"],
    K: int,
    progress: Callable[[int], None] | None = None,
) -> Float64[Tensor, "K B"]:
    r"""Returns :math:`\log p(x, z_k) - \log q(z_k)` of fresh, independent draws, without gradients.

    Args:
        target: The densities.
        family: Family that the parameters belong to.
        parameters: One row for each of ``index``.
        index: The datapoints.
        K: Samples of each.
        progress: Called with the number of datapoints done.
    """
    like = parameters[0]
    log_w = torch.empty(K, len(index), dtype=torch.float64, device=like.device)
    B = min(len(index), SCORED_AT_ONCE)
    for rows in blocks(len(index), B):
        part = take(parameters, rows)
        for samples in blocks(K, max(1, target.block(1) // B)):
            shape = (samples.stop - samples.start, len(part[0]), family.noise_dim)
            noise = torch.randn(shape, dtype=like.dtype, device=like.device)
            z, log_q = family.draw(part, noise)
            log_w[samples, rows] = target.log_joint(z, index[rows]) - log_q.double()
        if progress is not None:
            progress(min(rows.stop, len(index)))
    return log_w


def take(parameters: Parameters, rows: slice | Tensor) -> Parameters:
    """Returns the parameters of some datapoints."""
    return tuple(p[rows] for p in parameters)
