"""Where a density is: priors and posteriors on a part of the space, which HMC leaves.

Outside its support a density is zero. :mod:`torch.distributions` raises there, or, with its checks
off, continues the formula as if there were more space. Both are avoided by looking first.
"""

from __future__ import annotations

__all__ = ["bounded_support", "is_real", "log_prob_within", "within"]

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution, constraints

Densities = Callable[[Tensor], tuple[Tensor, Tensor]]


def is_real(support: constraints.Constraint | None) -> bool:
    """Whether a support is the whole space.

    Example:
        >>> is_real(constraints.independent(constraints.real, 1)), is_real(constraints.positive)
        (True, False)
    """
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support in (constraints.real, constraints.real_vector)


def bounded_support(p: Distribution) -> constraints.Constraint | None:
    """Returns the support of p if it is known and not the whole space."""
    try:
        support = p.support
    except NotImplementedError:
        return None
    if support is None or is_real(support) or constraints.is_dependent(support):
        return None
    return support


def log_prob_within(p: Distribution, z: Float[Tensor, "*K B *Z"]) -> Float[Tensor, "*K B"]:
    """Returns log p(z), which is −∞ outside the support of p."""
    support = bounded_support(p)
    inside = None if support is None else support.check(z)
    if inside is None or bool(inside.all()):
        log_p: Tensor = p.log_prob(z)
        return log_p
    placed = torch.where(_like(inside, z), z, p.sample())
    return p.log_prob(placed).masked_fill(~inside, -torch.inf)


def within(
    densities: Densities, supports: Sequence[Distribution], somewhere: Float[Tensor, "B *Z"]
) -> Densities:
    """Returns log-densities that are −∞ outside the support of any of some distributions.

    Args:
        densities: From z ``(C, B, *Z)`` to two log-densities.
        supports: The distributions.
        somewhere: A place inside all of them for each datapoint, at which the model is evaluated
            in place of a z that lies outside.
    """
    bounds = [support for support in map(bounded_support, supports) if support is not None]
    if not bounds:
        return densities

    def inner(z: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.stack([_inside(bound, z) for bound in bounds]).all(0)
        placed = torch.where(_like(inside, z), z, somewhere)
        log_base, log_ratio = densities(placed)
        return (
            log_base.masked_fill(~inside, -torch.inf),
            log_ratio.masked_fill(~inside, -torch.inf),
        )

    return inner


def _inside(support: constraints.Constraint, z: Tensor) -> Bool[Tensor, "C B"]:
    found: Tensor = support.check(z)
    return found


def _like(inside: Tensor, z: Tensor) -> Tensor:
    return inside.reshape(*inside.shape, *(1,) * (z.ndim - inside.ndim))
