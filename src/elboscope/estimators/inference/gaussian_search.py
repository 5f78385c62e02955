r"""The search for q*: starts compete, and the best is used.

The starts compete on a subset of the data. Where they end at the same value, the winner's is used
for all datapoints; where not, every start is tried for every datapoint and its best is kept. A full
covariance is sought from the best diagonal one on, and a flow from the best Gaussian.

What a start reached is selected on one set of samples and its advantage measured on another: the
largest of several noisy values is too large.
"""

from __future__ import annotations

__all__ = [
    "WINDOW",
    "Optimised",
    "Run",
    "Search",
    "Stage",
    "ascend",
    "gaussian_search",
    "search_starts",
]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from elboscope.core import seeded

from .convergence import Trial
from .gaussian_families import DiagonalGaussian, Family, GaussianFamily, Parameters, matched_noise
from .target import Begin, Target, score, take

# Many small problems at once: for every datapoint the member of a family with the largest ELBO.
#
# .. math:: q^*_n = \arg\max_{q \in \mathcal Q} \mathbb{E}_q[\log p(x_n, z) - \log q(z)]
#
# All datapoints share one vectorised ascent over parameters stacked ``(B, …)``; nothing else is
# shared but the noise. Each has its own rate and leaves the batch when it has arrived. A step
# goes along the mean of the last directions (momentum), the direction being Newton's up to
# correlations (see :mod:`.gaussian_families`). After each window of steps the two halves of the
# window give two estimates of the direction with independent noise, whose product is an unbiased
# estimate of the gain still promised, in nats: noise alone promises nothing on average. A
# datapoint whose promise is small or no longer falls has its rate halved; it has arrived when the
# rate is at its floor and the promise below the tolerance. There are two stages: few samples a
# step until the rate has fallen, then many, down to the floor.
#
# Gradients are taken with respect to z alone: the model's parameters neither move nor get
# gradients.

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
        parameters: Parameters of the family.
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
        parameters, velocity = take(self.parameters, index), take(self.velocity, index)
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


def ascend(
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
        max_steps: Steps of each datapoint at most.
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
        halves = _add(halves, direction, first=step < WINDOW // 2)
        velocity = _mix(velocity, direction, 1 - MOMENTUM)
        parameters = family.moved(parameters, _scale(velocity, state.rate))
    half = 2 / WINDOW
    promise = half * half * family.promise(*halves)
    return _judge(
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


def _judge(state: Optimised, promise: Tensor, stage: Stage) -> Optimised:
    """Halves the rate of who is near or no longer gets nearer; lets go who has arrived."""
    slower = (promise < NEAR) | (promise > STALLED * state.promise)
    arrived = (state.rate <= stage.floor) & (promise <= stage.promise)
    rate = torch.where(slower, state.rate / 2, state.rate).clamp(min=stage.floor)
    return replace(state, rate=rate, promise=promise, arrived=arrived)


def _put(whole: Tensor, index: Tensor, part: Tensor) -> Tensor:
    return whole.index_copy(0, index, part)


def _put_all(whole: Parameters, index: Tensor, part: Parameters) -> Parameters:
    return tuple(_put(w, index, p) for w, p in zip(whole, part, strict=True))


def _add(halves: list[Parameters], direction: Parameters, *, first: bool) -> list[Parameters]:
    """Adds a direction to the sum of its half of the window."""
    if len(halves) < 2 - first:
        return [*halves, direction]
    total = tuple(a + b for a, b in zip(halves[-1], direction, strict=True))
    return [*halves[:-1], total]


def _mix(velocity: Parameters, direction: Parameters, share: float) -> Parameters:
    return tuple(v.lerp(d, share) for v, d in zip(velocity, direction, strict=True))


def _scale(velocity: Parameters, rate: Float[Tensor, " B"]) -> Parameters:
    return tuple(v * rate.reshape(-1, *(1,) * (v.ndim - 1)) for v in velocity)


def _finite(parameters: Parameters) -> Bool[Tensor, " B"]:
    fine = [p.isfinite().flatten(1).all(1) for p in parameters]
    return torch.stack(fine).all(0)


# The first stage only brings into the neighbourhood, whatever is still promised there.
FEW = Stage(8, 0.5, 0.125, promise=math.inf)
FIRST_RATE, LAST_RATE = 0.25, 0.25 / 32
# Samples of a step, at most, that a diagonal Gaussian takes so that their covariance is I.
MATCHED = 256
# Datapoints on which the starts compete: all, if there are at most twice as many.
SUBSET = 50
# Samples of each half on which starts are selected and their spread is measured, and of all
# datapoints together, so that the error of the spread is small for one datapoint too.
SELECTION, SELECTION_IN_ALL, MOST_SELECTION = 512, 30_000, 20_000
SELECT, MEASURE = 0x5E1EC7, 0x3EA5  # streams of samples


Run = Callable[[Int64[Tensor, " B"], Callable[[int], None] | None], Optimised]
"""Searches from one start for some datapoints, and tells how many are done."""


class Search(NamedTuple):
    """Everything that the parts of the search share.

    Attributes:
        target: The densities.
        family: Where q is sought.
        runs: The searches by the names of their starts.
        seed: Random seed of the samples that judge.
        subset: Datapoints on which the starts compete; all, if there are at most twice as many.
        doubt: So many errors are added to what the starts differ by before the winner alone is
            used; where a search is dear they are subtracted: starts have to differ beyond doubt.
    """

    target: Target
    family: Family
    runs: Mapping[str, Run]
    seed: int
    subset: int = SUBSET
    doubt: float = 2.0

    def all_of(self, n: int) -> Int64[Tensor, " _"]:
        """Returns the indices of n datapoints."""
        return torch.arange(n, device=self.target.inputs.x.device)


class Rung(NamedTuple):
    """A Gaussian family and how it is climbed; the next, richer one starts from its moments."""

    family: GaussianFamily
    stages: tuple[Stage, ...]


def gaussian_search(
    target: Target,
    family: GaussianFamily,
    starts: Mapping[str, Begin],
    num_samples: int,
    max_steps: int,
    seed: int,
) -> Search:
    """Returns the search among Gaussians from each of the starts."""
    ladder = _rungs(family, num_samples)
    runs = {name: partial(_run, target, ladder, begin, max_steps) for name, begin in starts.items()}
    return Search(target, family, runs, seed)


def _rungs(family: GaussianFamily, K: int) -> tuple[Rung, ...]:
    """A full covariance starts at the best diagonal one.

    The noise near the optimum has a covariance of I, exactly: with fewer samples than latents, what
    correlated latents add to it is mistaken for an end, up to a nat below the optimum.
    """
    d = family.noise_dim
    last = Stage(K if d + 2 > MATCHED else max(K, d + 2), FIRST_RATE, LAST_RATE)
    diagonal = Rung(DiagonalGaussian(family.latent_shape), (FEW, last))
    if isinstance(family, DiagonalGaussian):
        return (diagonal,)
    return (diagonal, Rung(family, (last._replace(num_samples=max(K, 2 * d)),)))


def _run(
    target: Target,
    rungs: tuple[Rung, ...],
    begin: Begin,
    max_steps: int,
    index: Int64[Tensor, " B"],
    progress: Callable[[int], None] | None,
) -> Optimised:
    mean, std = begin(index)
    for rung in rungs:
        start = rung.family.start(mean, std)
        state = ascend(target, rung.family, start, index, rung.stages, max_steps, progress)
        q = rung.family.distribution(state.parameters)
        mean, std = (q.mean, q.stddev) if rung is not rungs[-1] else (mean, std)
    return state


def search_starts(
    search: Search, n: int, tolerance: float, progress: Callable[[int], None] | None
) -> tuple[Optimised, Trial]:
    """Lets the starts compete on a subset; then uses the winner, or all of them, for all data."""
    everything = search.all_of(n)
    subset = everything
    if n > 2 * search.subset:  # in whole numbers: with n/50 as a step, 50 of them may reach n
        subset = torch.arange(search.subset, device=everything.device) * n // search.subset
    tried = {name: run(subset, None) for name, run in search.runs.items()}
    scores = _scores(search, tried, subset)
    trial, winner = _compare(scores, tried)
    if trial.spread + search.doubt * trial.error <= tolerance / 2 and len(subset) < n:
        return search.runs[winner](everything, progress), trial
    if len(subset) < n:
        tried = {name: run(everything, progress) for name, run in search.runs.items()}
        scores = _scores(search, tried, everything)
    return _best_of_all(scores, tried, n)


Scores = tuple[Float64[Tensor, "S B"], Float64[Tensor, "S B"]]


def _scores(search: Search, tried: Mapping[str, Optimised], index: Tensor) -> Scores:
    """L[q] of every start on the samples that select and on those that measure; −∞ for NaN."""
    K = max(SELECTION, min(MOST_SELECTION, SELECTION_IN_ALL // len(index)))
    both = []
    for stream in (SELECT, MEASURE):
        rows = []
        for state in tried.values():
            with seeded(search.seed ^ stream):  # the same noise for every start
                log_w = score(search.target, search.family, state.parameters, index, K)
            rows.append(log_w.mean(0).nan_to_num(-math.inf, -math.inf, -math.inf))
        both.append(torch.stack(rows))
    return both[0], both[1]


def _compare(scores: Scores, tried: Mapping[str, Optimised]) -> tuple[Trial, str]:
    """The winner by the mean, and what choosing for each datapoint would add to it."""
    select, measure = scores
    names = list(tried)
    means = _means(select)
    winner = int(means.argmax())
    gain = _pick(measure, select.argmax(0)) - measure[winner]
    spread, error = _mean_and_error(gain)
    reached = dict(zip(names, means.tolist(), strict=True))
    return Trial(reached, names[winner], select.shape[1], spread, error), names[winner]


def _best_of_all(scores: Scores, tried: Mapping[str, Optimised], n: int) -> tuple[Optimised, Trial]:
    """Each datapoint's best start; the spread is what the least useful start has added."""
    select, measure = scores
    best = (select + measure).argmax(0)
    added = []
    for number in range(len(select)):
        without = select.clone()
        without[number] = -math.inf
        gain = _pick(measure, select.argmax(0)) - _pick(measure, without.argmax(0))
        added.append(_mean_and_error(gain))
    spread, error = min(added)
    state = next(iter(tried.values()))
    for number, other in enumerate(tried.values()):
        rows = (best == number).nonzero()[:, 0]
        state = state.put(rows, other.take(rows))
    reached = dict(zip(tried, _means(select).tolist(), strict=True))
    return state, Trial(reached, "best of all", n, spread, error)


def _means(scores: Float64[Tensor, "S B"]) -> Float64[Tensor, " S"]:
    """Means over the datapoints that some start has a value for; −∞ if a start misses one."""
    some = scores.isfinite().any(0)
    return scores[:, some].mean(1) if some.any() else scores.mean(1)


def _pick(scores: Float64[Tensor, "S B"], start: Int64[Tensor, " B"]) -> Float64[Tensor, " B"]:
    return scores.gather(0, start[None])[0]


def _mean_and_error(gain: Float64[Tensor, " B"]) -> tuple[float, float]:
    gain = gain[gain.isfinite()]
    if not len(gain):
        return 0.0, 0.0
    error = gain.std().item() / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return gain.mean().item(), error
