r"""The pictures within a diagnosis: true posteriors of four datapoints of a model with two latents.

They need the inference gap, by which the datapoints are found, and a grid of z: more latents than
two cannot be drawn as they are, and no projection takes their place.
"""

from __future__ import annotations

__all__ = ["local_pictures", "pictured"]

import math
from dataclasses import replace
from typing import cast

from elboscope import estimators
from elboscope.core import GenerativeModel, LatentVariableModel
from elboscope.estimators import LocalPosterior

from .attempts import Attempts
from .evidence import Evidence
from .plan import Plan, chosen

NOT_A_PLANE = "the latents are not two-dimensional"


def pictured(
    model: LatentVariableModel, plan: Plan, evidence: Evidence
) -> tuple[LocalPosterior, ...]:
    """Runs :func:`elboscope.estimators.local_posteriors`; its rows become those of x."""
    gap, rows = evidence.inference_gap, evidence.optimised
    assert gap is not None
    assert rows is not None
    found = estimators.local_posteriors(
        model,
        plan.x[rows.to(plan.x.device)],
        gap,
        seed=plan.seed,
        condition=chosen(plan.condition, rows),
    )
    return tuple(replace(one, row=int(rows[one.row])) for one in found)


def local_pictures(
    model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts
) -> Evidence:
    """Adds the true posteriors of some datapoints, where they can be drawn."""
    reason = "" if math.prod(evidence.capabilities.latent_shape) == 2 else NOT_A_PLANE
    if evidence.inference_gap is None:
        reason = reason or attempt.skipped.get("inference_gap", "it needs the inference gap")
    q = cast(LatentVariableModel, model)
    found = attempt("local_posteriors", reason, lambda: pictured(q, plan, evidence))
    return replace(evidence, local_posteriors=found)
