r"""The true posterior of a model with two latents, on a grid of z that fits each datapoint.

.. math:: p(z|x) = \frac{p(z)\, p(x|z)}{p(x)}, \qquad
          p(x) \approx \sum_{ij} p(z_{ij})\, p(x|z_{ij})\, \delta_1 \delta_2

The grid begins wide, 7.5 standard deviations of the prior, and closes in on what counts: nodes
within 25 nats of the maximum, or that may be so close to a peak between nodes. Near a peak the
density falls by far more from one node to the next than the peak is above the nearest of them: half
of the fall is granted to each node. Where density reaches an edge, the edge is moved out.
"""

from __future__ import annotations

__all__ = ["grid_posterior"]

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import GenerativeModel, InputError, evaluating, given, seeded

from .evaluation import blocks, likelihood_of, prepared, require_positive
from .grid_density import NODES, GridPosterior
from .local_target import Target
from .starting_points import require_real_latents

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
            parts.append(_closed_in(target, index, box.rows(rows), kept.rows(rows), points))
    return GridPosterior(*(torch.cat(field) for field in zip(*parts, strict=True)))


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
        start = _reached(prior, REACH)
        kept = nothing
        for q in beside:
            kept = kept.with_(_reached(q, REACH_OF_Q))
    return Box(*(corner.expand(n, 2) for corner in start)).with_(kept), kept


def _reached(q: Distribution, reach: float) -> Box:
    """Mean ± so many standard deviations, of draws, since not every q tells its moments."""
    z = q.sample(torch.Size((MOMENT_SAMPLES,))).double()
    z = z.reshape(MOMENT_SAMPLES, -1, 2)  # a prior has no batch
    mean, half = z.mean(0), reach * z.std(0)
    return Box(mean - half, mean + half)


def _closed_in(target: Target, index: Tensor, box: Box, kept: Box, points: int) -> GridPosterior:
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
