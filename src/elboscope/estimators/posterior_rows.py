"""Some datapoints of a posterior over many: Gaussians are taken apart, others draw for all."""

from __future__ import annotations

__all__ = ["rows_of"]

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from .evaluation import blocks
from .flow_family import LocalFlowPosterior

Shape = torch.Size | list[int] | tuple[int, ...]
# Draws at once, over all datapoints of a posterior whose rows cannot be taken apart.
DRAWS_AT_ONCE = 2**18


class _Rows(Distribution):
    """Some datapoints of a distribution that only draws for all of them together."""

    def __init__(self, q: Distribution, rows: Tensor) -> None:
        self.q, self.rows_taken = q, rows
        super().__init__(torch.Size((len(rows),)), q.event_shape, validate_args=False)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws for all and keeps what was asked for."""
        K, n = math.prod(sample_shape), self.q.batch_shape.numel()
        size = max(1, DRAWS_AT_ONCE // n)
        parts = [
            self.q.sample(torch.Size((rows.stop - rows.start,)))[:, self.rows_taken]
            for rows in blocks(K, size)
        ]
        return torch.cat(parts).reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Is not to be had for some rows alone."""
        raise NotImplementedError("a density of some datapoints")


def rows_of(q: Distribution, rows: Tensor) -> Distribution:
    """Returns q of some datapoints; one that cannot be taken apart only draws, for all of them.

    Args:
        q: Batch ``(n,)``.
        rows: Which of them.

    Example:
        >>> q = Normal(torch.arange(3.0), torch.ones(3))
        >>> rows_of(q, torch.tensor([2, 0])).mean
        tensor([2., 0.])
    """
    match q:
        case Independent():
            base = rows_of(q.base_dist, rows)
            return Independent(base, q.reinterpreted_batch_ndims, validate_args=False)
        case Normal():
            return Normal(q.loc[rows], q.scale[rows], validate_args=False)
        case MultivariateNormal():
            L = q.scale_tril[rows]
            return MultivariateNormal(q.loc[rows], scale_tril=L, validate_args=False)
        case LocalFlowPosterior():
            return LocalFlowPosterior(q.family, tuple(p[rows] for p in q.parameters))
    return _Rows(q, rows)
