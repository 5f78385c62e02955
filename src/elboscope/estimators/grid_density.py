r"""A posterior of two latents as a density on a grid of z, and what is read off it.

.. math:: \mathrm{KL}(q \| p(z|x)) \approx
          \sum_{ij} q(z_{ij}) \log\frac{q(z_{ij})}{p(z_{ij}|x)}\, \delta_1 \delta_2, \qquad
          H[p(z|x)] \approx -\sum_{ij} p(z_{ij}|x) \log p(z_{ij}|x)\, \delta_1 \delta_2

Sums over equidistant nodes, in float64: for a smooth density that vanishes at the edge their error
falls faster than any power of the spacing, and is negligible while a standard deviation is wider
than a cell.
"""

from __future__ import annotations

__all__ = ["GridPosterior", "density_of_draws", "log_density_at"]

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.distributions import Distribution

from .evaluation import blocks

# Nodes at which a density is asked for at once.
NODES = 4096


class GridPosterior(NamedTuple):
    """p(z|x) of some x, each on a grid of its own.

    Attributes:
        log_density: log p(z|x) at the nodes, z₁ along the first of the two axes.
        z1: Nodes of the first latent.
        z2: Nodes of the second.
        log_px: log p(x) in nats, the grid's sum; neither a bound nor an estimate with an error.
    """

    log_density: Float64[Tensor, "B P Q"]
    z1: Float64[Tensor, "B P"]
    z2: Float64[Tensor, "B Q"]
    log_px: Float64[Tensor, " B"]

    def row(self, index: int) -> GridPosterior:
        """Returns the one of a datapoint, B = 1."""
        return GridPosterior(*(field[index : index + 1] for field in self))

    def cell(self) -> Float64[Tensor, " B"]:
        """Returns the area of a cell."""
        return (self.z1[:, 1] - self.z1[:, 0]) * (self.z2[:, 1] - self.z2[:, 0])

    def nodes(self) -> Float64[Tensor, "N B 2"]:
        """Returns z of all nodes, N = P·Q, as samples of which densities are asked."""
        B, P, Q = self.log_density.shape
        first, second = self.z1[:, :, None].expand(B, P, Q), self.z2[:, None].expand(B, P, Q)
        return torch.stack([first, second], -1).flatten(1, 2).transpose(0, 1)

    def mass(self) -> Float64[Tensor, "B P Q"]:
        """Returns the probability of each cell."""
        return self.log_density.exp() * self.cell()[:, None, None]

    def edge(self) -> Float64[Tensor, " B"]:
        """Returns the probability of the outermost cells: more lies beyond if it is not small."""
        mass = self.mass()
        return mass.sum((1, 2)) - mass[:, 1:-1, 1:-1].sum((1, 2))

    def quadrature_error(self) -> Float64[Tensor, " B"]:
        """Returns by how much log p(x) changes with every other node: far more than its error."""
        half = 4 * self.mass()[:, ::2, ::2].sum((1, 2))
        return half.log().abs()

    def moments(self) -> tuple[Float64[Tensor, "B 2"], Float64[Tensor, "B 2 2"]]:
        """Returns mean and covariance."""
        mass = self.mass()
        sides = [(mass.sum(2), self.z1), (mass.sum(1), self.z2)]
        mean = torch.stack([(p * z).sum(1) for p, z in sides], 1)
        d1, d2 = self.z1 - mean[:, :1], self.z2 - mean[:, 1:]
        v1, v2 = (sides[0][0] * d1 * d1).sum(1), (sides[1][0] * d2 * d2).sum(1)
        both = torch.einsum("bpq,bp,bq->b", mass, d1, d2)
        return mean, torch.stack([v1, both, both, v2], 1).unflatten(1, (2, 2))

    def entropy(self) -> Float64[Tensor, " B"]:
        r"""Returns :math:`-\int p \log p\, dz` in nats."""
        return -(self.mass() * self.log_density.clamp(min=-1e4)).sum((1, 2))

    def gaussian_entropy(self) -> Float64[Tensor, " B"]:
        """Returns the entropy of the Gaussian with the posterior's mean and covariance.

        It is at least the posterior's; the two agree where the posterior is Gaussian.
        """
        covariance = self.moments()[1]
        log_det: Tensor = torch.linalg.slogdet(2 * math.pi * math.e * covariance).logabsdet
        return 0.5 * log_det

    def kl(self, log_q: Float64[Tensor, "B P Q"]) -> Float64[Tensor, " B"]:
        r"""Returns :math:`\mathrm{KL}(q \| p(z|x))` in nats; ∞ where p is 0 and q is not.

        Args:
            log_q: log q(z) at the nodes, see :func:`log_density_at`; its mass must be on the grid.
        """
        q = log_q.exp() * self.cell()[:, None, None]
        terms = torch.where(q > 0, q * (log_q - self.log_density), torch.zeros_like(q))
        return terms.sum((1, 2))

    def share(self, log_q: Float64[Tensor, "B P Q"]) -> Float64[Tensor, " B"]:
        """Returns the mass of q on the grid: 1, unless q lies outside or is narrower than a cell.

        Args:
            log_q: log q(z) at the nodes.
        """
        return log_q.exp().sum((1, 2)) * self.cell()


@torch.no_grad()
def log_density_at(q: Distribution, grid: GridPosterior) -> Float64[Tensor, "B P Q"]:
    """Returns log q(z|x) at the nodes of each datapoint's grid.

    Args:
        q: Batch ``(B,)``, event of two latents.
        grid: Of the same B datapoints.

    Raises:
        NotImplementedError: q has no density of z alone.
    """
    B, P, Q = grid.log_density.shape
    like = q.sample()
    z = grid.nodes().to(like).reshape(P * Q, B, *q.event_shape)
    parts = [q.log_prob(z[rows]).double() for rows in blocks(P * Q, NODES)]
    return torch.cat(parts).transpose(0, 1).reshape(B, P, Q)


def density_of_draws(
    z: Float[Tensor, "K 2"], z1: Float64[Tensor, " P"], z2: Float64[Tensor, " Q"], width: float
) -> Float64[Tensor, "P Q"]:
    """Returns a density made of draws: their histogram on the grid, smoothed by a Gaussian.

    It is for contours, not for numbers: its variance is larger by ``width``² in both directions,
    and draws beyond the grid are left out.

    Args:
        z: Independent draws.
        z1: Nodes of the first latent, equidistant.
        z2: Nodes of the second.
        width: Standard deviation of the Gaussian, in units of z.

    Example:
        >>> axis = torch.linspace(-4, 4, 65, dtype=torch.float64)
        >>> density = density_of_draws(torch.zeros(10, 2), axis, axis, 0.5)
        >>> round(density.max().item() * 2 * math.pi * 0.5**2, 2)  # a Gaussian of that width
        1.0
    """
    cells = [(nodes[1] - nodes[0]).item() for nodes in (z1, z2)]
    edges = [
        np.append(nodes.cpu().numpy() - cell / 2, nodes[-1].item() + cell / 2)
        for nodes, cell in zip((z1, z2), cells, strict=True)
    ]
    first, second = z.double().cpu().numpy().T
    counts, _, _ = np.histogram2d(first, second, bins=edges)
    smooth = gaussian_filter(counts, [width / cell for cell in cells], mode="constant")
    return torch.from_numpy(smooth / (len(z) * cells[0] * cells[1]))
