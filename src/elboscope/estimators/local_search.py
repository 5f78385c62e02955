r"""The search for q*: starts compete, the best is used, and nothing ends below the encoder.

The starts compete on a subset of the data. Where they end at the same value, the winner's is used
for all datapoints; where not, every start is tried for every datapoint and its best is kept. A full
covariance is sought from the best diagonal one on, and a flow from the best Gaussian.

What a start reached is selected on one set of samples and its advantage measured on another: the
largest of several noisy values is too large. Where the search ended clearly below the encoder's own
q, a member of the family, that is taken instead.
"""

from __future__ import annotations

__all__ = ["Run", "Search", "gaussian_search", "no_worse_than_encoder", "searched"]

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elboscope.core import seeded

from .convergence import Trial
from .gaussian_families import DiagonalGaussian, Family, GaussianFamily, Parameters
from .local_optimisation import Optimised, Stage, optimised
from .local_target import Target, scored
from .starting_points import Begin, own_gaussian

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
FALLBACK = 256
SELECT, MEASURE = 0x5E1EC7, 0x3EA5  # streams of samples


Run = Callable[[Int64[Tensor, " B"], Callable[[int], None] | None], Optimised]
"""Searches from one start for some datapoints, and tells how many are done."""


class Search(NamedTuple):
    """Everything that the parts of the search share.

    Attributes:
        target: The densities.
        family: Where q is sought.
        runs: The searches by the names of their starts.
        seed: Of the samples that judge.
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
        state = optimised(target, rung.family, start, index, rung.stages, max_steps, progress)
        q = rung.family.distribution(state.parameters)
        mean, std = (q.mean, q.stddev) if rung is not rungs[-1] else (mean, std)
    return state


def searched(
    search: Search, n: int, tolerance: float, progress: Callable[[int], None] | None
) -> tuple[Optimised, Trial]:
    """Lets the starts compete on a subset; then uses the winner, or all of them, for all data."""
    everything = search.all_of(n)
    subset = everything
    if n > 2 * search.subset:  # in whole numbers: with n/50 as a step, 50 of them may reach n
        subset = torch.arange(search.subset, device=everything.device) * n // search.subset
    tried = {name: run(subset, None) for name, run in search.runs.items()}
    scores = _scores(search, tried, subset)
    trial, winner = _compared(scores, tried)
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
                log_w = scored(search.target, search.family, state.parameters, index, K)
            rows.append(log_w.mean(0).nan_to_num(-math.inf, -math.inf, -math.inf))
        both.append(torch.stack(rows))
    return both[0], both[1]


def _compared(scores: Scores, tried: Mapping[str, Optimised]) -> tuple[Trial, str]:
    """The winner by the mean, and what choosing for each datapoint would add to it."""
    select, measure = scores
    names = list(tried)
    means = _means(select)
    winner = int(means.argmax())
    gain = _picked(measure, select.argmax(0)) - measure[winner]
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
        gain = _picked(measure, select.argmax(0)) - _picked(measure, without.argmax(0))
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


def _picked(scores: Float64[Tensor, "S B"], start: Int64[Tensor, " B"]) -> Float64[Tensor, " B"]:
    return scores.gather(0, start[None])[0]


def _mean_and_error(gain: Float64[Tensor, " B"]) -> tuple[float, float]:
    gain = gain[gain.isfinite()]
    if not len(gain):
        return 0.0, 0.0
    error = gain.std().item() / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return gain.mean().item(), error


def no_worse_than_encoder(
    search: Search, parameters: Parameters, n: int
) -> tuple[Parameters, Tensor]:
    """Takes the encoder's own q where the search ended clearly below it, and says where."""
    index = search.all_of(n)
    kept = torch.zeros_like(index, dtype=torch.bool)
    own = own_gaussian(search.target, index) if "encoder" in search.runs else None
    if own is None:
        return parameters, kept
    encoder = search.family.start(*own)
    values = []
    for candidate in (encoder, parameters):
        with seeded(search.seed ^ SELECT):
            values.append(scored(search.target, search.family, candidate, index, FALLBACK))
    gain = values[0] - values[1]
    better = gain.mean(0) > 3 * gain.std(0) / math.sqrt(FALLBACK)
    kept = values[0].isfinite().all(0) & (better | ~values[1].isfinite().all(0))
    rows = kept.nonzero()[:, 0]
    mixed = tuple(p.index_copy(0, rows, e[rows]) for p, e in zip(parameters, encoder, strict=True))
    return mixed, kept
