r"""The pictures within a diagnosis: what units show, what lies between two codes, and the plane.

None of them is a number by which a model is judged: they show what the numbers are about. All come
from the data behind q(z); paths lead from evaluation data to evaluation data.
"""

from __future__ import annotations

__all__ = ["latent_pictures"]

import math
from dataclasses import replace
from typing import Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor

from elboscope import estimators
from elboscope.core import GenerativeModel, LatentVariableModel

from .attempts import Attempts
from .evidence import Evidence
from .local_pictures import local_pictures
from .plan import Plan
from .reasons import no_encoder

TOO_MANY = "there are more than two latents: no plane through them is what the prior samples"


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
    return replace(
        evidence,
        traversals=attempt(
            "traversals",
            encoded,
            lambda: _finite(estimators.latent_traversals(q, x, seed=seed, condition=c)),
        ),
        interpolations=attempt("interpolations", encoded, lambda: _finite(_paths(q, plan))),
        manifold=attempt(
            "manifold",
            broken or (TOO_MANY if math.prod(shape) > 2 else ""),
            lambda: _finite(
                estimators.latent_manifold(
                    model, None if no_encoder(evidence) else x, seed=seed, condition=c
                )
            ),
        ),
    )


def _paths(model: LatentVariableModel, plan: Plan) -> estimators.LatentInterpolations:
    """Between evaluation data where training data are behind q(z); else between its own."""
    if plan.x_train is None:
        return estimators.latent_interpolations(
            model, plan.x_mixture, seed=plan.seed, condition=plan.condition_mixture
        )
    return estimators.latent_interpolations(
        model,
        plan.x,
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
