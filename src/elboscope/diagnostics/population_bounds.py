r"""Of several lower bounds on the population's KL(q(z) ‖ p(z)), the one that shows most.

A richer density of q(z) gives a larger bound, so each is worth a look; but the largest of m bounds
that were looked at on the same data is larger by chance. Each keeps its side when its interval is
widened as Bonferroni's inequality demands: :math:`m (1 - \Phi(c_m)) = 1 - \Phi(2)`, whatever the
dependence between them. At m = 7 two errors become 2.7.
"""

from __future__ import annotations

__all__ = ["PopulationBound", "population_bound", "population_bounds"]

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

from elboscope.core import Estimate

from .decision import ERRORS
from .evidence import Evidence


class PopulationBound(NamedTuple):
    """A lower bound on the population's marginal KL, picked out of several.

    Attributes:
        name: Which of them.
        mean: Its value, in nats.
        stderr: Its standard error, widened for the choice.
        picked_of: Of how many it was picked.
        method: How it was estimated.
    """

    name: str
    mean: float
    stderr: float
    picked_of: int
    method: str


def population_bounds(evidence: Evidence) -> dict[str, Estimate]:
    """Returns every lower bound on KL(q(z) ‖ p(z)) of fresh data, by name.

    ``held_out`` is the surgery's, ``fitted_prior`` the gain of that prior, which is one too.

    Args:
        evidence: What was computed.
    """
    surgery, found = evidence.surgery, evidence.marginal_kl_comparison
    bounds: dict[str, Estimate] = {}
    if surgery is not None and surgery.marginal_kl_held_out is not None:
        bounds["held_out"] = surgery.marginal_kl_held_out
    if evidence.fitted_prior is not None:
        bounds["fitted_prior"] = evidence.fitted_prior.gain
    if found is not None:
        bounds |= {name: e for name, e in found.estimates.items() if e.side == "lower"}
    return {name: e for name, e in bounds.items() if math.isfinite(e.mean)}


def population_bound(bounds: Mapping[str, Estimate]) -> PopulationBound | None:
    """Returns the bound that surely shows most: the largest of mean − 2 widened errors.

    Args:
        bounds: By name.

    Example:
        >>> import torch
        >>> zero = torch.zeros(2)
        >>> wide = Estimate("KL", "a", zero + 2, zero, "lower", 1.0)
        >>> sharp = Estimate("KL", "b", zero + 1, zero, "lower", 0.1)
        >>> best = population_bound({"a": wide, "b": sharp})
        >>> best.name, round(best.stderr, 3)
        ('b', 0.114)
    """
    if not bounds:
        return None
    factor = widening(len(bounds))
    name = max(bounds, key=lambda b: bounds[b].mean - ERRORS * factor * bounds[b].stderr)
    best = bounds[name]
    return PopulationBound(name, best.mean, best.stderr * factor, len(bounds), best.method)


def widening(count: int) -> float:
    """Returns by how much the error grows when one of ``count`` is picked: c_m / 2.

    Example:
        >>> widening(1), round(2 * widening(7), 2)
        (1.0, 2.72)
    """
    normal = NormalDist()
    tail = (1 - normal.cdf(ERRORS)) / count
    return normal.inv_cdf(1 - tail) / ERRORS if count > 1 else 1.0
