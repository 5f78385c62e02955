"""The search for the best flow: from the best Gaussian, with two draws of the first weights, from
the prior, and from the encoder's own flow where it has one of this kind.

The best Gaussian covers one mode, and an ascent of the ELBO begun there never sees another; the
prior covers all of them, and from it the weight of the data rises slowly. Starts that end apart
show how much the optimiser leaves behind; the rounds of :mod:`.flow_ascent` never go below where
they began.
"""

from __future__ import annotations

__all__ = ["flow_search"]

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import LatentVariableModel, given
from elboscope.distributions import AuxiliaryPosterior

from .evaluation import first_answered
from .flow_architecture import local_flow
from .flow_ascent import climbed
from .flow_family import LocalFlow
from .gaussian_families import DiagonalGaussian, FullGaussian, Parameters
from .local_optimisation import Optimised
from .local_search import Run, Search
from .local_target import Target, taken
from .starting_points import starting_points

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
        max_steps: Of each datapoint and start.
        seed: Of the samples that judge.
    """
    like = best[0]
    encoder = _encoder(target)
    q = None if encoder is None else encoder(_answered(target))
    families = [local_flow(gaussian.latent_shape, like, q, seed=s) for s in WEIGHTS]

    prior = starting_points(target)["prior"]

    def begun(family: LocalFlow, index: Tensor) -> Parameters:
        mean, factor = taken(best, index)
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
        return climbed(
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
