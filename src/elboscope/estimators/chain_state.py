r"""The state of annealed chains: where they are, and both log-densities with both gradients there.

Where a density is not a finite number it is taken to be zero, and its gradient too: a deterministic
function of z. That is so too where a distribution of the model validates its arguments and raises.
"""

from __future__ import annotations

__all__ = ["LogDensities", "State", "evaluated"]

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From z ``(C, B, *Z)`` to log base and log ratio, ``(C, B)`` each, in nats."""

# What torch.distributions says when its validation fails.
REFUSAL = "found invalid values"


class State(NamedTuple):
    """Where the chains are, C for each of B datapoints, and what was evaluated there.

    Attributes:
        z: Places.
        log_base: log b(z), in nats; −∞ where it is not finite.
        log_ratio: log r(z), in nats; −∞ where it is not finite.
        grad_base: ∂ log b/∂z; zero where it is not finite.
        grad_ratio: ∂ log r/∂z; zero where it is not finite.
    """

    z: Float[Tensor, "C B *Z"]
    log_base: Float[Tensor, "C B"]
    log_ratio: Float[Tensor, "C B"]
    grad_base: Float[Tensor, "C B *Z"]
    grad_ratio: Float[Tensor, "C B *Z"]

    def gradient(self, beta: float) -> Float[Tensor, "C B *Z"]:
        """Returns ∂ log f_β/∂z."""
        return torch.add(self.grad_base, self.grad_ratio, alpha=beta)

    def log_density(self, beta: float) -> Float64[Tensor, "C B"]:
        """Returns log f_β(z), in nats, for β > 0."""
        return self.log_base.double() + beta * self.log_ratio.double()


def evaluated(log_densities: LogDensities, z: Float[Tensor, "C B *Z"]) -> State:
    """Returns the state at z: one forward pass, and one backward pass of each density.

    Gradients are taken with respect to z alone: those of the parameters are never computed. Where
    a distribution of the model refuses NaN by raising, those places are found and left out.
    """
    try:
        return _evaluated(log_densities, z)
    except ValueError as error:
        if REFUSAL not in str(error):
            raise
    refused = _refused(log_densities, z)
    state = _evaluated(log_densities, _zeroed(z, refused))
    return State(
        z,
        state.log_base.masked_fill(refused, -torch.inf),
        state.log_ratio.masked_fill(refused, -torch.inf),
        _zeroed(state.grad_base, refused),
        _zeroed(state.grad_ratio, refused),
    )


def _refused(log_densities: LogDensities, z: Tensor) -> Tensor:
    """Finds where torch's validation raises, by halving, with zeros in all other places.

    Raises:
        ValueError: The model is refused at zero too: it has diverged altogether.
    """
    _evaluated(log_densities, torch.zeros_like(z))
    everywhere = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)
    suspects, refused = [everywhere], torch.zeros_like(everywhere)
    while suspects:
        mask = suspects.pop()
        if _is_fine(log_densities, _zeroed(z, ~mask)):
            continue
        places = mask.nonzero()
        if len(places) == 1:
            refused |= mask
            continue
        for half in places.chunk(2):
            part = torch.zeros_like(mask)
            part[half[:, 0], half[:, 1]] = True
            suspects.append(part)
    return refused


def _is_fine(log_densities: LogDensities, z: Tensor) -> bool:
    try:
        log_densities(z)
    except ValueError as error:
        if REFUSAL not in str(error):
            raise
        return False
    return True


def _zeroed(values: Tensor, places: Tensor) -> Tensor:
    return values.masked_fill(places.reshape(*places.shape, *(1,) * (values.ndim - 2)), 0.0)


def _evaluated(log_densities: LogDensities, z: Tensor) -> State:
    with torch.enable_grad():
        place = z.detach().requires_grad_()
        log_base, log_ratio = log_densities(place)
        grad_base = _gradient(log_base, place)
        grad_ratio = _gradient(log_ratio, place)
    return State(z, _finite(log_base), _finite(log_ratio), grad_base, grad_ratio)


def _gradient(log_p: Tensor, z: Tensor) -> Tensor:
    if not log_p.requires_grad:  # z is not used at all: a collapsed decoder
        return torch.zeros_like(z)
    (grad,) = torch.autograd.grad(
        log_p, z, torch.ones_like(log_p), retain_graph=True, materialize_grads=True
    )
    return grad.nan_to_num_(0.0, 0.0, 0.0)


def _finite(log_p: Tensor) -> Tensor:
    return log_p.detach().nan_to_num(-torch.inf, -torch.inf, -torch.inf)
