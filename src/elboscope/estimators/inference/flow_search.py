"""The search for the best flow: from the best Gaussian, with two draws of the first weights, from
the prior, and from the encoder's own flow where it has one of this kind.

The best Gaussian covers one mode, and an ascent of the ELBO begun there never sees another; the
prior covers all of them, and from it the weight of the data rises slowly. Starts that end apart
show how much the optimiser leaves behind; the rounds of :mod:`.flow_ascent` never go below where
they began.

A file of its own because a flow is found by other means than a Gaussian.
"""

from __future__ import annotations

__all__ = ["climb", "flow_search"]

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import LatentVariableModel, given, seeded
from elboscope.distributions import AuxiliaryPosterior

from ..inputs import blocks, first_answered
from .flow_family import FIXED, FlowParameters, LocalFlow, local_flow
from .gaussian_families import DiagonalGaussian, FullGaussian, Parameters, matched_noise
from .gaussian_search import ARRIVED, Optimised, Run, Search
from .target import Target, score, starting_points, take

# Flows are dear: their starts compete on few datapoints, and on all only if they clearly differ.
SUBSET, DOUBT = 10, -2.0
WEIGHTS = (0xF10, 0xF11)  # streams of the first weights
TEMPERED = "the tempered prior"


def flow_search(
    target: Target,
    gaussian: DiagonalGaussian | FullGaussian,
    best: Parameters,
    num_samples: int,
    max_steps: int,
    seed: int,
) -> Search:
    """Returns the search among flows.

    Args:
        target: The densities.
        gaussian: The family in which ``best`` is.
        best: The best Gaussian of every datapoint.
        num_samples: Samples of a step.
        max_steps: Steps of each datapoint and start at most.
        seed: Random seed of the samples that judge.
    """
    like = best[0]
    encoder = _encoder(target)
    q = None if encoder is None else encoder(_answered(target))
    families = [local_flow(gaussian.latent_shape, like, q, seed=s) for s in WEIGHTS]

    prior = starting_points(target)["prior"]

    def begun(family: LocalFlow, index: Tensor) -> Parameters:
        mean, factor = take(best, index)
        L = factor if isinstance(gaussian, FullGaussian) else torch.diag_embed(factor.exp())
        return family.around(mean, L)

    def amortised(index: Tensor) -> Parameters:
        assert encoder is not None
        return families[0].of_encoder(encoder(index))

    begin: dict[str, Callable[[Tensor], Parameters]] = {
        "the best Gaussian": partial(begun, families[0]),
        "the best Gaussian again": partial(begun, families[1]),
        TEMPERED: lambda index: families[0].start(*prior(index)),
    }
    if families[0].like_encoder:
        begin["the encoder's flow"] = amortised
    runs = {
        name: _run(target, families[0], start, num_samples, max_steps, tempered=name == TEMPERED)
        for name, start in begin.items()
    }
    return Search(target, families[0], runs, seed, SUBSET, DOUBT)


def _run(
    target: Target,
    family: LocalFlow,
    begin: Callable[[Tensor], Parameters],
    num_samples: int,
    max_steps: int,
    *,
    tempered: bool,
) -> Run:
    def run(index: Tensor, progress: Callable[[int], None] | None) -> Optimised:
        start = begin(index)
        return climb(
            target, family, start, index, num_samples, max_steps, progress, tempered=tempered
        )

    return run


def _answered(target: Target) -> Tensor:
    """The first datapoint of which the encoder has an answer."""
    row = first_answered(target.model, target.inputs).start
    return torch.tensor([row], device=target.inputs.x.device)


def _encoder(target: Target) -> Callable[[Tensor], AuxiliaryPosterior] | None:
    """What the encoder answers for some datapoints, where that is a flow on (z, v)."""

    def encoded(index: Tensor) -> Distribution:
        x, condition = target.inputs.rows(index)
        local = given(target.model, condition)
        assert isinstance(local, LatentVariableModel)
        return local.encode(x)

    first = target.inputs.rows(slice(0, 1))[1]
    if not isinstance(given(target.model, first), LatentVariableModel):
        return None
    if not isinstance(encoded(_answered(target)), AuxiliaryPosterior):
        return None
    return lambda index: _auxiliary(encoded(index))


def _auxiliary(q: Distribution) -> AuxiliaryPosterior:
    assert isinstance(q, AuxiliaryPosterior)
    return q


# The ascent of local flows, in rounds that are kept only where they gained.
#
# A round is some steps of Adam from the best weights so far, its rate falling to zero along a
# cosine, with the gradients of sticking the landing, whose noise vanishes with the distance to
# the posterior. After it both ends are scored on the same fresh noise: where the round gained it
# is kept, where not it is forgotten and the rate is quartered. A datapoint that twice gained less
# than it should has arrived. What the last round of each gained, on other noise than that which
# chose, is what another round promises.
#
# A start may be tempered first: with :math:`p(z)\, p(x|z)^\beta`, β rising from 0 to 1, so that a
# flow as wide as the prior has time to divide between the modes of the posterior, which an ascent
# with β = 1 leaves to chance, one of them getting all.
#
# Datapoints are taken in blocks, of which those that have arrived leave.

ROUND = 100
RATE, QUARTER, FAILURES = 1e-3, 0.25, 2
WARM_STEPS = 5
# Steps with β < 1, their share in which it rises, and their rate in units of RATE.
TEMPERED_STEPS, RISING, FASTER = 400, 0.8, 3.0
FIRST, SECOND, TINY = 0.9, 0.99, 1e-8
# Samples that choose between the two ends of a round, and as many that measure its gain.
JUDGES = 256
# Numbers of the weights of one block: half a gigabyte of them, and Adam's moments.
BLOCK = 2**25


def climb(
    target: Target,
    family: LocalFlow,
    parameters: FlowParameters,
    index: Int64[Tensor, " B"],
    num_samples: int,
    max_steps: int,
    progress: Callable[[int], None] | None = None,
    *,
    tempered: bool = False,
) -> Optimised:
    """Climbs from the parameters given; no datapoint ends below its start, but for selection noise.

    Args:
        target: The densities.
        family: The flow.
        parameters: The start, one row for each of ``index``.
        index: The datapoints.
        num_samples: Samples of a step.
        max_steps: Steps of each datapoint at most; whole rounds are taken, at least one.
        progress: Called with the number of datapoints done.
        tempered: Whether the start is the prior, from which β rises; these steps come on top.
    """
    state = replace(Optimised.at(parameters), velocity=())
    size = max(1, BLOCK // sum(p[0].numel() for p in parameters))
    for rows in blocks(len(index), size):
        block = torch.arange(len(index), device=index.device)[rows]
        part = state.take(block)
        if tempered:
            part = _temper(target, family, part, index[rows], num_samples)
        part = _block(target, family, part, index[rows], num_samples, max_steps)
        state = state.put(block, part)
        if progress is not None:
            progress(min(rows.stop, len(index)))
    return state


def _temper(
    target: Target, family: LocalFlow, state: Optimised, index: Tensor, K: int
) -> Optimised:
    betas = [min(1.0, (t + 1) / (RISING * TEMPERED_STEPS)) for t in range(TEMPERED_STEPS)]
    rate = FASTER * RATE * state.rate
    parameters = _round(target, family, state.parameters, index, rate, K, betas)
    return replace(state, parameters=parameters, steps=state.steps + TEMPERED_STEPS)


def _block(
    target: Target, family: LocalFlow, state: Optimised, index: Tensor, K: int, max_steps: int
) -> Optimised:
    failures = torch.zeros_like(state.steps)
    rounds = max(1, max_steps // ROUND)
    for _ in range(rounds):
        rows = (~state.arrived & ~state.lost).nonzero()[:, 0]
        if not len(rows):
            break
        old = state.take(rows)
        tried = _round(target, family, old.parameters, index[rows], old.rate * RATE, K)
        chooses, gain = (_gain(target, family, old.parameters, tried, index[rows]) for _ in "ab")
        better = chooses > 0
        parameters = tuple(
            torch.where(better.reshape(-1, *(1,) * (p.ndim - 1)), new, p)
            for p, new in zip(old.parameters, tried, strict=True)
        )
        failures[rows] += (chooses < ARRIVED).long()
        part = Optimised(
            parameters,
            old.velocity,
            torch.where(chooses < ARRIVED, old.rate * QUARTER, old.rate),
            torch.where(better, gain, torch.zeros_like(gain)).to(old.rate),
            old.steps + ROUND,
            failures[rows] >= FAILURES,
            old.lost,
        )
        state = state.put(rows, part)
    return state


def _round(
    target: Target,
    family: LocalFlow,
    parameters: FlowParameters,
    index: Tensor,
    rate: Float[Tensor, " B"],
    K: int,
    betas: Sequence[float] = (1.0,) * ROUND,
) -> FlowParameters:
    """Takes the steps of Adam, one for each β; each datapoint has its own rate."""
    fixed, moving = parameters[:FIXED], parameters[FIXED:]
    first, second = ([torch.zeros_like(p) for p in moving] for _ in range(2))
    for t, beta in enumerate(betas):
        gradients = _gradients(target, family, (*fixed, *moving), index, K, beta)
        share = min(1.0, (t + 1) / WARM_STEPS) * 0.5 * (1 + math.cos(math.pi * t / len(betas)))
        correction = math.sqrt(1 - SECOND ** (t + 1)) / (1 - FIRST ** (t + 1))
        for m, v, g in zip(first, second, gradients, strict=True):
            m.lerp_(g, 1 - FIRST)
            v.lerp_(g.square(), 1 - SECOND)
        moving = tuple(
            p + _rows(rate * share * correction, p) * m / (v.sqrt() + TINY)
            for p, m, v in zip(moving, first, second, strict=True)
        )
    return (*fixed, *moving)


def _rows(rate: Tensor, p: Tensor) -> Tensor:
    return rate.reshape(-1, *(1,) * (p.ndim - 1))


def _gradients(
    target: Target,
    family: LocalFlow,
    parameters: FlowParameters,
    index: Tensor,
    K: int,
    beta: float,
) -> tuple[Tensor, ...]:
    """The gradient of L[q] with respect to what moves, for each datapoint."""
    leaves = [p.detach().requires_grad_() for p in parameters[FIXED:]]
    noise = matched_noise(K, family.noise_dim, parameters[0])
    with torch.enable_grad():
        z, log_q = family.draw_frozen((*parameters[:FIXED], *leaves), noise)
        slope, _ = target.slope(z.detach(), index, beta)
        surrogate = ((slope * z).sum() - log_q.sum()) / K
        gradients = torch.autograd.grad(surrogate, leaves, allow_unused=True)
    return tuple(
        torch.zeros_like(p) if g is None else g.nan_to_num(0.0, 0.0, 0.0)
        for p, g in zip(leaves, gradients, strict=True)
    )


def _gain(
    target: Target, family: LocalFlow, old: FlowParameters, new: FlowParameters, index: Tensor
) -> Float64[Tensor, " B"]:
    """L[new] − L[old] on the same fresh noise; −∞ where the new one is no number."""
    seed, values = int(torch.randint(2**62, ())), []
    for parameters in (new, old):
        with seeded(seed):
            values.append(score(target, family, parameters, index, JUDGES).mean(0))
    return (values[0] - values[1]).nan_to_num(-math.inf, math.inf, -math.inf)
