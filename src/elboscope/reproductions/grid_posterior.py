r"""The true posterior of a model with two latents, on a grid of z.

.. math:: p(z|x) = \frac{p(z)\, p(x|z)}{\sum_{ij} p(z_{ij})\, p(x|z_{ij})\, \delta^2}

For binary x and a Bernoulli likelihood with logits g(z), log p(x|z) is affine in x, so all grid
points and all x together are one matrix product. Entropies in nats, float64. The grid is fine
enough while the posterior is wider than its spacing and within its limits; what lies outside is
not seen.
"""

from __future__ import annotations

__all__ = ["GridPosterior", "grid_posterior"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution, Independent

from elboscope.core import LatentVariableModel, evaluating
from elboscope.models.quadrature import line

ROWS = 8192


class GridPosterior(NamedTuple):
    """p(z|x) of some x.

    Attributes:
        log_density: log p(z|x) at the nodes.
        nodes: z₁ and z₂ of each node.
        log_cell: Log of the area of a cell.
        log_px: log p(x), the grid's sum.
    """

    log_density: Float64[Tensor, "B P"]
    nodes: Float64[Tensor, "P 2"]
    log_cell: float
    log_px: Float64[Tensor, " B"]

    def mass(self) -> Float64[Tensor, "B P"]:
        """Returns the probability of each cell."""
        return (self.log_density + self.log_cell).exp()

    def edge(self) -> Float64[Tensor, " B"]:
        """Returns the probability of the outermost cells: more lies beyond if it is not small."""
        far = self.nodes.abs().amax(1) >= self.nodes.max() - 1e-9
        return self.mass()[:, far].sum(1)

    def entropy(self) -> Float64[Tensor, " B"]:
        r"""Returns :math:`-\int p \log p\, dz` in nats."""
        return -(self.mass() * self.log_density.clamp(min=-1e4)).sum(1)

    def gaussian_entropy(self) -> Float64[Tensor, " B"]:
        """Returns the entropy of the Gaussian with the posterior's mean and covariance.

        It is at least the posterior's; the two agree where the posterior is Gaussian.
        """
        mass = self.mass()
        mean = mass @ self.nodes
        second = torch.einsum("bp,pi,pj->bij", mass, self.nodes, self.nodes)
        covariance = second - mean.unsqueeze(2) * mean.unsqueeze(1)
        log_det: Tensor = torch.linalg.slogdet(2 * math.pi * math.e * covariance).logabsdet
        return 0.5 * log_det


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
    return GridPosterior(log_joint - log_px[:, None], nodes, 2 * log_spacing, log_px)


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
