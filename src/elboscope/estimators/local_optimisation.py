r"""Many small problems at once: for every datapoint the member of a family with the largest ELBO.

.. math:: q^*_n = \arg\max_{q \in \mathcal Q} \mathbb{E}_q[\log p(x_n, z) - \log q(z)]

All datapoints share one vectorised ascent over parameters stacked ``(B, …)``; nothing else is
shared but the noise. Each has its own rate and leaves the batch when it has arrived. A step goes
along the mean of the last directions (momentum), the direction being Newton's up to correlations
(see :mod:`.gaussian_families`). After each window of steps the two halves of the window give two
estimates of the direction with independent noise, whose product is an unbiased estimate of the
gain still promised, in nats: noise alone promises nothing on average. A datapoint whose promise is
small or no longer falls has its rate halved; it has arrived when the rate is at its floor and the
promise below the tolerance. There are two stages: few samples a step until the rate has fallen,
then many, down to the floor.

Gradients are taken with respect to z alone: the model's parameters neither move nor get gradients.
"""

from __future__ import annotations

__all__ = ["WINDOW", "Optimised", "Stage", "optimised"]

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .gaussian_families import GaussianFamily, Parameters, matched_noise
from .local_target import Target, taken

WINDOW = 10
MOMENTUM = 0.8
# Nats that a datapoint may still promise when it leaves; noise of the promise is of this size.
ARRIVED = 0.02
# Below so many nats, or if a window took less than this share off, the rate is halved.
NEAR, STALLED = 0.3, 0.7


class Stage(NamedTuple):
    """Samples a step, the first rate, and the rate and promise (nats) at which it may end."""

    num_samples: int
    rate: float
    floor: float
    promise: float = ARRIVED


@dataclass(frozen=True, eq=False)
class Optimised:
    """Where the ascent of B datapoints has come to.

    Attributes:
        parameters: Of the family.
        velocity: Mean of the last directions.
        rate: Share of the velocity that is a step.
        promise: Nats still promised by the slope of the last window; ∞ before the first.
        steps: Steps taken.
        arrived: Whether the promise and the rate were small enough.
        lost: Whether log p(x, z) ceased to be a number.
    """

    parameters: Parameters
    velocity: Parameters
    rate: Float[Tensor, " B"]
    promise: Float[Tensor, " B"]
    steps: Int64[Tensor, " B"]
    arrived: Bool[Tensor, " B"]
    lost: Bool[Tensor, " B"]

    @classmethod
    def at(cls, parameters: Parameters) -> Optimised:
        """Returns the state before the first step."""
        ones = torch.ones_like(parameters[0][:, 0])
        no = torch.zeros_like(ones, dtype=torch.bool)
        still = tuple(torch.zeros_like(p) for p in parameters)
        return cls(parameters, still, ones, ones * math.inf, no.long(), no, no)

    def take(self, index: Tensor) -> Optimised:
        """Returns some datapoints' state."""
        parameters, velocity = taken(self.parameters, index), taken(self.velocity, index)
        rest = (self.rate, self.promise, self.steps, self.arrived, self.lost)
        return Optimised(parameters, velocity, *(t[index] for t in rest))

    def put(self, index: Tensor, part: Optimised) -> Optimised:
        """Returns the state with some datapoints' replaced."""
        return Optimised(
            _put_all(self.parameters, index, part.parameters),
            _put_all(self.velocity, index, part.velocity),
            *(
                _put(getattr(self, name), index, getattr(part, name))
                for name in ("rate", "promise", "steps", "arrived", "lost")
            ),
        )


def optimised(
    target: Target,
    family: GaussianFamily,
    parameters: Parameters,
    index: Int64[Tensor, " B"],
    stages: tuple[Stage, ...],
    max_steps: int,
    progress: Callable[[int], None] | None = None,
) -> Optimised:
    """Climbs from the parameters given until every datapoint has arrived, or the steps are used.

    Args:
        target: The densities.
        family: Where q is sought.
        parameters: The start, one row for each of ``index``.
        index: The datapoints, rows of the target's inputs.
        stages: Samples and rates, one after the other; each may use the steps that are left,
            the first no more than half of them.
        max_steps: Of each datapoint.
        progress: Called with the number of datapoints that have arrived.
    """
    state = Optimised.at(parameters)
    for number, stage in enumerate(stages, 1):
        limit = max_steps * number // len(stages)
        fresh = torch.full_like(state.rate, stage.rate)
        state = replace(state, rate=fresh, arrived=state.lost.clone())
        while len(rows := (~state.arrived & ~state.lost & (state.steps < limit)).nonzero()[:, 0]):
            part = _window(target, family, state.take(rows), index[rows], stage)
            state = state.put(rows, part)
            if progress is not None and number == len(stages):
                progress(len(index) - len(rows))
    return replace(state, arrived=state.arrived & ~state.lost)


def _window(
    target: Target, family: GaussianFamily, state: Optimised, index: Tensor, stage: Stage
) -> Optimised:
    """Takes one window of steps, then judges it."""
    parameters, velocity, lost = state.parameters, state.velocity, state.lost
    halves: list[Parameters] = []
    for step in range(WINDOW):
        noise = matched_noise(stage.num_samples, family.noise_dim, parameters[0])
        z, _ = family.draw(parameters, noise)
        slope, gone = target.slope(z, index)
        direction = family.ascent(parameters, noise, slope)
        lost = lost | gone
        halves = _added(halves, direction, first=step < WINDOW // 2)
        velocity = _mixed(velocity, direction, 1 - MOMENTUM)
        parameters = family.moved(parameters, _scaled(velocity, state.rate))
    half = 2 / WINDOW
    promise = half * half * family.promise(*halves)
    return _judged(
        replace(
            state,
            parameters=parameters,
            velocity=velocity,
            steps=state.steps + WINDOW,
            lost=lost | ~_finite(parameters),
        ),
        promise,
        stage,
    )


def _judged(state: Optimised, promise: Tensor, stage: Stage) -> Optimised:
    """Halves the rate of who is near or no longer gets nearer; lets go who has arrived."""
    slower = (promise < NEAR) | (promise > STALLED * state.promise)
    arrived = (state.rate <= stage.floor) & (promise <= stage.promise)
    rate = torch.where(slower, state.rate / 2, state.rate).clamp(min=stage.floor)
    return replace(state, rate=rate, promise=promise, arrived=arrived)


def _put(whole: Tensor, index: Tensor, part: Tensor) -> Tensor:
    return whole.index_copy(0, index, part)


def _put_all(whole: Parameters, index: Tensor, part: Parameters) -> Parameters:
    return tuple(_put(w, index, p) for w, p in zip(whole, part, strict=True))


def _added(halves: list[Parameters], direction: Parameters, *, first: bool) -> list[Parameters]:
    """Adds a direction to the sum of its half of the window."""
    if len(halves) < 2 - first:
        return [*halves, direction]
    total = tuple(a + b for a, b in zip(halves[-1], direction, strict=True))
    return [*halves[:-1], total]


def _mixed(velocity: Parameters, direction: Parameters, share: float) -> Parameters:
    return tuple(v.lerp(d, share) for v, d in zip(velocity, direction, strict=True))


def _scaled(velocity: Parameters, rate: Float[Tensor, " B"]) -> Parameters:
    return tuple(v * rate.reshape(-1, *(1,) * (v.ndim - 1)) for v in velocity)


def _finite(parameters: Parameters) -> Bool[Tensor, " B"]:
    fine = [p.isfinite().flatten(1).all(1) for p in parameters]
    return torch.stack(fine).all(0)
