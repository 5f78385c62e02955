r"""The pictures within a diagnosis: what units show, what lies between two codes, and the plane.

None of them is a number by which a model is judged: they show what the numbers are about. All come
from the data behind q(z); paths lead from evaluation data to evaluation data.
"""

from __future__ import annotations

__all__ = ["latent_pictures"]

import math
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from elboscope import estimators
from elboscope.core import GenerativeModel, LatentVariableModel, given, seeded
from elboscope.estimators.latent_traversals import LEVELS

from .attempts import Attempts
from .evidence import Evidence
from .local_pictures import local_pictures
from .plan import Plan
from .reasons import no_encoder

TOO_MANY = "there are more than two latents: no plane through them is what the prior samples"


class _Size(NamedTuple):
    """How many tiles each picture has."""

    units: int
    levels: tuple[float, ...]
    pairs: int
    steps: int
    nodes: int


# Draws of an autoregressive decoder take a pass per value: fifty of them, not three hundred.
SIZES = {True: _Size(8, LEVELS, 4, 9, 15), False: _Size(3, (0.05, 0.3, 0.5, 0.7, 0.95), 2, 5, 5)}


@runtime_checkable
class _Decoded(Protocol):
    @property
    def mean(self) -> Tensor: ...


T = TypeVar("T", bound=_Decoded)


def latent_pictures(
    model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts
) -> Evidence:
    """Adds the true posteriors, the traversals, the paths between codes and the manifold."""
    evidence = local_pictures(model, plan, evidence, attempt)
    q, shape = cast(LatentVariableModel, model), evidence.capabilities.latent_shape
    broken = "" if shape else "; ".join(evidence.capabilities.problems)
    encoded = broken or no_encoder(evidence)
    seed, x, c = plan.seed, plan.x_mixture, plan.condition_mixture
    size = SIZES[not broken and _has_mean(model, plan)]
    return replace(
        evidence,
        traversals=attempt(
            "traversals",
            encoded,
            lambda: _finite(
                estimators.latent_traversals(
                    q, x, num_units=size.units, levels=size.levels, seed=seed, condition=c
                )
            ),
        ),
        interpolations=attempt("interpolations", encoded, lambda: _finite(_paths(q, plan, size))),
        manifold=attempt(
            "manifold",
            broken or (TOO_MANY if math.prod(shape) > 2 else ""),
            lambda: _finite(
                estimators.latent_manifold(
                    model,
                    None if no_encoder(evidence) else x,
                    num_steps=size.nodes,
                    seed=seed,
                    condition=c,
                )
            ),
        ),
    )


def _has_mean(model: GenerativeModel, plan: Plan) -> bool:
    """Whether p(x|z) tells its mean; else every tile is a draw, of which fewer are taken."""
    c = plan.condition_mixture
    local = given(model, None if c is None else c[:1])
    with seeded(plan.seed):
        z = local.prior().sample(torch.Size((1, 1)))
    try:
        local.decode(z).mean  # noqa: B018
    except NotImplementedError:
        return False
    except (ValueError, RuntimeError):
        return True  # broken otherwise: told where it is decoded
    return True


def _paths(model: LatentVariableModel, plan: Plan, size: _Size) -> estimators.LatentInterpolations:
    """Between evaluation data where training data are behind q(z); else between its own."""
    if plan.x_train is None:
        return estimators.latent_interpolations(
            model,
            plan.x_mixture,
            size.pairs,
            num_steps=size.steps,
            seed=plan.seed,
            condition=plan.condition_mixture,
        )
    return estimators.latent_interpolations(
        model,
        plan.x,
        size.pairs,
        num_steps=size.steps,
        seed=plan.seed,
        x_train=plan.x_mixture,
        condition=plan.condition,
        condition_train=plan.condition_mixture,
    )


def _finite(found: T) -> T:
    bad = int((~found.mean.isfinite()).sum())
    if bad:
        raise ValueError(f"{bad} of its {found.mean.numel()} values are NaN or infinite")
    return found
