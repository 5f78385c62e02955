r"""The true posteriors of many images on one and the same grid of two latents.

For binary x and a Bernoulli likelihood with logits g(z), log p(x|z) is affine in x, so all grid
points and all x together are one matrix product. The grid is fine enough while the posterior is
wider than its spacing and within its limits; what lies outside is not seen. Any likelihood, and a
grid for each x: :func:`elboscope.estimators.grid_posterior`.
"""

from __future__ import annotations

__all__ = ["grid_posterior"]

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution, Independent

from elboscope.core import LatentVariableModel, evaluating
from elboscope.estimators import GridPosterior
from elboscope.models.quadrature import line

ROWS = 8192


def grid_posterior(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    *,
    limit: float = 5.0,
    points: int = 400,
) -> GridPosterior:
    """Returns the posterior of each x, by quadrature.

    Args:
        model: With two latents and a Bernoulli likelihood.
        x: Binary data.
        limit: Half the side of the grid, in units of z.
        points: Nodes along a side.

    Example:
        >>> from elboscope.reproductions.networks import burda_vae
        >>> x = torch.ones(1, 1, 2, 2)
        >>> found = grid_posterior(burda_vae(x, 2, (4,)), x, points=50)
        >>> round(found.mass().sum().item(), 6)
        1.0
    """
    axis, log_spacing = line(limit, points)
    nodes = torch.cartesian_prod(axis, axis)
    with evaluating(model):
        parts = [_log_joint(model, z, x) for z in nodes.split(ROWS)]
    log_joint = torch.cat(parts, dim=1)
    log_px = log_joint.logsumexp(1) + 2 * log_spacing
    log_density = (log_joint - log_px[:, None]).unflatten(1, (points, points))
    axes = axis.expand(len(x), points)
    return GridPosterior(log_density, axes, axes, log_px)


def _log_joint(model: LatentVariableModel, z: Tensor, x: Tensor) -> Float64[Tensor, "B P"]:
    placed = z.to(x)
    logits = _logits(model.decode(placed.unsqueeze(1))).flatten(1).double()
    at_zero = torch.nn.functional.softplus(logits).sum(1)
    log_prior = model.prior().log_prob(placed).double()
    return x.flatten(1).double() @ logits.T + (log_prior - at_zero)


def _logits(likelihood: Distribution) -> Tensor:
    assert isinstance(likelihood, Independent)
    logits: Tensor = likelihood.base_dist.logits
    return logits.flatten(0, 1)
