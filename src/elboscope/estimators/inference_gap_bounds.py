r"""The bounds of an inference gap: L[q] and L[q*], and candidates for log p(x).

The encoder's weights :math:`\log p(x, z_k) - \log q(z_k|x)` give two numbers in one pass: their
mean is L[q], the log of the mean of the weights is importance sampling from q. Those of each q* do
the same in :func:`.optimal_posterior`.
"""

from __future__ import annotations

__all__ = ["FROM_Q", "Bounds", "Data", "Plan", "Richer", "bounds_of", "own_family"]

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from elboscope.core import Estimate, LatentVariableModel, given

from .annealed import annealed_importance_sampling
from .chain_state import REFUSAL
from .evaluation import Inputs, Progress, SharedProgress, first_answered
from .importance import Weigh, as_estimate, averages, from_posterior, reduced_weights
from .local_target import Target
from .optimal_posterior import FamilyName, OptimalPosterior, optimal_posterior
from .starting_points import own_gaussian

Richer = Literal["full", "flow"]

# Samples of each datapoint for L[q], at least.
LEAST = 1000
FROM_Q, FROM_AIS = "importance sampling from q", "AIS from the prior"


class Plan(NamedTuple):
    """What is done alike to test and training data; ``own`` is the encoder's family."""

    model: LatentVariableModel
    family: FamilyName
    own: FamilyName
    richer: Richer | None
    num_samples: int
    tolerance: float
    max_steps: int
    num_temperatures: int

    @property
    def families(self) -> tuple[FamilyName, ...]:
        """Each once, the diagonal one first."""
        wanted: tuple[FamilyName | None, ...] = ("diagonal", self.family, self.richer)
        return tuple(dict.fromkeys(name for name in wanted if name is not None))


class Data(NamedTuple):
    """One data set: as a tensor, what was done to make it one, and on the model's device."""

    x: Tensor
    treatment: str
    inputs: Inputs


def own_family(model: LatentVariableModel, inputs: Inputs) -> FamilyName:
    """Returns the family of the encoder's answer to the first datapoint that has one."""
    first = inputs.take(first_answered(model, inputs))
    if own_gaussian(Target(model, first), torch.zeros(1, dtype=torch.long)) is not None:
        return "diagonal"
    q: Distribution = given(model, first.condition).encode(first.x)
    while isinstance(q, Independent):
        q = q.base_dist
    return "full" if isinstance(q, MultivariateNormal) else "flow"


class Bounds(NamedTuple):
    """L[q] and candidates for log p̂ that need no q*, by name; and q* of each family."""

    elbo: Estimate
    candidates: Mapping[str, Estimate]
    optimal: Mapping[str, OptimalPosterior]


def bounds_of(plan: Plan, data: Data, seed: int, work: SharedProgress, share: float) -> Bounds:
    """Measures all that costs time. Searches have one seed: their noise is common."""
    part = share / (0.2 + len(plan.families) + bool(plan.num_temperatures))
    elbo, log_px = _by_encoder(plan, data, seed + 1, work.part(0.2 * part))
    optimal: dict[str, OptimalPosterior] = {
        name: _optimal(plan, name, data, seed, work.part(part)) for name in plan.families
    }
    candidates = {FROM_Q: log_px}
    if plan.num_temperatures:
        candidates[FROM_AIS] = annealed_importance_sampling(
            plan.model,
            data.x,
            num_temperatures=plan.num_temperatures,
            seed=seed + 2,
            condition=data.inputs.condition,
            progress=work.part(part),
        )
    return Bounds(elbo, candidates, optimal)


def _optimal(
    plan: Plan, name: FamilyName, data: Data, seed: int, progress: Progress | None
) -> OptimalPosterior:
    return optimal_posterior(
        plan.model,
        data.x,
        name,
        num_samples=plan.num_samples,
        max_steps=plan.max_steps,
        tolerance=plan.tolerance,
        seed=seed,
        condition=data.inputs.condition,
        progress=progress,
    )


def _by_encoder(
    plan: Plan, data: Data, seed: int, progress: Progress | None
) -> tuple[Estimate, Estimate]:
    """L[q] and importance sampling from q, from the same weights."""
    K = max(plan.num_samples, LEAST)
    weigh = _unrefused(from_posterior(plan.model))
    found, used = reduced_weights(
        plan.model, data.inputs, weigh, _both, K, seed, None, None, progress
    )
    elbo, error = found.pop("elbo"), found.pop("elbo_error")
    log_px = as_estimate(FROM_Q, found, used, data.inputs.data_id)
    bound = Estimate.per_datapoint(
        "L[q]", "the encoder's q", elbo, error, "lower", settings=used, data_id=log_px.data_id
    )
    return bound, log_px


def _both(log_w: Float64[Tensor, "K B"]) -> Mapping[str, Tensor]:
    error = log_w.std(0) / math.sqrt(len(log_w))
    return {**averages(log_w), "elbo": log_w.mean(0), "elbo_error": error}


def _unrefused(weigh: Weigh) -> Weigh:
    """Weights of −∞ for datapoints of which a distribution of the model refuses NaN by raising."""

    def weighed(x: Tensor, condition: Tensor | None, samples: slice) -> Tensor:
        try:
            return weigh(x, condition, samples)
        except ValueError as error:
            if REFUSAL not in str(error):
                raise
        if len(x) == 1:
            return x.new_full((samples.stop - samples.start, 1), -math.inf)
        halves = (slice(0, len(x) // 2), slice(len(x) // 2, len(x)))
        parts = ((x[h], None if condition is None else condition[h]) for h in halves)
        return torch.cat([weighed(*part, samples) for part in parts], 1)

    return weighed
