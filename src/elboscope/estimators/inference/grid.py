r"""The true posterior of a model with two latents, on a grid of z that fits each datapoint.

.. math:: p(z|x) = \frac{p(z)\, p(x|z)}{p(x)}, \qquad
          p(x) \approx \sum_{ij} p(z_{ij})\, p(x|z_{ij})\, \delta_1 \delta_2

The grid begins wide, 7.5 standard deviations of the prior, and closes in on what counts: nodes
within 25 nats of the maximum, or that may be so close to a peak between nodes. Near a peak the
density falls by far more from one node to the next than the peak is above the nearest of them: half
of the fall is granted to each node. Where density reaches an edge, the edge is moved out.
"""

from __future__ import annotations

__all__ = ["GridPosterior", "density_of_draws", "grid_posterior", "log_density_at"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import GenerativeModel, InputError, evaluating, given, seeded

from ..inputs import blocks, likelihood_of, prepared, require_positive
from .target import Target, require_real_latents

# The first grid reaches so many of the prior's standard deviations, and a q's of its own.
REACH, REACH_OF_Q = 7.5, 7.0
# Nodes along a side while closing in; how often; how far below the maximum a node still counts, in
# nats: 7 standard deviations of a Gaussian.
COARSE, ZOOMS, DEPTH = 64, 12, 25.0
# The grid is left as it is when what counts fills so much of its sides.
FILLED = 0.7
# Draws that tell how far a distribution reaches.
MOMENT_SAMPLES = 1000
# Datapoints whose grids are computed together.
TOGETHER = 64


class Box(NamedTuple):
    """The corners of each datapoint's grid."""

    low: Float64[Tensor, "B 2"]
    high: Float64[Tensor, "B 2"]

    def rows(self, index: slice) -> Box:
        """Returns those of some datapoints."""
        return Box(self.low[index], self.high[index])

    def with_(self, other: Box) -> Box:
        """Returns the smallest that hold both."""
        return Box(self.low.minimum(other.low), self.high.maximum(other.high))


@torch.no_grad()
def grid_posterior(
    model: GenerativeModel,
    x: object,
    *,
    points: int = 128,
    beside: Sequence[Distribution] = (),
    condition: Tensor | None = None,
) -> GridPosterior:
    r"""Returns :math:`p(z|x)` of each x by quadrature, and log p(x) with it.

    It is exact to quadrature, not an estimate; what a grid may miss is told by
    ``GridPosterior.edge`` and ``GridPosterior.quadrature_error``.

    Args:
        model: A prior over two real latents, and a decoder of any likelihood.
        x: Data, ``(N, *X)``, in the support of the likelihood.
        points: Nodes along a side of each grid.
        beside: Distributions of batch ``(N,)`` whose mass shall be on the grid too.
        condition: One row per datapoint.

    Returns:
        The posteriors, in float64 whatever the model's dtype.

    Raises:
        InputError: Not two latents; fewer than 8 nodes along a side; x cannot be data.
        ContractError: The latents are discrete or do not lie on all real numbers.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(3, seed=0)
        >>> found = grid_posterior(model, x)
        >>> torch.allclose(found.log_px, model.log_likelihood(x), atol=1e-9)
        True
    """
    require_positive("points", points, least=8)
    inputs = prepared(model, x, condition)
    local = given(model, None if condition is None else inputs.rows(slice(0, 1))[1])
    _require_plane(local)
    require_real_latents(local)
    with evaluating(model), seeded(0):
        likelihood_of(model, inputs)  # refuses another shape and support
    with evaluating(model):
        box, kept = _boxes(local.prior(), beside, inputs.x)
        target, parts = Target(model, inputs), []
        for rows in blocks(len(inputs.x), TOGETHER):
            index = torch.arange(len(inputs.x), device=inputs.x.device)[rows]
            parts.append(_close_in(target, index, box.rows(rows), kept.rows(rows), points))
    names = [field.name for field in fields(GridPosterior)]
    return GridPosterior(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _require_plane(model: GenerativeModel) -> None:
    event = tuple(model.prior().event_shape)
    if math.prod(event) != 2:
        raise InputError(
            "the model's latent space",
            expected="two latents, for a grid of z",
            got=f"event shape {event}",
            do="Only a posterior of two latents can be drawn as it is.",
        )


def _boxes(prior: Distribution, beside: Sequence[Distribution], x: Tensor) -> tuple[Box, Box]:
    """Where to begin, and what must stay on the grid: nothing, or what the q's reach."""
    n = len(x)
    nothing = Box(*(x.new_full((n, 2), v, dtype=torch.float64) for v in (math.inf, -math.inf)))
    with seeded(0):
        start = _reach(prior, REACH)
        kept = nothing
        for q in beside:
            kept = kept.with_(_reach(q, REACH_OF_Q))
    return Box(*(corner.expand(n, 2) for corner in start)).with_(kept), kept


def _reach(q: Distribution, reach: float) -> Box:
    """Mean ± so many standard deviations, of draws, since not every q tells its moments."""
    z = q.sample(torch.Size((MOMENT_SAMPLES,))).double()
    z = z.reshape(MOMENT_SAMPLES, -1, 2)  # a prior has no batch
    mean, half = z.mean(0), reach * z.std(0)
    return Box(mean - half, mean + half)


def _close_in(target: Target, index: Tensor, box: Box, kept: Box, points: int) -> GridPosterior:
    """Moves the grid's sides to where the density begins to count."""
    for _ in range(ZOOMS):
        grid = _on_grid(target, index, box, COARSE)
        closer = _counting(grid).with_(kept)
        filled = (closer.high - closer.low) / (box.high - box.low)
        box = closer
        if bool(((filled > FILLED) & (filled <= 1)).all()):
            break
    return _on_grid(target, index, box, points)


def _counting(grid: GridPosterior) -> Box:
    """What holds the nodes that are, or may be, within so many nats of the maximum."""
    log_density = grid.log_density.nan_to_num(nan=0.0)
    peak = log_density + (_fall(log_density) + _fall(log_density.mT).mT) / 2
    inside = peak >= log_density.amax((1, 2), keepdim=True) - DEPTH
    sides = [_side(inside.any(2), grid.z1), _side(inside.any(1), grid.z2)]
    return Box(*(torch.stack(corner, 1) for corner in zip(*sides, strict=True)))


def _fall(log_density: Float64[Tensor, "B P Q"]) -> Float64[Tensor, "B P Q"]:
    """The larger change to the nodes before and behind, 0 where that is no number."""
    change = log_density.diff(dim=1).abs().nan_to_num(0.0, 0.0)
    none = torch.zeros_like(change[:, :1])
    return torch.cat([none, change], 1).maximum(torch.cat([change, none], 1))


def _side(inside: Tensor, nodes: Float64[Tensor, "B P"]) -> tuple[Tensor, Tensor]:
    """A cell beyond the first and the last node inside; longer by half where they reach an edge."""
    first, last = nodes[:, 0], nodes[:, -1]
    cell, half = nodes[:, 1] - first, (last - first) / 2
    low = torch.where(inside, nodes, torch.inf).amin(1) - cell
    high = torch.where(inside, nodes, -torch.inf).amax(1) + cell
    outward = inside[:, 0] | inside[:, -1]
    low = torch.where(outward, first - half * inside[:, 0], low)
    return low, torch.where(outward, last + half * inside[:, -1], high)


def _on_grid(target: Target, index: Tensor, box: Box, points: int) -> GridPosterior:
    steps = torch.linspace(0, 1, points, dtype=torch.float64, device=index.device)
    sides = box.low[:, :, None] + (box.high - box.low)[:, :, None] * steps
    z1, z2 = sides.unbind(1)
    B, local = len(index), given(target.model, target.inputs.rows(index[:1])[1])
    grid = GridPosterior(z1.new_zeros(B, points, points), z1, z2, z1.new_zeros(B))
    z = grid.nodes().to(target.inputs.x.dtype).reshape(-1, B, *local.prior().event_shape)
    at_once = max(1, NODES // B)
    log_p = torch.cat([target.log_joint(z[rows], index) for rows in blocks(len(z), at_once)])
    log_px = log_p.logsumexp(0) + grid.cell().log()
    log_density = (log_p - log_px).transpose(0, 1).reshape(B, points, points)
    return GridPosterior(log_density, z1, z2, log_px)


# A posterior of two latents as a density on a grid of z, and what is read off it.
#
# .. math:: \mathrm{KL}(q \| p(z|x)) \approx
#           \sum_{ij} q(z_{ij}) \log\frac{q(z_{ij})}{p(z_{ij}|x)}\, \delta_1 \delta_2, \qquad
#           H[p(z|x)] \approx -\sum_{ij} p(z_{ij}|x) \log p(z_{ij}|x)\, \delta_1 \delta_2
#
# Sums over equidistant nodes, in float64: for a smooth density that vanishes at the edge their
# error falls faster than any power of the spacing, and is negligible while a standard deviation
# is wider than a cell.

# Nodes at which a density is asked for at once.
NODES = 4096


@dataclass(frozen=True, eq=False)
class GridPosterior:
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
        rows = slice(index, index + 1)
        return GridPosterior(
            self.log_density[rows], self.z1[rows], self.z2[rows], self.log_px[rows]
        )

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
        grid: Grids of the same B datapoints.

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
